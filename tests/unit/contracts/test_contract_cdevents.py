"""CDEvents to facts and back."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1, PipelineBrokeV1
from buildlight_contracts.cdevents import (
    OUR_SOURCE,
    UnmappedError,
    cdevents_of,
    fact_of,
    in_cloudevent,
)
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState, PullRequestObservedV1
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.states import State
from buildlight_contracts.test_results import Outcome, TestReportObservedV1
from buildlight_contracts.testing import example

AT = "2023-03-20T14:27:05.315384Z"
SUBJECTS = {
    "pipelinerun": "pipelineRun",
    "taskrun": "taskRun",
    "testsuiterun": "testSuiteRun",
    "testcaserun": "testCaseRun",
    "service": "service",
    "change": "change",
}


def cdevent(
    kind: str, content: Any, *, subject: str = "mySubject123", version: str = "0.2.0", **context: Any
) -> Any:
    """An event in the shape of the specification's conformance files."""
    return {
        "context": {
            "version": "0.4.1",
            "id": "271069a8-fc18-44f1-b38f-9d70a1695819",
            "source": "/event/source/123",
            "type": f"dev.cdevents.{kind}.{version}",
            "timestamp": AT,
        }
        | context,
        "subject": {
            "id": subject,
            "source": "/event/source/123",
            "type": SUBJECTS.get(kind.partition(".")[0], "other"),
            "content": content,
        },
    }


RUN = {"pipelineName": "myPipeline", "url": "https://www.example.com/mySubject123"}


@pytest.mark.parametrize(
    ("kind", "content", "state"),
    [
        ("pipelinerun.queued", RUN, State.QUEUED),
        ("pipelinerun.started", RUN, State.RUNNING),
        ("pipelinerun.finished", RUN | {"outcome": "success"}, State.SUCCESS),
        (
            "pipelinerun.finished",
            RUN | {"outcome": "failure", "errors": "Something went wrong"},
            State.FAILURE,
        ),
        ("pipelinerun.finished", RUN | {"outcome": "error"}, State.FAILURE),
        ("pipelinerun.finished", RUN | {"outcome": "cancel"}, State.CANCELLED),
        ("pipelinerun.finished", RUN | {"outcome": "vanished"}, State.UNKNOWN),
        ("pipelinerun.finished", RUN, State.UNKNOWN),
        ("testsuiterun.started", {"testSuite": {"id": "1", "name": "myPipeline"}}, State.RUNNING),
        (
            "testsuiterun.finished",
            {"testSuite": {"id": "1", "name": "myPipeline"}, "outcome": "pass"},
            State.SUCCESS,
        ),
        ("testsuiterun.finished", {"testSuite": {"id": "myPipeline"}, "outcome": "fail"}, State.FAILURE),
    ],
)
def test_runs_become_builds(kind: str, content: Any, state: State) -> None:
    """Of pipelines and of test suites: one subject through all its states, the provider's words beside ours."""
    build = fact_of(cdevent(kind, content))
    assert isinstance(build, BuildObservedV1)
    assert build.subject() == "cdevents//event/source/123//event/source/123/runs/mySubject123"
    assert (build.state, build.workflow) == (state, "myPipeline")
    assert (build.raw_status, build.raw_conclusion) == (kind.partition(".")[2], content.get("outcome"))
    moments = [build.created_at, build.started_at, build.finished_at]
    assert [bool(moment) for moment in moments] == [
        kind.endswith(p) for p in ("queued", "started", "finished")
    ]


def test_every_version_of_an_event_is_read_alike() -> None:
    """v0.3, v0.4, v0.5 and drafts differ in little; what differs is found under either name."""
    told = RUN | {"outcome": "success"}
    renamed = {"pipelineName": "myPipeline", "uri": RUN["url"], "outcome": "success"}
    facts = {
        fact_of(cdevent("pipelinerun.finished", told, version=version)).model_dump_json()
        for version in ("0.1.0", "0.2.0", "0.3.0-draft")
    }
    facts.add(
        fact_of(
            cdevent("pipelinerun.finished", renamed, version="0.3.0", specversion="0.5.0")
        ).model_dump_json()
    )
    assert len(facts) == 1


def test_a_task_is_a_job_of_its_pipelines_run() -> None:
    """With its run's subject, so that both are found together; one without a run is no job."""
    content = {
        "taskName": "lint",
        "outcome": "failure",
        "errors": "E501",
        "pipelineRun": {"id": "mySubject123"},
    }
    job = fact_of(cdevent("taskrun.finished", content, subject="task-1"))
    assert isinstance(job, JobObservedV1)
    assert (job.name, job.job_id, job.state, job.failure_reason) == ("lint", "task-1", State.FAILURE, "E501")
    run = fact_of(cdevent("pipelinerun.started", RUN))
    assert isinstance(run, BuildObservedV1)
    assert job.build == run.build
    with pytest.raises(UnmappedError, match="pipelineRun.id is missing"):
        fact_of(cdevent("taskrun.finished", {"taskName": "lint"}))


@pytest.mark.parametrize(
    ("kind", "told", "outcome"),
    [
        ("testcaserun.finished", {"outcome": "pass"}, Outcome.PASSED),
        ("testcaserun.finished", {"outcome": "fail", "reason": "assert 1 == 2"}, Outcome.FAILED),
        ("testcaserun.finished", {"outcome": "error"}, Outcome.ERROR),
        ("testcaserun.finished", {"outcome": "cancel"}, Outcome.SKIPPED),
        ("testcaserun.skipped", {}, Outcome.SKIPPED),
    ],
)
def test_a_case_is_a_report_of_its_suites_run(kind: str, told: Any, outcome: Outcome) -> None:
    """One case a report, under the build that its suite's run is."""
    content = {"testCase": {"id": "9", "name": "Login Test"}, "testSuiteRun": {"id": "suite-1"}, **told}
    report = fact_of(cdevent(kind, content, subject="case-1"))
    assert isinstance(report, TestReportObservedV1)
    [case] = report.cases
    assert (case.name, case.outcome, case.message) == ("Login Test", outcome, told.get("reason"))
    assert report.totals is not None
    assert report.totals.tests == 1
    assert report.totals.passed + report.totals.failed + report.totals.errors + report.totals.skipped == 1
    suite = fact_of(cdevent("testsuiterun.started", {}, subject="suite-1"))
    assert isinstance(suite, BuildObservedV1)
    assert suite.build == report.build
    odd: tuple[dict[str, Any], ...] = ({"testSuiteRun": {}}, {"outcome": "perhaps"})
    for missing in odd:
        with pytest.raises(UnmappedError):
            fact_of(cdevent("testcaserun.finished", content | missing))


@pytest.mark.parametrize(
    ("predicate", "state"),
    [
        ("deployed", DeploymentState.SUCCESS),
        ("upgraded", DeploymentState.SUCCESS),
        ("rolledback", DeploymentState.SUCCESS),
        ("removed", DeploymentState.INACTIVE),
    ],
)
def test_services_become_deployments(predicate: str, state: DeploymentState) -> None:
    """Each event one deployment; the commit is read from the package's address where it names one."""
    commit = "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d"
    content = {
        "environment": {"id": "prod", "name": "production"},
        "artifactId": f"pkg:github/acme/shop@{commit}",
    }
    deployment = fact_of(cdevent(f"service.{predicate}", content, subject="shop"))
    assert isinstance(deployment, DeploymentObservedV1)
    assert (deployment.environment, deployment.state, deployment.raw_status) == (
        "production",
        state,
        predicate,
    )
    assert deployment.commit_sha == commit
    assert deployment.subject().endswith("/shop/deployments/271069a8-fc18-44f1-b38f-9d70a1695819")


@pytest.mark.parametrize(
    ("subject", "number"), [("42", 42), ("acme/shop#42", 42), ("acme/shop/-/merge_requests/7", 7)]
)
def test_changes_become_pull_requests(subject: str, number: int) -> None:
    """By the number their id ends with."""
    change = fact_of(cdevent("change.merged", {"repository": {"id": "acme/shop"}}, subject=subject))
    assert isinstance(change, PullRequestObservedV1)
    assert (change.number, change.raw_status, change.repository) == (number, "merged", "acme/shop")
    assert change.merged_at is not None


@pytest.mark.parametrize(
    ("event", "why"),
    [
        (7, "context.type is none of CDEvents'"),
        ({"context": {"type": "com.acme.x"}}, "context.type is none of CDEvents'"),
        (cdevent("artifact.signed", {}), "no fact is made of artifact.signed"),
        (cdevent("pipelinerun.queued", RUN, source=""), "context.source or subject.id is missing"),
        (cdevent("pipelinerun.queued", RUN, subject=""), "context.source or subject.id is missing"),
        (cdevent("pipelinerun.queued", RUN, timestamp="soon"), "context.timestamp is no time"),
        (
            cdevent("pipelinerun.queued", RUN, timestamp="0001-01-01T00:00:00+14:00"),
            "context.timestamp is no time",
        ),
        (cdevent("change.merged", {"repository": {"id": "acme/shop"}}), "subject.id ends with no number"),
        (cdevent("change.merged", {}, subject="1"), "repository.id is missing"),
    ],
)
def test_what_no_fact_is_made_of(event: Any, why: str) -> None:
    """It says why; the original is kept all the same."""
    with pytest.raises(UnmappedError, match=why.replace(".", r"\.")):
        fact_of(event)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.sampled_from(
        [
            "pipelinerun.finished",
            "taskrun.finished",
            "testcaserun.finished",
            "service.deployed",
            "change.merged",
        ]
    ),
    st.dictionaries(
        st.sampled_from(
            [
                "pipelineName",
                "outcome",
                "url",
                "errors",
                "taskName",
                "pipelineRun",
                "testCase",
                "testSuiteRun",
                "environment",
                "artifactId",
                "repository",
                "reason",
            ]
        ),
        JSON | st.fixed_dictionaries({"id": st.text(), "name": st.text(), "source": st.text(max_size=400)}),
    ),
    st.text(max_size=400),
    st.text(max_size=400),
)
def test_the_mapping_is_total(kind: str, content: Any, subject: str, source: str) -> None:
    """Any JSON becomes a fact that can be published, or a reason."""
    try:
        fact = fact_of(cdevent(kind, content, subject=subject, source=source))
    except UnmappedError as error:
        assert str(error)
    else:
        assert Envelope.of(fact, source="test").to_json()


# -- and back


def round_trip(fact: Fact) -> list[Any]:
    """What a reader of our CDEvents makes of them, one that does not know that they are ours."""
    events = json.loads(json.dumps(cdevents_of(fact)).replace(OUR_SOURCE, "other://"))
    return [fact_of(event) for event in events]


@pytest.mark.parametrize("state", list(State))
def test_builds_and_jobs_go_there_and_back(state: State) -> None:
    """What is told is at most coarser; an unknown state is not told at all."""
    for fact in (example(BuildObservedV1, state=state), example(JobObservedV1, state=state)):
        back = round_trip(fact)
        if state is State.UNKNOWN or (
            isinstance(fact, JobObservedV1) and not (state.is_terminal or state is State.RUNNING)
        ):
            assert back == []
            continue
        [told] = back
        assert type(told) is type(fact)
        assert told.state.is_terminal == state.is_terminal
        if state in (State.SUCCESS, State.FAILURE, State.RUNNING):
            assert told.state is state
        assert told.state.is_bad == state.is_bad


def test_the_others_go_there_and_back() -> None:
    """Deployments, merges, and each case of a report."""
    [deployment] = round_trip(example(DeploymentObservedV1))
    assert (deployment.environment, deployment.commit_sha) == (
        "production",
        "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
    )
    [removed] = round_trip(example(DeploymentObservedV1, state="inactive"))
    assert removed.state is DeploymentState.INACTIVE
    [change] = round_trip(example(PullRequestObservedV1))
    assert (change.number, change.raw_status) == (41, "merged")
    report = example(TestReportObservedV1)
    [case] = round_trip(report)
    assert case.cases[0].name == report.cases[0].name
    assert case.cases[0].outcome is report.cases[0].outcome
    assert round_trip(example(PipelineBrokeV1)) == []
    assert round_trip(example(DeploymentObservedV1, state="running")) == []


def test_our_own_events_do_not_come_back_as_facts() -> None:
    """They would double what is known."""
    [event] = cdevents_of(example(BuildObservedV1))
    with pytest.raises(UnmappedError, match="Buildlight made it"):
        fact_of(event)


def test_the_same_fact_makes_the_same_event() -> None:
    """In the form of the specification: version, id, source, type, timestamp; no null anywhere."""
    [event] = cdevents_of(example(BuildObservedV1))
    assert event == {
        "context": {
            "version": "0.4.1",
            "id": str(example(BuildObservedV1).identity()),
            "source": "buildlight://github/api.github.com/1296269",
            "type": "dev.cdevents.pipelinerun.finished.0.2.0",
            "timestamp": "2026-03-02T09:04:12Z",
        },
        "subject": {
            "id": "30433642/1",
            "source": "buildlight://github/api.github.com/1296269",
            "type": "pipelineRun",
            "content": {
                "pipelineName": "CI",
                "url": "https://github.com/acme/shop/actions/runs/30433642",
                "outcome": "failure",
                "errors": "failure",
            },
        },
    }


def test_a_cdevent_in_a_cloudevent() -> None:
    """By CDEvents' own binding; without an id or a source it is no CloudEvent, which admission will say."""
    event = cdevent("pipelinerun.queued", RUN)
    wrapped = Envelope.model_validate(in_cloudevent(event))
    assert (wrapped.id, wrapped.source, wrapped.type) == (
        "271069a8-fc18-44f1-b38f-9d70a1695819",
        "/event/source/123",
        "dev.cdevents.pipelinerun.queued.0.2.0",
    )
    assert (wrapped.subject, wrapped.data) == ("mySubject123", event)
    assert wrapped.time is not None
    assert wrapped.time.isoformat() == "2023-03-20T14:27:05.315384+00:00"
    assert set(in_cloudevent({})) == {"specversion", "datacontenttype", "data"}
