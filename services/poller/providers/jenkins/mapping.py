"""Jenkins' JSON as facts. Pure, and total: a row becomes a fact or a BadRowError, never anything else.

A build of Jenkins never changes once it has ended, and "Replay", "Restart from Stage" and "Rebuild" make new
builds: each is a build of its own at attempt 1, and its `parent` is the build it comes from.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1, Step
from buildlight_contracts.catalogue import explain
from buildlight_contracts.states import State
from services.poller.providers.jenkins.names import combination_in, leaf, run_id_of
from services.poller.providers.jenkins.values import (
    BadRowError,
    an_object,
    kind,
    later,
    moment,
    number,
    part,
    raw,
    rows,
    text,
)

PROVIDER: Final = "jenkins"
BUILDING: Final = "building"
COMPLETED: Final = "completed"
WHOLE: Final = "build"
"""The id of the one job that stands for a build without stages."""

RESULTS: Final[Mapping[str, State]] = {
    "SUCCESS": State.SUCCESS,
    # Tests failed: other providers call that a failure, and so must we where they are compared.
    "UNSTABLE": State.FAILURE,
    "FAILURE": State.FAILURE,
    "NOT_BUILT": State.SKIPPED,
    "ABORTED": State.CANCELLED,
}
STAGES: Final[Mapping[str, State]] = {
    "SUCCESS": State.SUCCESS,
    "UNSTABLE": State.FAILURE,
    "FAILED": State.FAILURE,
    "IN_PROGRESS": State.RUNNING,
    "PAUSED_PENDING_INPUT": State.WAITING,
    "ABORTED": State.CANCELLED,
    "NOT_EXECUTED": State.SKIPPED,
    "SKIPPED": State.SKIPPED,
}

BUILD_FIELDS: Final = (
    "number,url,result,building,timestamp,duration,displayName,builtOn,"
    "actions[causes[shortDescription,userId,userName,upstreamProject,upstreamBuild],"
    "lastBuiltRevision[SHA1,branch[name]],queuingDurationMillis],"
    "changeSet[items[commitId,msg,author[fullName]]{0,50}],"
    "changeSets[items[commitId,msg,author[fullName]]{0,50}]"
)
"""What `build_of` reads, as the `tree` to ask for."""
WHOLE_FIELDS: Final = (
    "number,building,result,timestamp,duration,builtOn,"
    "runs[number,url,building,result,timestamp,duration,builtOn]"
)
"""What `jobs_of` reads."""

_ORIGIN: Final = re.compile(r"#([0-9]{1,18})")
_REQUEST: Final = re.compile(r"(?:PR|MR)-([0-9]{1,9})(?:-.*)?")
_NAMESPACES: Final = ("refs/remotes/origin/", "refs/heads/", "origin/")


@dataclass(frozen=True, slots=True)
class Place:
    """What a job is, as far as its builds depend on it."""

    is_pipeline: bool = False
    """Its builds have stages."""
    is_branch: bool = False
    """It is one branch of a multibranch project, and is named after it."""


def place_of(job: Mapping[str, Any]) -> Place:
    """`job` has its class, and those of its properties."""
    properties = {kind(one) for one in rows(job, "property")}
    return Place(is_pipeline=kind(job) == "WorkflowJob", is_branch="BranchJobProperty" in properties)


def state_of(building: Any, result: Any) -> State:
    """The state behind the two; `unknown` if Jenkins does not define them."""
    if building is True:
        return State.RUNNING
    if building is not False or not isinstance(result, str):
        return State.UNKNOWN
    return RESULTS.get(result, State.UNKNOWN)


def build_of(
    row: Any,
    *,
    instance: str,
    job: str,
    place: Place,
    parent: BuildRef | None = None,
) -> BuildObservedV1:
    """A build as a fact.

    Args:
        row: Jenkins' JSON, with `BUILD_FIELDS`.
        instance: of the fact's subject.
        job: the job's full name, also of the subject: Jenkins has nothing that outlives a renaming.
        place: what the job is.
        parent: the build behind `origin_of`.

    Raises:
        BadRowError: without a number or a timestamp.
    """
    run = an_object(row, "the build")
    count, stamp = number(run.get("number")), number(run.get("timestamp"))
    started = moment(stamp)
    if count is None or count < 1:
        raise BadRowError("a build: number is missing or no number")
    if started is None or stamp is None:
        raise BadRowError(f"build {count}: no readable timestamp")
    building, result = run.get("building"), run.get("result")
    causes, interruptions = _causes(run)
    state = state_of(building, result)
    if state is State.CANCELLED and any(kind(cause) == "ExceededTimeout" for cause in interruptions):
        state = State.TIMED_OUT
    ended = None if building is True else later(started, run.get("duration"))
    branch = leaf(job) if place.is_branch else None
    sha, built = _revision(run, branch)
    commit = _commit(run, sha)
    request = _REQUEST.fullmatch(branch) if branch else None
    own_name = text(run.get("displayName"))
    message = (text(commit.get("msg")) or "").strip().partition("\n")[0].rstrip() or None
    try:
        return BuildObservedV1(
            build=BuildRef(
                provider=PROVIDER, instance=instance, repository_id=job, run_id=run_id_of(count, stamp)
            ),
            repository=job,
            workflow_id=job,
            workflow=leaf(job.rsplit("/", 1)[0]) if place.is_branch else leaf(job),
            run_number=count,
            title=own_name if own_name and own_name != f"#{count}" else message,
            event=_event(causes),
            branch=branch or _branch(built),
            tag=built.removeprefix("refs/tags/") if built and built.startswith("refs/tags/") else None,
            commit_sha=sha,
            commit_message=message,
            author=text(part(commit, "author").get("fullName")),
            actor=_actor(causes),
            pull_request=int(request.group(1)) if request else None,
            parent=parent,
            url=text(run.get("url")),
            raw_status=BUILDING if building is True else COMPLETED if building is False else raw(building),
            raw_conclusion=raw(result),
            state=state,
            created_at=started,
            queued_at=_queued(run, started),
            started_at=started,
            finished_at=ended if state.is_terminal else None,
            # Of a build that goes on Jenkins tells no later time; one of ours might overtake its end.
            updated_at=ended or started,
        )
    except ValidationError as error:
        raise BadRowError(f"build {count}: {explain(error)}") from None


def origin_of(row: Any, job: str) -> tuple[str, int] | None:
    """The build that this one comes from, by job and number: one that started it, or that it repeats."""
    actions = rows(row, "actions") if isinstance(row, dict) else []
    for cause in (cause for action in actions for cause in rows(action, "causes")):
        upstream, count = text(cause.get("upstreamProject")), number(cause.get("upstreamBuild"))
        if upstream is not None and count is not None:
            return upstream, count
        # These two name the build in their text alone, in whatever language.
        found = _ORIGIN.search(text(cause.get("shortDescription")) or "")
        if kind(cause) in ("ReplayCause", "RestartDeclarativePipelineCause") and found is not None:
            return job, int(found.group(1))
    return None


def _revision(run: Mapping[str, Any], branch: str | None) -> tuple[str | None, str | None]:
    """The commit and the branch that were built, as Jenkins writes them.

    A build may have checked out several repositories, libraries among them: the one that has the branch the job
    is named after is meant, else the first.
    """
    found: list[tuple[str, str | None]] = []
    for action in rows(run, "actions"):
        revision = part(action, "lastBuiltRevision")
        sha = text(revision.get("SHA1"))
        if sha is not None:
            names = [text(one.get("name")) for one in rows(revision, "branch")]
            found.append((sha, next((name for name in names if name), None)))
    if branch is not None:
        for sha, name in found:
            if _branch(name) == branch:
                return sha, name
    return found[0] if found else (None, None)


def _branch(name: str | None) -> str | None:
    if name is None or name == "detached" or name.startswith("refs/tags/"):
        return None
    for prefix in _NAMESPACES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def _commit(run: Mapping[str, Any], sha: str | None) -> Mapping[str, Any]:
    """The change that was built, if it is among those that are new in this build."""
    changes = [part(run, "changeSet"), *rows(run, "changeSets")]
    items = (item for change in changes for item in rows(change, "items"))
    return next((item for item in items if sha is not None and item.get("commitId") == sha), {})


def _causes(run: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Why it began, and what interrupted it: Jenkins calls both `causes`."""
    began: list[Mapping[str, Any]] = []
    interrupted: list[Mapping[str, Any]] = []
    for action in rows(run, "actions"):
        (interrupted if kind(action) == "InterruptedBuildAction" else began).extend(rows(action, "causes"))
    return began, interrupted


def _event(causes: Sequence[Mapping[str, Any]]) -> str | None:
    return next((kind(cause) or text(cause.get("shortDescription")) for cause in causes), None)


def _actor(causes: Sequence[Mapping[str, Any]]) -> str | None:
    names = (text(cause.get("userName")) or text(cause.get("userId")) for cause in causes)
    return next((name for name in names if name), None)


def _queued(run: Mapping[str, Any], started: datetime) -> datetime | None:
    """When it began to wait, where the metrics plugin tells how long that took."""
    for action in rows(run, "actions"):
        waited = number(action.get("queuingDurationMillis"))
        if waited is not None and waited >= 0:
            try:
                return started - timedelta(milliseconds=waited)
            except OverflowError:
                return None
    return None


def stage_of(row: Any, *, build: BuildObservedV1, steps: Sequence[Any] = ()) -> JobObservedV1:
    """A stage of a pipeline, as `wfapi/describe` has it, with the steps of its own description.

    Raises:
        BadRowError: without an id.
    """
    stage = an_object(row, "the stage")
    stage_id = text(stage.get("id"), 255)
    if stage_id is None:
        raise BadRowError("a stage: no id")
    state, started, finished = _timing(stage)
    try:
        return JobObservedV1(
            build=build.build,
            job_id=stage_id,
            name=text(stage.get("name")) or f"stage {stage_id}",
            runner=text(stage.get("execNode")),
            url=build.url,
            raw_status=raw(stage.get("status")),
            failure_reason=text(part(stage, "error").get("message")),
            state=state,
            created_at=started,
            started_at=started,
            finished_at=finished,
            observed_at=finished or started or build.updated_at,
            steps=tuple(_step(step, place) for place, step in enumerate(steps, 1) if isinstance(step, dict)),
        )
    except ValidationError as error:
        raise BadRowError(f"stage {stage_id}: {explain(error)}") from None


def _step(step: Mapping[str, Any], place: int) -> Step:
    state, started, finished = _timing(step)
    return Step(
        number=place,
        name=text(step.get("name")) or f"step {place}",
        raw_status=raw(step.get("status")),
        state=state,
        started_at=started,
        finished_at=finished,
    )


def _timing(row: Mapping[str, Any]) -> tuple[State, datetime | None, datetime | None]:
    """Of a stage or step: its state, its start, and its end once it has one."""
    status = row.get("status")
    state = STAGES.get(status, State.UNKNOWN) if isinstance(status, str) else State.UNKNOWN
    started = moment(row.get("startTimeMillis"))
    return state, started, later(started, row.get("durationMillis")) if state.is_terminal else None


def jobs_of(row: Any, *, build: BuildObservedV1) -> list[JobObservedV1]:
    """The jobs of a build without stages: the combinations of a matrix, else one that stands for the build.

    `row` has `WHOLE_FIELDS`.

    Raises:
        BadRowError: the build is no object.
    """
    whole = an_object(row, "the build")
    # A matrix build lists, of combinations that it did not run, their last builds.
    cells = [
        (cell, name)
        for cell in rows(whole, "runs")
        if cell.get("number") == build.run_number
        and (name := combination_in(text(cell.get("url")) or "", build.run_number or 0)) is not None
    ]
    if cells:
        return [_plain(cell, build, job_id=name[:255], name=name) for cell, name in cells]
    return [_plain(whole, build, job_id=WHOLE, name=build.workflow)]


def _plain(row: Mapping[str, Any], build: BuildObservedV1, *, job_id: str, name: str) -> JobObservedV1:
    building, result = row.get("building"), row.get("result")
    state = state_of(building, result)
    started = moment(row.get("timestamp"))
    finished = later(started, row.get("duration")) if state.is_terminal else None
    try:
        return JobObservedV1(
            build=build.build,
            job_id=job_id,
            name=name,
            runner=text(row.get("builtOn")),
            url=text(row.get("url")) or build.url,
            raw_status=BUILDING if building is True else COMPLETED if building is False else raw(building),
            raw_conclusion=raw(result),
            state=state,
            created_at=started,
            started_at=started,
            finished_at=finished,
            observed_at=finished or started or build.updated_at,
        )
    except ValidationError as error:
        raise BadRowError(f"{name}: {explain(error)}") from None
