"""A batch subscriber, for queues too hot for one task a message.

It takes what has arrived, hands the handler a list, and acknowledges the whole batch at once after the
handler returned. The handler answers for each message: those it says failed are parked or buried like any
other subscriber's, and the rest is done. When the handler itself fails, the batch is handled one by one, so
that the culprit alone pays. A message that came back (redelivered, or from a retry) is always handled on its
own, so that one that kills the process does not take its neighbours along; and before consuming, those at the
head of the queue are fetched one at a time, because a process that dies is one more delivery for all it has in
hand, and too many of them are the end of a message.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import aiormq
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.commands import Basic
from prometheus_client import Counter, Histogram

from buildlight_contracts.envelope import MAX_MESSAGE_BYTES
from chassis import crash
from chassis.broker import Broker, Failures
from chassis.delivery import Delivery
from chassis.outage import outage_of
from chassis.retry import ATTEMPT, LONELY
from chassis.topology import Queue, declare

BatchHandler = Callable[[Sequence[Delivery]], Awaitable[Mapping[int, Exception]]]
"""Handles messages together; returns, by index, why some failed. The others are done: never handled again.

Raising means: nothing is known of any of them. An outage holds the batch and repeats it; anything else makes
the subscriber hand them over one by one.
"""

LARGEST_BATCH_BYTES = 8 * MAX_MESSAGE_BYTES
"""What a batch weighs at most, so that large messages do not make a huge transaction."""
GRACE_SECONDS = 10.0
"""How long a batch in hand may take to end once the process is told to stop."""
_RECONNECT_SECONDS = 0.5
_AFTER_A_BUG_SECONDS = 1.0

MESSAGES = Counter("buildlight_batch_messages_total", "Messages handled in batches.", ["queue"])
BATCH_SIZE = Histogram(
    "buildlight_batch_size_messages",
    "Messages a batch.",
    ["queue"],
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)

log = structlog.get_logger()


class BatchSubscriber:
    """Consumes `queue` in batches of at most `largest`, each gathered for at most `linger_seconds`.

    Its connection is its own: delivery tags die with a channel, so after a lost connection everything in hand
    is forgotten and comes again. `queue.prefetch` bounds what is in hand; it should be more than `largest`.
    """

    def __init__(
        self,
        broker: Broker,
        queue: Queue,
        handler: BatchHandler,
        *,
        largest: int = 500,
        linger_seconds: float = 0.005,
    ) -> None:
        broker.queues.append(queue)
        self._broker = broker
        self._queue = queue
        self._handler = handler
        self._stopping = asyncio.Event()
        self._failures = Failures(broker, queue, stopping=self._stopping)
        self._largest = largest
        self._linger_seconds = linger_seconds

    async def run(self) -> None:
        """Consume until cancelled, through lost connections and a deleted queue.

        When cancelled, the batch in hand is finished and acknowledged; what a dependency's outage holds is
        not, and goes to another consumer.
        """
        self._stopping.clear()
        while True:
            try:
                # Each time anew: the queue may have been deleted meanwhile.
                await declare(self._broker.url, [self._queue], self._broker.rungs)
                connection = await aiormq.connect(self._broker.url)
                try:
                    await self._consume(connection)
                finally:
                    with contextlib.suppress(Exception):
                        await connection.close()
            except (
                OSError,
                aiormq.exceptions.AMQPError,
                aiormq.exceptions.ChannelInvalidStateError,
            ) as error:
                log.warning(
                    "batch subscriber interrupted",
                    queue=self._queue.name,
                    error=f"{type(error).__name__}: {error}",
                )
                await asyncio.sleep(_RECONNECT_SECONDS)
            except Exception:
                # No message may end the process. What was in hand comes again, until its delivery limit.
                log.exception("batch subscriber failed; starting over", queue=self._queue.name)
                await asyncio.sleep(_AFTER_A_BUG_SECONDS)

    async def _consume(self, connection: AbstractConnection) -> None:
        # Only acknowledgements leave by this channel, so nothing has to be confirmed.
        channel = await connection.channel(publisher_confirms=False)
        await channel.basic_qos(prefetch_count=self._queue.prefetch)
        arrivals = _Arrivals()
        channel.closing.add_done_callback(lambda _: arrivals.end("the channel was closed"))
        channel.on_consumer_cancel_callbacks.add(lambda _: arrivals.end("the queue was deleted"))
        await self._take_returned(channel, arrivals)
        await channel.basic_consume(self._queue.name, arrivals.take)
        while True:
            await arrivals.some(self._largest, self._linger_seconds)
            await self._finish(channel, arrivals.next_batch(self._largest))

    async def _take_returned(self, channel: AbstractChannel, arrivals: "_Arrivals") -> None:
        """Handle what came back, with nothing else in hand; the first fresh message is the first to arrive."""
        while True:
            message = await channel.basic_get(self._queue.name)  # returned ones are at the head of the queue
            if isinstance(message.delivery, Basic.GetEmpty):
                return
            if not _came_back(message):
                await arrivals.take(message)
                return
            await self._finish(channel, [message])

    async def _finish(self, channel: AbstractChannel, batch: Sequence[DeliveredMessage]) -> None:
        """Handle and acknowledge a batch, even when cancelled meanwhile."""
        work = asyncio.create_task(self._handle(channel, batch))
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError:
            self._stopping.set()
            with contextlib.suppress(Exception, asyncio.CancelledError):
                async with asyncio.timeout(GRACE_SECONDS):
                    await work
            raise

    async def _handle(self, channel: AbstractChannel, batch: Sequence[DeliveredMessage]) -> None:
        await self._process(batch)
        crash.point(f"{self._queue.name}.before_ack")
        # Messages are handled in the order of their tags, so all up to the last one are done.
        await channel.basic_ack(_tag(batch[-1]), multiple=True)
        crash.point(f"{self._queue.name}.after_ack")
        MESSAGES.labels(self._queue.name).inc(len(batch))

    async def _process(self, batch: Sequence[DeliveredMessage]) -> None:
        BATCH_SIZE.labels(self._queue.name).observe(len(batch))
        deliveries = [_delivery(message) for message in batch]
        failed = None if _came_back(batch[0]) else await self._together(deliveries)
        if failed is None:
            for delivery in deliveries:
                await self._failures.handle(delivery, self._one)
        else:
            for index, error in failed.items():
                await self._failures.handle(deliveries[index], self._failing_first_with(error))

    async def _together(self, deliveries: Sequence[Delivery]) -> Mapping[int, Exception] | None:
        """Handle a batch. Returns which failed and why, or None when nothing is known of any of them."""
        if any(len(delivery.body) > MAX_MESSAGE_BYTES for delivery in deliveries):
            return None
        for held in range(1, 1_000_000):
            try:
                return await self._handler(deliveries)
            except Exception as error:  # noqa: BLE001 -- one by one finds the culprit and its verdict
                outage = outage_of(error)
                log.warning(
                    "batch held" if outage else "batch failed; going one by one",
                    queue=self._queue.name,
                    messages=len(deliveries),
                    error=f"{type(error).__name__}: {error}",
                )
                if outage is None:
                    return None
                await self._failures.wait(outage.dependency, held)
        raise AssertionError("unreachable")

    async def _one(self, delivery: Delivery) -> None:
        for error in (await self._handler([delivery])).values():
            raise error

    def _failing_first_with(self, known: Exception) -> Callable[[Delivery], Awaitable[None]]:
        """A handler that tells what the batch already found out, and works should it be asked again."""
        errors = [known]

        async def handle(delivery: Delivery) -> None:
            if errors:
                raise errors.pop()
            await self._one(delivery)

        return handle


class _Arrivals:
    """Messages delivered and not yet handled, in the order of their delivery tags."""

    def __init__(self) -> None:
        self._messages: deque[DeliveredMessage] = deque()
        self._changed = asyncio.Event()
        self._ended: str | None = None

    async def take(self, message: DeliveredMessage) -> None:
        self._messages.append(message)
        self._changed.set()

    def end(self, reason: str) -> None:
        self._ended = reason
        self._changed.set()

    async def some(self, enough: int, linger_seconds: float) -> None:
        """Wait for a message, and a little longer for more, unless there are enough.

        Raises:
            ConnectionResetError: no more will come, and what is here cannot be acknowledged.
        """
        while not self._messages and self._ended is None:
            self._changed.clear()
            await self._changed.wait()
        if len(self._messages) < enough and self._ended is None:
            await asyncio.sleep(linger_seconds)
        if self._ended is not None:
            raise ConnectionResetError(self._ended)

    def next_batch(self, largest: int) -> list[DeliveredMessage]:
        """The oldest messages that may be handled together; one that must be alone is."""
        batch = [self._messages.popleft()]
        if _came_back(batch[0]):
            return batch
        size = len(batch[0].body)
        while self._messages and len(batch) < largest and not _came_back(self._messages[0]):
            size += len(self._messages[0].body)
            if size > LARGEST_BATCH_BYTES:
                break
            batch.append(self._messages.popleft())
        return batch


def _came_back(message: DeliveredMessage) -> bool:
    headers = message.header.properties.headers or {}
    return bool(message.redelivered) or ATTEMPT in headers or LONELY in headers


def _tag(message: DeliveredMessage) -> int:
    tag = message.delivery_tag
    assert tag is not None
    return tag


def _delivery(message: DeliveredMessage) -> Delivery:
    properties = message.header.properties
    return Delivery(
        body=message.body,
        message_id=properties.message_id,
        headers=properties.headers or {},
        redelivered=bool(message.redelivered),
        content_type=properties.content_type,
    )
