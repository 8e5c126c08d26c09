"""The attempts of a GitLab pipeline, read off its jobs."""

from datetime import timedelta

import pytest

from services.poller.providers.gitlab.executions import (
    Execution,
    end_of,
    executions_of,
    latest_attempt,
    work_of,
)
from tests.unit.poller.gitlab_rows import NOON, executions, job

LINT = job(1, "lint", "success", 12, 30)
UNIT = job(2, "unit", "failed", 12, 90)
DEPLOY = job(3, "deploy", "success", 400, 420)
"""Skipped at first; GitLab runs the same job when what it needs has passed."""
UNIT_AGAIN = job(4, "unit", "success", 310, 390, created=300)


def names(found: tuple[Execution, ...]) -> list[str]:
    return [one.job_id for one in found]


def test_a_job_run_again_makes_the_next_attempt() -> None:
    """Jobs of one name count by id, in whatever order they are listed."""
    found = executions(UNIT_AGAIN, DEPLOY, UNIT, LINT)
    assert {one.job_id: one.number for one in found} == {"1": 1, "2": 1, "3": 1, "4": 2}
    assert latest_attempt(found) == 2
    assert latest_attempt(()) == 1


def test_what_ran_later_is_work_of_the_later_attempt() -> None:
    """Every execution that started is the work of exactly one attempt."""
    found = executions(LINT, UNIT, DEPLOY, UNIT_AGAIN)
    assert names(work_of(found, 1)) == ["1", "2"]
    assert names(work_of(found, 2)) == ["3", "4"]


def test_what_never_started_is_no_work() -> None:
    """A skipped job leaves nothing behind."""
    found = executions(LINT, job(2, "deploy", "skipped"))
    assert names(work_of(found, 1)) == ["1"]


def test_an_attempt_that_ended_before_the_next_has_the_status_of_its_jobs() -> None:
    """The pipeline was at rest when a person ran a job again: GitLab had called it failed."""
    ended = end_of(executions(LINT, UNIT, DEPLOY, UNIT_AGAIN), 1)
    assert ended is not None
    assert (ended.status, ended.finished) == ("failed", NOON + timedelta(seconds=90))


@pytest.mark.parametrize(
    ("rows", "status"),
    [
        (
            [
                job(1, "a", "failed", 10, 20, allow_failure=True),
                job(2, "a", "success", 110, 120, created=100),
            ],
            "success",
        ),
        ([job(1, "a", "canceled", 10, 20), job(2, "a", "success", 110, 120, created=100)], "canceled"),
        (
            [
                job(1, "a", "canceled", 10, 20),
                job(2, "b", "failed", 10, 15),
                job(3, "a", "success", 110, 120, created=100),
            ],
            "failed",
        ),
        ([job(1, "a", "success", 10, 20), job(2, "a", "success", 110, 120, created=100)], "success"),
    ],
    ids=["allowed to fail", "cancelled", "failed and cancelled", "a success run again"],
)
def test_the_status_is_the_worst_that_counts(rows: list[dict[str, object]], status: str) -> None:
    """As GitLab sums up a pipeline: failed before cancelled, and what may fail does not count."""
    ended = end_of(executions(*rows), 1)
    assert ended is not None
    assert ended.status == status


@pytest.mark.parametrize(
    "rows",
    [
        [UNIT, job(4, "unit", "success", 95, 120, created=90.4)],
        [job(1, "slow", "success", 12, 200), UNIT, job(4, "unit", "success", 110, 150, created=100)],
        [
            job(1, "waiting", "success", 160, 200, waited=100),
            UNIT,
            job(4, "unit", "success", 110, 150, created=100),
        ],
    ],
    ids=["retried at once", "another ran on", "another waited for a runner"],
)
def test_an_attempt_in_whose_midst_a_job_was_retried_has_no_verdict(rows: list[dict[str, object]]) -> None:
    """GitLab retried by itself, and the pipeline never ended: it was not red."""
    ended = end_of(executions(*rows), 1)
    assert ended is not None
    assert ended.status is None


def test_three_attempts() -> None:
    """The middle one ended as failed, too, and has its own time."""
    found = executions(
        UNIT,
        job(3, "unit", "failed", 210, 250, created=200),
        job(4, "unit", "success", 310, 390, created=300),
    )
    assert latest_attempt(found) == 3
    ends = [end_of(found, attempt) for attempt in (1, 2, 3)]
    assert [(e.status, (e.finished - NOON).total_seconds()) if e else None for e in ends] == [
        ("failed", 90),
        ("failed", 250),
        None,
    ]


def test_trigger_jobs_do_not_count() -> None:
    """GitLab hides the retried ones: how often they ran cannot be told."""
    found, _ = executions_of([LINT], [job(9, "deploy-eu", "success", 30, 31)])
    assert latest_attempt(found) == 1
    assert names(work_of(found, 1)) == ["1", "9"]


def test_rows_that_name_no_job_are_told_and_left_out() -> None:
    """The others count; one listed on two pages counts once."""
    found, refused = executions_of([None, {}, {"id": 7}, {"id": 8, "name": "unit"}, LINT, LINT])
    assert names(found) == ["1", "8"]
    assert latest_attempt(found) == 1
    assert len(refused) == 3


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "x", None])
def test_no_time_is_too_odd(time: str | None) -> None:
    """At the ends of the calendar, or without any, an answer is found all the same."""
    odd = {"created_at": time, "started_at": time, "finished_at": time, "queued_duration": 1e8}
    found = executions(UNIT | odd, UNIT_AGAIN | odd)
    assert latest_attempt(found) == 2
    end_of(found, 1)
    assert {one.job_id for n in (1, 2) for one in work_of(found, n)} <= {"2", "4"}
