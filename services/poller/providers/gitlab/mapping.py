"""GitLab's JSON as facts. Pure, and total: a row becomes a fact or a BadRowError, never anything else.

What is GitLab's and what becomes of it:

- **Pipeline and workflow.** A project has one configuration, whose pipelines differ by what started them. Those of a
  push, a merge request, a person or the API are one workflow, `pipeline`: a run by hand mends what a push broke.
  Every other source is a workflow of its own (`schedule`, `trigger`, ...), and so is each trigger job that starts
  child pipelines (`child:<name of the job>`). A pipeline's own name (`workflow:name`) is its title: it may
  differ from run to run.
- **Branch.** Of a merge request's pipeline, its ref in the project, `refs/merge-requests/<number>/head`: the source
  branch of a fork may be called `main`. The pipelines of all tags are one pipeline without a branch.
- **Attempts** are derived: see `executions.py`.
- **Times** are cut to the second, as hooks cut theirs, so that both make one id.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.catalogue import explain
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState
from buildlight_contracts.states import State
from services.poller.providers.gitlab import executions as course
from services.poller.providers.gitlab.executions import Ended, Execution
from services.poller.providers.gitlab.fields import (
    BadRowError,
    an_id,
    an_object,
    first_line,
    moment,
    number,
    part,
    raw,
    seconds,
    shifted,
    text,
)

PROVIDER: Final = "gitlab"

STATUSES: Final[Mapping[str, State]] = {
    "created": State.QUEUED,
    "waiting_for_resource": State.WAITING,
    "waiting_for_callback": State.WAITING,
    "preparing": State.QUEUED,
    "pending": State.QUEUED,
    "running": State.RUNNING,
    "success": State.SUCCESS,
    "failed": State.FAILURE,
    "canceling": State.RUNNING,
    "canceled": State.CANCELLED,
    "skipped": State.SKIPPED,
    "manual": State.ACTION_REQUIRED,
    "scheduled": State.WAITING,
}
"""The statuses of pipelines and jobs that GitLab defines."""

DEPLOYMENT_STATUSES: Final[Mapping[str, DeploymentState]] = {
    "created": DeploymentState.PENDING,
    "blocked": DeploymentState.PENDING,
    "running": DeploymentState.RUNNING,
    "success": DeploymentState.SUCCESS,
    "failed": DeploymentState.FAILURE,
    "canceled": DeploymentState.CANCELLED,
    "skipped": DeploymentState.CANCELLED,
}

_OF_THE_PIPELINE = frozenset(
    {"push", "web", "webide", "chat", "api", "merge_request_event", "external_pull_request_event", "unknown"}
)
_MERGE_REQUEST = re.compile(r"^refs/merge-requests/(\d{1,18})/")
_LONGEST_NAME = 200
"""Of a trigger job, in a workflow's id."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The pipeline that started one, and by which of its jobs."""

    repository_id: str
    run_id: str
    attempt: int = 1
    bridge: str | None = None


def state_of(status: str | None) -> State:
    """The state behind a status; `unknown` if GitLab does not define it."""
    return State.UNKNOWN if status is None else STATUSES.get(status, State.UNKNOWN)


def job_state_of(status: str | None, failure_reason: str | None, *, is_allowed_to_fail: bool) -> State:
    """The state of a job. One that may be started by hand, and that nobody waits for, has been skipped so far."""
    if status == "manual" and is_allowed_to_fail:
        return State.SKIPPED
    if status == "failed" and failure_reason == "job_execution_timeout":
        return State.TIMED_OUT
    return state_of(status)


def workflow_of(source: str | None, bridge: str | None = None) -> tuple[str, str]:
    """Id and name of the workflow of a pipeline that `source` started."""
    if source is None or source in _OF_THE_PIPELINE:
        return "pipeline", "pipeline"
    if source == "parent_pipeline":
        name = (bridge or "")[:_LONGEST_NAME]
        return (f"child:{name}", f"child: {name}") if name else ("child", "child")
    return source[:_LONGEST_NAME], source[:_LONGEST_NAME]


def merge_request_of(ref: str | None) -> int | None:
    found = _MERGE_REQUEST.match(ref or "")
    return int(found.group(1)) if found else None


def sketch_of(row: Any, *, instance: str, repository: str) -> BuildObservedV1:
    """A pipeline as a listing shows it: without its times, its commit, and its true attempt.

    Raises:
        BadRowError: without an id, a project's id, or any time.
    """
    return build_of(row, (), instance=instance, repository=repository)


def build_of(
    row: Any,
    executions: Sequence[Execution],
    *,
    instance: str,
    repository: str,
    attempt: int | None = None,
    upstream: Upstream | None = None,
) -> BuildObservedV1:
    """One attempt of a pipeline, or its latest, as a fact.

    Args:
        row: the pipeline as GitLab's API shows it.
        executions: all of its jobs, the retried ones too.
        instance: of the fact's subject.
        repository: the project's path.
        attempt: which one; None for the latest.
        upstream: what started it, where another pipeline did.

    Raises:
        BadRowError: without an id, a project's id, or any time; or there is no such attempt.
    """
    pipeline = an_object(row, "the pipeline")
    run_id = an_id(pipeline, "id")
    latest = course.latest_attempt(executions)
    if not 1 <= (attempt or latest) <= latest:
        raise BadRowError(f"pipeline {run_id}: no attempt {attempt}")
    times = _times(pipeline, executions, attempt or latest, latest)
    if times.updated is None:
        raise BadRowError(f"pipeline {run_id}: no readable time")
    source, ref = text(pipeline.get("source")), text(pipeline.get("ref"))
    is_tag = pipeline.get("tag") is True
    request = merge_request_of(ref)
    commit = commit_of(executions)
    subject = first_line(commit.get("message")) or text(commit.get("title"))
    workflow_id, workflow = workflow_of(source, upstream.bridge if upstream else None)
    try:
        return BuildObservedV1(
            build=BuildRef(
                provider=PROVIDER,
                instance=instance,
                repository_id=an_id(pipeline, "project_id"),
                run_id=run_id,
                attempt=attempt or latest,
            ),
            repository=repository,
            workflow_id=workflow_id,
            workflow=workflow,
            run_number=number(pipeline.get("iid")),
            title=text(pipeline.get("name")) or subject,
            event=source,
            branch=None if is_tag else merge_request_branch(request) or ref,
            tag=ref if is_tag else None,
            commit_sha=text(pipeline.get("sha")),
            commit_message=subject,
            author=text(commit.get("author_name")),
            actor=text(part(pipeline, "user").get("username")),
            pull_request=request,
            parent=parent_of(upstream, instance),
            url=text(pipeline.get("web_url")),
            raw_status=times.status,
            state=_pipeline_state(times, pipeline),
            created_at=times.created,
            queued_at=times.queued,
            started_at=times.started,
            finished_at=times.finished,
            updated_at=times.updated,
        )
    except ValidationError as error:
        raise BadRowError(f"pipeline {run_id}: {explain(error)}") from None


def merge_request_branch(request: int | None) -> str | None:
    return None if request is None else f"refs/merge-requests/{request}/head"


def parent_of(upstream: Upstream | None, instance: str) -> BuildRef | None:
    if upstream is None:
        return None
    return BuildRef(
        provider=PROVIDER,
        instance=instance,
        repository_id=upstream.repository_id,
        run_id=upstream.run_id,
        attempt=upstream.attempt,
    )


def commit_of(executions: Sequence[Execution]) -> Mapping[str, Any]:
    """The commit of a pipeline, which its jobs show and it does not."""
    return next((part(e.row, "commit") for e in executions if part(e.row, "commit")), {})


@dataclass(frozen=True, slots=True)
class _Times:
    """When an attempt did what, and its status; `derived`: read off its jobs."""

    status: str | None
    created: datetime | None
    queued: datetime | None
    started: datetime | None
    finished: datetime | None
    updated: datetime | None
    derived: bool = False


def _times(pipeline: Mapping[str, Any], executions: Sequence[Execution], attempt: int, latest: int) -> _Times:
    created, started, ended, updated = (
        moment(pipeline.get(k)) for k in ("created_at", "started_at", "finished_at", "updated_at")
    )
    queued = queued_at(started, pipeline.get("queued_duration"))
    if attempt > 1:
        # GitLab keeps the start of the first attempt.
        queued = _cut(course.begin(executions, attempt))
        started = _cut(course.first_start(executions, attempt))
    if attempt < latest:
        end = course.end_of(executions, attempt) or Ended(None, created or updated or _never())
        over = _cut(end.finished)
        return _Times(end.status, created, queued, started, over, over, derived=True)
    status = raw(pipeline.get("status"))
    # A pipeline that runs again keeps the end it had.
    over = ended if state_of(status).is_terminal else None
    return _Times(status, created, queued, started, over, updated or over or started or created)


def _never() -> datetime:
    raise BadRowError("an earlier attempt has no readable time")


def _pipeline_state(times: _Times, pipeline: Mapping[str, Any]) -> State:
    if times.derived and times.status is None:
        return State.NEUTRAL
    if times.status == "failed" and text(pipeline.get("yaml_errors")):
        return State.STARTUP_FAILURE
    return state_of(times.status)


def queued_at(started: datetime | None, waited: Any) -> datetime | None:
    """When the wait began that ended at `started`; GitLab tells how long it was."""
    wait = seconds(waited)
    return _cut(shifted(started, None if wait is None else -wait))


def _cut(value: datetime | None) -> datetime | None:
    return None if value is None else value.replace(microsecond=0)


def job_of(row: Any, *, build: BuildRef, otherwise: datetime) -> JobObservedV1:
    """A job of a pipeline as a fact. `build` names its own attempt; `otherwise` is its time, should it have none.

    Takes a row of the API, or one of a pipeline hook's `builds`.

    Raises:
        BadRowError: without an id or a name.
    """
    job = an_object(row, "the job")
    job_id, name = an_id(job, "id"), text(job.get("name"))
    if name is None:
        raise BadRowError(f"job {job_id}: no name")
    created, started, finished = (moment(job.get(k)) for k in ("created_at", "started_at", "finished_at"))
    status, may_fail = raw(job.get("status")), job.get("allow_failure") is True
    # Hooks give a reason to jobs that did not fail, too.
    reason = text(job.get("failure_reason")) if status == "failed" else None
    runner = part(job, "runner")
    try:
        return JobObservedV1(
            build=build,
            job_id=job_id,
            name=name,
            stage=text(job.get("stage")),
            runner=text(runner.get("description")) or text(runner.get("name")),
            url=text(job.get("web_url")),
            raw_status=status,
            failure_reason=reason,
            is_allowed_to_fail=may_fail,
            state=job_state_of(status, reason, is_allowed_to_fail=may_fail),
            created_at=created,
            queued_at=queued_at(started, job.get("queued_duration")),
            started_at=started,
            finished_at=finished,
            observed_at=finished or max((t for t in (created, started) if t), default=otherwise),
        )
    except ValidationError as error:
        raise BadRowError(f"job {job_id}: {explain(error)}") from None


def deployment_of(
    row: Any, *, instance: str, repository_id: str, repository: str, build: BuildRef | None = None
) -> DeploymentObservedV1:
    """A deployment of the API as a fact.

    Raises:
        BadRowError: without an id, an environment, or any time.
    """
    deployment = an_object(row, "the deployment")
    deployment_id = an_id(deployment, "id")
    environment, job = part(deployment, "environment"), part(deployment, "deployable")
    name = text(environment.get("name"))
    created, updated = moment(deployment.get("created_at")), moment(deployment.get("updated_at"))
    shown_at = updated or created
    if name is None or shown_at is None:
        raise BadRowError(
            f"deployment {deployment_id}: no {'environment' if name is None else 'readable time'}"
        )
    tier, status = text(environment.get("tier")), raw(deployment.get("status"))
    try:
        return DeploymentObservedV1(
            provider=PROVIDER,
            instance=instance,
            repository_id=repository_id,
            repository=repository,
            deployment_id=deployment_id,
            environment=name,
            is_production=None if tier is None else tier == "production",
            raw_status=status,
            state=DEPLOYMENT_STATUSES.get(status or "", DeploymentState.UNKNOWN),
            ref=text(deployment.get("ref")),
            commit_sha=text(deployment.get("sha")),
            actor=text(part(deployment, "user").get("username")),
            build=build,
            url=text(environment.get("external_url")) or text(job.get("web_url")),
            created_at=created,
            finished_at=moment(job.get("finished_at")),
            updated_at=shown_at,
        )
    except ValidationError as error:
        raise BadRowError(f"deployment {deployment_id}: {explain(error)}") from None
