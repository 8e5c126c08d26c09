"""A build as older dashboards are told of one: by names and addresses, without the provider's ids.

`BuildObservedV1` wants immutable ids. Such a body has none, so that its build is named by its pipeline, its
repository, its start and its address, under the instance `posted.invalid`, a name that no real host can have.
Posted twice, or by several, it is one build; polled from the provider too, it is another one beside it.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.catalogue import validate
from buildlight_contracts.envelope import Payload, derive_id
from buildlight_contracts.states import State

INSTANCE = "posted.invalid"
"""Names under `.invalid` are reserved (RFC 2606): nobody's server is called so."""

_STATES = {
    "queued": State.QUEUED,
    "pending": State.QUEUED,
    "requested": State.QUEUED,
    "waiting": State.WAITING,
    "in_progress": State.RUNNING,
    "running": State.RUNNING,
    "building": State.RUNNING,
    "success": State.SUCCESS,
    "succeeded": State.SUCCESS,
    "failure": State.FAILURE,
    "failed": State.FAILURE,
    "error": State.FAILURE,
    "unstable": State.FAILURE,
    "cancelled": State.CANCELLED,
    "canceled": State.CANCELLED,
    "aborted": State.CANCELLED,
    "skipped": State.SKIPPED,
    "not_built": State.SKIPPED,
    "timed_out": State.TIMED_OUT,
    "startup_failure": State.STARTUP_FAILURE,
    "action_required": State.ACTION_REQUIRED,
    "neutral": State.NEUTRAL,
    "stale": State.STALE,
}


def _utc(moment: datetime) -> datetime:
    try:
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None


Time = Annotated[datetime, AfterValidator(_utc)]
"""With a zone, or without one in UTC, as the older clients write it."""


class OlderBuild(Payload):
    """The body of the older ingest."""

    pipeline: str = Field(min_length=1, max_length=255, examples=["build-and-test"])
    repo: str = Field(min_length=1, max_length=255, examples=["org/repository"])
    branch: str | None = Field(default=None, max_length=1000, examples=["main"])
    status: str = Field(min_length=1, max_length=100, examples=["success"])
    """`success`, `failure`, `cancelled`, `in_progress`, or another word of GitHub's or Jenkins's."""
    started_at: Time = Field(examples=["2025-08-24T10:30:00Z"])
    completed_at: Time | None = Field(default=None, examples=["2025-08-24T10:35:30Z"])
    duration_seconds: float | None = Field(default=None, ge=0, le=31_536_000, examples=[330])
    """Taken where `completed_at` is missing."""
    url: str | None = Field(
        default=None, max_length=2000, examples=["https://github.com/org/repository/actions/runs/12345"]
    )
    logs: str | None = Field(default=None, examples=["Build completed successfully"])
    """Taken and not kept: a log belongs to a job, and the body names none."""

    @property
    def state(self) -> State:
        return _STATES.get(self.status.strip().lower().replace(" ", "_").replace("-", "_"), State.UNKNOWN)

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, of one that has."""
        if not self.state.is_terminal:
            return None
        if self.completed_at is not None:
            return self.completed_at
        try:
            return self.started_at + timedelta(seconds=self.duration_seconds or 0)
        except OverflowError:
            return self.started_at


def observed(build: OlderBuild, provider: Literal["github", "jenkins"]) -> BuildObservedV1:
    """The observation in the body.

    Raises:
        BadMessage: a text in it is too long to be part of one.
    """
    repository_id = build.repo.casefold()
    told = (build.pipeline, repository_id, build.started_at.isoformat(), build.url or "")
    fields: dict[str, Any] = {
        "build": BuildRef(
            provider=provider,
            instance=INSTANCE,
            repository_id=repository_id[:255],
            run_id=str(derive_id("older build", *told)),
        ),
        "repository": build.repo,
        "workflow_id": build.pipeline,
        "workflow": build.pipeline,
        "branch": build.branch,
        "url": build.url,
        "raw_status": build.status,
        "state": build.state,
        "created_at": build.started_at,
        "started_at": build.started_at,
        "finished_at": build.ended_at,
        "updated_at": build.ended_at or build.started_at,
    }
    return validate(BuildObservedV1, fields)
