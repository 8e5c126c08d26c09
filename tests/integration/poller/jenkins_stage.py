"""The sandbox's Jenkins, our provider before it, and visits whose facts are kept: without a message broker."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
from pydantic import SecretStr

from buildlight_contracts.envelope import Envelope, Fact
from chassis.broker import Broker
from chassis.database import Pool, make_pool
from chassis.outbox import Outbox
from sandbox.company import build as build_company
from services.poller.provider import Provider, Target
from services.poller.providers.jenkins.client import Jenkins
from services.poller.store import Store
from services.poller.taking import Outlet, Report
from services.poller.visit import Visit

INSTANCE = "ci.test"
DAY = timedelta(days=1)
FactT = TypeVar("FactT", bound=Fact)


def target(name: str) -> Target:
    return Target("jenkins", INSTANCE, name)


@dataclass
class Stage:
    """A Jenkins under a test's control, and a provider that sees it."""

    provider: Provider
    control: httpx.AsyncClient

    async def told(self, method: str, path: str, **options: Any) -> Any:
        response = await self.control.request(method, path, **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def job(self, name: str, **script: Any) -> None:
        await self.told("POST", "/_sandbox/jenkins/jobs", json={"name": name, **script})

    async def delete_job(self, name: str) -> None:
        await self.told("DELETE", "/_sandbox/jenkins/jobs", params={"name": name})

    async def build(self, job: str, **script: Any) -> dict[str, Any]:
        made: dict[str, Any] = await self.told(
            "POST", "/_sandbox/jenkins/builds", json={"job": job, **script}
        )
        return made

    async def builds(self, job: str, scripts: list[dict[str, Any]]) -> None:
        await self.told(
            "POST", "/_sandbox/jenkins/builds", json=[{"job": job, **script} for script in scripts]
        )

    async def advance(self, job: str, number: int, **change: Any) -> None:
        which = {"job": job, "number": number}
        await self.told("PATCH", "/_sandbox/jenkins/builds", params=which, json=change)

    async def delete_build(self, job: str, number: int) -> None:
        await self.told("DELETE", "/_sandbox/jenkins/builds", params={"job": job, "number": number})

    async def served(self) -> list[list[Any]]:
        found: list[list[Any]] = await self.told("GET", "/_sandbox/jenkins/served")
        return found

    async def fault(self, kind: str, **options: Any) -> None:
        await self.told("POST", "/_sandbox/faults", json={"target": "jenkins", "kind": kind, **options})

    async def heal(self) -> None:
        await self.told("DELETE", "/_sandbox/faults")

    async def effects(self) -> list[dict[str, Any]]:
        found = await self.told("GET", "/_sandbox/effects", params={"target": "jenkins"})
        effects: list[dict[str, Any]] = found["effects"]
        return effects

    async def asked(self) -> Counter[str]:
        """How often each path was asked for since the last time this was asked."""
        found = await self.told("GET", "/_sandbox/requests", params={"target": "jenkins"})
        await self.told("DELETE", "/_sandbox/requests")
        counts: Counter[str] = Counter()
        for row in found["by_path"]:
            counts[row["path"]] += row["count"]
        return counts


def provider_of(
    url: str,
    *,
    username: str | None = "sandbox",
    token: str | None = "sandbox-token",
    timeout_seconds: float = 10,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Jenkins:
    return Jenkins(
        url=url,
        instance=INSTANCE,
        username=username,
        token=SecretStr(token) if token else None,
        timeout_seconds=timeout_seconds,
        transport=transport,
    )


@asynccontextmanager
async def in_process(*, repositories: int = 0, **settings: Any) -> AsyncIterator[Stage]:
    """A sandbox in this process, without a port."""
    company = build_company(repositories=repositories, backlog_hours=10, speed=0)
    root = "http://sandbox"
    provider = provider_of(f"{root}/jenkins", transport=httpx.ASGITransport(company.app), **settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(company.app), base_url=root) as control:
        yield Stage(provider, control)
    await provider.close()


@asynccontextmanager
async def over_http(addresses: Mapping[str, Any]) -> AsyncIterator[Stage]:
    """A sandbox in a process of its own, by the addresses it says it has."""
    root = str(addresses["control"]).removesuffix("/_sandbox")
    provider = provider_of(
        addresses["jenkins"], username=addresses["jenkins_username"], token=addresses["jenkins_token"]
    )
    async with httpx.AsyncClient(base_url=root, trust_env=False, timeout=30) as control:
        yield Stage(provider, control)
    await provider.close()


@dataclass
class Watch:
    """Visits of targets, and what they recorded; duplicates included."""

    provider: Provider
    pool: Pool
    store: Store
    recorded: list[Fact] = field(default_factory=list)
    since: datetime = field(default_factory=lambda: datetime.now(UTC) - 3 * DAY)

    async def visit(self, name: str) -> Report:
        """One poll, as the handler carries it out."""
        await self.store.add([target(name)])
        visit = Visit(
            target(name),
            self.provider,
            self.store,
            Outlet(self._record),
            now=datetime.now(UTC),
            interval=timedelta(seconds=60),
            time_is_up=lambda: False,
        )
        return await visit.run(since=self.since, window=DAY)

    async def _record(self, fact: Fact) -> None:
        # As it will travel: what no JSON can carry would fail here.
        json.loads(Envelope.of(fact, source="buildlight://poller").model_dump_json())
        self.recorded.append(fact)

    def facts(self, kind: type[FactT]) -> list[FactT]:
        return [fact for fact in self.recorded if isinstance(fact, kind)]

    def ids(self) -> Counter[str]:
        return Counter(str(fact.identity()) for fact in self.recorded)

    async def due_now(self) -> None:
        """Let every pause of an open attempt be over."""
        await self.pool.execute("UPDATE poller.attempts SET due_at = now() WHERE due_at IS NOT NULL")


@asynccontextmanager
async def watching(provider: Provider, database_url: str) -> AsyncIterator[Watch]:
    """Visits with a real store; nothing is published."""
    async with make_pool(database_url, application="test") as pool:
        broker = Broker("amqp://nowhere.invalid", service="poller", rungs=("5s",))
        yield Watch(provider, pool, Store(pool, Outbox(pool, broker, schema="poller")))
