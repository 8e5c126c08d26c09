"""`/api/v1/builds/{id}/rerun|cancel|check`: have a provider act on a build, and `/api/v1/actions`: what came of it."""

import re
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import APIRouter, Body, Depends, Header, Response
from pydantic import BaseModel, ConfigDict, Field

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.collection import BuildAction
from buildlight_contracts.commands import (
    COMMIT_SHA,
    Annotation,
    CancelBuildV1,
    PublishCheckV1,
    RerunBuildV1,
)
from buildlight_contracts.envelope import derive_id
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import identifies
from chassis.retry import Permanent
from services.api.answers import AcceptedAction, Action
from services.api.conditional import Conditional
from services.api.queries import actions, builds

LIFETIME = timedelta(minutes=10)
"""What the poller has not begun by then is refused: nobody wants a deployment run again an hour later."""
_REMEMBERED = 1000
_CHECK: dict[str, Any] = {
    "name": "Buildlight",
    "conclusion": "neutral",
    "title": "1 flaky test",
    "summary": "`test_total_is_sum` fails now and then; it is not this commit's fault.",
}

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        description="Asking again with the same one, with the same API key, is answered again and not done again",
    ),
]


class Rerun(BaseModel):
    model_config = ConfigDict(extra="forbid")

    failed_only: bool = Field(default=False, description="Only the jobs that failed, where the provider can")


class Check(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="Buildlight", min_length=1, max_length=100)
    conclusion: Literal["success", "failure", "neutral"]
    title: str = Field(min_length=1, max_length=255)
    summary: str = Field(max_length=60_000)
    details_url: str | None = Field(default=None, max_length=2000, pattern=r"^https?://")
    annotations: tuple[Annotation, ...] = Field(default=(), max_length=500)


def router(reader: Pool, writer: Pool, broker: Broker, *, reading: list[Any]) -> APIRouter:
    """`reader` reads builds and results, `writer` checks keys; `reading` guards the GET."""
    routes = APIRouter(prefix="/api/v1", tags=["actions"], route_class=Conditional)
    desk = _Desk(reader, broker)
    who = Depends(identifies("act", writer))

    @routes.post("/builds/{build_id}/rerun", status_code=202, response_model=AcceptedAction)
    async def rerun(
        build_id: UUID,
        response: Response,
        by: Annotated[str, who],
        asked: Annotated[Rerun | None, Body()] = None,
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Have the provider run the build again. 202 when RabbitMQ has it safe; follow `Location`. Scope `act`."""
        failed_only = asked is not None and asked.failed_only
        common = await desk.common(build_id, by, idempotency_key)
        return await desk.send(RerunBuildV1(**common, failed_only=failed_only), response)

    @routes.post("/builds/{build_id}/cancel", status_code=202, response_model=AcceptedAction)
    async def cancel(
        build_id: UUID, response: Response, by: Annotated[str, who], idempotency_key: IdempotencyKey = None
    ) -> dict[str, Any]:
        """Have the provider cancel the build. 202 when RabbitMQ has it safe; follow `Location`. Scope `act`."""
        return await desk.send(CancelBuildV1(**await desk.common(build_id, by, idempotency_key)), response)

    @routes.post("/builds/{build_id}/check", status_code=202, response_model=AcceptedAction)
    async def check(
        build_id: UUID,
        response: Response,
        by: Annotated[str, who],
        asked: Annotated[Check, Body(examples=[_CHECK])],
        idempotency_key: IdempotencyKey = None,
    ) -> dict[str, Any]:
        """Show a verdict on the build's commit: a check run, or a commit status. Scope `act`."""
        common = await desk.common(build_id, by, idempotency_key)
        if not re.fullmatch(COMMIT_SHA, common["commit_sha"] or ""):
            raise HttpError(409, "This build has no commit to show a verdict on", kind="Conflict")
        return await desk.send(PublishCheckV1(**common, **asked.model_dump()), response)

    @routes.get("/actions/{request_id}", response_model=Action, dependencies=reading)
    async def one_action(request_id: UUID) -> dict[str, Any]:
        """What came of an action that was asked for."""
        return await desk.one(request_id)

    return routes


class _Desk:
    """Takes requests, and remembers those that the poller has not shown yet, so that the Location answers at once."""

    def __init__(self, reader: Pool, broker: Broker) -> None:
        self._reader = reader
        self._broker = broker
        self._accepted: OrderedDict[UUID, dict[str, Any]] = OrderedDict()

    async def common(self, build_id: UUID, by: str, idempotency_key: str | None) -> dict[str, Any]:
        """What every command has, and the build's commit.

        Raises:
            HttpError: 404, no such build.
        """
        build = await builds.one(self._reader, build_id)
        if build is None:
            raise HttpError(404, f"No build {build_id} was observed", details={"build_id": str(build_id)})
        return {
            "request_id": derive_id("action", by, idempotency_key) if idempotency_key else uuid4(),
            "build": BuildRef.model_validate(
                {name: build[name] for name in ("provider", "instance", "repository_id", "run_id", "attempt")}
            ),
            "repository": build["repository"],
            "by": by,
            "commit_sha": build["commit_sha"],
        }

    async def send(
        self, command: RerunBuildV1 | CancelBuildV1 | PublishCheckV1, response: Response
    ) -> dict[str, Any]:
        now, action = datetime.now(UTC), _action_of(command)
        known = await actions.one(self._reader, command.request_id) or self._accepted.get(command.request_id)
        if known and (known["action"] != action or known["build_id"] != command.build.build_id):
            raise HttpError(
                409,
                f"This Idempotency-Key was used to {known['action']} build {known['build_id']}: use another one",
                kind="Conflict",
                details={"request_id": str(command.request_id)},
            )
        if known is None or known["status"] == "queued":
            # Once more for one that still waits does no harm, and helps when its command was lost.
            try:
                await self._broker.command(command, expires_at=now + LIFETIME)
            except Permanent as error:
                raise HttpError(413, f"The request is too large: {error}", kind="TooLarge") from error
            except LookupError as error:
                raise HttpError(503, f"No poller has run here yet: {error}", kind="Unavailable") from error
        if known is None:
            self._remember(command, action, now)
        location = f"/api/v1/actions/{command.request_id}"
        response.headers["Location"] = location
        status = known["status"] if known else "queued"
        return {"request_id": command.request_id, "status": status, "location": location}

    async def one(self, request_id: UUID) -> dict[str, Any]:
        found = await actions.one(self._reader, request_id)
        if found is not None:
            self._accepted.pop(request_id, None)
            return found
        if request_id in self._accepted:
            return self._accepted[request_id]
        raise HttpError(
            404,
            f"No action {request_id} is known; one that was asked for just now may be in a moment",
            details={"request_id": str(request_id)},
        )

    def _remember(
        self, command: RerunBuildV1 | CancelBuildV1 | PublishCheckV1, action: BuildAction, now: datetime
    ) -> None:
        self._accepted[command.request_id] = {
            "request_id": command.request_id,
            "action": action,
            "build_id": command.build.build_id,
            "repository": command.repository,
            "asked_by": command.by,
            "status": "queued",
            "detail": None,
            "url": None,
            "asked_at": now,
            "expires_at": now + LIFETIME,
            "finished_at": None,
        }
        while len(self._accepted) > _REMEMBERED:
            self._accepted.popitem(last=False)


def _action_of(command: RerunBuildV1 | CancelBuildV1 | PublishCheckV1) -> BuildAction:
    if isinstance(command, RerunBuildV1):
        return "rerun_failed" if command.failed_only else "rerun"
    return "cancel" if isinstance(command, CancelBuildV1) else "publish_check"
