"""A running poller on a running sandbox, and everything it records."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import aio_pika
import asyncpg
import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.catalogue import command_of, fact_of, parse
from buildlight_contracts.commands import CollectReportsV1, Command, PollTargetV1, RefreshBuildV1
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact
from buildlight_contracts.routing import BACKLOG, COMMANDS, INTAKE
from chassis.topology import declare
from services.poller.collecting import Collections
from services.poller.provider import Target
from services.poller.service import PollerService, build
from services.poller.settings import PollerSettings

CHECKOUT = Path(__file__).resolve().parents[3]
HOUR = timedelta(hours=1)
FactT = TypeVar("FactT", bound=Fact)


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox."""

    process: subprocess.Popen[str]
    addresses: dict[str, Any]

    @property
    def github(self) -> str:
        return str(self.addresses["github"])

    def control(self, method: str, path: str, **options: Any) -> Any:
        response = httpx.request(
            method, f"{self.addresses['control']}{path}", timeout=30, trust_env=False, **options
        )
        assert response.is_success, response.text
        return response.json() if response.content else None

    def repositories(self) -> list[str]:
        names: list[str] = self.control("GET", "/")["repositories"]
        return names

    def served(self) -> set[tuple[str, int, str | None, str | None]]:
        """Every attempt that can be read, with its status and conclusion."""
        return {(str(r), a, s, c) for r, a, s, c in self.control("GET", "/github/served")}

    def spent(self) -> int:
        """Calls that cost budget."""
        used: int = self.control("GET", "/github/budget")["used"]
        return used

    def asked(self) -> Counter[tuple[str, int]]:
        """How often each path was asked for, by status; forgotten by the next `forget`."""
        rows = self.control("GET", "/requests", params={"target": "github"})["by_path"]
        return Counter({(row["path"], row["status"]): row["count"] for row in rows})

    def forget(self) -> None:
        self.control("DELETE", "/requests")

    def run(self, **script: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.control("POST", "/github/runs", json=script)
        return made

    def advance(self, run_id: int, **change: Any) -> None:
        self.control("PATCH", f"/github/runs/{run_id}", json=change)

    def fault(self, kind: str, **options: Any) -> None:
        self.control("POST", "/faults", json={"target": "github", "kind": kind, **options})

    def heal(self) -> None:
        self.control("DELETE", "/faults")


@pytest.fixture
def start_sandbox() -> Iterator[Callable[..., Sandbox]]:
    """Start a sandbox with options of the test's own."""
    begun: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Sandbox:
        process = subprocess.Popen(
            [sys.executable, "-m", "sandbox", "--json", *options],
            cwd=CHECKOUT,
            env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the sandbox ended with {process.wait()} before it was ready"
        return Sandbox(process, json.loads(line))

    yield start
    for process in begun:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture
def company(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A living company that stands still."""
    sandbox = start_sandbox("--repositories", "2", "--backlog-hours", "10")
    sandbox.control("POST", "/freeze")
    return sandbox


@pytest.fixture
def bare(start_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """A GitHub on which there is nothing but what the test puts there."""
    return start_sandbox("--repositories", "0")


@dataclass
class Intake:
    """Everything that was recorded, in order, duplicates included; and the reports that were asked for."""

    exchange: aio_pika.abc.AbstractExchange
    envelopes: list[Envelope] = field(default_factory=list)
    collections: list[Command] = field(default_factory=list)
    _markers: set[str] = field(default_factory=set)

    def facts(self, kind: type[FactT]) -> list[FactT]:
        found = (fact_of(e) for e in self.envelopes if e.type == TYPE_PREFIX + kind.type)
        return [fact for fact in found if isinstance(fact, kind)]

    def ids(self) -> Counter[str]:
        return Counter(e.id for e in self.envelopes)

    def forget(self) -> None:
        self.envelopes.clear()
        self.collections.clear()

    async def hear_command(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self.collections.append(command_of(parse(message.body)))

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        if message.routing_key == "test.marker":
            self._markers.add(message.body.decode())
        else:
            self.envelopes.append(parse(message.body))

    async def settle(self) -> None:
        """Return when all that was published before has been heard."""
        marker = str(uuid4())
        await self.exchange.publish(aio_pika.Message(marker.encode()), "test.marker")
        async with asyncio.timeout(10):
            while marker not in self._markers:  # noqa: ASYNC110 -- the broker's doing
                await asyncio.sleep(0.01)


@pytest_asyncio.fixture
async def intake(amqp_url: str) -> AsyncIterator[Intake]:
    """What is published to intake from now on."""
    await declare(amqp_url, (), ("5s",))
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        exchange = await channel.get_exchange(INTAKE.name)
        queue = await channel.declare_queue("test.intake", auto_delete=True)
        await queue.bind(exchange, "#")
        heard = Intake(exchange)
        await queue.consume(heard.hear, no_ack=True)
        collect = await channel.declare_queue("test.collect", auto_delete=True)
        for lane in ("", BACKLOG):
            await collect.bind(await channel.get_exchange(COMMANDS.name), CollectReportsV1.type + lane)
        await collect.consume(heard.hear_command, no_ack=True)
        yield heard


@dataclass
class Poller:
    """A started poller; the test asks for the polls itself, unless its scheduler runs."""

    service: PollerService
    database: "asyncpg.Connection[asyncpg.Record]"
    targets: Sequence[Target]
    intake: Intake

    async def ask(self, target: Target, *, due_at: datetime, expires_in: float = 60) -> None:
        await self.service.broker.command(
            PollTargetV1(
                provider=target.provider, instance=target.instance, target=target.name, due_at=due_at
            ),
            expires_at=datetime.now(UTC) + timedelta(seconds=expires_in),
        )

    async def refresh(self, run_id: int | str, *, target: Target | None = None, **options: Any) -> None:
        """Ask for a look at one run."""
        asked = target or self.targets[0]
        command = RefreshBuildV1(
            **{"reason": "asked", "due_at": datetime.now(UTC), "priority": "normal"}
            | {"provider": asked.provider, "instance": asked.instance, "target": asked.name}
            | {"run_id": str(run_id)}
            | options
        )
        await self.service.broker.command(command)

    async def poll(self, *targets: Target) -> None:
        """Ask for a poll of each target, or of all, and wait until they are over and heard."""
        for target in targets or self.targets:
            due_at = datetime.now(UTC)
            async with asyncio.timeout(120):
                while ((before := await self.state(target))["polled_for"] or due_at - HOUR) < due_at:
                    # One that was not finished in its time is asked for again.
                    await self.ask(target, due_at=due_at)
                    while (after := await self.state(target))["polled_at"] == before["polled_at"]:
                        if after["polled_for"] != before["polled_for"]:
                            break
                        await asyncio.sleep(0.02)
                while await self.database.fetchval("SELECT EXISTS (SELECT FROM poller.outbox)"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        await self.intake.settle()

    async def state(self, target: Target | None = None) -> asyncpg.Record:
        row = await self.database.fetchrow(
            "SELECT * FROM poller.targets WHERE target_id = $1", (target or self.targets[0]).id
        )
        assert row is not None
        return row

    async def due_now(self) -> None:
        """Let every pause of an open attempt be over."""
        await self.database.execute("UPDATE poller.attempts SET due_at = now() WHERE due_at IS NOT NULL")


async def leave(*_: Any, **__: Any) -> None:
    """Take a message, and do nothing about it."""


class StartPoller(Protocol):
    def __call__(
        self,
        sandbox: Sandbox,
        repositories: Sequence[str],
        *,
        tasks: bool = False,
        collects: bool = False,
        **settings: Any,
    ) -> AbstractAsyncContextManager[Poller]: ...


@pytest.fixture
def start_poller(
    database_url: str, amqp_url: str, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> StartPoller:
    """Start a poller on repositories of a sandbox, with settings of the test's own."""
    for name in [
        name
        for name in os.environ
        if name.startswith(("GITHUB_", "GITLAB_", "JENKINS_", "WORKER_", "POLLING_", "ENABLE_"))
    ]:
        monkeypatch.delenv(name)

    @asynccontextmanager
    async def start(
        sandbox: Sandbox,
        repositories: Sequence[str],
        *,
        tasks: bool = False,
        collects: bool = False,
        **settings: Any,
    ) -> AsyncIterator[Poller]:
        given: dict[str, Any] = {
            "database_url": database_url,
            "amqp_url": amqp_url,
            "github_api_url": sandbox.github,
            "github_token": "sandbox-token",
            "github_repositories": tuple(repositories),
            "jitter_seconds": 0,
            "timeout_seconds": 5,
            "deployments_minutes": 0,
        }
        loaded = PollerSettings.load(**given | settings)
        if not collects:
            # Of no concern to tests of polling, which count the calls.
            monkeypatch.setattr(Collections, "_collect", leave)
        service = build(loaded)
        database = await asyncpg.connect(database_url)
        await service.start()
        *schedules, outbox = service.tasks
        running = [asyncio.create_task(task()) for task in (*(schedules if tasks else ()), outbox)]
        try:
            yield Poller(service, database, loaded.watch.targets, intake)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await service.stop()
            await database.close()

    return start
