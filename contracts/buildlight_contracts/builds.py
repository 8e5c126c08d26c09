"""Builds, jobs and pipelines: what a CI provider was seen to do, and what follows from it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from buildlight_contracts.envelope import Fact, Id, Moment, Payload, derive_id
from buildlight_contracts.states import State

BUILD_MATERIAL = {
    "github": ("raw_status", "raw_conclusion", "started_at"),
    "jenkins": ("raw_status", "raw_conclusion", "started_at", "finished_at"),
    "gitlab": ("raw_status", "finished_at"),
}
"""By provider, the fields a poll and a webhook of one state of one build see alike.

GitHub gives runs no end time; the nearest, `updated_at`, moves again when logs expire, so it is not material.
Jenkins' notifications tell none of these for good, and are but hints to poll; a build that has ended never changes.
GitLab's hooks give pipelines no start; its listings give neither start nor end, and make no facts.
"""
BUILD_MATERIAL_ELSEWHERE = ("raw_status", "raw_conclusion", "started_at", "finished_at")
JOB_MATERIAL = ("raw_status", "raw_conclusion", "started_at", "finished_at")


class BuildRef(Payload):
    """Names one attempt of one build by the provider's own immutable ids."""

    provider: str = Field(min_length=1, max_length=32, examples=["github"])
    instance: Id = Field(examples=["api.github.com"])
    """Which installation of the provider: its API's host, or a name the operator chose."""
    repository_id: Id
    run_id: Id
    attempt: int = Field(default=1, ge=1)

    @property
    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/{self.repository_id}/runs/{self.run_id}"

    @property
    def build_id(self) -> UUID:
        """The id of this attempt in Buildlight's API and read models."""
        return derive_id("build", self.subject, str(self.attempt))


class PipelineRef(Payload):
    """Names one pipeline: a workflow of a repository on a branch."""

    provider: str = Field(min_length=1, max_length=32)
    instance: Id
    repository_id: Id
    workflow_id: Id
    branch: str | None = None

    @property
    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/{self.repository_id}/workflows/{self.workflow_id}"

    @property
    def pipeline_id(self) -> UUID:
        """The id of the pipeline in Buildlight's API and read models."""
        return derive_id("pipeline", self.subject, self.branch or "")


class BuildObservedV1(Fact):
    """Sent when a provider was seen to have this state of one attempt of one build."""

    type: ClassVar[str] = "build.observed.v1"

    build: BuildRef
    repository: str
    """The repository's name at that time, e.g. `acme/shop`; names change, ids do not."""
    workflow_id: Id
    workflow: str
    """The workflow's or job's display name at that time."""
    run_number: int | None = None
    title: str | None = None
    event: str | None = None
    """What triggered it, in the provider's words: `push`, `pull_request`, `schedule`."""
    branch: str | None = None
    tag: str | None = None
    commit_sha: str | None = None
    commit_message: str | None = None
    """The first line of the commit's message."""
    author: str | None = None
    actor: str | None = None
    pull_request: int | None = None
    parent: BuildRef | None = None
    """The build that started it, where a provider has child pipelines or downstream builds."""
    url: str | None = None
    raw_status: str | None = None
    raw_conclusion: str | None = None
    state: State
    created_at: Moment | None = None
    queued_at: Moment | None = None
    """When it began to wait for a runner, where a provider tells that apart."""
    started_at: Moment | None = None
    finished_at: Moment | None = None
    updated_at: Moment
    """The provider's time of this state; within an attempt the newest wins, then the state's rank."""
    resumed_at: Moment | None = None
    """When an open attempt was last seen to leave a wait, or to go back to an earlier state.

    Null for those that only went forward, and for all that have ended.
    """

    @property
    def pipeline(self) -> PipelineRef:
        return PipelineRef(
            provider=self.build.provider,
            instance=self.build.instance,
            repository_id=self.build.repository_id,
            workflow_id=self.workflow_id,
            branch=self.branch,
        )

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        fields = BUILD_MATERIAL.get(self.build.provider, BUILD_MATERIAL_ELSEWHERE)
        # Without it a state that comes back would be the fact it was the first time.
        again = () if self.resumed_at is None else ("resumed_at",)
        return {"attempt": self.build.attempt, **self.model_dump(mode="json", include={*fields, *again})}

    def occurred_at(self) -> datetime:
        return self.updated_at


class BuildUnavailableV1(Fact):
    """Sent when a provider no longer has an attempt of a build that it must once have had."""

    type: ClassVar[str] = "build.unavailable.v1"

    build: BuildRef
    repository: str
    status: int
    """The provider's HTTP status, 404 or 410."""
    noticed_at: Moment

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt}

    def occurred_at(self) -> datetime:
        return self.noticed_at


class Step(Payload):
    """One step of a job."""

    number: int
    name: str
    raw_status: str | None = None
    raw_conclusion: str | None = None
    state: State
    started_at: Moment | None = None
    finished_at: Moment | None = None


class JobObservedV1(Fact):
    """Sent when a provider was seen to have this state of one job of one attempt of a build."""

    type: ClassVar[str] = "job.observed.v1"

    build: BuildRef
    job_id: Id
    name: str
    stage: str | None = None
    runner: str | None = None
    url: str | None = None
    raw_status: str | None = None
    raw_conclusion: str | None = None
    failure_reason: str | None = None
    """Why it failed, in the provider's words: `script_failure`, `runner_system_failure`."""
    is_allowed_to_fail: bool = False
    """Its failure does not fail the build."""
    state: State
    created_at: Moment | None = None
    queued_at: Moment | None = None
    """When it began to wait for a runner, where a provider tells that apart."""
    started_at: Moment | None = None
    finished_at: Moment | None = None
    observed_at: Moment
    """The newest time the provider gives for the job; its end once it has one."""
    steps: tuple[Step, ...] = ()

    def subject(self) -> str:
        return f"{self.build.subject}/jobs/{self.job_id}"

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt, **self.model_dump(mode="json", include=set(JOB_MATERIAL))}

    def occurred_at(self) -> datetime:
        return self.observed_at


class BuildFinishedV1(Fact):
    """Sent when an attempt of a build was first recorded as ended, and again should its end change."""

    type: ClassVar[str] = "build.finished.v1"

    build: BuildRef
    pipeline: PipelineRef
    repository: str
    workflow: str
    branch: str | None = None
    commit_sha: str | None = None
    author: str | None = None
    url: str | None = None
    state: State
    duration_seconds: float | None = None
    finished_at: Moment

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt, "state": self.state.value}

    def occurred_at(self) -> datetime:
        return self.finished_at


class PipelineBrokeV1(Fact):
    """Sent when a pipeline whose newest conclusive build was good got a newer one that is bad."""

    type: ClassVar[str] = "pipeline.broke.v1"

    pipeline: PipelineRef
    build: BuildRef
    """The build that broke it."""
    repository: str
    workflow: str
    branch: str | None = None
    state: State
    commit_sha: str | None = None
    commit_message: str | None = None
    author: str | None = None
    url: str | None = None
    last_good: BuildRef | None = None
    broke_at: Moment

    def subject(self) -> str:
        return self.pipeline.subject

    def material(self) -> Mapping[str, Any]:
        return {"branch": self.pipeline.branch, "build": self.build.subject, "attempt": self.build.attempt}

    def occurred_at(self) -> datetime:
        return self.broke_at


class PipelineRecoveredV1(Fact):
    """Sent when a pipeline whose newest conclusive build was bad got a newer one that is good."""

    type: ClassVar[str] = "pipeline.recovered.v1"

    pipeline: PipelineRef
    build: BuildRef
    """The build that mended it."""
    repository: str
    workflow: str
    branch: str | None = None
    commit_sha: str | None = None
    commit_message: str | None = None
    author: str | None = None
    url: str | None = None
    broken_since: Moment | None = None
    recovered_at: Moment

    def subject(self) -> str:
        return self.pipeline.subject

    def material(self) -> Mapping[str, Any]:
        return {"branch": self.pipeline.branch, "build": self.build.subject, "attempt": self.build.attempt}

    def occurred_at(self) -> datetime:
        return self.recovered_at
