"""The poller on the sandbox's GitLab: what it records, and how it bears what goes wrong."""

import io
import zipfile
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildObservedV1, BuildRef, BuildUnavailableV1, JobObservedV1
from buildlight_contracts.commands import Annotation, PublishCheckV1
from buildlight_contracts.deployments import DeploymentState
from buildlight_contracts.states import State
from buildlight_contracts.test_results import Outcome
from services.poller.provider import (
    Document,
    Done,
    Found,
    LogGoneError,
    MustWaitError,
    PollFailedError,
    Refused,
    Results,
    Span,
)
from tests.integration.poller.conftest import Sandbox
from tests.integration.poller.gitlab_stage import DAY, Watch, watching

pytestmark = pytest.mark.timeout(200)
StartSandbox = Callable[..., Sandbox]


@pytest.fixture
def lab(start_sandbox: StartSandbox) -> Sandbox:
    """A GitLab on which there is nothing but what the test puts there."""
    return start_sandbox("--repositories", "0", "--gitlab-limit", "100000")


@pytest_asyncio.fixture
async def watch(lab: Sandbox, database_url: str) -> AsyncIterator[Watch]:
    async with watching(lab, database_url, "acme/shop") as one:
        yield one


def ref(run: int, attempt: int = 1) -> BuildRef:
    return BuildRef(
        provider="gitlab", instance="gitlab.test", repository_id="5001", run_id=str(run), attempt=attempt
    )


async def test_everything_there_is_comes_in_once(start_sandbox: StartSandbox, database_url: str) -> None:
    """Each attempt of each pipeline of a living project, children too, and each job, exactly once."""
    lab = start_sandbox(
        "--repositories", "0", "--gitlab-projects", "1", "--gitlab-limit", "100000", "--backlog-hours", "14"
    )
    lab.control("POST", "/freeze")
    async with watching(lab, database_url, "acme/platform/billing") as watch:
        report = await watch.poll()
        assert (report.refused, report.complete) == ([], True)
        served = {(str(run), most): status for _, run, status, most in lab.control("GET", "/gitlab/served")}
        builds = watch.facts(BuildObservedV1)
        latest = {run: (attempt, status) for run, attempt, status in sorted(watch.builds(), key=str)}
        assert {(run, attempt): status for run, (attempt, status) in latest.items()} == served
        assert len(builds) > 40
        assert any(b.build.attempt > 1 for b in builds)
        for build in builds:
            assert all(
                (build.build.run_id, n) in {b[:2] for b in watch.builds()}
                for n in range(1, build.build.attempt)
            )
        children = [b for b in builds if b.event == "parent_pipeline"]
        assert children
        assert all(b.parent is not None and b.workflow == "child: deploy" for b in children)
        parents = {b.build.run_id for b in builds}
        assert {b.parent.run_id for b in children if b.parent} <= parents
        # What is said of an earlier attempt is what became of its jobs.
        assert {b.raw_status for b in builds if b.build.attempt < latest[b.build.run_id][0]} == {"failed"}
        ended = {(b.build.run_id, b.build.attempt) for b in builds if b.state is State.SUCCESS}
        assert ended <= {(j.build.run_id, j.build.attempt) for j in watch.facts(JobObservedV1)}
        assert set(watch.ids().values()) == {1}

        watch.recorded.clear()
        lab.forget()
        lab.control("DELETE", "/requests")
        await watch.poll()
        assert watch.recorded == []
        assert {path.rsplit("/", 1)[1] for path, _ in watch.asked()} == {"pipelines"}


async def test_a_retry_by_hand_is_the_next_attempt(watch: Watch) -> None:
    """The pipeline failed and was seen so; then its job was run again, in the same pipeline."""
    jobs = [{"name": "lint", "status": "success"}, {"name": "unit", "status": "failed"}]
    run = watch.make(status="failed", jobs=jobs)
    await watch.poll()
    watch.advance(run, status="running", retry=["unit"])
    await watch.poll()
    watch.advance(run, status="success", jobs=[{"name": "unit", "status": "success"}])
    await watch.poll()
    assert watch.builds() == [
        (str(run), 1, "failed"),
        (str(run), 2, "running"),
        (str(run), 2, "success"),
    ]
    told = [(j.name, j.build.attempt, j.raw_status) for j in watch.facts(JobObservedV1)]
    assert sorted(told) == [
        ("lint", 1, "success"),
        ("unit", 1, "failed"),
        ("unit", 2, "pending"),
        ("unit", 2, "success"),
    ]


async def test_attempts_nobody_saw_are_read_off_the_jobs(watch: Watch) -> None:
    """Whenever one looks: those that were over before the next began have their status, the others have none."""
    hour = datetime.now(UTC) - timedelta(hours=1)

    def at(seconds: float) -> str:
        return (hour + timedelta(seconds=seconds)).isoformat()

    def job(name: str, status: str, created: float, started: float, finished: float) -> dict[str, str]:
        times = {"created_at": at(created), "queued_at": at(started - 1)}
        return {
            "name": name,
            "status": status,
            "started_at": at(started),
            "finished_at": at(finished),
        } | times

    by_hand = watch.make(created_at=at(0), status="success", jobs=[job("unit", "failed", 0, 5, 60)])
    by_itself = watch.make(
        created_at=at(0),
        status="success",
        jobs=[job("slow", "success", 0, 5, 300), job("unit", "failed", 0, 5, 60)],
    )
    for run, created in ((by_hand, 200), (by_itself, 60.2)):
        again = job("unit", "success", created, created + 5, created + 60)
        watch.advance(
            run, status="success", retry=["unit"], retried_at=at(created), jobs=[again], updated_at=at(600)
        )
    await watch.poll()
    found = {(b.build.run_id, b.build.attempt): b for b in watch.facts(BuildObservedV1)}
    assert len(found) == 4
    first = found[str(by_hand), 1]
    assert (first.state, first.raw_status) == (State.FAILURE, "failed")
    assert first.finished_at == (hour + timedelta(seconds=60)).replace(microsecond=0)
    midway = found[str(by_itself), 1]
    assert (midway.state, midway.raw_status) == (State.NEUTRAL, None)
    assert {found[str(run), 2].state for run in (by_hand, by_itself)} == {State.SUCCESS}


async def test_an_old_pipeline_run_again_is_seen(watch: Watch) -> None:
    """Listings go by the last change: one created long before the window comes back into it."""
    old = (datetime.now(UTC) - timedelta(days=20)).isoformat()
    run = watch.make(
        status="failed",
        created_at=old,
        updated_at=old,
        jobs=[{"name": "unit", "status": "failed", "finished_at": old}],
    )
    await watch.poll(back=DAY)
    assert watch.builds() == []
    watch.advance(run, status="running", retry=["unit"])
    await watch.poll(back=DAY)
    assert watch.builds() == [(str(run), 1, "failed"), (str(run), 2, "running")]


async def test_a_child_pipeline_knows_its_parent(watch: Watch) -> None:
    """Whether or not the parent was seen with it."""
    parent = watch.make(status="running")
    child = watch.make(status="running", parent=parent, trigger="deploy-eu")
    await watch.poll()
    found = {b.build.run_id: b for b in watch.facts(BuildObservedV1)}
    assert found[str(parent)].parent is None
    assert found[str(child)].parent == ref(parent)
    assert found[str(child)].workflow_id == "child:deploy-eu"
    assert any(j.name == "deploy-eu" for j in watch.facts(JobObservedV1))


async def test_a_child_seen_alone_finds_its_parent(watch: Watch) -> None:
    """By the trigger jobs of its commit's pipelines."""
    parent = watch.make(status="running")
    child = watch.make(status="running", parent=parent)
    got = await watch.provider.build(watch.target, str(child))
    assert isinstance(got, Found)
    assert got.build.parent == ref(parent)


async def test_merge_requests_tags_and_schedules(watch: Watch) -> None:
    """Each is on the branch, tag and workflow that it belongs to."""
    request = watch.make(merge_request=41, status="success")
    tag = watch.make(ref="v1.0", tag=True, status="success")
    nightly = watch.make(source="schedule", status="success", name="Nightly")
    await watch.poll()
    found = {b.build.run_id: b for b in watch.facts(BuildObservedV1)}
    assert (found[str(request)].pull_request, found[str(request)].branch) == (
        41,
        "refs/merge-requests/41/head",
    )
    assert (found[str(tag)].tag, found[str(tag)].branch) == ("v1.0", None)
    assert (found[str(nightly)].workflow_id, found[str(nightly)].title) == ("schedule", "Nightly")
    assert found[str(nightly)].commit_message == f"Scripted change {nightly}"


async def test_every_page_is_read(watch: Watch) -> None:
    """Of pipelines, and of one pipeline's jobs."""
    jobs = [{"name": f"job {n}", "status": "success"} for n in range(230)]
    runs = [watch.make(status="success", jobs=[]) for _ in range(119)]
    runs.append(watch.make(status="success", jobs=jobs))
    await watch.poll()
    assert {run for run, _, _ in watch.builds()} == {str(run) for run in runs}
    assert len(watch.facts(JobObservedV1)) == 230


async def test_a_manual_job_holds_up_nothing(watch: Watch) -> None:
    """A pipeline that waits for nobody is done with, though somebody may start a job of it."""
    jobs = [
        {"name": "unit", "status": "success"},
        {"name": "deploy", "status": "manual", "allow_failure": True},
    ]
    watch.make(status="success", jobs=jobs)
    await watch.poll()
    assert await watch.database.fetchval("SELECT bool_and(settled) FROM poller.attempts")
    blocked = watch.make(status="manual", jobs=[{"name": "gate", "status": "manual"}])
    await watch.poll()
    state = {b.build.run_id: b.state for b in watch.facts(BuildObservedV1)}[str(blocked)]
    assert state is State.ACTION_REQUIRED


async def test_a_bad_configuration_is_a_failure_to_start(watch: Watch) -> None:
    """A pipeline without a job, that GitLab calls failed."""
    watch.make(status="failed", yaml_errors="jobs config should contain a visible job", jobs=[])
    await watch.poll()
    assert [b.state for b in watch.facts(BuildObservedV1)] == [State.STARTUP_FAILURE]


# -- what goes wrong


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [
        ({"kind": "auth"}, "unauthorized", 401),
        ({"kind": "status", "status": 403}, "forbidden", 403),
        ({"kind": "status", "status": 404}, "not_found", 404),
        ({"kind": "status", "status": 502}, "server_error", 502),
        ({"kind": "status", "status": 418}, "nonsense", 418),
        ({"kind": "nonsense"}, "nonsense", 200),
        ({"kind": "hang"}, "unreachable", None),
    ],
)
async def test_a_failing_gitlab_has_a_reason(
    lab: Sandbox, database_url: str, fault: dict[str, object], reason: str, status: int | None
) -> None:
    """And the next poll after it has recovered brings everything."""
    async with watching(lab, database_url, "acme/shop", timeout_seconds=0.4) as watch:
        run = watch.make(status="success")
        watch.fault(**fault)  # type: ignore[arg-type]
        with pytest.raises(PollFailedError) as caught:
            await watch.poll()
        assert (caught.value.reason, caught.value.status) == (reason, status)
        assert "sandbox-token" not in caught.value.detail
        lab.heal()
        await watch.poll()
        assert watch.builds() == [(str(run), 1, "success")]


async def test_a_rate_limit_is_obeyed(watch: Watch) -> None:
    """After a 429 no call is made before the time that it names."""
    watch.make(status="success")
    watch.fault("rate_limit", seconds=300, times=1)
    with pytest.raises(PollFailedError) as caught:
        await watch.poll()
    assert (caught.value.reason, caught.value.status) == ("rate_limited", 429)
    before = watch.asked()
    with pytest.raises(MustWaitError) as wait:
        await watch.poll()
    assert 200 < wait.value.seconds <= 300
    assert watch.asked() == before


async def test_the_reserve_is_left_to_others(watch: Watch, lab: Sandbox) -> None:
    """GitLab's own headers say what is left; a tenth of it is not ours."""
    for _ in range(6):
        watch.make(status="success")
    lab.control("POST", "/gitlab/limit", json={"limit": 12})
    with pytest.raises(MustWaitError, match="kept in reserve|asked to wait"):
        await watch.poll()
    assert {status for _, status in watch.asked()} <= {200, 304}
    assert watch.provider.budget.limit == 12


async def test_one_pipeline_that_fails_does_not_hold_up_the_others(watch: Watch) -> None:
    """It is told, set aside, and taken when GitLab answers again."""
    runs = [watch.make(status="success") for _ in range(5)]
    watch.fault("status", status=500, path=rf"/pipelines/{runs[2]}/jobs")
    report = await watch.poll()
    assert [run for run, _, _ in watch.builds()] == [str(run) for run in runs if run != runs[2]]
    assert len(report.refused) == 1
    assert str(runs[2]) in report.refused[0]
    # It is not asked for again before its pause is over, and goes on being told.
    watch.sandbox.control("DELETE", "/requests")
    report = await watch.poll()
    assert len(report.refused) == 1
    assert not any(f"/pipelines/{runs[2]}" in path for path, _ in watch.asked())
    watch.sandbox.heal()
    await watch.due_now()
    assert (await watch.poll()).refused == []
    assert watch.builds()[-1] == (str(runs[2]), 1, "success")
    assert set(watch.ids().values()) == {1}


async def test_three_that_fail_in_a_row_are_gitlabs_fault(watch: Watch) -> None:
    """The poll ends with the reason; what is set aside does not end the next one."""
    runs = [watch.make(status="success") for _ in range(5)]
    watch.fault("status", status=500, path="/jobs")
    with pytest.raises(PollFailedError) as caught:
        await watch.poll()
    assert caught.value.reason == "server_error"
    watch.sandbox.heal()
    await watch.poll()
    await watch.due_now()
    await watch.poll()
    assert {run for run, _, _ in watch.builds()} == {str(run) for run in runs}


async def test_a_poll_that_ran_out_of_time_is_gone_on_with(watch: Watch) -> None:
    """What it did is kept, and not done again."""
    runs = [watch.make(status="success") for _ in range(4)]
    polls = 0
    while not (await watch.poll(time_is_up=lambda: True)).complete:
        polls += 1
        assert polls < 10
    assert sorted(run for run, _, _ in watch.builds()) == sorted(str(run) for run in runs)
    assert set(watch.ids().values()) == {1}


async def test_a_deleted_pipeline_is_told(watch: Watch) -> None:
    """One that was listed, and is not there when it is asked for."""
    run = watch.make(status="running")
    watch.fault("status", status=404, path=rf"/pipelines/{run}$")
    await watch.poll()
    (fact,) = watch.facts(BuildUnavailableV1)
    assert (fact.build.run_id, fact.status) == (str(run), 404)


# -- what pipelines leave behind, and what is asked of GitLab


async def read(document: Document) -> bytes:
    async with document.open() as pieces:
        return b"".join([piece async for piece in pieces])


async def test_no_result_is_counted_twice(watch: Watch) -> None:
    """A job in the test report is taken from there, a job that is not from its archive; each in its attempt."""
    run = watch.make(
        status="failed",
        jobs=[
            {"name": "unit 1/2", "status": "success", "report": True, "archive": True},
            {"name": "unit 2/2", "status": "success", "report": True},
            {"name": "e2e", "status": "failed", "report": True},
            {"name": "legacy", "status": "success", "archive": True},
            {"name": "lint", "status": "success"},
        ],
    )
    found = [one async for one in watch.provider.reports(watch.target, ref(run))]
    results = {one.job: one for one in found if isinstance(one, Results)}
    documents = [one for one in found if isinstance(one, Document)]
    assert set(results) == {"unit", "e2e"}
    assert [one.job for one in documents] == ["legacy"]
    assert {case.outcome for case in results["e2e"].cases} >= {Outcome.PASSED, Outcome.FAILED}
    assert all(c.message for c in results["e2e"].cases if c.outcome is Outcome.FAILED)
    with zipfile.ZipFile(io.BytesIO(await read(documents[0]))) as packed:
        assert b"<testsuite" in packed.read("reports/junit.xml")

    watch.advance(run, status="running", retry=["e2e"])
    watch.advance(run, status="success", jobs=[{"name": "e2e", "status": "success", "started_at": _soon()}])
    again = [one async for one in watch.provider.reports(watch.target, ref(run, 2))]
    assert [(type(one), one.job) for one in again] == [(Results, "e2e")]
    assert Outcome.FAILED not in {
        case.outcome for one in again if isinstance(one, Results) for case in one.cases
    }
    # The test report shows nothing of the first e2e any more.
    first = [one async for one in watch.provider.reports(watch.target, ref(run))]
    assert sorted(str(one.job) for one in first) == ["legacy", "unit"]


def _soon() -> str:
    return (datetime.now(UTC) + timedelta(seconds=1)).isoformat()


async def test_logs(watch: Watch) -> None:
    """As text; of a job that is not there, that it is not."""
    run = watch.make(status="failed")
    (job,) = watch.get(f"/pipelines/{run}/jobs")
    async with watch.provider.log(watch.target, ref(run), str(job["id"])) as pieces:
        text = b"".join([piece async for piece in pieces]).decode()
    assert "ERROR: Job failed" in text
    with pytest.raises(LogGoneError):
        async with watch.provider.log(watch.target, ref(run), "1"):
            pass


async def test_deployments(watch: Watch) -> None:
    """With the attempt whose job deployed."""
    jobs = [{"name": "production", "stage": "deploy", "status": "failed"}]
    run = watch.make(status="failed", jobs=jobs)
    watch.advance(run, retry=["production"], jobs=[{"name": "production", "status": "success"}])
    since = datetime.now(UTC) - timedelta(hours=1)
    found = [one async for one in watch.provider.deployments(watch.target, since)]
    assert {(one.build and one.build.attempt, one.state) for one in found} == {
        (1, DeploymentState.FAILURE),
        (2, DeploymentState.SUCCESS),
    }
    assert {one.environment for one in found} == {"production"}
    later = datetime.now(UTC) + timedelta(hours=1)
    assert [one async for one in watch.provider.deployments(watch.target, later)] == []


async def test_census(watch: Watch) -> None:
    """Every pipeline created in a span, children too, whenever it was last changed."""
    before = datetime.now(UTC) - timedelta(days=3)
    old = watch.make(status="success", created_at=before.isoformat())
    watch.advance(old, status="failed")
    parent = watch.make(status="running")
    child = watch.make(status="success", parent=parent)

    async def counted(span: Span) -> set[tuple[str, int, bool]]:
        return {(c.run_id, c.attempt, c.ended) async for c in watch.provider.census(watch.target, span)}

    today = Span(datetime.now(UTC) - timedelta(hours=1))
    assert await counted(today) == {(str(parent), 1, False), (str(child), 1, True)}
    then = Span(before - timedelta(hours=1), before + timedelta(hours=1))
    assert await counted(then) == {(str(old), 1, True)}


async def test_projects_are_discovered(start_sandbox: StartSandbox, database_url: str) -> None:
    """Of a group, of its subgroups, of a pattern; a plain name is taken as it is."""
    lab = start_sandbox("--repositories", "0", "--gitlab-projects", "4")
    async with watching(lab, database_url, "acme/ledger") as watch:

        async def found(pattern: str) -> set[str]:
            return {target.name async for target in watch.provider.discover(pattern)}

        assert await found("acme/*") == {"acme/ledger", "acme/storefront"}
        below = {"acme/platform/billing", "acme/platform/notifications"}
        assert await found("acme/**") == {"acme/ledger", "acme/storefront"} | below
        assert await found("acme/platform/b*") == {"acme/platform/billing"}
        assert await found("acme/anything") == {"acme/anything"}
        for pattern in ("nobody/*", "*"):
            with pytest.raises(PollFailedError) as caught:
                await found(pattern)
            assert caught.value.reason == "not_found"


def a_check(run: int, sha: str, **more: object) -> PublishCheckV1:
    return PublishCheckV1(
        request_id=uuid4(),
        build=ref(run),
        repository="acme/shop",
        by="test",
        commit_sha=sha,
        name="flaky tests",
        conclusion="failure",
        title="Two tests are flaky",
        summary="",
        **more,
    )


async def test_gitlab_is_asked_to_do_something(watch: Watch, lab: Sandbox) -> None:
    """Run again what failed, or all of it; cancel; show a verdict, and the same one once more."""
    jobs = [{"name": "lint", "status": "success"}, {"name": "unit", "status": "failed"}]
    run = watch.make(status="failed", jobs=jobs)
    sha = watch.get(f"/pipelines/{run}")["sha"]
    again = await watch.provider.rerun(watch.target, ref(run), failed_only=True)
    assert isinstance(again, Done)
    await watch.poll()
    assert watch.builds()[-1][:2] == (str(run), 2)
    anew = await watch.provider.rerun(watch.target, ref(run), failed_only=False)
    assert isinstance(anew, Done)
    assert "no whole pipeline again" in anew.detail
    assert isinstance(await watch.provider.cancel(watch.target, ref(run)), Refused)
    assert isinstance(await watch.provider.cancel(watch.target, ref(run, 2)), Done)
    assert watch.get(f"/pipelines/{run}")["status"] == "canceled"
    note = Annotation(path="a.py", title="t", message="m")
    for _ in range(2):
        shown = await watch.provider.publish_check(watch.target, a_check(run, sha, annotations=(note,)))
        assert isinstance(shown, Done)
        assert "1 annotations are left out" in shown.detail
    effects = lab.control("GET", "/effects", params={"target": "gitlab"})["effects"]
    assert [effect["kind"] for effect in effects] == [
        "pipeline_retried",
        "pipeline_created",
        "pipeline_canceled",
        "commit_status",
    ]


async def test_what_gitlab_will_not_do_is_said(watch: Watch) -> None:
    """A child cannot be started by itself; what is not there cannot be changed."""
    parent = watch.make(status="success")
    child = watch.make(status="failed", parent=parent)
    refused = await watch.provider.rerun(watch.target, ref(child), failed_only=False)
    assert isinstance(refused, Refused)
    assert "another one started it" in refused.detail
    for answer in (
        await watch.provider.cancel(watch.target, ref(1)),
        await watch.provider.rerun(watch.target, ref(1), failed_only=True),
        await watch.provider.rerun(watch.target, ref(1), failed_only=False),
        await watch.provider.publish_check(watch.target, a_check(1, "0" * 40)),
    ):
        assert isinstance(answer, Refused)
