"""The relay: publishes every recorded event to `buildlight.events`, in log order, after its commit."""

import asyncio
import contextlib
from collections.abc import Sequence
from typing import cast

import aiormq
import structlog
from aiormq import Channel
from aiormq.abc import AbstractConnection
from pamqp.commands import Basic
from prometheus_client import Counter
from pydantic_core import to_json

from buildlight_contracts.envelope import CONTENT_TYPE, TYPE_PREFIX
from buildlight_contracts.routing import EVENTS, HINTS, POSITION_HEADER
from chassis import crash
from chassis.broker import CONFIRM_TIMEOUT_SECONDS, Broker
from chassis.database import Connection
from chassis.follower import Recorded
from chassis.outage import Outage

_HINT_PAUSE_SECONDS = 0.01
_LONGEST_WAIT_SECONDS = 1.0
_BACKED_UP_MESSAGES = 50
_BUSY_SECONDS = 0.1
"""How long one such batch holds the relay back: under load the next comes sooner."""

_PAUSES_SECONDS = (0.1, 0.2, 0.4)
"""Before each further try to publish what a listener's full queue refused."""

RELAYED = Counter("buildlight_ingest_relayed_total", "Events published to buildlight.events.")
REFUSED = Counter(
    "buildlight_ingest_relay_refused_total", "Events that a listener's full queue went on refusing."
)

log = structlog.get_logger()


class GiveWay:
    """While intake is backed up, recording goes first and relaying waits; never for longer than a second a batch.

    What is on intake is not safe from the log's point of view yet; what is recorded can wait to be told.
    """

    def __init__(self) -> None:
        self._busy_until = 0.0

    def intake(self, *, at_once: int) -> None:
        """How many messages came in one batch: many when they come faster than they are recorded."""
        busy = at_once > _BACKED_UP_MESSAGES
        self._busy_until = asyncio.get_running_loop().time() + _BUSY_SECONDS if busy else 0.0

    async def pass_on(self) -> None:
        """Return when relaying may go on."""
        loop = asyncio.get_running_loop()
        longest = loop.time() + _LONGEST_WAIT_SECONDS
        while (left := min(self._busy_until, longest) - loop.time()) > 0:  # noqa: ASYNC110 -- it is a time that is waited for
            await asyncio.sleep(left)


class Relay:
    """Publishes batches of recorded events, confirmed and pipelined, on one channel of its own.

    One channel keeps their order. A batch whose end was not seen is published again as a whole: at least once,
    and readers know an event by its position. Nothing is mandatory: the log is the record, and it is no error
    that nobody listens for a type.
    """

    def __init__(self, url: str, *, claim_check_bytes: int, give_way: GiveWay) -> None:
        """An event with more than `claim_check_bytes` of data is published without it."""
        self._url = url
        self._give_way = give_way
        self._claim_check_bytes = claim_check_bytes
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None

    async def apply(self, events: Sequence[Recorded], _: Connection) -> None:
        """Publish `events`; returns when every queue has them, or is full and goes on refusing.

        Raises:
            Outage: it may or may not have them; publish all of them again.
        """
        await self._give_way.pass_on()
        letters = [(message_body(event, self._claim_check_bytes), event) for event in events]
        crash.point("ingest.relay.before_publish")
        try:
            async with asyncio.timeout(CONFIRM_TIMEOUT_SECONDS):
                channel = self._channel or await self._open()
                refused = await _publish_all(channel, letters)
                for pause in _PAUSES_SECONDS:
                    if refused:
                        await asyncio.sleep(pause)
                        refused = await _publish_all(channel, refused)
        except (OSError, aiormq.exceptions.AMQPError, aiormq.exceptions.ChannelInvalidStateError) as error:
            await self.close()
            raise Outage("rabbitmq", f"{type(error).__name__}: {error}") from error
        crash.point("ingest.relay.after_publish")
        RELAYED.inc(len(events) - len(refused))
        if refused:
            REFUSED.inc(len(refused))
            log.warning(
                "a listener's queue is full; it has to read these events from the log",
                events=len(refused),
                first=refused[0][1].position,
                last=refused[-1][1].position,
            )

    async def _open(self) -> Channel:
        self._connection = await aiormq.connect(self._url)
        self._channel = cast("Channel", await self._connection.channel(publisher_confirms=True))
        return self._channel

    async def close(self) -> None:
        """Drop the connection; the next batch makes another."""
        connection, self._connection, self._channel = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(Exception):
                await connection.close()


async def _publish_all(
    channel: Channel, letters: Sequence[tuple[bytes, Recorded]]
) -> list[tuple[bytes, Recorded]]:
    """Publish, and return those that a queue refused. The other queues bound for them have them."""
    # Tasks start, and take the channel's lock, in the order they are made.
    results = await asyncio.gather(
        *(_publish(channel, body, event) for body, event in letters), return_exceptions=True
    )
    refused = []
    for letter, result in zip(letters, results, strict=True):
        if isinstance(result, aiormq.exceptions.DeliveryError):
            refused.append(letter)
        elif isinstance(result, BaseException):
            raise result
    return refused


async def _publish(channel: Channel, body: bytes, event: Recorded) -> None:
    await channel.basic_publish(
        body,
        exchange=EVENTS.name,
        routing_key=routing_key(event.type),
        properties=Basic.Properties(
            content_type=CONTENT_TYPE,
            delivery_mode=2,
            message_id=event.id,
            headers={POSITION_HEADER: event.position},
            timestamp=event.recorded_at,
            app_id="buildlight-ingest",
        ),
        wait=False,
    )


def routing_key(type_: str) -> str:
    """As `Envelope.routing_key`, without an envelope."""
    return type_.removeprefix(TYPE_PREFIX).encode()[:255].decode(errors="ignore")


def message_body(event: Recorded, claim_check_bytes: int) -> bytes:
    """The recorded event as a structured CloudEvent.

    With more than `claim_check_bytes` of data it carries `dataref` instead: readers find the data in the log.
    """
    attributes = {
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.occurred_at,
        "datacontenttype": "application/json",
        "correlationid": event.correlation_id,
        "causationid": event.causation_id,
        "traceparent": event.traceparent,
    }
    data = to_json(event.data)
    if len(data) > claim_check_bytes:
        return to_json(attributes | {"dataref": f"buildlight://log/{event.position}"}, exclude_none=True)
    return to_json(attributes, exclude_none=True)[:-1] + b',"data":' + data + b"}"


class Hints:
    """Tells every replica that the log has grown. Losing one costs nobody more than its next poll."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._head = 0
        self._changed = asyncio.Event()

    def head(self, position: int) -> None:
        """The log's head is at least `position`."""
        self._head = max(self._head, position)
        self._changed.set()

    async def run(self) -> None:
        """Publish the newest head, at most a hundred times a second, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._broker.put(
                    str(self._head).encode(),
                    exchange=HINTS.name,
                    key="",
                    content_type="text/plain",
                    mandatory=False,
                )
            except (Outage, LookupError) as error:
                log.debug("a hint is lost", error=str(error))
            await asyncio.sleep(_HINT_PAUSE_SECONDS)
