"""A service's connection to RabbitMQ: publish surely, subscribe with retry rungs and dead letters."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

import aio_pika
import structlog
from aio_pika import IncomingMessage
from aio_pika.abc import AbstractRobustConnection
from aio_pika.exceptions import DeliveryError
from faststream import AckPolicy
from faststream.exceptions import IncorrectState
from faststream.message import StreamMessage
from faststream.rabbit import Channel, ExchangeType, QueueType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.opentelemetry import RabbitTelemetryMiddleware
from faststream.rabbit.prometheus import RabbitPrometheusMiddleware
from opentelemetry import trace
from prometheus_client import REGISTRY, Counter, Gauge

from buildlight_contracts.commands import Command
from buildlight_contracts.envelope import CONTENT_TYPE, MAX_MESSAGE_BYTES, Envelope, Fact
from buildlight_contracts.routing import COMMANDS, INTAKE, Exchange, command_key
from chassis.delivery import Delivery
from chassis.outage import LONGEST_BACKOFF_SECONDS, Outage, patiently
from chassis.retry import Bury, Hold, NotYet, Park, Permanent, decide, still_early, strip_broker_headers
from chassis.telemetry import traceparent
from chassis.tolerant import decode_tolerantly
from chassis.topology import Queue, declare

if TYPE_CHECKING:
    from faststream.rabbit.schemas.queue import ClassicQueueArgs, QuorumQueueArgs

Handler = Callable[[Delivery], Awaitable[None]]

CONFIRM_TIMEOUT_SECONDS = 15.0
_STOP_SECONDS = 12.0

MESSAGES_FAILED = Counter(
    "buildlight_messages_failed_total", "Failed handlings of a message, by verdict.", ["queue", "verdict"]
)
MESSAGES_HELD = Gauge(
    "buildlight_messages_held", "Messages kept in hand while a dependency is down.", ["queue", "dependency"]
)

log = structlog.get_logger()


class Broker:
    """One service's connection. Nothing connects before `start`."""

    def __init__(self, url: str, *, service: str, rungs: Sequence[str]) -> None:
        decode_tolerantly()
        self.url = url
        self.service = service
        self.rungs = tuple(rungs)
        self.queues: list[Queue] = []
        self.stopping = asyncio.Event()
        self._connection: AbstractRobustConnection | None = None
        self.faststream = RabbitBroker(
            url,
            app_id=f"buildlight-{service}",
            default_channel=Channel(on_return_raises=True),
            reconnect_interval=1.0,
            graceful_timeout=10.0,
            apply_types=False,
            logger=None,
            middlewares=(
                RabbitTelemetryMiddleware(tracer_provider=trace.get_tracer_provider()),
                RabbitPrometheusMiddleware(
                    registry=REGISTRY, app_name=service, metrics_prefix=f"buildlight_{service}"
                ),
            ),
        )

    async def start(self) -> None:
        """Connect, declare what this service owns, and begin to consume. Waits for RabbitMQ to be there."""
        await patiently("rabbitmq", lambda: declare(self.url, self.queues, self.rungs))
        await patiently("rabbitmq", self.faststream.start)
        self._connection = await self.faststream.connect()

    async def stop(self) -> None:
        """Stop consuming; give messages in hand ten seconds; what is left is redelivered to another."""
        self.stopping.set()
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self.faststream.stop()
        except Exception as error:  # noqa: BLE001 -- see below
            # With RabbitMQ away, cancelling the consumers fails before the connection is closed; and one that
            # is not closed goes on reconnecting, and keeps the process alive.
            log.info("stopped without RabbitMQ's leave", error=f"{type(error).__name__}: {error}")
            if self._connection is not None:
                await self._connection.close()

    # -- publishing

    async def record(self, fact: Fact, *, cause: Envelope | None = None) -> None:
        """Publish an observation to intake; returns when RabbitMQ has it safe."""
        await self.publish(
            Envelope.of(
                fact,
                source=f"buildlight://{self.service}",
                correlation_id=cause.correlationid if cause else None,
                causation_id=cause.id if cause else None,
                traceparent=traceparent(),
            ),
            INTAKE,
        )

    async def command(self, command: Command, *, expires_at: datetime | None = None) -> Envelope:
        """Publish a command to its owner; returns its envelope when RabbitMQ has it safe."""
        envelope = Envelope.wrap(
            command,
            source=f"buildlight://{self.service}",
            time=datetime.now(UTC),
            traceparent=traceparent(),
            expires_at=expires_at,
        )
        await self.publish(envelope, COMMANDS)
        return envelope

    async def publish(
        self,
        envelope: Envelope,
        exchange: Exchange,
        *,
        headers: Mapping[str, Any] | None = None,
        mandatory: bool = True,
    ) -> None:
        """Publish persistent and confirmed.

        Raises:
            Permanent: larger than any queue accepts.
            LookupError: `mandatory` and no queue is bound for it; run `buildlight migrate`.
            Outage: RabbitMQ is away; it may or may not have the message, so publish again.
        """
        body = envelope.to_json()
        if len(body) > MAX_MESSAGE_BYTES:
            raise Permanent(
                f"{envelope.type} {envelope.id}: {len(body):,} bytes; a message may have "
                f"{MAX_MESSAGE_BYTES:,}"
            )
        await self.put(
            body,
            exchange=exchange.name,
            key=command_key(envelope) if exchange is COMMANDS else envelope.routing_key,
            message_id=envelope.id,
            headers=headers,
            mandatory=mandatory,
        )

    async def put(
        self,
        body: bytes,
        *,
        key: str,
        exchange: str = "",
        message_id: str | None = None,
        headers: Mapping[str, Any] | None = None,
        content_type: str | None = CONTENT_TYPE,
        mandatory: bool = True,
    ) -> None:
        """Publish raw bytes, persistent and confirmed; raises as `publish` does."""
        message = aio_pika.Message(
            body,
            headers=dict(headers or {}),
            content_type=content_type,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=message_id,
            app_id=f"buildlight-{self.service}",
            timestamp=datetime.now(UTC),
        )
        try:
            await self.faststream.publish(
                message,
                exchange=exchange or None,
                routing_key=key,
                mandatory=mandatory,
                timeout=CONFIRM_TIMEOUT_SECONDS,
            )
        except DeliveryError as error:
            where = f"exchange {exchange!r} with key {key!r}" if exchange else f"queue {key!r}"
            raise LookupError(f"RabbitMQ took no message for {where}; run `buildlight migrate`") from error
        except (
            OSError,
            TimeoutError,
            aio_pika.exceptions.AMQPError,
            RuntimeError,
            IncorrectState,  # not connected yet: HTTP is served while a service starts
        ) as error:
            raise Outage("rabbitmq", f"{type(error).__name__}: {error}") from error

    # -- consuming

    def subscribe(self, queue: Queue, handler: Handler) -> None:
        """Handle each message of `queue` with `handler`; what becomes of failures is `chassis.retry`'s to say."""
        self.queues.append(queue)
        subscriber = self.faststream.subscriber(
            _rabbit_queue(queue),
            channel=Channel(prefetch_count=queue.prefetch),
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_parse,
            decoder=_decode,
            no_reply=True,
            title=queue.name,
            description=queue.purpose,
        )
        failures = Failures(self, queue)

        async def receive(delivery: Delivery) -> None:
            await failures.handle(delivery, handler)

        subscriber(receive)

    def listen(self, exchange: Exchange, key: str, handler: Handler, *, newest: int | None = None) -> None:
        """Hear what is published from now on, as this replica alone: a private queue that dies with it.

        `newest`: keep only so many unhandled messages. Nothing is retried: what is missed is missed.
        """
        queue = RabbitQueue(
            f"{self.service}.{exchange.name.rpartition('.')[2]}.{uuid4()}",
            durable=False,
            exclusive=True,
            auto_delete=True,
            routing_key=key,
            arguments=cast("ClassicQueueArgs", {"x-max-length": newest} if newest else {}),
        )
        subscriber = self.faststream.subscriber(
            queue,
            RabbitExchange(exchange.name, type=ExchangeType(exchange.kind), durable=True),
            channel=Channel(prefetch_count=100),
            ack_policy=AckPolicy.ACK_FIRST,
            parser=_parse,
            decoder=_decode,
            no_reply=True,
        )
        subscriber(handler)


class Failures:
    """Carries out the verdicts of `chassis.retry` for one queue."""

    def __init__(self, broker: Broker, queue: Queue, *, stopping: asyncio.Event | None = None) -> None:
        self._broker = broker
        self._queue = queue
        self._stopping = stopping or broker.stopping

    async def handle(self, delivery: Delivery, handler: Handler) -> None:
        """Handle `delivery` to an end: done, parked or buried. Returns when it may be acknowledged."""
        held = 0
        while True:
            verdict: Hold | Park | Bury | None
            try:
                verdict = still_early(delivery.headers, rungs=self._broker.rungs, now=datetime.now(UTC))
                if verdict is None:
                    delivery.check_size()
                    await handler(delivery)
                    return None
            except Exception as error:  # noqa: BLE001 -- told below
                verdict = decide(error, delivery.headers, rungs=self._broker.rungs, now=datetime.now(UTC))
                self._tell(error, verdict, delivery)
            try:
                if isinstance(verdict, Park):
                    return await self._put(self._queue.rung(verdict.rung), delivery, verdict.headers)
                if isinstance(verdict, Bury):
                    return await self._put(self._queue.dead, delivery, verdict.headers)
            except (Outage, LookupError) as error:
                log.warning("cannot put a message aside", queue=self._queue.name, error=str(error))
                verdict = Hold("rabbitmq")
            held += 1
            await self.wait(verdict.dependency, held)

    def _tell(self, error: Exception, verdict: Hold | Park | Bury, delivery: Delivery) -> None:
        if isinstance(error, NotYet):
            log.info(
                "message waits", queue=self._queue.name, message_id=delivery.message_id, reason=str(error)
            )
            return
        log.warning(
            "message failed",
            queue=self._queue.name,
            message_id=delivery.message_id,
            verdict=type(verdict).__name__.lower(),
            error=f"{type(error).__name__}: {error}",
            exc_info=error if isinstance(verdict, Park) else None,
        )
        MESSAGES_FAILED.labels(self._queue.name, type(verdict).__name__.lower()).inc()

    async def _put(self, queue: str, delivery: Delivery, headers: Mapping[str, Any]) -> None:
        kept = strip_broker_headers(delivery.headers)
        await self._broker.put(
            delivery.body,
            key=queue,
            message_id=delivery.message_id,
            headers={**kept, **headers},
            content_type=delivery.content_type,
        )

    async def wait(self, dependency: str, held: int) -> None:
        """Pause before try number `held` of what a dependency's outage keeps in hand; longer each time."""
        with MESSAGES_HELD.labels(self._queue.name, dependency).track_inprogress():
            pause = min(LONGEST_BACKOFF_SECONDS, 0.1 * 2**held) * random.uniform(0.5, 1.0)  # noqa: S311
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                return
        # Unacknowledged on purpose: RabbitMQ gives it to someone else.
        raise asyncio.CancelledError


def _rabbit_queue(queue: Queue) -> RabbitQueue:
    if queue.foreign:
        return RabbitQueue(queue.name, declare=False)
    arguments = {k: v for k, v in queue.arguments.items() if k != "x-queue-type"}
    return RabbitQueue(
        queue.name, queue_type=QueueType.QUORUM, durable=True, arguments=cast("QuorumQueueArgs", arguments)
    )


async def _parse(
    message: IncomingMessage, original: Callable[[IncomingMessage], Awaitable[StreamMessage[Any]]]
) -> StreamMessage[Any]:
    parsed = await original(message)
    for name in ("traceparent", "tracestate", "baggage"):
        # The telemetry middleware fails on anything else, before any handler: a message for ever redelivered.
        if not isinstance(parsed.headers.get(name, ""), str):
            del parsed.headers[name]
    return parsed


async def _decode(message: StreamMessage[Any]) -> Delivery:
    raw = message.raw_message
    return Delivery(
        body=message.body,
        message_id=raw.message_id,
        headers=message.headers,
        redelivered=bool(raw.redelivered),
        content_type=raw.content_type,
    )
