"""The notifier between a real RabbitMQ, a real Postgres and the sandbox's Slack and mail server."""

import asyncio
import contextlib
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.catalogue import parse
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.routing import EVENTS, INTAKE
from buildlight_contracts.testing import example
from chassis import topology
from chassis.service import Service
from services.notifier.queues import QUEUES
from services.notifier.service import build
from services.notifier.settings import NotifierSettings
from tests.sandbox_stage import Sandbox, fresh, started

CHECKOUT = Path(__file__).resolve().parents[3]
RUNGS = ("100ms", "200ms", "300ms", "400ms")


@pytest.fixture(scope="session")
def sandbox_addresses() -> Iterator[dict[str, Any]]:
    with started() as addresses:
        yield addresses


@pytest_asyncio.fixture
async def sandbox(sandbox_addresses: dict[str, Any]) -> AsyncIterator[Sandbox]:
    async with fresh(Sandbox, sandbox_addresses) as sandbox:
        yield sandbox


class Door:
    """A way to a server that can be shut: then connecting is refused."""

    def __init__(self, url: str) -> None:
        self._address = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._port = 0
        self._inside: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        """Refuse who comes, and cut off who is inside."""
        assert self._server is not None
        self._server.close()
        for writer in self._inside:
            writer.transport.abort()

    @property
    def url(self) -> str:
        login, at, _ = self._address.netloc.rpartition("@")
        return urlunsplit(self._address._replace(netloc=f"{login}{at}127.0.0.1:{self._port}"))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._address.hostname, self._address.port)
        self._inside |= {writer, back}
        await asyncio.gather(_copy(reader, back), _copy(there, writer))
        self._inside -= {writer, back}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class World:
    """A notifier's surroundings: what a test tells it, and what it can see of what came of that."""

    sandbox: Sandbox
    database_url: str
    amqp_url: str
    channel: AbstractChannel
    recorded: dict[str, Envelope] = field(default_factory=dict)

    def settings(self, **changes: Any) -> NotifierSettings:
        """Both channels on, towards the sandbox, with quick retries."""
        values: dict[str, Any] = {
            "database_url": self.database_url,
            "amqp_url": self.amqp_url,
            "retry_rungs": RUNGS,
            "slack_webhook": self.sandbox.addresses["slack"],
            "smtp_host": self.sandbox.addresses["smtp_host"],
            "smtp_port": self.sandbox.addresses["smtp_port"],
            "mail_from": "buildlight@acme.example",
            "mail_to": ("team@acme.example",),
            "public_url": "https://buildlight.acme.example",
            "send_timeout_seconds": 10.0,
        }
        return NotifierSettings.load(**values | changes)

    @asynccontextmanager
    async def notifier(self, **changes: Any) -> AsyncIterator[Service]:
        """A notifier at work."""
        service = build(self.settings(**changes))
        tasks: list[asyncio.Task[None]] = []
        try:
            await service.start()
            tasks = [asyncio.create_task(task()) for task in service.tasks]
            yield service
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await service.stop()

    async def tell(self, fact: Fact) -> Envelope:
        """Publish a recorded fact, as ingest's relay does."""
        envelope = Envelope.of(fact, source="buildlight://analytics")
        exchange = await self.channel.get_exchange(EVENTS.name)
        await exchange.publish(
            aio_pika.Message(
                envelope.to_json(),
                message_id=envelope.id,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            ),
            envelope.routing_key,
        )
        return envelope

    async def facts(self, type_: str) -> list[dict[str, Any]]:
        """The data of all facts of a type that came to intake so far, each once as in the log."""
        intake = await self.channel.get_queue("test.intake")
        while message := await intake.get(fail=False, no_ack=True):
            envelope = parse(message.body)
            self.recorded[envelope.id] = envelope
        return [envelope.data for envelope in self.recorded.values() if envelope.routing_key == type_]

    async def dead(self, queue: str) -> AbstractIncomingMessage | None:
        """Take a dead letter of `queue`, if there is one."""
        return await (await self.channel.get_queue(f"{queue}.dead")).get(fail=False, no_ack=True)

    async def query(self, sql: str, *values: Any, role: str = "buildlight_reader") -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.database_url, server_settings={"role": role})
        try:
            return await connection.fetch(sql, *values)
        finally:
            await connection.close()

    async def statuses(self) -> dict[str, str]:
        """Of each channel the newest delivery's status, read as dashboards read it."""
        rows = await self.query(
            "SELECT channel, status FROM notifier.published_history ORDER BY created_at, delivery_id"
        )
        return {row["channel"]: row["status"] for row in rows}

    async def settled(self) -> bool:
        """Whether for half a second nothing is pending and every queue is empty: one look misses what is in hand."""
        for _ in range(5):
            if "pending" in (await self.statuses()).values() or await self._waiting():
                return False
            await asyncio.sleep(0.1)
        return True

    async def _waiting(self) -> bool:
        names = [name for queue in QUEUES for name in (queue.name, *map(queue.rung, RUNGS))]
        declared = [await self.channel.declare_queue(name, passive=True) for name in names]
        return any(queue.declaration_result.message_count for queue in declared)


@pytest_asyncio.fixture
async def world(
    sandbox: Sandbox, database_url: str, amqp_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    for name in list(os.environ):
        if name.startswith(("ALERT_", "SMTP_", "SLACK_")):
            monkeypatch.delenv(name)
    await topology.declare(amqp_url, QUEUES, RUNGS)
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        intake = await channel.declare_queue("test.intake")
        await intake.bind(INTAKE.name, "#")
        yield World(sandbox, database_url, amqp_url, channel)


@pytest.fixture
def broke() -> Callable[..., PipelineBrokeV1]:
    """Make a break of half a minute ago."""

    def make(**changes: Any) -> PipelineBrokeV1:
        at = datetime.now(UTC) - timedelta(seconds=30)
        return example(PipelineBrokeV1, **{"broke_at": at} | changes)

    return make


@pytest.fixture
def recovered() -> Callable[..., PipelineRecoveredV1]:
    """Make a recovery of this moment, from the newest break unless `broken_since` says which."""

    def make(**changes: Any) -> PipelineRecoveredV1:
        return example(
            PipelineRecoveredV1, **{"recovered_at": datetime.now(UTC), "broken_since": None} | changes
        )

    return make


@pytest.fixture
def eventually(eventually: Callable[..., Any]) -> Callable[..., Any]:
    """Wait longer than elsewhere: a message goes through three processes and several retries here."""
    return functools.partial(eventually, timeout=90.0)


@pytest_asyncio.fixture
async def door(sandbox: Sandbox) -> AsyncIterator[Door]:
    """A way to the sandbox's Slack that can be shut; it stands open."""
    door = Door(sandbox.addresses["slack"])
    await door.open()
    yield door
    door.shut()


@pytest_asyncio.fixture
async def database_door(database_url: str) -> AsyncIterator[Door]:
    """A way to the test's database that can be shut; it stands open."""
    door = Door(database_url)
    await door.open()
    yield door
    door.shut()


@pytest.fixture
def closed_port() -> int:
    """A port where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
