"""What ingest's tests share: the running service, a channel beside it, and observations to send."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import asyncpg
import pytest_asyncio
from aio_pika.abc import AbstractChannel

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import INTAKE
from buildlight_contracts.testing import example_envelope
from chassis.database import Pool, make_pool
from chassis.service import Service
from chassis.topology import Queue, declare
from services.ingest.queues import QUEUES
from services.ingest.service import build
from services.ingest.settings import IngestSettings

Eventually = Callable[..., Awaitable[Any]]
RUNGS = "100ms"


def settings(amqp_url: str, database_url: str, **changes: Any) -> IngestSettings:
    return IngestSettings.load(amqp_url=amqp_url, database_url=database_url, retry_rungs=RUNGS, **changes)


@asynccontextmanager
async def running(
    amqp_url: str, database_url: str, archived: tuple[Queue, ...] = QUEUES, **changes: Any
) -> AsyncIterator[Service]:
    """The service, started with its tasks; stopped in the order in which a process stops it."""
    service = build(settings(amqp_url, database_url, **changes), archived)
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


@pytest_asyncio.fixture
async def service_pool(database_url: str) -> AsyncIterator[Pool]:
    """A pool with the rights of a service."""
    async with make_pool(database_url, application="test") as pool:
        yield pool


@pytest_asyncio.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel to a broker on which ingest's queues and the public exchanges exist."""
    await declare(amqp_url, QUEUES, [RUNGS])
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def observe(channel: AbstractChannel, *envelopes: Envelope) -> None:
    """Publish to intake, confirmed."""
    exchange = await channel.get_exchange(INTAKE.name, ensure=False)
    for envelope in envelopes:
        await exchange.publish(
            aio_pika.Message(
                envelope.to_json(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT, message_id=envelope.id
            ),
            envelope.routing_key,
        )


def build_observed(number: int, **changes: Any) -> Envelope:
    build = {
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "1",
        "run_id": str(number),
        "attempt": 1,
    }
    return example_envelope(BuildObservedV1, build=build, **changes)


async def message_count(channel: AbstractChannel, queue: str) -> int:
    declared = await channel.declare_queue(queue, passive=True)
    count = declared.declaration_result.message_count
    assert count is not None
    return count


def keep_key_table(connection: asyncpg.Connection) -> Awaitable[str]:
    """Stand in for the api service's published function: each scope's name is a key that has it."""
    return connection.execute(
        """
        CREATE SCHEMA IF NOT EXISTS api;
        GRANT USAGE ON SCHEMA api TO buildlight_app;
        CREATE OR REPLACE FUNCTION api.check_key(digest bytea) RETURNS text[] LANGUAGE sql AS $$
            SELECT array[scope] FROM unnest(array['read', 'write', 'admin']) AS scope
             WHERE sha256(scope::bytea) = $1
        $$;
        GRANT EXECUTE ON FUNCTION api.check_key TO buildlight_app;
        """
    )
