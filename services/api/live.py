"""What happens now, to every WebSocket client that wants it.

Positions of the log have no gaps. So each replica knows which event comes next: one that came already is dropped,
and when one is missing (RabbitMQ was away, say) the log itself is read up to the one that came.
"""

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from prometheus_client import Counter, Gauge
from pydantic import ValidationError

from buildlight_contracts.builds import BuildRef, PipelineRef
from buildlight_contracts.catalogue import BadMessage, parse
from buildlight_contracts.envelope import TYPE_PREFIX
from buildlight_contracts.routing import POSITION_HEADER
from chassis.database import Pool
from chassis.delivery import Delivery
from services.api.queries import events

NAMES = ("pipeline", "builds", "notifications", "provisioning")
"""What a client can subscribe to."""
REPLAY_LIMIT = 1000
"""Events that are replayed at most; a client that missed more fetches the state afresh."""

_NAME_OF_NOUN = {
    "build": "builds",
    "job": "builds",
    "pipeline": "pipeline",
    "notification": "notifications",
    "provisioning": "provisioning",
}

CLIENTS = Gauge("buildlight_api_live_clients", "WebSocket clients connected to this process.")
DROPPED = Counter("buildlight_api_live_clients_dropped_total", "WebSocket clients dropped for being slow.")
FRAMES = Counter("buildlight_api_live_frames_total", "Frames put out to WebSocket clients.")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Frame:
    """An event as clients get it; made once for all of them."""

    position: int
    name: str
    text: str


def frame_of(position: int, type_: str, time: datetime | None, data: Any) -> Frame | None:
    """The frame of an event; None for those nobody can subscribe to."""
    event = type_.removeprefix(TYPE_PREFIX)
    name = _NAME_OF_NOUN.get(event.partition(".")[0]) if type_.startswith(TYPE_PREFIX) else None
    if name is None or not isinstance(data, dict):
        return None
    content = {
        "type": name,
        "event": event,
        "position": position,
        "time": _stamp(time),
        "data": data | _ids(data),
    }
    return Frame(position, name, json.dumps(content, ensure_ascii=False, separators=(",", ":")))


def _ids(data: dict[str, Any]) -> dict[str, str]:
    """The ids under which the API knows the build and the pipeline of an event."""
    found = {}
    try:
        if "build" in data:
            build = BuildRef.model_validate(data["build"])
            found["build_id"] = str(build.build_id)
            if "workflow_id" in data:
                pipeline = PipelineRef.model_validate(data["build"] | data)
                found["pipeline_id"] = str(pipeline.pipeline_id)
        if "pipeline" in data:
            found["pipeline_id"] = str(PipelineRef.model_validate(data["pipeline"]).pipeline_id)
    except (ValidationError, TypeError):
        log.debug("an event names no build that can be read")
    return found


def _stamp(time: datetime | None) -> str | None:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z") if time else None


def control(kind: str, **content: Any) -> str:
    return json.dumps({"type": kind, **content})


class Client:
    """One connection's side of the hub: what it wants, and what waits to be sent to it."""

    def __init__(self, *, buffer_frames: int) -> None:
        self.names = frozenset(NAMES)
        self.outbox: asyncio.Queue[str] = asyncio.Queue(buffer_frames)
        self.too_slow = asyncio.Event()
        self._buffer_frames = buffer_frames
        self._held: list[Frame] | None = None
        # What it got before it ever subscribed: a resuming client must not get that again.
        self._early: set[int] | None = set()

    def offer(self, frame: Frame) -> None:
        if frame.name not in self.names:
            return
        if self._held is None:
            self.put(frame.text)
            if self._early is not None and len(self._early) <= REPLAY_LIMIT:
                self._early.add(frame.position)
        elif len(self._held) < self._buffer_frames:
            self._held.append(frame)
        else:
            self.too_slow.set()

    def put(self, text: str) -> None:
        """Send `text` when its turn comes; a client whose buffer is full is given up."""
        try:
            self.outbox.put_nowait(text)
        except asyncio.QueueFull:
            self.too_slow.set()

    def subscribe(self, names: Iterable[str], position: int) -> None:
        self.names = frozenset(names)
        self._early = None
        self.put(_subscribed(self.names, position))

    async def resume(self, names: Iterable[str], *, after: int, position: int, pool: Pool) -> None:
        """Subscribe, and get first what happened after the position `after` up to now, which is `position`.

        What is live meanwhile is held back and follows, so nothing is lost, twice or out of order.
        """
        self.names = frozenset(names)
        early, self._early = self._early or set(), None
        self._held = []
        try:
            self.put(_subscribed(self.names, position))
            if not 0 <= position - after <= REPLAY_LIMIT:
                self.put(control("gap", **{"from": after, "to": position}))
            else:
                for row in await events.between(pool, after, position):
                    frame = frame_of(row["position"], row["type"], row["occurred_at"], row["data"])
                    if frame and frame.name in self.names and frame.position not in early:
                        await self.outbox.put(frame.text)
            while self._held:
                await self.outbox.put(self._held.pop(0).text)
        finally:
            self._held = None


def _subscribed(names: frozenset[str], position: int) -> str:
    return control("subscribed", events=[name for name in NAMES if name in names], position=position)


class Hub:
    """Hears recorded facts and hands each on to every client, in the log's order, once."""

    def __init__(self, pool: Pool, *, heartbeat_seconds: float) -> None:
        self.clients: set[Client] = set()
        self.position = 0
        self._pool = pool
        self._heartbeat_seconds = heartbeat_seconds
        self._advancing = asyncio.Lock()

    async def begin(self) -> None:
        """Start at the log's head: what comes after it is news."""
        self.position = await events.head(self._pool)

    def join(self, client: Client) -> None:
        self.clients.add(client)
        CLIENTS.inc()

    def leave(self, client: Client) -> None:
        self.clients.discard(client)
        CLIENTS.dec()

    async def hear(self, delivery: Delivery) -> None:
        """Handle one message of the events exchange."""
        position = delivery.headers.get(POSITION_HEADER)
        if not isinstance(position, int):
            log.warning("an event without its position was ignored", message_id=delivery.message_id)
            return
        async with self._advancing:
            if position != self.position + 1:
                await self._catch_up(position)
                return
            try:
                envelope = parse(delivery.body)
            except BadMessage as error:
                log.warning("an event could not be read", position=position, error=str(error))
                self._move(position, [])
                return
            self._move(position, [frame_of(position, envelope.type, envelope.time, envelope.data)])

    async def run(self) -> None:
        """Beat until cancelled: tell clients that they are still connected, and look for what was not heard."""
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            try:
                head = await events.head(self._pool)
                async with self._advancing:
                    await self._catch_up(head)
            except Exception as error:  # noqa: BLE001 -- the next beat tries again
                log.warning("the log could not be read", error=f"{type(error).__name__}: {error}")
            beat = control("heartbeat", position=self.position, time=_stamp(datetime.now(UTC)))
            for client in self.clients:
                client.put(beat)

    async def _catch_up(self, position: int) -> None:
        """Hand on what lies between, up to `position`; nothing when it came already."""
        if position <= self.position:
            return
        if position - self.position > REPLAY_LIMIT:
            gap = control("gap", **{"from": self.position, "to": position})
            self.position = position
            for client in self.clients:
                client.put(gap)
            return
        rows = await events.between(self._pool, self.position, position)
        self._move(
            position,
            [frame_of(row["position"], row["type"], row["occurred_at"], row["data"]) for row in rows],
        )

    def _move(self, position: int, frames: Sequence[Frame | None]) -> None:
        # Without a pause in between: a client that resumes at this position has these frames before or after.
        self.position = position
        for frame in frames:
            if frame is not None:
                FRAMES.inc(len(self.clients))
                for client in self.clients:
                    client.offer(frame)
