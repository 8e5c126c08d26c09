"""Ingest's HTTP side: events from scripts and other tools; dead letters, listed and replayed."""

import asyncio
import base64
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote
from uuid import UUID, uuid4

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from buildlight_contracts import cdevents
from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.envelope import MAX_MESSAGE_BYTES
from buildlight_contracts.routing import INTAKE
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from services.ingest import store
from services.ingest.admission import Refused, admit
from services.ingest.log import Entry
from services.ingest.relay import routing_key

MAX_EVENTS = 1000
REPLAY_LIFETIME = timedelta(minutes=5)
_BATCH = "application/cloudevents-batch+json"
_STRUCTURED = "application/cloudevents+json"


class Accepted(BaseModel):
    accepted: list[UUID] = Field(description="The events' ids in the log, in the order given.")


class DeadLetterSummary(BaseModel):
    dead_letter_id: UUID
    queue: str
    message_id: str
    message_type: str | None
    kind: str
    reason: str
    error_class: str | None
    fingerprint: str = Field(description="Alike for deaths of one cause.")
    attempts: int
    died_at: datetime
    status: str
    replays: int
    replayed_at: datetime | None


class DeadLetterPage(BaseModel):
    dead_letters: list[DeadLetterSummary] = Field(description="Newest first.")
    next: UUID | None = Field(description="Give it as `after` for the next page; null on the last.")


class DeadLetterDetail(DeadLetterSummary):
    archived_at: datetime
    headers: dict[str, Any]
    content_type: str | None
    body: str | None = Field(description="The message as text; null when it is none.")
    body_base64: str | None = Field(description="The message when it is no text.")


class ReplayRequest(BaseModel):
    dead_letter_ids: list[UUID] = Field(min_length=1, max_length=1000)
    request_id: UUID = Field(
        default_factory=uuid4, description="Ask again with the same one, and nothing is replayed twice."
    )
    by: str = Field(default="api", min_length=1, max_length=100, description="Who asks, for the record.")


class ReplayAccepted(BaseModel):
    request_id: UUID


def router(pool: Pool, broker: Broker, *, reads_need_key: bool) -> APIRouter:
    """Ingest's routes."""
    routes = APIRouter(tags=["ingest"])
    reading = [Depends(requires("read", pool))] if reads_need_key else []

    @routes.post("/events", status_code=202, dependencies=[Depends(requires("write", pool))])
    async def events(request: Request) -> Accepted:
        """Take CloudEvents: one (structured or binary mode) or a batch. All are taken, or none.

        A CDEvent may come in any of these, or by itself as `application/cdevents+json`. It is kept as it came,
        and the build, job, test result, deployment or pull request that it tells of is recorded beside it.

        202 once RabbitMQ has them; sending them again is harmless.
        """
        bodies = read_events(request.headers.get("content-type", ""), request.headers, await request.body())
        entries = admit_all(bodies, now=datetime.now(UTC))
        await asyncio.gather(
            *(
                broker.put(body, exchange=INTAKE.name, key=routing_key(entry.type), message_id=str(entry.id))
                for body, entry in zip(bodies, entries, strict=True)
            )
        )
        return Accepted(accepted=[entry.id for entry in entries])

    @routes.get("/api/v1/dead-letters", dependencies=reading)
    async def dead_letters(
        queue: str | None = None,
        fingerprint: str | None = None,
        after: UUID | None = None,
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
    ) -> DeadLetterPage:
        """Dead letters, newest first, without their bodies."""
        rows = await store.page(pool, queue=queue, fingerprint=fingerprint, after=after, limit=limit + 1)
        shown = [DeadLetterSummary.model_validate(row) for row in rows[:limit]]
        return DeadLetterPage(
            dead_letters=shown, next=shown[-1].dead_letter_id if len(rows) > limit else None
        )

    @routes.get("/api/v1/dead-letters/{dead_letter_id}", dependencies=[Depends(requires("admin", pool))])
    async def dead_letter(dead_letter_id: UUID) -> DeadLetterDetail:
        """A dead letter with its body and headers."""
        row = await store.one(pool, dead_letter_id)
        if row is None:
            raise HttpError(404, f"no dead letter {dead_letter_id}")
        return DeadLetterDetail.model_validate(row | readable(row["body"]))

    @routes.post(
        "/api/v1/dead-letters/replay", status_code=202, dependencies=[Depends(requires("admin", pool))]
    )
    async def replay(asked: ReplayRequest) -> ReplayAccepted:
        """Put dead letters back on the queues they died on; `message.replayed.v1` tells of each."""
        missing = await store.unknown(pool, asked.dead_letter_ids)
        if missing:
            raise HttpError(404, f"no such dead letters: {', '.join(map(str, missing))}")
        command = ReplayDeadLettersV1(
            request_id=asked.request_id, dead_letter_ids=tuple(asked.dead_letter_ids), by=asked.by
        )
        await broker.command(command, expires_at=datetime.now(UTC) + REPLAY_LIFETIME)
        return ReplayAccepted(request_id=asked.request_id)

    return routes


def readable(body: bytes) -> dict[str, str | None]:
    """A message's body as text, or else in base64."""
    try:
        return {"body": body.decode(), "body_base64": None}
    except UnicodeDecodeError:
        return {"body": None, "body_base64": base64.b64encode(body).decode()}


def read_events(content_type: str, headers: Any, body: bytes) -> list[bytes]:
    """The request's CloudEvents, each as structured JSON.

    Raises:
        HttpError: 400 when it is no JSON or no list where one is due; 413 for more than 1,000 events.
    """
    media = content_type.partition(";")[0].strip().lower()
    if media == _BATCH:
        events = _json(body)
        if not isinstance(events, list):
            raise HttpError(400, "a batch is a JSON array of events")
        if len(events) > MAX_EVENTS:
            raise HttpError(413, f"{len(events):,} events; a batch may have {MAX_EVENTS:,}", kind="TooLarge")
        return [_in_envelope(event) for event in events]
    if media == _STRUCTURED:
        return [body]
    if "ce-specversion" in headers:
        return [_from_binary_mode(content_type, media, headers, body)]
    if media == cdevents.CONTENT_TYPE:
        return [_in_envelope(_json(body))]
    return [body]


def _in_envelope(event: Any) -> bytes:
    """An event as structured JSON; a CDEvent that came without an envelope gets one."""
    is_bare = (
        isinstance(event, dict) and "specversion" not in event and {"context", "subject"} <= event.keys()
    )
    return json.dumps(cdevents.in_cloudevent(event) if is_bare else event).encode()


def _from_binary_mode(content_type: str, media: str, headers: Any, body: bytes) -> bytes:
    event: dict[str, Any] = {
        name[3:].lower(): unquote(value) for name, value in headers.items() if name.lower().startswith("ce-")
    }
    if content_type:
        event["datacontenttype"] = content_type
    if not body:
        pass
    elif media == "application/json" or media.endswith("+json"):
        event["data"] = _json(body)
    elif media.startswith("text/"):
        event["data"] = body.decode(errors="replace")
    else:
        event["data_base64"] = base64.b64encode(body).decode()
    return json.dumps(event).encode()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise HttpError(400, f"the body is not JSON: {error}") from None


def admit_all(bodies: Sequence[bytes], *, now: datetime) -> list[Entry]:
    """Each event as the entry it will be.

    Raises:
        HttpError: 413 for an event over 1 MiB, 400 for one that intake would refuse; the text names the event.
    """
    entries = []
    for number, body in enumerate(bodies, 1):
        where = f"event {number} of {len(bodies)}"
        if len(body) > MAX_MESSAGE_BYTES:
            size = f"{len(body):,} bytes; an event may have {MAX_MESSAGE_BYTES:,}"
            raise HttpError(413, f"{where}: {size}", kind="TooLarge")
        admitted = admit(body, now=now)
        if isinstance(admitted, Refused):
            raise HttpError(400, f"{where}: {admitted.reason}", kind="Refused")
        entries.append(admitted)
    return entries
