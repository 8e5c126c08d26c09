"""GitLab's JSON as facts."""

from datetime import UTC, datetime
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState
from buildlight_contracts.states import State
from services.poller.providers.gitlab.fields import BadRowError, instant
from services.poller.providers.gitlab.mapping import (
    STATUSES,
    Upstream,
    build_of,
    deployment_of,
    job_of,
    job_state_of,
    sketch_of,
    state_of,
    workflow_of,
)
from tests.unit.poller.gitlab_rows import PIPELINE, executions, job

JOBS = executions(job(1, "lint", "success", 12, 30), job(2, "unit", "failed", 12, 90))
RETRIED = executions(
    job(1, "lint", "success", 12, 30),
    job(2, "unit", "failed", 12, 90),
    job(4, "unit", "success", 310, 390, created=300),
)
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
    "0001-01-01 00:00:00 +1400",
    "x\x00y",
    1e300,
)


def read(attempt: int | None = None, **changes: Any) -> BuildObservedV1:
    return build_of(
        PIPELINE | changes,
        RETRIED if attempt else JOBS,
        instance="gitlab.test",
        repository="acme/shop",
        attempt=attempt,
    )


def test_every_defined_status() -> None:
    """A status is a state; what GitLab does not define is unknown, and kept."""
    assert {status: state_of(status).value for status in STATUSES} == {
        "created": "queued",
        "waiting_for_resource": "waiting",
        "waiting_for_callback": "waiting",
        "preparing": "queued",
        "pending": "queued",
        "running": "running",
        "success": "success",
        "failed": "failure",
        "canceling": "running",
        "canceled": "cancelled",
        "skipped": "skipped",
        "manual": "action_required",
        "scheduled": "waiting",
    }
    for odd in ("SUCCESS", "", "passed", "failed "):
        build = read(status=odd)
        assert (build.state, build.raw_status, build.finished_at) == (State.UNKNOWN, odd, None)


def test_a_whole_pipeline() -> None:
    """Every field is where it belongs; times are UTC, and cut to the second."""
    assert read().model_dump(mode="json") == {
        "build": {
            "provider": "gitlab",
            "instance": "gitlab.test",
            "repository_id": "15",
            "run_id": "4711",
            "attempt": 1,
        },
        "repository": "acme/shop",
        "workflow_id": "pipeline",
        "workflow": "pipeline",
        "run_number": 562,
        "title": "Merge request checks",
        "event": "push",
        "branch": "main",
        "tag": None,
        "commit_sha": "acb5820c",
        "commit_message": "Take long cards",
        "author": "Mona Lisa",
        "actor": "mona",
        "pull_request": None,
        "parent": None,
        "url": "https://gitlab.acme.example/acme/shop/-/pipelines/4711",
        "raw_status": "failed",
        "raw_conclusion": None,
        "state": "failure",
        "created_at": "2026-03-02T12:00:00Z",
        "queued_at": "2026-03-02T12:00:00Z",
        "resumed_at": None,
        "started_at": "2026-03-02T12:00:12Z",
        "finished_at": "2026-03-02T12:01:40Z",
        "updated_at": "2026-03-02T12:01:40Z",
    }


def test_the_latest_attempt_has_the_pipelines_state_and_its_own_start() -> None:
    """GitLab keeps the start of the first attempt; the jobs know when the second began."""
    build = read(2, status="success", finished_at="2026-03-02T12:06:31Z")
    assert (build.build.attempt, build.state, build.raw_status) == (2, State.SUCCESS, "success")
    assert build.queued_at == datetime(2026, 3, 2, 12, 5, tzinfo=UTC)
    assert build.started_at == datetime(2026, 3, 2, 12, 5, 10, tzinfo=UTC)
    assert build.finished_at == datetime(2026, 3, 2, 12, 6, 31, tzinfo=UTC)


def test_an_earlier_attempt_is_read_off_its_jobs() -> None:
    """Whatever the pipeline is now; its end is that of its last job."""
    for now in ("running", "success", "failed"):
        build = read(1, status=now)
        assert (build.build.attempt, build.state, build.raw_status) == (1, State.FAILURE, "failed")
        assert build.finished_at == build.updated_at == datetime(2026, 3, 2, 12, 1, 30, tzinfo=UTC)
        assert build.started_at == datetime(2026, 3, 2, 12, 0, 12, tzinfo=UTC)


def test_an_attempt_that_gitlab_went_on_from_by_itself_is_neutral() -> None:
    """It ended, and was neither good nor bad."""
    rows = executions(job(2, "unit", "failed", 12, 90), job(4, "unit", "success", 95, 120, created=90.3))
    build = build_of(PIPELINE, rows, instance="gitlab.test", repository="acme/shop", attempt=1)
    assert (build.state, build.raw_status) == (State.NEUTRAL, None)


def test_there_is_no_attempt_beyond_the_latest() -> None:
    """Nor one before the first."""
    for attempt in (-1, 3):
        with pytest.raises(BadRowError, match="no attempt"):
            read(attempt)


def test_a_pipeline_that_runs_again_has_no_end() -> None:
    """GitLab keeps the end it had."""
    assert read(status="running").finished_at is None


def test_a_sketch_has_the_version_of_the_whole() -> None:
    """What a listing shows of a pipeline tells whether it has changed."""
    listed = {
        k: PIPELINE[k] for k in ("id", "iid", "project_id", "status", "source", "ref", "sha", "web_url")
    }
    listed |= {k: PIPELINE[k] for k in ("created_at", "updated_at")}
    sketch = sketch_of(listed, instance="gitlab.test", repository="acme/shop")
    assert (sketch.build.run_id, sketch.raw_status) == ("4711", "failed")
    assert sketch.updated_at == read().updated_at


@pytest.mark.parametrize("kind", ["head", "merge", "train"])
def test_a_merge_requests_pipeline(kind: str) -> None:
    """Whichever of its refs it ran on, it is one pipeline; a fork's branch `main` is not the project's."""
    build = read(ref=f"refs/merge-requests/41/{kind}", source="merge_request_event")
    assert (build.pull_request, build.branch) == (41, "refs/merge-requests/41/head")
    assert build.pipeline.workflow_id == "pipeline"


def test_a_tags_pipeline() -> None:
    """A tag is no branch."""
    build = read(ref="v1.2", tag=True)
    assert (build.branch, build.tag) == (None, "v1.2")


def test_a_child_knows_its_parent_and_is_a_workflow_of_its_own() -> None:
    """By the job that started it."""
    build = build_of(
        PIPELINE | {"source": "parent_pipeline"},
        JOBS,
        instance="gitlab.test",
        repository="acme/shop",
        upstream=Upstream("15", "4700", 2, "deploy-eu"),
    )
    assert (build.workflow_id, build.workflow) == ("child:deploy-eu", "child: deploy-eu")
    assert build.parent is not None
    assert (build.parent.run_id, build.parent.attempt) == ("4700", 2)


def test_what_starts_pipelines_makes_workflows() -> None:
    """A run by hand mends what a push broke; a nightly run does not."""
    same = {workflow_of(s)[0] for s in (None, "push", "web", "api", "merge_request_event")}
    others = {workflow_of(s)[0] for s in ("schedule", "trigger", "parent_pipeline", "x" * 400)}
    assert same == {"pipeline"}
    assert len(others) == 4
    assert all(len(one) <= 255 for one in others)


def test_a_configuration_that_cannot_be_read_is_a_failure_to_start() -> None:
    """GitLab calls it failed."""
    build = read(yaml_errors="jobs config should contain at least one visible job")
    assert build.state is State.STARTUP_FAILURE


NEEDED = ("id", "project_id")


@pytest.mark.parametrize("name", sorted(set(PIPELINE) - set(NEEDED)))
def test_no_odd_field_loses_a_pipeline(name: str) -> None:
    """Whatever stands in a field that does not name the pipeline, it is read, and can be written."""
    for odd in ODD:
        for attempt in (None, 1, 2):
            build = read(attempt, **{name: odd})
            assert build.build.run_id == "4711"
            assert BuildObservedV1.model_validate_json(build.model_dump_json()) == build


@pytest.mark.parametrize("name", NEEDED)
def test_a_pipeline_without_a_name_is_refused(name: str) -> None:
    """The reason names the field."""
    for odd in ODD:
        with pytest.raises(BadRowError, match=name):
            read(**{name: odd})


def test_a_pipeline_without_any_time_is_refused() -> None:
    """It could not be put in order."""
    with pytest.raises(BadRowError, match="time"):
        read(created_at=None, started_at=None, updated_at=None, finished_at=None)


@pytest.mark.parametrize("row", [None, [], "pipeline", 7])
def test_what_is_no_object_is_refused(row: Any) -> None:
    """Rather than failing in some other way."""
    with pytest.raises(BadRowError):
        sketch_of(row, instance="x", repository="y")
    with pytest.raises(BadRowError):
        job_of(row, build=read().build, otherwise=read().updated_at)
    with pytest.raises(BadRowError):
        deployment_of(row, instance="x", repository_id="1", repository="y")


def test_a_job() -> None:
    """Stage, runner, waiting time, and why it failed."""
    row = job(2, "unit", "failed", 12, 90, failure_reason="runner_system_failure")
    found = job_of(row, build=read().build, otherwise=read().updated_at)
    assert (found.job_id, found.name, found.stage) == ("2", "unit", "test")
    assert (found.state, found.raw_status, found.failure_reason) == (
        State.FAILURE,
        "failed",
        "runner_system_failure",
    )
    assert found.runner == "blue-3.runners.acme.example"
    assert found.queued_at == datetime(2026, 3, 2, 12, 0, 10, tzinfo=UTC)
    assert found.observed_at == found.finished_at == datetime(2026, 3, 2, 12, 1, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "reason", "may_fail", "state"),
    [
        ("manual", None, True, State.SKIPPED),
        ("manual", None, False, State.ACTION_REQUIRED),
        ("failed", "job_execution_timeout", False, State.TIMED_OUT),
        ("failed", "script_failure", True, State.FAILURE),
        (None, None, False, State.UNKNOWN),
    ],
)
def test_states_of_jobs(status: str | None, reason: str | None, may_fail: bool, state: State) -> None:
    """A job for a person to start, or not, holds up nothing; one that must be started does."""
    assert job_state_of(status, reason, is_allowed_to_fail=may_fail) is state


def test_no_odd_field_loses_a_job() -> None:
    """Only its id and name are needed."""
    whole = job(2, "unit", "failed", 12, 90)
    for name in set(whole) - {"id", "name"}:
        for odd in ODD:
            found = job_of(whole | {name: odd}, build=read().build, otherwise=read().updated_at)
            assert (found.job_id, found.name) == ("2", "unit")
            assert found.model_dump_json()


DEPLOYMENT: dict[str, Any] = {
    "id": 15,
    "status": "success",
    "ref": "main",
    "sha": "acb5820c",
    "created_at": "2026-03-02T12:00:00Z",
    "updated_at": "2026-03-02T12:03:00Z",
    "user": {"username": "mona"},
    "environment": {"name": "production", "tier": "production", "external_url": "https://shop.example"},
    "deployable": {"id": 7, "finished_at": "2026-03-02T12:02:59Z"},
}


def deployed(**changes: Any) -> DeploymentObservedV1:
    return deployment_of(DEPLOYMENT | changes, instance="g", repository_id="15", repository="acme/shop")


def test_a_deployment() -> None:
    """Where, what, by whom, and how it ended."""
    found = deployed()
    assert (found.environment, found.is_production, found.state) == (
        "production",
        True,
        DeploymentState.SUCCESS,
    )
    assert (found.commit_sha, found.actor, found.url) == ("acb5820c", "mona", "https://shop.example")
    states = {s: deployed(status=s).state.value for s in ("created", "blocked", "skipped", "x", None)}
    assert states == {
        "created": "pending",
        "blocked": "pending",
        "skipped": "cancelled",
        "x": "unknown",
        None: "unknown",
    }
    for name in set(DEPLOYMENT) - {"id", "environment"}:
        for odd in ODD:
            assert deployed(**{name: odd}).deployment_id == "15"


@pytest.mark.parametrize(
    ("text", "then"),
    [
        ("2016-08-12 15:23:28 UTC", datetime(2016, 8, 12, 15, 23, 28, tzinfo=UTC)),
        ("2021-04-28 21:50:00 +0200", datetime(2021, 4, 28, 19, 50, tzinfo=UTC)),
        ("2021-02-23T02:41:37.886Z", datetime(2021, 2, 23, 2, 41, 37, 886000, tzinfo=UTC)),
        ("2016-08-12T17:23:21+02:00", datetime(2016, 8, 12, 15, 23, 21, tzinfo=UTC)),
        ("soon", None),
        ("", None),
        (7, None),
    ],
)
def test_times(text: Any, then: datetime | None) -> None:
    """In each of the ways that GitLab writes them."""
    assert instant(text) == then
