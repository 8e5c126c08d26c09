"""What the notifier does with a message: evaluate a fact, or deliver a notification."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram
from pydantic import BaseModel, ValidationError

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.catalogue import BadMessage, explain, fact_of, parse
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope
from buildlight_contracts.notifications import NotificationFailedV1, NotificationSentV1
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.outage import Outage, patiently
from chassis.retry import ATTEMPT, Bury, Permanent, Transient, decide, reason_of
from chassis.telemetry import traceparent
from services.notifier import render
from services.notifier.channels.channel import Channel, Notification
from services.notifier.dedupe import AlreadySent, InHand, Record, dedupe
from services.notifier.queues import CHANNELS
from services.notifier.rules import BreakUntold, Known, Rule, Send, delivery_id, evaluate
from services.notifier.store import NewDelivery, Ready, Store, Told

SOURCE = "buildlight://notifier"
_CLAIM_POLL_SECONDS = 0.2
_LOOKS_FOR_BREAK = 3
"""Two rungs apart: longer than a message that an outage held goes on being held after it."""

DECISIONS = Counter("buildlight_notifier_decisions_total", "What became of a fact, by reason.", ["decision"])
DELIVERIES = Counter(
    "buildlight_notifier_deliveries_total",
    "Tries to deliver, by outcome: sent, already_sent, held, retried, failed.",
    ["channel", "outcome"],
)
SEND_SECONDS = Histogram(
    "buildlight_notifier_send_seconds", "How long a channel took to answer.", ["channel"]
)

log = structlog.get_logger()


class Deliver(BaseModel):
    """What is on a channel's queue, inside an envelope: the delivery's name, and its title for people."""

    delivery_id: UUID
    title: str


def now() -> datetime:
    return datetime.now(UTC)


class Evaluator:
    """Handles `notifier.evaluate`: one delivery a rule and channel, each put on its channel's queue."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        *,
        rules: Sequence[Rule],
        channels: Sequence[str],
        max_age: timedelta,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._broker = broker
        self._rules = rules
        self._channels = channels
        self._max_age = max_age
        self._clock = clock

    async def __call__(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        fact = fact_of(envelope)
        if not isinstance(fact, PipelineBrokeV1 | PipelineRecoveredV1):
            raise BadMessage(f"no notification is written for {fact.type}")
        breaks = (
            await self._store.breaks(fact.pipeline.pipeline_id, at=fact.broken_since, until=fact.recovered_at)
            if isinstance(fact, PipelineRecoveredV1)
            else {}
        )
        known = Known(self._channels, self._max_age, breaks)
        decisions = evaluate(fact, envelope.id, self._rules, known, self._clock())
        fresh = self._clock() - fact.occurred_at() <= self._max_age
        looks = int(delivery.headers.get(ATTEMPT, 0)) + 1
        if fresh and looks < _LOOKS_FOR_BREAK and any(isinstance(d, BreakUntold) for d in decisions):
            # Messages are handled side by side: its break may be on its way just now.
            raise Transient("the break before this recovery is not on record; looking once more")
        for decision in decisions:
            DECISIONS.labels(type(decision).__name__).inc()
            log.info("fact evaluated", fact_id=envelope.id, type=fact.type, decision=str(decision))
        sends = [d for d in decisions if isinstance(d, Send)]
        if sends:
            await self._store.add(
                [
                    NewDelivery(delivery_id(d.rule, d.channel, envelope.id), d.rule, d.channel, d.follows)
                    for d in sends
                ],
                Told(
                    envelope.id,
                    fact.type,
                    fact.pipeline.pipeline_id,
                    fact.occurred_at(),
                    render.notice(fact, public_url=None).title,
                    envelope.to_json().decode(),
                ),
            )
            # Also what an earlier try put on record: whether it got as far as the queue, nobody knows.
            await _put(await self._store.ready_of(envelope.id), self._broker)


class Deliverer:
    """Handles one channel's queue: sends a delivery once, but for a crash between sending and recording."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        channel: Channel,
        *,
        name: str,
        public_url: str | None,
        claim_seconds: float,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._store = store
        self._broker = broker
        self._channel = channel
        self._name = name
        self._public_url = public_url
        self._claim_seconds = claim_seconds
        self._clock = clock
        self._sending: set[asyncio.Task[None]] = set()

    async def __call__(self, delivery: Delivery) -> None:
        record = await self._take(_asked(delivery))
        if record is not None:
            # A lost connection to RabbitMQ cancels what is in hand. Cut off between the sink's answer and the
            # record of it, the notification would be sent again; so that much is always seen through.
            sending = asyncio.create_task(self._send(record, delivery.headers))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
            await asyncio.shield(sending)
        # Also when it was sent before: that time may have ended before this was done.
        await _put(await self._store.ready_after(_asked(delivery)), self._broker)

    async def _take(self, name: UUID) -> Record | None:
        """The delivery, claimed; None when it was sent before. Waits while another copy is in hand."""
        while True:
            record = await self._store.read(name)
            if record is None:
                raise Permanent(f"no delivery {name} is on record")
            verdict = dedupe(record)
            if isinstance(verdict, AlreadySent):
                self._count("already_sent")
                log.info("delivery skipped", delivery_id=str(name), channel=self._name, reason=str(verdict))
                return None
            if isinstance(verdict, InHand):
                await asyncio.sleep(min(verdict.seconds_left, _CLAIM_POLL_SECONDS))
            elif await self._store.claim(name, seconds=self._claim_seconds):
                return record

    async def _send(self, record: Record, headers: Mapping[str, object]) -> None:
        envelope = parse(record.envelope.encode())
        try:
            notification = self._notification(record, envelope)
            with SEND_SECONDS.labels(self._name).time():
                await self._channel.send(notification)
        except Outage as error:
            self._count("held")
            await self._store.release(record.delivery_id, str(error), answered=False)
            raise
        except Exception as error:
            await self._refused(record, envelope, error, headers)
            raise
        at = self._clock()
        self._count("sent")
        # It is out: through an outage of the database this is kept in hand, not sent again.
        await patiently(
            "postgres",
            lambda: self._store.sent(
                record.delivery_id,
                at,
                _about(envelope, NotificationSentV1(**_named(record, envelope), sent_at=at)),
            ),
        )
        log.info("notification sent", delivery_id=str(record.delivery_id), channel=self._name)

    async def _refused(
        self, record: Record, envelope: Envelope, error: Exception, headers: Mapping[str, object]
    ) -> None:
        reason, at = reason_of(error), self._clock()
        if not isinstance(decide(error, headers, rungs=self._broker.rungs, now=at), Bury):
            self._count("retried")
            await self._store.release(record.delivery_id, reason, answered=True)
            return
        self._count("failed")
        fact = NotificationFailedV1(**_named(record, envelope), reason=reason, failed_at=at)
        await self._store.failed(record.delivery_id, reason, _about(envelope, fact))

    def _notification(self, record: Record, envelope: Envelope) -> Notification:
        fact = fact_of(envelope)
        assert isinstance(fact, PipelineBrokeV1 | PipelineRecoveredV1)
        return Notification(
            record.delivery_id, render.notice(fact, public_url=self._public_url), record.follows
        )

    def _count(self, outcome: str) -> None:
        DELIVERIES.labels(self._name, outcome).inc()


async def _put(deliveries: Sequence[Ready], broker: Broker) -> None:
    """One message a delivery on its channel's queue, confirmed."""
    for ready in deliveries:
        fact = parse(ready.envelope.encode())
        message = Envelope(
            id=str(ready.delivery_id),
            source=SOURCE,
            type=f"{TYPE_PREFIX}notification.deliver.v1",
            subject=f"notifications/{ready.delivery_id}",
            correlationid=fact.correlationid,
            causationid=fact.id,
            traceparent=traceparent(),
            data=Deliver(delivery_id=ready.delivery_id, title=ready.title).model_dump(mode="json"),
        )
        await broker.put(message.to_json(), key=CHANNELS[ready.channel].name, message_id=message.id)


def _asked(delivery: Delivery) -> UUID:
    envelope = parse(delivery.body)
    try:
        return Deliver.model_validate(envelope.data).delivery_id
    except ValidationError as error:
        raise BadMessage(f"names no delivery: {explain(error)}") from None


def _named(record: Record, envelope: Envelope) -> dict[str, str | UUID]:
    return {
        "delivery_id": record.delivery_id,
        "rule": record.rule,
        "channel": record.channel,
        "fact_id": envelope.id,
        "fact_type": envelope.routing_key,
        "title": record.title,
    }


def _about(cause: Envelope, fact: NotificationSentV1 | NotificationFailedV1) -> Envelope:
    return Envelope.of(
        fact,
        source=SOURCE,
        correlation_id=cause.correlationid,
        causation_id=cause.id,
        traceparent=traceparent(),
    )
