"""Attempts of a GitLab pipeline, derived from its jobs. Pure.

GitLab knows no attempts. Who runs a job again gets a new job of the same name in the same pipeline; the old one
stays, marked as retried. So this is the rule, all of it read off the pipeline's jobs with the retried ones:

- The n-th job of one name, by id, is *execution* n of that name, and belongs to attempt n. A job's attempt never
  changes, whatever is retried later.
- The pipeline is in the attempt of its most often executed job: 1 + the greatest number of times any one job was
  retried. Retries that GitLab makes by itself (`retry:`) count like those a person asks for. Trigger jobs do not
  count: GitLab hides the retried ones.
- Attempt n + 1 begins when the first execution n + 1 was created. What else starts from then on, such as the
  jobs that were skipped because of the failure, is *work* of attempt n + 1, though it belongs to the earlier one.
- Of the latest attempt GitLab tells the state. Of an earlier one it is read off its jobs: what the pipeline's
  status was when the next began, provided that it was at rest then. If it was not (GitLab retried a job by
  itself while the pipeline went on) the attempt ended without a verdict.

All of it is there at any later time, so whoever looks whenever gets the same answer. A hook shows no retried
jobs; what it can tell nevertheless, `webhook.py` says.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from services.poller.providers.gitlab.fields import (
    BadRowError,
    an_id,
    an_object,
    instant,
    raw,
    seconds,
    shifted,
    text,
)

MOST_ATTEMPTS: Final = 1000
AT_REST: Final = timedelta(seconds=2)
"""GitLab retries by itself at once; a pipeline whose last job ended longer ago had ended."""
_ENDED_BADLY = ("failed", "canceled")


@dataclass(frozen=True, slots=True)
class Execution:
    """One job of a pipeline; `number` counts those of its name. Times are exact."""

    job_id: str
    name: str
    number: int
    status: str | None
    is_allowed_to_fail: bool
    created: datetime | None
    queued: datetime | None
    started: datetime | None
    finished: datetime | None
    row: Mapping[str, Any]

    def is_busy_at(self, moment: datetime) -> bool:
        """Whether it was waiting for a runner or running then, or had only just ended."""
        begun = self.queued or self.started
        if begun is None or begun >= moment:
            return False
        return self.finished is None or moment - self.finished < AT_REST


@dataclass(frozen=True, slots=True)
class Ended:
    """How an earlier attempt ended. `status` is the word GitLab had for it; None: it had none."""

    status: str | None
    finished: datetime


def executions_of(
    jobs: Iterable[Any], bridges: Iterable[Any] = ()
) -> tuple[tuple[Execution, ...], tuple[str, ...]]:
    """The executions of a pipeline's jobs and trigger jobs, and why other rows cannot be read."""
    refused: list[str] = []

    def readable(rows: Iterable[Any]) -> list[tuple[int, str, Mapping[str, Any]]]:
        found: dict[int, tuple[int, str, Mapping[str, Any]]] = {}
        for row in rows:
            try:
                job_id, name = _named(row)
                found[job_id] = (job_id, name, row)
            except BadRowError as error:
                refused.append(str(error))
        return sorted(found.values(), key=lambda job: job[0])

    numbers: Counter[str] = Counter()
    executions = []
    for job_id, name, row in readable(jobs):
        numbers[name] += 1
        executions.append(_execution(job_id, name, min(numbers[name], MOST_ATTEMPTS), row))
    executions += [_execution(job_id, name, 1, row) for job_id, name, row in readable(bridges)]
    return tuple(executions), tuple(refused)


def _named(row: Any) -> tuple[int, str]:
    job_id = int(an_id(an_object(row, "the job"), "id"))
    name = text(row.get("name"))
    if name is None:
        raise BadRowError(f"job {job_id}: no name")
    return job_id, name


def _execution(job_id: int, name: str, number: int, row: Mapping[str, Any]) -> Execution:
    started = instant(row.get("started_at"))
    waited = seconds(row.get("queued_duration"))
    return Execution(
        job_id=str(job_id),
        name=name,
        number=number,
        status=raw(row.get("status")),
        is_allowed_to_fail=row.get("allow_failure") is True,
        created=instant(row.get("created_at")),
        queued=shifted(started, None if waited is None else -waited),
        started=started,
        finished=instant(row.get("finished_at")),
        row=row,
    )


def latest_attempt(executions: Sequence[Execution]) -> int:
    return max((one.number for one in executions), default=1)


def begin(executions: Sequence[Execution], attempt: int) -> datetime | None:
    """When an attempt after the first began; None for the first, and where GitLab does not tell."""
    if attempt == 1:
        return None
    return min((e.created for e in executions if e.number == attempt and e.created), default=None)


def first_start(executions: Sequence[Execution], attempt: int) -> datetime | None:
    """When the first of an attempt's own executions started."""
    return min((e.started for e in executions if e.number == attempt and e.started), default=None)


def work_of(executions: Sequence[Execution], attempt: int) -> tuple[Execution, ...]:
    """What ran in the time of an attempt: every execution that started is the work of exactly one."""
    since, until = begin(executions, attempt), begin(executions, attempt + 1)
    if (attempt > 1 and since is None) or (attempt < latest_attempt(executions) and until is None):
        return tuple(e for e in executions if e.number == attempt)
    return tuple(
        e
        for e in executions
        if e.started is not None
        and (since is None or e.started >= since)
        and (until is None or e.started < until)
    )


def end_of(executions: Sequence[Execution], attempt: int) -> Ended | None:
    """How an attempt ended that is not the latest; None where GitLab's times do not tell."""
    until = begin(executions, attempt + 1)
    if until is None:
        return None
    before = [e for e in executions if e.created is None or e.created < until]
    finished = max((e.finished for e in before if e.finished and e.finished <= until), default=until)
    if any(e.is_busy_at(until) for e in before):
        return Ended(None, finished)
    return Ended(_status(before, lambda e: e.finished is not None and e.finished <= until), finished)


def _status(executions: Sequence[Execution], had_ended: Callable[[Execution], bool]) -> str:
    """The pipeline's status by GitLab's rule: the worst of its jobs, each at its latest execution."""
    latest = {e.name: e for e in sorted(executions, key=lambda e: e.number) if had_ended(e)}
    told = {e.status for e in latest.values() if not e.is_allowed_to_fail}
    return next((status for status in _ENDED_BADLY if status in told), "success")
