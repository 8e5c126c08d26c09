"""`/api/v1/backfills`: have past builds collected, and see how far that is."""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Body, Depends, Response
from pydantic import AwareDatetime, BaseModel, Field

from buildlight_contracts.commands import BackfillTargetV1
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from services.api.answers import Backfill
from services.api.conditional import Conditional
from services.api.queries import backfills

_REMEMBERED = 1000
_EXAMPLE: dict[str, Any] = {"since": "2026-01-01T00:00:00Z", "targets": ["acme/shop"]}


class Request(BaseModel):
    since: AwareDatetime
    """Builds created from then on."""
    until: AwareDatetime | None = None
    """And before then; now, unless it is said."""
    targets: list[str] | None = Field(default=None, min_length=1, max_length=10_000)
    """By name, such as `acme/shop`; all that are polled, unless it is said."""
    request_id: UUID | None = None
    """Asking again with the same one is one request."""


def router(reader: Pool, writer: Pool, broker: Broker, *, reading: list[Any]) -> APIRouter:
    """`reader` reads how far they are, `writer` checks keys; `reading` guards the GET."""
    routes = APIRouter(prefix="/api/v1/backfills", tags=["backfills"], route_class=Conditional)
    # What was accepted here and the poller has not begun, so that the Location answers at once.
    accepted: OrderedDict[UUID, dict[str, Any]] = OrderedDict()

    @routes.post(
        "", status_code=202, response_model=Backfill, dependencies=[Depends(requires("write", writer))]
    )
    async def request_backfill(
        request: Annotated[Request, Body(examples=[_EXAMPLE])], response: Response
    ) -> dict[str, Any]:
        """Have past builds collected. Answers 202 when RabbitMQ has every command safe; follow `Location`."""
        until = request.until or datetime.now(UTC)
        if request.since >= until:
            raise HttpError(422, "since: give a time before `until`", kind="ValidationError")
        targets = await _chosen(reader, request.targets)
        request_id = request.request_id or uuid4()
        for target in targets:
            command = BackfillTargetV1(
                request_id=request_id, since=request.since, until=until, targets=len(targets), **target
            )
            try:
                await broker.command(command)
            except LookupError as error:
                raise HttpError(503, f"No poller has run here yet: {error}", kind="Unavailable") from error
        response.headers["Location"] = f"/api/v1/backfills/{request_id}"
        accepted[request_id] = {"since": request.since, "until": until, "targets": len(targets)}
        while len(accepted) > _REMEMBERED:
            accepted.popitem(last=False)
        return told(request_id, await backfills.of_request(reader, request_id), accepted[request_id])

    @routes.get("/{request_id}", response_model=Backfill, dependencies=reading)
    async def one_backfill(request_id: UUID) -> dict[str, Any]:
        """How far a backfill is, in all and by target."""
        rows = await backfills.of_request(reader, request_id)
        if not rows and request_id not in accepted:
            raise HttpError(
                404, f"No backfill {request_id} has begun", details={"request_id": str(request_id)}
            )
        return told(request_id, rows, accepted.get(request_id, {}))

    return routes


async def _chosen(reader: Pool, names: list[str] | None) -> list[dict[str, Any]]:
    found = await backfills.targets(reader, names)
    known = {target["target"].lower() for target in found}
    unknown = [name for name in names or () if name.lower() not in known]
    if unknown:
        raise HttpError(
            404,
            f"Not polled: {', '.join(unknown[:10])}. Give names as in the settings, such as acme/shop",
            details={"unknown": unknown[:100]},
        )
    if not found:
        raise HttpError(409, "Nothing is polled, so there is nothing to collect", kind="Conflict")
    return found


def told(request_id: UUID, rows: Sequence[dict[str, Any]], asked: dict[str, Any]) -> dict[str, Any]:
    """The answer: what the request asked for, and how far its targets are, those not begun counted as at 0."""
    first = rows[0] if rows else asked
    count = max(first["targets"], len(rows))
    items = [row | {"fraction": _fraction(row)} for row in rows]
    ended = sum(row["status"] != "running" for row in rows)
    failed = sum(row["status"] == "failed" for row in rows)
    status = "queued" if not rows else "running"
    if ended == count:
        status = "failed" if failed else "done"
    return {
        "request_id": request_id,
        "status": status,
        "since": first["since"],
        "until": first["until"],
        "targets": count,
        "ended": ended,
        "failed": failed,
        "fraction": round(sum(item["fraction"] for item in items) / count, 4),
        "builds": sum(row["builds"] for row in rows),
        "facts": sum(row["facts"] for row in rows),
        "unreadable": sum(row["unreadable"] for row in rows),
        "items": items,
    }


def _fraction(row: dict[str, Any]) -> float:
    if row["status"] == "done":
        return 1.0
    whole = (row["until"] - row["since"]).total_seconds()
    return float(min(1.0, (row["through"] - row["since"]).total_seconds() / whole)) if whole > 0 else 0.0
