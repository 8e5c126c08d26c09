"""The outbox on real servers: after the commit, in order, once; through an outage of the broker."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import asyncpg
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from buildlight.servers import RabbitMQ
from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import INTAKE
from buildlight_contracts.testing import example_envelope
from chassis.broker import Broker
from chassis.database import Pool, make_pool
from chassis.outbox import Outbox
from chassis.retry import Permanent

Eventually = Callable[..., Awaitable[object]]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        CREATE SCHEMA play;
        CREATE TABLE play.outbox (seq bigserial PRIMARY KEY, envelope text NOT NULL);
        GRANT USAGE ON SCHEMA play TO buildlight_app;
        GRANT ALL ON play.outbox TO buildlight_app;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA play TO buildlight_app;
    """)
    await connection.close()
    async with make_pool(database_url, application="play", max_size=8) as pool:
        yield pool


class Play:
    """Brokers with an outbox each on one table, and a queue that keeps what reaches intake."""

    def __init__(self, url: str, pool: Pool, *, replicas: int = 1) -> None:
        self.url = url
        self.pool = pool
        self.brokers = [Broker(url, service="play", rungs=("1s",)) for _ in range(replicas)]
        self.outboxes = [Outbox(pool, broker, schema="play") for broker in self.brokers]

    async def start(self) -> None:
        for broker in self.brokers:
            await broker.start()
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("kept", durable=True)
            await queue.bind(INTAKE.name, "#")

    async def stop(self) -> None:
        for broker in self.brokers:
            await broker.stop()

    @contextlib.asynccontextmanager
    async def publishing(self) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(outbox.run()) for outbox in self.outboxes]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def empty(self) -> bool:
        return bool(await self.pool.fetchval("SELECT NOT EXISTS (SELECT FROM play.outbox)"))

    async def kept(self) -> list[str]:
        """The ids of everything that was published, in order."""
        ids: list[str] = []
        async with await aio_pika.connect(self.url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue("kept")
            while message := await queue.get(fail=False, no_ack=True):
                ids.append(Envelope.model_validate_json(message.body).id)
        return ids


@pytest_asyncio.fixture
async def play(amqp_url: str, pool: Pool) -> AsyncIterator[Play]:
    play = Play(amqp_url, pool, replicas=2)
    await play.start()
    yield play
    await play.stop()


def letters(count: int) -> list[Envelope]:
    return [example_envelope(BuildObservedV1, raw_status=f"number {n}") for n in range(count)]


async def test_what_was_committed_is_published_once_and_in_order_by_two_replicas(
    play: Play, pool: Pool, eventually: Eventually
) -> None:
    """Four batches' worth from many transactions: every envelope once, in the order they were added."""
    sent = letters(350)
    before = published()
    async with play.publishing():
        for start in range(0, 350, 7):
            async with pool.acquire() as connection, connection.transaction():
                await play.outboxes[0].add(sent[start : start + 7], connection)
        await eventually(play.empty)
    assert await play.kept() == [envelope.id for envelope in sent]
    assert published() - before == 350


def published() -> float:
    labels = {"schema": "play", "type": "dev.buildlight.build.observed.v1"}
    return REGISTRY.get_sample_value("buildlight_outbox_published_total", labels) or 0


async def test_what_was_rolled_back_is_not_published(play: Play, pool: Pool, eventually: Eventually) -> None:
    """Only the second transaction's envelope comes out."""
    undone, done = letters(2)
    async with play.publishing():
        with contextlib.suppress(RuntimeError):
            async with pool.acquire() as connection, connection.transaction():
                await play.outboxes[0].add([undone], connection)
                raise RuntimeError
        async with pool.acquire() as connection, connection.transaction():
            await play.outboxes[0].add([done], connection)
        await eventually(play.empty)
    assert await play.kept() == [done.id]


async def test_what_no_queue_would_take_is_refused_at_once(play: Play, pool: Pool) -> None:
    """An envelope over the size limit fails the transaction that adds it, and blocks nobody."""
    huge = example_envelope(BuildObservedV1, title="x" * 1_100_000)
    async with pool.acquire() as connection:
        with pytest.raises(Permanent, match="a message may have 1,048,576"):
            await play.outboxes[0].add([huge], connection)
    assert await play.empty()


async def test_an_outage_of_the_broker_loses_nothing(
    own_rabbitmq: RabbitMQ, pool: Pool, eventually: Eventually
) -> None:
    """Added while RabbitMQ is dead, published when it is back, in order."""
    play = Play(own_rabbitmq.url, pool)
    await play.start()
    sent = letters(20)
    try:
        async with play.publishing():
            async with pool.acquire() as connection:
                await play.outboxes[0].add(sent[:5], connection)
            await eventually(play.empty)
            await own_rabbitmq.kill()
            async with pool.acquire() as connection:
                await play.outboxes[0].add(sent[5:], connection)
            await own_rabbitmq.start()
            await eventually(play.empty, timeout=40)
        kept = await play.kept()
    finally:
        await play.stop()
    # A message whose confirm was lost with the broker may come again: the log knows it by its id.
    assert list(dict.fromkeys(kept)) == [envelope.id for envelope in sent]
