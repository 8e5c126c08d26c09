"""Empties the dead-letter queues of all services into the archive."""

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

import aiormq
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from prometheus_client import Counter

from buildlight_contracts.envelope import Envelope
from chassis import crash
from chassis.broker import Broker
from chassis.database import Pool
from chassis.outage import outage_of
from chassis.outbox import Outbox
from chassis.topology import DEAD_ARGUMENTS, Queue
from services.ingest import store
from services.ingest.dead_letters import DeadLetter, TryAlone, examine

_PREFETCH_A_QUEUE = 10
_RECONNECT_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 30.0

DEAD_LETTERS = Counter(
    "buildlight_ingest_dead_letters_total", "Messages given up by a service.", ["queue", "kind"]
)

log = structlog.get_logger()


class Archiver:
    """Archives what arrives in `<queue>.dead` of each of `queues`, and records that it did.

    A letter is acknowledged after it is archived, and never rejected: nothing catches what a dead-letter queue
    drops. Whatever goes wrong is tried again, the letter in hand; the others go on.
    """

    def __init__(self, broker: Broker, pool: Pool, outbox: Outbox, queues: Sequence[Queue]) -> None:
        self._broker = broker
        self._pool = pool
        self._outbox = outbox
        self._queues = queues
        self._consuming = False

    async def check(self) -> None:
        """Raise, for the readiness report, while dead letters are not being taken."""
        if not self._consuming:
            raise RuntimeError("the dead-letter queues have no consumer")

    async def run(self) -> None:
        """Archive until cancelled, through lost connections and deleted queues."""
        while True:
            try:
                connection = await aiormq.connect(self._broker.url)
                try:
                    await self._consume(connection)
                finally:
                    self._consuming = False
                    with contextlib.suppress(Exception):
                        await connection.close()
            except (
                OSError,
                aiormq.exceptions.AMQPError,
                aiormq.exceptions.ChannelInvalidStateError,
            ) as error:
                log.warning("archiver interrupted", error=f"{type(error).__name__}: {error}")
                await asyncio.sleep(_RECONNECT_SECONDS)
            except Exception:
                log.exception("archiver failed; starting over")  # no letter may end the process
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _consume(self, connection: AbstractConnection) -> None:
        channel = await connection.channel(publisher_confirms=False)
        ended = asyncio.Event()
        channel.closing.add_done_callback(lambda _: ended.set())
        channel.on_consumer_cancel_callbacks.add(lambda _: ended.set())
        await channel.basic_qos(prefetch_count=_PREFETCH_A_QUEUE)
        for queue in self._queues:
            # As its owner declares it, who may not have started yet.
            await channel.queue_declare(queue.dead, durable=True, arguments=DEAD_ARGUMENTS)
            await channel.basic_consume(queue.dead, partial(self._receive, channel, queue))
        self._consuming = True
        await ended.wait()
        raise ConnectionResetError("the channel was closed, or a queue deleted")

    async def _receive(self, channel: AbstractChannel, queue: Queue, message: DeliveredMessage) -> None:
        pause = 0.1
        while True:
            try:
                await self._settle(queue, message)
                break
            except Exception as error:
                log.warning(
                    "a dead letter waits",
                    queue=queue.name,
                    message_id=message.header.properties.message_id,
                    error=f"{type(error).__name__}: {error}",
                    exc_info=None if outage_of(error) else error,
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        crash.point("ingest.archive.before_ack")
        tag = message.delivery_tag
        assert tag is not None
        with contextlib.suppress(aiormq.exceptions.ChannelInvalidStateError):  # then it comes again
            await channel.basic_ack(tag)

    async def _settle(self, queue: Queue, message: DeliveredMessage) -> None:
        properties = message.header.properties
        verdict = examine(
            queue.name,
            message.body,
            properties.headers or {},
            message_id=properties.message_id,
            content_type=properties.content_type,
            now=datetime.now(UTC),
        )
        if isinstance(verdict, TryAlone):
            await self._broker.put(
                message.body,
                key=queue.name,
                message_id=properties.message_id,
                headers=verdict.headers,
                content_type=properties.content_type,
            )
            log.info("tried once more, alone", queue=queue.name, message_id=properties.message_id)
        elif await self._archive(verdict):
            DEAD_LETTERS.labels(queue.name, verdict.kind).inc()
            log.warning("dead letter", queue=queue.name, message_id=verdict.message_id, reason=verdict.reason)

    async def _archive(self, letter: DeadLetter) -> bool:
        fact = letter.fact()
        async with self._pool.acquire() as connection, connection.transaction():
            is_new = await store.archive(connection, letter)
            if is_new and fact is not None:
                await self._outbox.add([Envelope.of(fact, source="buildlight://ingest")], connection)
        return is_new
