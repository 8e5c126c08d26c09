"""GitHub's JSON as facts."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.states import State
from services.poller.providers.github.mapping import (
    CONCLUSIONS,
    STATUSES,
    BadRowError,
    build_of,
    job_of,
    state_of,
)
from tests.corpora import corpus

RUN: dict[str, Any] = {
    "id": 30433642,
    "name": "CI",
    "path": ".github/workflows/ci.yml",
    "head_branch": "main",
    "head_sha": "acb5820c",
    "display_title": "Take long cards",
    "run_number": 562,
    "run_attempt": 2,
    "event": "push",
    "status": "completed",
    "conclusion": "failure",
    "workflow_id": 159038,
    "html_url": "https://github.com/acme/shop/actions/runs/30433642",
    "pull_requests": [{"number": 41}],
    "created_at": "2026-03-02T09:00:00Z",
    "run_started_at": "2026-03-02T10:00:00+01:00",
    "updated_at": "2026-03-02T09:04:12Z",
    "actor": {"login": "mona"},
    "triggering_actor": {"login": "hubot"},
    "head_commit": {"message": "\nTake long cards\n\nAnd why.", "author": {"name": "Mona Lisa"}},
    "repository": {"id": 1296269, "full_name": "acme/shop"},
}
GOING = {
    "queued": State.QUEUED,
    "requested": State.QUEUED,
    "pending": State.QUEUED,
    "waiting": State.WAITING,
    "in_progress": State.RUNNING,
}
ENDS = {
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


def read(**changes: Any) -> BuildObservedV1:
    return build_of(RUN | changes, instance="api.github.com", repository="acme/was")


def test_every_defined_pair() -> None:
    """A run that goes on is in its status whatever its conclusion; one that has completed, in its conclusion."""
    assert set(STATUSES) == {*GOING, "completed"}
    assert set(CONCLUSIONS) == set(ENDS)
    for status, state in GOING.items():
        for conclusion in (None, *ENDS):
            assert state_of(status, conclusion) is state
    for conclusion, state in ENDS.items():
        assert state_of("completed", conclusion) is state


@pytest.mark.parametrize(
    ("status", "conclusion"),
    [
        (None, None),
        (None, "success"),
        ("completed", None),
        ("completed", ""),
        ("completed", "SUCCESS"),
        ("COMPLETED", "success"),
        ("SUCCESS", "success"),
        ("IN_PROGRESS", ""),
        ("in_progress", ""),
        ("success", None),
        ("", None),
        ("completed ", "success"),
    ],
)
def test_whatever_is_not_defined_is_unknown(status: str | None, conclusion: str | None) -> None:
    """And the raw words are kept exactly."""
    build = read(status=status, conclusion=conclusion)
    assert (build.state, build.raw_status, build.raw_conclusion) == (State.UNKNOWN, status, conclusion)
    assert build.finished_at is None


def test_a_whole_run() -> None:
    """Every field is where it belongs; times are UTC."""
    assert read().model_dump(mode="json") == {
        "build": {
            "provider": "github",
            "instance": "api.github.com",
            "repository_id": "1296269",
            "run_id": "30433642",
            "attempt": 2,
        },
        "repository": "acme/shop",
        "workflow_id": "159038",
        "workflow": "CI",
        "run_number": 562,
        "title": "Take long cards",
        "event": "push",
        "branch": "main",
        "tag": None,
        "commit_sha": "acb5820c",
        "commit_message": "Take long cards",
        "author": "Mona Lisa",
        "actor": "hubot",
        "pull_request": 41,
        "parent": None,
        "url": "https://github.com/acme/shop/actions/runs/30433642",
        "raw_status": "completed",
        "raw_conclusion": "failure",
        "state": "failure",
        "created_at": "2026-03-02T09:00:00Z",
        "queued_at": None,
        "resumed_at": None,
        "started_at": "2026-03-02T09:00:00Z",
        "finished_at": "2026-03-02T09:04:12Z",
        "updated_at": "2026-03-02T09:04:12Z",
    }


NEEDED = ("id", "workflow_id", "repository")
ODD: tuple[Any, ...] = (
    None,
    "",
    "x",
    -1,
    0,
    1.5,
    True,
    [],
    {},
    [None],
    {"id": "x"},
    2**80,
    "\ud800",
    "9999-99-99",
    "x\x00y",
)


@pytest.mark.parametrize("name", sorted(set(RUN) - {*NEEDED, "run_attempt"}))
def test_no_odd_field_loses_a_run(name: str) -> None:
    """Whatever stands in a field that does not name the run, the run is read, and can be written."""
    for odd in ODD:
        build = read(**{name: odd})
        assert build.build == read().build
        assert BuildObservedV1.model_validate_json(build.model_dump_json()) == build


@pytest.mark.parametrize("name", NEEDED)
def test_a_run_without_a_name_is_refused(name: str) -> None:
    """The reason names the field."""
    for odd in ODD:
        with pytest.raises(BadRowError, match=name):
            read(**{name: odd})


def test_what_is_no_attempt_is_refused() -> None:
    """None at all is the first; nonsense is not guessed at."""
    assert read(run_attempt=None).build.attempt == 1
    for odd in (0, -1, 1001, "2", True, 2**80):
        with pytest.raises(BadRowError, match="run_attempt"):
            read(run_attempt=odd)


@pytest.mark.parametrize("row", [None, [], "run", 7])
def test_what_is_no_object_is_refused(row: Any) -> None:
    """Rather than failing in some other way."""
    with pytest.raises(BadRowError):
        build_of(row, instance="x", repository="y")
    with pytest.raises(BadRowError):
        job_of(row, build=read())


def test_a_run_without_any_time_is_refused() -> None:
    """It could not be put in order."""
    with pytest.raises(BadRowError, match="time"):
        read(created_at=None, run_started_at=None, updated_at=None)


def test_a_job_and_its_steps() -> None:
    """Steps have states of their own; the newest time is the job's."""
    job = job_of(
        {
            "id": 399444496,
            "name": "unit",
            "status": "in_progress",
            "conclusion": None,
            "created_at": "2026-03-02T09:00:00Z",
            "started_at": "2026-03-02T09:00:05Z",
            "completed_at": None,
            "runner_name": "",
            "steps": [{"number": 1, "name": "Set up", "status": "completed", "conclusion": "success"}, 7, {}],
        },
        build=read(),
    )
    assert (job.build, job.job_id, job.state, job.runner) == (read().build, "399444496", State.RUNNING, None)
    assert job.observed_at == datetime(2026, 3, 2, 9, 0, 5, tzinfo=UTC)
    assert [(s.number, s.name, s.state) for s in job.steps] == [
        (1, "Set up", State.SUCCESS),
        (3, "step 3", State.UNKNOWN),
    ]


def _bodies(folder: Path) -> Iterator[Any]:
    """The JSON of each answer in PyGithub's recordings."""
    for path in sorted(folder.iterdir()):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                try:
                    yield json.loads(line)
                except ValueError:
                    continue  # a request's headers, as Python writes them


def test_recorded_answers_are_read() -> None:
    """Every run and job that GitHub was recorded to answer is read, old and new, and its state is known."""
    runs, jobs = [], []
    for body in _bodies(corpus("api/github/pygithub-replay")):
        rows = body.get("workflow_runs") or ([body] if "jobs_url" in body and "workflow_id" in body else [])
        runs += [build_of(row, instance="api.github.com", repository="x/y") for row in rows]
        jobs += [job_of(row, build=read()) for row in body.get("jobs") or ()]
    assert len(runs) == 32
    assert jobs
    assert {run.state for run in runs} <= set(State) - {State.UNKNOWN}
    assert {job.state for job in jobs} <= set(State) - {State.UNKNOWN}


def test_recorded_hooks_are_read() -> None:
    """What a webhook carries is a run like any other; its made-up conclusion is unknown, and kept."""
    folder = corpus("webhooks/go-playground/github")
    hook = json.loads((folder / "workflow_run.json").read_text(encoding="utf-8"))
    build = build_of(
        hook["workflow_run"] | {"repository": hook["repository"]}, instance="api.github.com", repository="x/y"
    )
    assert (build.raw_status, build.raw_conclusion, build.state) == ("completed", "finished", State.UNKNOWN)
