"""Deployments, pull requests and foreign checks: what happens to a commit beside its builds."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from pydantic import Field

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Fact, Id, Moment
from buildlight_contracts.states import State

DEPLOYMENT_MATERIAL = {"github": ("raw_status", "updated_at")}
"""By provider, the fields a poll and a webhook of one state of one deployment see alike.

GitHub's statuses have a time each, and one may come back: success, failure, success. GitLab's deployments never
return to a state, and its hooks and API tell different times of one.
"""
DEPLOYMENT_MATERIAL_ELSEWHERE = ("raw_status",)


class DeploymentState(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    INACTIVE = "inactive"
    """Another deployment has taken its place."""
    UNKNOWN = "unknown"


class _Observed(Fact):
    provider: str = Field(min_length=1, max_length=32)
    instance: Id
    repository_id: Id
    repository: str
    """The repository's name at that time."""

    @property
    def _place(self) -> str:
        return f"{self.provider}/{self.instance}/{self.repository_id}"


class DeploymentObservedV1(_Observed):
    """Sent when a provider was seen to have this state of a deployment."""

    type: ClassVar[str] = "deployment.observed.v1"

    deployment_id: Id
    environment: str
    is_production: bool | None = None
    """What the provider says of the environment; null where it says nothing."""
    raw_status: str | None = None
    state: DeploymentState
    ref: str | None = None
    """The branch or tag that was deployed."""
    commit_sha: str | None = None
    actor: str | None = None
    build: BuildRef | None = None
    """The build that deployed it, where that is known."""
    url: str | None = None
    created_at: Moment | None = None
    finished_at: Moment | None = None
    updated_at: Moment
    """The provider's time of this state."""

    def subject(self) -> str:
        return f"{self._place}/deployments/{self.deployment_id}"

    def material(self) -> Mapping[str, Any]:
        fields = DEPLOYMENT_MATERIAL.get(self.provider, DEPLOYMENT_MATERIAL_ELSEWHERE)
        return self.model_dump(mode="json", include=set(fields))

    def occurred_at(self) -> datetime:
        return self.updated_at


class PullRequestObservedV1(_Observed):
    """Sent when a provider was seen to have this state of a pull (or merge) request."""

    type: ClassVar[str] = "pull_request.observed.v1"

    number: int = Field(ge=1)
    title: str | None = None
    author: str | None = None
    raw_status: str | None = None
    """In the provider's words: `open`, `closed`, `merged`."""
    is_draft: bool = False
    head_branch: str | None = None
    head_sha: str | None = None
    base_branch: str | None = None
    merge_commit_sha: str | None = None
    """The commit it became, once merged."""
    url: str | None = None
    created_at: Moment | None = None
    merged_at: Moment | None = None
    closed_at: Moment | None = None
    updated_at: Moment

    def subject(self) -> str:
        return f"{self._place}/pulls/{self.number}"

    def material(self) -> Mapping[str, Any]:
        # With its time: what was closed may be opened again, on the same commit.
        return self.model_dump(
            mode="json",
            include={"raw_status", "is_draft", "head_sha", "merged_at", "closed_at", "updated_at"},
        )

    def occurred_at(self) -> datetime:
        return self.updated_at


class CheckObservedV1(_Observed):
    """Sent when a provider was seen to have this state of a check that some other system put on a commit."""

    type: ClassVar[str] = "check.observed.v1"

    check_id: Id
    name: str
    app: str | None = None
    """Who made the check, in the provider's words."""
    commit_sha: str
    branch: str | None = None
    raw_status: str | None = None
    raw_conclusion: str | None = None
    state: State
    url: str | None = None
    started_at: Moment | None = None
    finished_at: Moment | None = None
    observed_at: Moment
    """The newest time the provider gives for it."""

    def subject(self) -> str:
        return f"{self._place}/checks/{self.check_id}"

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(
            mode="json", include={"raw_status", "raw_conclusion", "started_at", "finished_at"}
        )

    def occurred_at(self) -> datetime:
        return self.observed_at
