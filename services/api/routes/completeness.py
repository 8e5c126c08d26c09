"""`/api/v1/targets` and `/api/v1/completeness`: what is polled, how that goes, and whether anything is missing."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Body, Depends, Query, Response
from pydantic import BaseModel, Field

from buildlight_contracts.commands import ReconcileTargetV1
from buildlight_contracts.envelope import derive_id
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from services.api.answers import CompletenessReport, MeasurementsRequested, Targets
from services.api.conditional import Conditional
from services.api.queries import completeness
from services.api.windows import parse_since

LATELY = timedelta(days=2)
"""A measurement older than this says nothing about now."""
FARTHEST = timedelta(days=400)
"""How far back one may ask for a measurement: each run costs its part of a call to the provider."""
MOST_GAPS = 100
USUAL = "30d"
_EXPIRES = timedelta(minutes=15)
_ORDER = ("incomplete", "failing", "not_measured", "complete")


class Ask(BaseModel):
    """What to measure now; nothing said is everything that is polled."""

    target: str | None = Field(default=None, max_length=255, examples=["acme/shop"])
    since: str = Field(default=USUAL, max_length=40, examples=["7d", "2026-03-01"])


def router(
    reader: Pool, writer: Pool, broker: Broker, *, reading: list[Any], first: datetime | None
) -> APIRouter:
    """`reader` reads, `writer` checks keys; `reading` guards the GETs; `first`: where collecting begins."""
    routes = APIRouter(prefix="/api/v1", tags=["completeness"], route_class=Conditional)
    desk = _Desk(broker)

    @routes.get("/targets", response_model=Targets, dependencies=reading)
    async def list_targets(target: str | None = None) -> dict[str, Any]:
        """What is polled; of one that fails, when it last worked and why."""
        return {"targets": await completeness.targets(reader, target=target)}

    @routes.get("/completeness", response_model=CompletenessReport, dependencies=reading)
    async def show(
        since: Annotated[
            str, Query(max_length=40, description="A window such as 7d, or a day such as 2026-03-01")
        ] = USUAL,
        target: str | None = None,
    ) -> dict[str, Any]:
        """What each provider has and what the log has, as last measured."""
        return await report_of(reader, since=since, first=first, target=target)

    @routes.post(
        "/completeness",
        status_code=202,
        response_model=MeasurementsRequested,
        dependencies=[Depends(requires("write", writer))],
    )
    async def measure(ask: Annotated[Ask, Body()], response: Response) -> dict[str, Any]:
        """Ask for a measurement of one target or all. Answers 202 when RabbitMQ has the commands safe.

        While one waits, asking again is answered with the same request.
        """
        now = datetime.now(UTC)
        day = parse_since(ask.since, now)
        if day < (now - FARTHEST).date():
            raise HttpError(
                422, f"since: at most {FARTHEST.days} days back are measured", kind="ValidationError"
            )
        found = await completeness.standing(reader, target=ask.target)
        if not found:
            what = f"No target {ask.target!r} is polled" if ask.target else "Nothing is polled"
            raise HttpError(404, f"{what}; GET /api/v1/targets lists what is")
        requests = await desk.ask(found, day, now)
        location = f"/api/v1/completeness?since={day.isoformat()}"
        response.headers["Location"] = location
        return {"requests": requests, "location": location}

    return routes


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A measurement that was asked for here; over once another `last` is known of its target."""

    request_id: UUID
    day: date
    last: tuple[str, ...]
    expires_at: datetime


class _Desk:
    """Takes requests, one at a time for each target: what waits or is carried out is not asked for once more."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._waiting: dict[UUID, _Waiting] = {}

    async def ask(self, targets: list[dict[str, Any]], day: date, now: datetime) -> list[dict[str, Any]]:
        """Ask for each that does not wait yet; the requests of all.

        Raises:
            HttpError: 409, one of another stretch of time waits; 503, nobody would hear it.
        """
        waiting = {key: one for key, one in self._waiting.items() if one.expires_at > now}
        self._waiting = waiting
        wanted = [(target, _request(target, day, now)) for target in targets]
        for target, request in wanted:
            before = waiting.get(target["target_id"])
            if before is not None and before.last == request.last and before.day != day:
                raise HttpError(
                    409,
                    f"{target['target']} is being measured from {before.day} on: ask again when that is over",
                    kind="Conflict",
                    details={"request_id": str(before.request_id)},
                )
        told = []
        for target, request in wanted:
            named = {name: target[name] for name in ("provider", "instance", "target")}
            before = waiting.get(target["target_id"])
            if before is None or before.last != request.last:
                await self._send(request, named, now)
                waiting[target["target_id"]] = request
            told.append({"request_id": request.request_id, **named})
        return told

    async def _send(self, request: _Waiting, named: dict[str, str], now: datetime) -> None:
        command = ReconcileTargetV1(
            request_id=request.request_id, **named, since=midnight(request.day), until=now
        )
        try:
            await self._broker.command(command, expires_at=request.expires_at)
        except LookupError as error:
            raise HttpError(503, f"No poller has run here yet: {error}", kind="Unavailable") from error


def _request(target: dict[str, Any], day: date, now: datetime) -> _Waiting:
    """The next measurement of a target: the same, whichever replica is asked, until one has come to an end."""
    names = ("request_id", "measured_at", "postponed_request_id", "postponed_until")
    last = tuple(str(target[name]) for name in names)
    request_id = derive_id("measurement asked for", str(target["target_id"]), day.isoformat(), *last)
    return _Waiting(request_id, day, last, now + _EXPIRES)


async def report_of(
    reader: Pool,
    *,
    since: str,
    first: datetime | None,
    target: str | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The report, as an answer has it. `first`: where collecting begins by the settings, if they say.

    Raises:
        HttpError: 422, `since` is no window or day.
    """
    now = now or datetime.now(UTC)
    day = parse_since(since, now)
    rows = await completeness.measured(reader, since=day, target=target)
    found = await completeness.gaps(
        reader, [row["target_id"] for row in rows], since=midnight(day), most=MOST_GAPS
    )
    begin = day if first is None else max(day, first.astimezone(UTC).date())
    told = [
        row | {"status": status_of(row, now, begin=begin), "gaps": found.get(row["target_id"], [])}
        for row in rows
    ]
    told.sort(key=lambda row: _ORDER.index(row["status"]))
    return {
        "complete": bool(told) and all(row["status"] == "complete" for row in told),
        "since": day,
        "targets": told,
    }


def status_of(row: dict[str, Any], now: datetime, *, begin: date) -> str:
    """Whether a target is complete from the UTC day `begin` on.

    One that fails may have builds that nobody could count; so may days that no measurement covered.
    """
    if row["missing"] or row["open_but_ended"]:
        return "incomplete"
    if row["failing_since"] is not None:
        return "failing"
    if row["measured_at"] is None or now - row["measured_at"] > LATELY or not _is_covered(row, begin):
        return "not_measured"
    return "complete"


def _is_covered(row: dict[str, Any], begin: date) -> bool:
    """Whether each day from `begin` to the end of the last measurement was measured once: none is left out."""
    last: date = (row["until"] - timedelta(microseconds=1)).astimezone(UTC).date()
    return bool(row["measured_days"] >= (last - begin).days + 1)


def midnight(day: date) -> datetime:
    return datetime.combine(day, time_of_day(), UTC)
