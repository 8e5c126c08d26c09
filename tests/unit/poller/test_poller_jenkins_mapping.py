"""Jenkins' JSON as facts."""

from datetime import timedelta
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.states import State
from services.poller.providers.jenkins.mapping import (
    RESULTS,
    STAGES,
    Place,
    build_of,
    jobs_of,
    origin_of,
    place_of,
    stage_of,
    state_of,
)
from services.poller.providers.jenkins.values import BadRowError

JOB = "acme/shop/feature%2Fcards"
BRANCH = Place(is_pipeline=True, is_branch=True)
AT = 1_772_442_000_123
BUILD: dict[str, Any] = {
    "_class": "org.jenkinsci.plugins.workflow.job.WorkflowRun",
    "number": 7,
    "url": "https://ci.test/job/acme/job/shop/job/feature%252Fcards/7/",
    "result": "UNSTABLE",
    "building": False,
    "timestamp": AT,
    "duration": 61_500,
    "displayName": "#7",
    "builtOn": "",
    "actions": [
        {
            "_class": "hudson.model.CauseAction",
            "causes": [
                {
                    "_class": "hudson.model.Cause$UserIdCause",
                    "shortDescription": "Started by user Mona Lisa",
                    "userId": "mona",
                    "userName": "Mona Lisa",
                }
            ],
        },
        {},
        {
            "_class": "hudson.plugins.git.util.BuildData",
            "lastBuiltRevision": {"SHA1": "0ddba11", "branch": [{"name": "refs/remotes/origin/library"}]},
        },
        {
            "_class": "hudson.plugins.git.util.BuildData",
            "lastBuiltRevision": {"SHA1": "acb5820c", "branch": [{"name": "feature/cards"}]},
        },
        {"_class": "jenkins.metrics.impl.TimeInQueueAction", "queuingDurationMillis": 2_000},
    ],
    "changeSets": [
        {
            "items": [
                {"commitId": "aaa", "msg": "Another", "author": {"fullName": "Someone"}},
                {
                    "commitId": "acb5820c",
                    "msg": "Take long cards\n\nAnd why.",
                    "author": {"fullName": "Mona"},
                },
            ]
        }
    ],
}


def read(place: Place = BRANCH, job: str = JOB, **changes: Any) -> BuildObservedV1:
    return build_of(BUILD | changes, instance="ci.test", job=job, place=place)


def test_every_defined_result() -> None:
    """A build that goes on is running whatever its result so far; one that has ended is in its result."""
    assert set(RESULTS) == {"SUCCESS", "UNSTABLE", "FAILURE", "NOT_BUILT", "ABORTED"}
    for result, state in RESULTS.items():
        assert state_of(True, result) is State.RUNNING
        assert state_of(False, result) is state
    assert state_of(True, None) is State.RUNNING
    assert RESULTS["UNSTABLE"].is_bad


@pytest.mark.parametrize(
    ("building", "result"),
    [(False, None), (None, "SUCCESS"), ("false", "SUCCESS"), (0, "SUCCESS"), (False, "success"), (False, 3)],
)
def test_whatever_is_not_defined_is_unknown(building: Any, result: Any) -> None:
    """And no end: it is asked for again."""
    build = read(building=building, result=result)
    assert (build.state, build.finished_at) == (State.UNKNOWN, None)


def test_a_whole_build() -> None:
    """Every field is where it belongs, of the repository that was built and not of a library."""
    assert read().model_dump(mode="json") == {
        "build": {
            "provider": "jenkins",
            "instance": "ci.test",
            "repository_id": JOB,
            "run_id": f"7@{AT}",
            "attempt": 1,
        },
        "repository": JOB,
        "workflow_id": JOB,
        "workflow": "shop",
        "run_number": 7,
        "title": "Take long cards",
        "event": "UserIdCause",
        "branch": "feature/cards",
        "tag": None,
        "commit_sha": "acb5820c",
        "commit_message": "Take long cards",
        "author": "Mona",
        "actor": "Mona Lisa",
        "pull_request": None,
        "parent": None,
        "url": BUILD["url"],
        "raw_status": "completed",
        "raw_conclusion": "UNSTABLE",
        "state": "failure",
        "created_at": "2026-03-02T09:00:00.123000Z",
        "queued_at": "2026-03-02T08:59:58.123000Z",
        "resumed_at": None,
        "started_at": "2026-03-02T09:00:00.123000Z",
        "finished_at": "2026-03-02T09:01:01.623000Z",
        "updated_at": "2026-03-02T09:01:01.623000Z",
    }


def test_a_plain_job_takes_its_branch_from_the_checkout() -> None:
    """And its own name is the workflow's; a freestyle build has one set of changes."""
    revision = {"SHA1": "acb5820c", "branch": [{"name": "refs/remotes/origin/main"}]}
    changes = BUILD["changeSets"][0]
    build = read(
        Place(), "acme/nightly", actions=[{"lastBuiltRevision": revision}], changeSets=None, changeSet=changes
    )
    assert (build.branch, build.workflow, build.commit_message) == ("main", "nightly", "Take long cards")
    for name, branch, tag in (
        ("origin/main", "main", None),
        ("detached", None, None),
        ("refs/tags/v1", None, "v1"),
    ):
        actions = [{"lastBuiltRevision": {"SHA1": "a", "branch": [{"name": name}]}}]
        build = read(Place(), "acme/nightly", actions=actions)
        assert (build.branch, build.tag) == (branch, tag)


def test_a_pull_request_is_known_by_its_branch() -> None:
    """Only where the job is a branch: a plain job may be called anything."""
    assert read(job="acme/shop/PR-41").pull_request == 41
    assert read(Place(), job="acme/shop/PR-41").pull_request is None


def test_a_timeout_is_no_cancellation() -> None:
    """Jenkins aborts both; what interrupted the build tells them apart."""
    name = "org.jenkinsci.plugins.workflow.steps.TimeoutStepExecution$ExceededTimeout"
    causes = {
        "_class": "jenkins.model.InterruptedBuildAction",
        "causes": [{"_class": name, "shortDescription": "Timeout has been exceeded"}],
    }
    assert read(result="ABORTED", actions=[causes]).state is State.TIMED_OUT
    assert read(result="ABORTED").state is State.CANCELLED
    assert read(result="SUCCESS", actions=[causes]).state is State.SUCCESS
    assert read(result="ABORTED", actions=[causes, *BUILD["actions"]]).event == "UserIdCause"


def test_a_job_made_again_gives_new_builds() -> None:
    """The same number at another time is another build; the same build is one fact whenever it is seen."""
    assert read().identity() == read(displayName="renamed", description="edited").identity()
    assert read().build != read(timestamp=AT + 1).build
    assert read().subject() != read(timestamp=AT + 1).subject()


def test_the_end_is_never_older_than_what_was_shown_before() -> None:
    """A build that goes on has the time of its start: one of ours might overtake its end."""
    going = read(building=True, result=None, duration=0)
    early = read(building=True, result="UNSTABLE", duration=0)
    assert (going.state, going.raw_status, going.finished_at) == (State.RUNNING, "building", None)
    assert early.state is State.RUNNING
    assert going.updated_at == early.updated_at == going.started_at
    for duration in (0, 1, None, -5):
        ended = read(duration=duration)
        assert ended.updated_at >= going.updated_at
        assert ended.identity() != going.identity()


NEEDED = ("number", "timestamp")
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
    [[]],
    {"a": 1},
    2**70,
    "\ud800",
    "a" * 5000,
)


@pytest.mark.parametrize("field", [name for name in BUILD if name not in NEEDED])
def test_an_odd_field_loses_no_build(field: str) -> None:
    """Whatever is in a field that does not identify the build, the build is a fact."""
    for odd in ODD:
        assert read(**{field: odd}).build == read().build
        without = {name: value for name, value in BUILD.items() if name != field}
        assert build_of(without, instance="ci.test", job=JOB, place=BRANCH).build == read().build


@pytest.mark.parametrize("path", ["causes", "lastBuiltRevision", "queuingDurationMillis"])
def test_an_odd_action_loses_no_build(path: str) -> None:
    """Plugins put whatever they like into `actions`."""
    for odd in ODD:
        assert read(actions=[{path: odd}, odd]).build == read().build
        assert read(actions=[{path: [{"branch": odd, "SHA1": odd, "userName": odd, "_class": odd}]}]).build
        assert origin_of({"actions": [{path: odd}, odd]}, JOB) is None


@pytest.mark.parametrize("field", NEEDED)
def test_without_identity_there_is_no_build(field: str) -> None:
    """It is told which part is missing."""
    for odd in ODD:
        with pytest.raises(BadRowError, match=field):
            read(**{field: odd})
    for odd in (None, 3, [], "x"):
        with pytest.raises(BadRowError):
            build_of(odd, instance="ci.test", job=JOB, place=BRANCH)


def test_where_a_build_comes_from() -> None:
    """What started it, or what it repeats: Jenkins names some of these in a sentence alone."""

    def causes(*found: dict[str, Any]) -> dict[str, Any]:
        return {"actions": [{}, {"causes": list(found)}]}

    upstream = {
        "_class": "hudson.model.Cause$UpstreamCause",
        "upstreamProject": "acme/up",
        "upstreamBuild": 3,
    }
    replay = {
        "_class": "org.jenkinsci.plugins.workflow.cps.replay.ReplayCause",
        "shortDescription": "Replayed #12",
    }
    restart = {
        "_class": "org.jenkinsci.plugins.pipeline.modeldefinition.causes.RestartDeclarativePipelineCause",
        "shortDescription": "Restarted from build #13, stage Test #2",
    }
    user = {"_class": "hudson.model.Cause$UserIdCause", "shortDescription": "Started by user #5"}
    assert origin_of(causes(upstream), JOB) == ("acme/up", 3)
    assert origin_of(causes(user, replay), JOB) == (JOB, 12)
    assert origin_of(causes(restart), JOB) == (JOB, 13)
    assert origin_of(causes(user), JOB) is None
    parent = BuildRef(provider="jenkins", instance="ci.test", repository_id=JOB, run_id="12@5")
    child = build_of(BUILD, instance="ci.test", job=JOB, place=BRANCH, parent=parent)
    assert (child.parent, child.build.attempt) == (parent, 1)


def test_what_a_job_is() -> None:
    """A branch is known by its property, a pipeline by its class."""
    pipeline = "org.jenkinsci.plugins.workflow.job.WorkflowJob"
    branch = {"_class": "org.jenkinsci.plugins.workflow.multibranch.BranchJobProperty"}
    assert place_of({"_class": pipeline, "property": [{}, branch]}) == BRANCH
    assert place_of({"_class": pipeline}) == Place(is_pipeline=True)
    assert place_of({"_class": "hudson.model.FreeStyleProject", "property": [None, 3]}) == Place()


STAGE: dict[str, Any] = {
    "id": "12",
    "name": "Test",
    "execNode": "agent-7",
    "status": "FAILED",
    "error": {"message": "script returned exit code 1", "type": "hudson.AbortException"},
    "startTimeMillis": AT + 500,
    "durationMillis": 4_000,
    "pauseDurationMillis": 0,
}


def test_a_stage() -> None:
    """It is a job, with its steps where they are known."""
    step = {
        "id": "13",
        "name": "Shell Script",
        "status": "FAILED",
        "startTimeMillis": AT + 600,
        "durationMillis": 3_000,
    }
    job = stage_of(STAGE, build=read(), steps=[step, None, {"status": 5}])
    assert (job.job_id, job.name, job.runner, job.state) == ("12", "Test", "agent-7", State.FAILURE)
    assert job.failure_reason == "script returned exit code 1"
    assert job.started_at is not None
    assert job.finished_at == job.observed_at == job.started_at + timedelta(seconds=4)
    assert [(s.number, s.name, s.state) for s in job.steps] == [
        (1, "Shell Script", State.FAILURE),
        (3, "step 3", State.UNKNOWN),
    ]


def test_stages_by_status() -> None:
    """One that waits for a person waits; one that goes on has no end; one that was left out has no times."""
    assert {
        name: STAGES[name] for name in ("IN_PROGRESS", "PAUSED_PENDING_INPUT", "NOT_EXECUTED", "UNSTABLE")
    } == {
        "IN_PROGRESS": State.RUNNING,
        "PAUSED_PENDING_INPUT": State.WAITING,
        "NOT_EXECUTED": State.SKIPPED,
        "UNSTABLE": State.FAILURE,
    }
    going = stage_of(STAGE | {"status": "IN_PROGRESS"}, build=read())
    assert (going.state, going.finished_at, going.observed_at) == (State.RUNNING, None, going.started_at)
    left_out = stage_of(STAGE | {"status": "NOT_EXECUTED", "startTimeMillis": 0}, build=read())
    assert (left_out.started_at, left_out.finished_at, left_out.observed_at) == (
        None,
        None,
        read().updated_at,
    )
    assert stage_of(STAGE | {"status": "NEW"}, build=read()).state is State.UNKNOWN


@pytest.mark.parametrize("field", [name for name in STAGE if name != "id"])
def test_an_odd_field_loses_no_stage(field: str) -> None:
    for odd in ODD:
        assert stage_of(STAGE | {field: odd}, build=read(), steps=[odd, {field: odd}]).job_id == "12"
    with pytest.raises(BadRowError, match="id"):
        stage_of(STAGE | {"id": None}, build=read())


def test_a_build_without_stages_is_one_job() -> None:
    """It goes the way of its build."""
    build = read(Place(), "acme/nightly")
    (job,) = jobs_of(BUILD | {"builtOn": "agent-1"}, build=build)
    assert (job.job_id, job.name, job.runner, job.state) == ("build", "nightly", "agent-1", State.FAILURE)
    assert (job.started_at, job.finished_at) == (build.started_at, build.finished_at)


def test_a_matrix_is_a_job_a_combination() -> None:
    """Those alone that this build ran: a matrix lists earlier ones of the others."""
    base = "https://ci.test/job/acme/job/matrix"

    def cell(name: str, number: int, result: str | None) -> dict[str, Any]:
        return {
            "number": number,
            "url": f"{base}/{name}/{number}/",
            "building": result is None,
            "result": result,
            "timestamp": AT,
            "duration": 5,
        }

    runs = [
        cell("OS=linux,PY=3", 7, "SUCCESS"),
        cell("OS=mac,PY=3", 7, None),
        cell("OS=win,PY=3", 6, "FAILURE"),
    ]
    jobs = jobs_of(BUILD | {"runs": [*runs, None, {}]}, build=read(Place(), "acme/matrix"))
    assert [(job.job_id, job.state) for job in jobs] == [
        ("OS=linux,PY=3", State.SUCCESS),
        ("OS=mac,PY=3", State.RUNNING),
    ]
