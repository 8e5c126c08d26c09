"""The API's answers as data: what OpenAPI tells of them. Times are UTC, durations seconds."""

from datetime import date, datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from buildlight_contracts.states import State

BUILD: dict[str, Any] = {
    "build_id": "0b6f2b1e-6f0e-5a57-9d3c-1f4a6c2f9b10",
    "pipeline_id": "1c7a9f5e-2a44-5c0f-8d5e-7a1d9a0c3e21",
    "provider": "github",
    "instance": "api.github.com",
    "repository_id": "1296269",
    "repository": "acme/shop",
    "workflow_id": "159038",
    "workflow": "CI",
    "run_id": "30433642",
    "attempt": 1,
    "run_number": 562,
    "title": "Take cards with a long number",
    "event": "push",
    "branch": "main",
    "commit_sha": "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
    "commit_message": "Take cards with a long number",
    "author": "octocat",
    "actor": "octocat",
    "pull_request": None,
    "url": "https://github.com/acme/shop/actions/runs/30433642",
    "state": "failure",
    "raw_status": "completed",
    "raw_conclusion": "failure",
    "created_at": "2026-03-02T09:00:00Z",
    "started_at": "2026-03-02T09:00:05Z",
    "finished_at": "2026-03-02T09:04:10Z",
    "updated_at": "2026-03-02T09:04:12Z",
    "ordered_at": "2026-03-02T09:00:00Z",
    "duration_seconds": 245.0,
    "queue_seconds": 5.0,
    "position": 4711,
}


class Answer(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class Build(Answer):
    """One attempt of one run."""

    model_config = ConfigDict(json_schema_extra={"examples": [BUILD]})

    build_id: UUID
    pipeline_id: UUID
    provider: str
    instance: str
    repository_id: str
    repository: str
    workflow_id: str
    workflow: str
    run_id: str
    attempt: int
    run_number: int | None
    title: str | None
    event: str | None
    branch: str | None
    commit_sha: str | None
    commit_message: str | None
    author: str | None
    actor: str | None
    pull_request: int | None
    url: str | None
    """The build's page at its provider."""
    state: State
    raw_status: str | None
    """The provider's own word; so with `raw_conclusion`."""
    raw_conclusion: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    updated_at: datetime
    """The provider's time of this state."""
    ordered_at: datetime
    """What lists go by: created, else started, else updated."""
    duration_seconds: float | None
    queue_seconds: float | None
    position: int
    """Of the observation behind this row in the event log."""


class Builds(Answer):
    """One page of builds, newest first."""

    builds: list[Build]
    page: int | None
    """None when the page was asked for by cursor."""
    per_page: int
    total: int
    """Builds that match, counted up to 10,000."""
    total_is_exact: bool
    next_cursor: str | None
    """Give it as `cursor` for the builds after these; it stays right while new ones arrive."""


class Step(Answer):
    number: int
    name: str
    state: State = State.UNKNOWN
    raw_status: str | None = None
    raw_conclusion: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class Job(Answer):
    job_id: str
    name: str
    runner: str | None
    url: str | None
    state: State
    raw_status: str | None
    raw_conclusion: str | None
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    queue_seconds: float | None
    steps: list[Step]


class Attempt(Answer):
    attempt: int
    build_id: UUID
    state: State
    available: bool
    """False when the provider no longer had it when Buildlight first asked."""
    created_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None
    actor: str | None


class Pipeline(Answer):
    pipeline_id: UUID
    provider: str
    repository: str
    workflow: str
    branch: str | None
    state: State
    """Of its newest build that says whether the code is good."""
    state_since: datetime | None
    latest_build_id: UUID | None
    conclusive_build_id: UUID | None


class Links(Answer):
    self: str
    page: str
    """The build's page in Buildlight."""
    pipeline: str
    """The builds of the same pipeline."""
    provider: str | None


class BuildDetail(Answer):
    build: Build
    jobs: list[Job]
    attempts: list[Attempt]
    """Every attempt of the run, this one too."""
    pipeline: Pipeline | None
    links: Links


class OpenBuild(Answer):
    build_id: UUID
    repository: str
    workflow: str
    branch: str | None
    title: str | None
    commit_sha: str | None
    author: str | None
    attempt: int
    run_number: int | None
    state: State
    created_at: datetime | None
    started_at: datetime | None
    url: str | None


class Queue(Answer):
    running: int
    queued: int
    """Waiting and asking for approval, too."""
    builds: list[OpenBuild]
    """The newest of them, at most 50."""


class Overview(Answer):
    window: str = Field(examples=["24h"])
    total: int
    states: dict[State, int]
    success_rate: float | None
    """Percent of the builds that ended in success, failure, timeout or a failed start; None without any."""
    failure_rate: float | None
    median_duration_seconds: float | None
    mean_duration_seconds: float | None
    live: Queue
    pipelines: list[Pipeline]
    """Those in which something happened last, at most 100."""
    recent_builds: list[Build]


class Notification(Answer):
    delivery_id: UUID
    rule: str
    channel: str
    title: str
    status: Literal["pending", "sent", "failed"]
    reason: str | None
    fact_type: str
    fact_id: str
    created_at: datetime
    sent_at: datetime | None


class Notifications(Answer):
    notifications: list[Notification]
    next_cursor: str | None


class ProvisioningStep(Answer):
    number: int
    step: str
    status: Literal["running", "succeeded", "failed"]
    detail: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_seconds: float | None


class ProvisioningRun(Answer):
    run_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    kind: str
    template: str
    name: str
    namespace: str
    group_id: str | None
    visibility: str
    project_id: int | None = None
    project_url: str | None = None
    commit_sha: str | None = None
    error: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    steps: list[ProvisioningStep] = []


class Accepted(Answer):
    run_id: str
    status: Literal["queued", "running", "succeeded", "failed"]
    location: str


class Target(Answer):
    """Something that is polled, and how that goes."""

    provider: str
    instance: str
    target: str = Field(examples=["acme/shop"])
    polled_at: datetime | None
    """The end of the last poll, however it went."""
    succeeded_at: datetime | None
    """When it last worked."""
    listed_through: datetime | None
    """Every build created before this has been listed once."""
    not_before: datetime | None
    """Polled no sooner than this: the provider wants a pause."""
    failing_since: datetime | None
    """None while polls go well."""
    failing_reason: str | None
    failing_detail: str | None
    """What happened and what to do, for a person."""


class Targets(Answer):
    targets: list[Target]
    """Those that fail first."""


class Gap(Answer):
    """An attempt that the log lacks, or holds for running though it has ended."""

    run_id: str
    attempt: int
    kind: Literal["missing", "open"]
    reason: str = Field(examples=["never_listed"])
    detail: str
    created_at: datetime
    noticed_at: datetime
    """When it was first found so."""


class Completeness(Answer):
    """What the provider has of a target and what the log has of that, in attempts."""

    provider: str
    instance: str
    target: str
    status: Literal["complete", "incomplete", "failing", "not_measured"]
    """`not_measured`: never, not for two days, or not on all the days asked for."""
    at_provider: int
    recorded: int
    unavailable: int
    """Of the recorded: those the provider counts and no longer has."""
    missing: int
    open_but_ended: int
    gaps: list[Gap]
    """The oldest of what is missing or open though ended, at most 100."""
    since: datetime | None
    """The last measurement covers builds created from here ..."""
    until: datetime | None
    """... and before this."""
    measured_from: date | None
    """The first UTC day, of those asked for, on which builds were counted."""
    measured_at: datetime | None
    request_id: UUID | None
    asked_again: int | None
    """Runs it had collected again."""
    postponed_until: datetime | None
    postponed_why: str | None
    """Why there is no newer measurement."""
    postponed_request_id: UUID | None
    polled_at: datetime | None
    succeeded_at: datetime | None
    """When polling last worked."""
    failing_since: datetime | None
    failing_reason: str | None
    failing_detail: str | None


class CompletenessReport(Answer):
    complete: bool
    """Every target was measured and nothing is missing, nor open though ended."""
    since: date
    """Counted are runs created from this UTC day on."""
    targets: list[Completeness]
    """Those with something to see to first."""


class Requested(Answer):
    request_id: UUID
    provider: str
    instance: str
    target: str


class MeasurementsRequested(Answer):
    requests: list[Requested]
    location: str
    """Where the outcome shows: a target's `request_id`, or `postponed_request_id`, becomes the request's."""


class BackfillItem(Answer):
    """One target of a backfill."""

    provider: str
    instance: str
    target: str
    status: Literal["running", "done", "failed"]
    through: datetime
    """Every build created before this has been published."""
    fraction: float
    """Of the stretch of time, from 0 to 1."""
    builds: int
    """Attempts looked at, those that were known already left out."""
    facts: int
    unreadable: int
    """Rows and runs that could not be read and were left out."""
    waits_until: datetime | None
    """It goes on then: the provider's allowance is spent, or it fails for now."""
    reason: str | None
    detail: str | None
    """Why it failed, or waits, for a person."""
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Backfill(Answer):
    """Past builds being collected. It has failed when all its targets have ended and one of them failed."""

    request_id: UUID
    status: Literal["queued", "running", "done", "failed"]
    since: datetime
    until: datetime
    targets: int
    ended: int
    """Targets that are done or have failed."""
    failed: int
    fraction: float
    builds: int
    facts: int
    unreadable: int
    items: list[BackfillItem]
    """The targets that have begun."""


class AcceptedAction(Answer):
    request_id: UUID
    status: Literal["queued", "done", "refused", "failed"]
    location: str


class Action(Answer):
    """What a provider was asked to do with a build."""

    request_id: UUID
    action: Literal["rerun", "rerun_failed", "cancel", "publish_check"]
    build_id: UUID
    repository: str
    asked_by: str
    """The name of the API key."""
    status: Literal["queued", "done", "refused", "failed"]
    """`refused`: the provider will not, or it was too late; `failed`: every try failed, or it is not known."""
    detail: str | None
    """What the provider answered, for a person."""
    url: str | None
    asked_at: datetime
    expires_at: datetime | None
    """Not carried out after this."""
    finished_at: datetime | None


class OlderBuild(Answer):
    """A build as the older dashboard's table had it."""

    id: UUID
    provider: str
    pipeline: str
    repo: str
    branch: str | None
    status: str
    """`success`, `failure`, `cancelled`, `in_progress`, or ours when none of these fits."""
    started_at: datetime | None
    completed_at: datetime | None
    duration_seconds: float | None
    url: str | None
    logs: str | None = None
    created_at: datetime


class OlderSummary(Answer):
    """Rates in percent, the mean in seconds; zeros when no build ended in the window."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "window": "7d",
                    "success_rate": 87.5,
                    "failure_rate": 12.5,
                    "avg_build_time": 245.8,
                    "last_status_by_pipeline": {"build-and-test": "success", "deploy-staging": "failure"},
                }
            ]
        }
    )

    window: str
    success_rate: float
    failure_rate: float
    avg_build_time: float
    last_status_by_pipeline: dict[str, str]
