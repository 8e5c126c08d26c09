"""GitHub's JSON as facts. Pure, and total: a row becomes a fact or a BadRowError, never anything else."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic import ValidationError

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1, Step
from buildlight_contracts.catalogue import explain
from buildlight_contracts.states import State

PROVIDER: Final = "github"
MOST_ATTEMPTS: Final = 1000
"""GitHub lets a run be run again 50 times; a number far past that is no attempt."""
_LONGEST_TEXT: Final = 1000

STATUSES: Final[Mapping[str, State | None]] = {
    "queued": State.QUEUED,
    "requested": State.QUEUED,
    "pending": State.QUEUED,
    "waiting": State.WAITING,
    "in_progress": State.RUNNING,
    "completed": None,
}
"""The statuses GitHub defines; `completed` leaves it to the conclusion."""

CONCLUSIONS: Final[Mapping[str, State]] = {
    "success": State.SUCCESS,
    "failure": State.FAILURE,
    "neutral": State.NEUTRAL,
    "cancelled": State.CANCELLED,
    "skipped": State.SKIPPED,
    "timed_out": State.TIMED_OUT,
    "action_required": State.ACTION_REQUIRED,
    "stale": State.STALE,
    "startup_failure": State.STARTUP_FAILURE,
}


class BadRowError(ValueError):
    """A row that names no build or job, or cannot be placed in time; the text says what is missing."""


def state_of(status: str | None, conclusion: str | None) -> State:
    """The state behind a status and a conclusion; `unknown` if GitHub does not define either of them."""
    if status is None or status not in STATUSES or (conclusion is not None and conclusion not in CONCLUSIONS):
        return State.UNKNOWN
    going = STATUSES[status]
    if going is not None:
        return going
    return State.UNKNOWN if conclusion is None else CONCLUSIONS[conclusion]


def build_of(row: Any, *, instance: str, repository: str) -> BuildObservedV1:
    """A `workflow-run` as a fact.

    Args:
        row: GitHub's JSON.
        instance: of the fact's subject.
        repository: its name, should the row not have it.

    Raises:
        BadRowError: without an id, a repository's id, a workflow's id, or any time.
    """
    run = object_at(row, "the run")
    place = part_of(run, "repository")
    created, started, updated = (
        moment_of(run.get(k)) for k in ("created_at", "run_started_at", "updated_at")
    )
    shown_at = updated or started or created
    run_id = id_of(run, "id")
    if shown_at is None:
        raise BadRowError(f"run {run_id}: no readable time")
    commit = part_of(run, "head_commit")
    message = text_of(commit.get("message"))
    status, conclusion = raw_of(run.get("status")), raw_of(run.get("conclusion"))
    state = state_of(status, conclusion)
    workflow_id = id_of(run, "workflow_id")
    try:
        return BuildObservedV1(
            build=BuildRef(
                provider=PROVIDER,
                instance=instance,
                repository_id=id_of(place, "id", "repository.id"),
                run_id=run_id,
                attempt=attempt_of(run),
            ),
            repository=text_of(place.get("full_name")) or repository,
            workflow_id=workflow_id,
            workflow=text_of(run.get("name")) or text_of(run.get("path")) or workflow_id,
            run_number=number_of(run.get("run_number")),
            title=text_of(run.get("display_title")),
            event=text_of(run.get("event")),
            branch=text_of(run.get("head_branch")),
            commit_sha=text_of(run.get("head_sha")),
            commit_message=message.strip().splitlines()[0] if message and message.strip() else None,
            author=text_of(part_of(commit, "author").get("name")),
            actor=text_of(part_of(run, "triggering_actor").get("login"))
            or text_of(part_of(run, "actor").get("login")),
            pull_request=_pull_request(run.get("pull_requests")),
            url=text_of(run.get("html_url")),
            raw_status=status,
            raw_conclusion=conclusion,
            state=state,
            created_at=created,
            started_at=started,
            # GitHub tells no end of a run; this is its last change.
            finished_at=updated if state.is_terminal else None,
            updated_at=shown_at,
        )
    except ValidationError as error:
        raise BadRowError(f"run {run_id}: {explain(error)}") from None


def job_of(row: Any, *, build: BuildObservedV1) -> JobObservedV1:
    """A `job` of `build` as a fact.

    Raises:
        BadRowError: without an id or a name.
    """
    return job_under(row, ref=build.build, otherwise_at=build.updated_at)


def job_under(row: Any, *, ref: BuildRef, otherwise_at: datetime | None = None) -> JobObservedV1:
    """A `job` of the attempt `ref` as a fact; `otherwise_at` stands in where the job itself has no time.

    Raises:
        BadRowError: without an id, a name, or any time.
    """
    job = object_at(row, "the job")
    job_id = id_of(job, "id")
    created, started, finished = (moment_of(job.get(k)) for k in ("created_at", "started_at", "completed_at"))
    status, conclusion = raw_of(job.get("status")), raw_of(job.get("conclusion"))
    name = text_of(job.get("name"))
    if name is None:
        raise BadRowError(f"job {job_id}: no name")
    observed_at = finished or max((t for t in (created, started) if t), default=otherwise_at)
    if observed_at is None:
        raise BadRowError(f"job {job_id}: no readable time")
    steps = job.get("steps")
    try:
        return JobObservedV1(
            build=ref,
            job_id=job_id,
            name=name,
            runner=text_of(job.get("runner_name")) or None,
            url=text_of(job.get("html_url")),
            raw_status=status,
            raw_conclusion=conclusion,
            state=state_of(status, conclusion),
            created_at=created,
            started_at=started,
            finished_at=finished,
            observed_at=observed_at,
            steps=tuple(
                _step(step, place)
                for place, step in enumerate(steps if isinstance(steps, list) else (), 1)
                if isinstance(step, dict)
            ),
        )
    except ValidationError as error:
        raise BadRowError(f"job {job_id}: {explain(error)}") from None


def _step(step: Mapping[str, Any], place: int) -> Step:
    status, conclusion = raw_of(step.get("status")), raw_of(step.get("conclusion"))
    number = number_of(step.get("number"))
    return Step(
        number=place if number is None else number,
        name=text_of(step.get("name")) or f"step {place}",
        raw_status=status,
        raw_conclusion=conclusion,
        state=state_of(status, conclusion),
        started_at=moment_of(step.get("started_at")),
        finished_at=moment_of(step.get("completed_at")),
    )


def object_at(value: Any, what: str) -> Mapping[str, Any]:
    """A JSON object; raises BadRowError, which calls it `what`."""
    if not isinstance(value, dict):
        raise BadRowError(f"{what} is no JSON object")
    return value


def part_of(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The object under `key`; an empty one where there is none."""
    part = row.get(key)
    return part if isinstance(part, dict) else {}


def id_of(row: Mapping[str, Any], key: str, what: str | None = None) -> str:
    """An id as text; raises BadRowError, which calls it `what`."""
    number = number_of(row.get(key))
    if number is None or number < 1:
        raise BadRowError(f"{what or key} is missing or no number")
    return str(number)


def attempt_of(run: Mapping[str, Any]) -> int:
    """The number of a run's attempt; 1 where there is none: GitHub counts attempts only since 2021."""
    value = run.get("run_attempt")
    number = 1 if value is None else number_of(value)
    if number is None or not 1 <= number <= MOST_ATTEMPTS:
        raise BadRowError(f"run {run.get('id')}: run_attempt is not between 1 and {MOST_ATTEMPTS}")
    return number


def number_of(value: Any) -> int | None:
    """An integer that a database can hold; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _pull_request(value: Any) -> int | None:
    first = value[0] if isinstance(value, list) and value else None
    return number_of(first.get("number")) if isinstance(first, dict) else None


def raw_of(value: Any) -> str | None:
    """Exactly what was received; what is no text, as JSON."""
    if value is None:
        return None
    return _writable(value if isinstance(value, str) else json.dumps(value))


def text_of(value: Any) -> str | None:
    """A text that can be written, cut to a thousand characters; None for anything else."""
    return _writable(value[:_LONGEST_TEXT]) if isinstance(value, str) else None


def _writable(text: str) -> str:
    """JSON can smuggle in half a character, which no UTF-8 can write out again."""
    return text.encode("utf-8", "replace").decode()


def moment_of(value: Any) -> datetime | None:
    """A time of GitHub's in UTC; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
