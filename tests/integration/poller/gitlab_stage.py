"""Polls of the sandbox's GitLab: provider, visit and store are the poller's own, what they record is kept."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import asyncpg
import httpx
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Fact
from chassis.broker import Broker
from chassis.database import make_pool
from chassis.outbox import Outbox
from services.poller.provider import Target
from services.poller.providers.gitlab.client import GitLab
from services.poller.store import Store
from services.poller.taking import Outlet, Report
from services.poller.visit import Visit
from tests.integration.poller.conftest import Sandbox

FactT = TypeVar("FactT", bound=Fact)
MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


def gitlab_at(sandbox: Sandbox, *, token: str = "sandbox-token", timeout_seconds: float = 5) -> GitLab:
    return GitLab(
        api_url=f"{sandbox.addresses['gitlab']}/api/v4",
        instance="gitlab.test",
        token=SecretStr(token),
        reserve_percent=10,
        timeout_seconds=timeout_seconds,
    )


def shown(fact: BuildObservedV1) -> tuple[str, int, str | None]:
    return fact.build.run_id, fact.build.attempt, fact.raw_status


@dataclass
class Watch:
    """Polls one project, as often as the test says."""

    sandbox: Sandbox
    provider: GitLab
    target: Target
    store: Store
    database: "asyncpg.Connection[asyncpg.Record]"
    recorded: list[Fact] = field(default_factory=list)

    async def poll(
        self, *, back: timedelta = 3 * DAY, time_is_up: Callable[[], bool] = lambda: False
    ) -> Report:
        async def record(fact: Fact) -> None:
            self.recorded.append(fact)

        now = datetime.now(UTC)
        visit = Visit(
            self.target,
            self.provider,
            self.store,
            Outlet(record),
            now=now,
            interval=MINUTE,
            time_is_up=time_is_up,
        )
        return await visit.run(since=now - back, window=DAY)

    def facts(self, kind: type[FactT]) -> list[FactT]:
        return [fact for fact in self.recorded if isinstance(fact, kind)]

    def builds(self) -> list[tuple[str, int, str | None]]:
        return [shown(fact) for fact in self.facts(BuildObservedV1)]

    def ids(self) -> Counter[str]:
        return Counter(str(fact.identity()) for fact in self.recorded)

    async def due_now(self) -> None:
        await self.database.execute("UPDATE poller.attempts SET due_at = now() WHERE due_at IS NOT NULL")

    # -- the sandbox's side

    def make(self, **script: Any) -> int:
        made = self.sandbox.control("POST", "/gitlab/pipelines", json={"project": self.target.name} | script)
        number: int = made["id"]
        return number

    def advance(self, number: int, **change: Any) -> None:
        self.sandbox.control("PATCH", f"/gitlab/pipelines/{number}", json=change)

    def fault(self, kind: str, **options: Any) -> None:
        self.sandbox.control("POST", "/faults", json={"target": "gitlab", "kind": kind, **options})

    def asked(self) -> Counter[tuple[str, int]]:
        rows = self.sandbox.control("GET", "/requests", params={"target": "gitlab"})["by_path"]
        return Counter({(row["path"], row["status"]): row["count"] for row in rows})

    def get(self, path: str) -> Any:
        """What GitLab itself answers."""
        place = f"{self.sandbox.addresses['gitlab']}/api/v4/projects/{quote(self.target.name, safe='')}"
        answer = httpx.get(f"{place}{path}", headers={"private-token": "sandbox-token"}, trust_env=False)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def watching(sandbox: Sandbox, database_url: str, project: str, **options: Any) -> AsyncIterator[Watch]:
    provider = gitlab_at(sandbox, **options)
    target = Target("gitlab", "gitlab.test", project)
    pool = make_pool(database_url, application="test", max_size=3)
    # Only a failed poll's announcement goes by the outbox, and that is not the visit's to make.
    outbox = Outbox(pool, Broker("amqp://nowhere", service="test", rungs=("5s",)), schema="poller")
    store = Store(pool, outbox)
    await pool
    database = await asyncpg.connect(database_url)
    try:
        await store.add([target])
        yield Watch(sandbox, provider, target, store, database)
    finally:
        await database.close()
        await pool.close()
        await provider.close()
