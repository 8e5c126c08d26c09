"""What Buildlight did about a build beyond watching it: logs kept, actions taken, completeness measured."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Fact, Id, Moment, Payload, derive_id

LARGEST_EXCERPT = 16_384
"""Characters of a log that travel in an event."""


class BuildLogCapturedV1(Fact):
    """Sent when the part that matters of a failed job's log was kept."""

    type: ClassVar[str] = "build_log.captured.v1"

    build: BuildRef
    repository: str
    job_id: Id
    job: str
    """The job's name."""
    step: str | None = None
    """The step that failed, where the log tells."""
    found_by: Literal["error_marker", "exception", "failure_line", "exit_code", "tail"]
    """What gave the place away; `tail` when nothing did."""
    excerpt: str = Field(max_length=LARGEST_EXCERPT)
    """Without control sequences, and with secrets masked."""
    first_line: int = Field(ge=1)
    """Of the excerpt, in the whole log."""
    lines: int = Field(ge=0)
    """In the whole log, or as far as it was read."""
    masked: int = Field(default=0, ge=0)
    """How many secrets were masked."""
    is_cut: bool = False
    """True when the region was longer than an event may carry, or the log longer than is read."""
    captured_at: Moment
    """When the job ended."""

    def subject(self) -> str:
        return f"{self.build.subject}/jobs/{self.job_id}/log"

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt, "excerpt": str(derive_id("excerpt", self.excerpt))}

    def occurred_at(self) -> datetime:
        return self.captured_at


BuildAction = Literal["rerun", "rerun_failed", "cancel", "publish_check"]


class BuildActionTakenV1(Fact):
    """Sent when Buildlight asked a provider to act on a build, and the provider had answered."""

    type: ClassVar[str] = "build.action_taken.v1"

    request_id: UUID
    action: BuildAction
    build: BuildRef
    repository: str
    by: str
    """The name of the API key, or the part of Buildlight, that asked."""
    outcome: Literal["done", "refused"]
    detail: str
    """What the provider answered, for a person."""
    url: str | None = None
    taken_at: Moment

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        return {"request_id": str(self.request_id)}

    def occurred_at(self) -> datetime:
        return self.taken_at


class MissingBuild(Payload):
    """An attempt that a provider has and the log has not."""

    run_id: Id
    attempt: int = Field(ge=1)
    reason: str
    """Why it is missing, as far as that is known."""


class CompletenessMeasuredV1(Fact):
    """Sent when what a provider says exists in a target was compared with what the log has."""

    type: ClassVar[str] = "completeness.measured.v1"

    provider: Id
    instance: Id
    target: Id
    since: Moment
    until: Moment
    at_provider: int = Field(ge=0)
    """Attempts created in that time that the provider shows."""
    recorded: int = Field(ge=0)
    """Of those, how many the log has."""
    open_but_ended: int = Field(default=0, ge=0)
    """Of those recorded, how many the log holds for running although they have ended."""
    missing: tuple[MissingBuild, ...] = Field(default=(), max_length=100)
    """The first hundred."""
    measured_at: Moment

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}"

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", include={"measured_at"})

    def occurred_at(self) -> datetime:
        return self.measured_at
