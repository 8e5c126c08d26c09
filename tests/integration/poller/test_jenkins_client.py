"""What is asked of Jenkins, and what is made of its answers: on the sandbox's, in this process."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.states import State
from buildlight_contracts.test_results import Outcome
from services.poller import calls
from services.poller.provider import (
    Document,
    Done,
    Found,
    Gone,
    Jobs,
    LogGoneError,
    Page,
    PollFailedError,
    Refused,
    Results,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.providers.jenkins import client
from services.poller.providers.jenkins.webhook import facts_of
from tests.integration.poller.jenkins_stage import Stage, in_process, provider_of, target

BRANCH = "acme/shop/feature%2Fcards"
NOW = datetime.now(UTC)
HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def stage() -> AsyncIterator[Stage]:
    """A Jenkins on which there is nothing but what the test puts there."""
    async with in_process() as found:
        yield found


def ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)


async def listed(stage: Stage, name: str, span: Span | None = None) -> list[BuildObservedV1]:
    """All builds of a span, page after page."""
    builds: list[BuildObservedV1] = []
    address: str | None = stage.provider.listing(target(name), span or Span(NOW - 48 * HOUR))
    while address is not None:
        page = await stage.provider.builds(target(name), address)
        assert isinstance(page, Page)
        assert page.refused == ()
        builds += page.builds
        address = page.following
    return builds


async def one(stage: Stage, name: str = BRANCH, run_id: str = "1") -> BuildObservedV1:
    found = await stage.provider.build(target(name), run_id)
    assert isinstance(found, Found), found
    return found.build


async def read_log(stage: Stage, build: BuildRef, name: str, job_id: str) -> str:
    async with stage.provider.log(target(name), build, job_id) as pieces:
        return b"".join([piece async for piece in pieces]).decode()


async def test_a_listing_and_a_build_are_one_fact(stage: Stage) -> None:
    """Whether it is listed, asked for by its id or hinted at by a notification: the same event."""
    await stage.build(
        BRANCH,
        kind="branch",
        building=False,
        result="UNSTABLE",
        duration=1000,
        sha="a1",
        branch="feature/cards",
    )
    (listed_one,) = await listed(stage, BRANCH)
    hint = facts_of(
        "",
        {
            "name": "feature%2Fcards",
            "url": "job/acme/job/shop/job/feature%252Fcards/",
            "build": {"number": 1, "phase": "FINALIZED", "timestamp": ms(NOW)},
        },
        instance="ci.test",
    )
    ((name, run_id),) = hint.refresh
    assert (name, run_id) == (BRANCH, "1")
    hinted_at = await one(stage, name, run_id)
    asked_for = await one(stage, BRANCH, listed_one.build.run_id)
    assert listed_one == hinted_at == asked_for
    assert listed_one.identity() == hinted_at.identity()
    assert (listed_one.branch, listed_one.commit_sha, listed_one.state) == (
        "feature/cards",
        "a1",
        State.FAILURE,
    )


async def test_a_long_listing_is_read_as_far_as_its_span(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Newest first, page after page; a stretch in the past has its builds alone."""
    scripts = [
        {"number": n, "timestamp": ms(NOW - (350 - n) * HOUR / 4), "building": False, "result": "SUCCESS"}
        for n in range(1, 351)
    ]
    await stage.job("acme/busy")
    await stage.builds("acme/busy", scripts)
    builds = await listed(stage, "acme/busy", Span(NOW - 1000 * HOUR))
    assert [b.run_number for b in builds] == list(range(350, 0, -1))
    await stage.asked()
    stretch = Span(NOW - 50 * HOUR, NOW - 40 * HOUR)
    some = await listed(stage, "acme/busy", stretch)
    assert [b.run_number for b in some] == [
        b.run_number for b in builds if stretch.since <= (b.started_at or NOW) < (stretch.until or NOW)
    ]
    assert len(some) == 40
    assert (await stage.asked())["/job/acme/job/busy/api/json"] == 3
    counted = [one async for one in stage.provider.census(target("acme/busy"), stretch)]
    assert [c.run_id for c in counted] == [b.build.run_id for b in some]
    assert all(c.ended and c.attempt == 1 for c in counted)
    monkeypatch.setattr(client, "_CENSUS_PAGE", 60)
    paged = [one async for one in stage.provider.census(target("acme/busy"), Span(NOW - 1000 * HOUR))]
    assert [c.run_id for c in paged] == [b.build.run_id for b in builds]


async def test_an_unchanged_job_is_asked_for_its_last_build_alone(stage: Stage) -> None:
    """A page stands until there is a newer build; while one on it goes on, it does not stand at all."""
    await stage.build("acme/nightly", building=False, result="SUCCESS")
    address = stage.provider.listing(target("acme/nightly"), Span(NOW - HOUR))
    first = await stage.provider.builds(target("acme/nightly"), address)
    assert isinstance(first, Page)
    assert first.etag is not None
    again = await stage.provider.builds(target("acme/nightly"), address, etag=first.etag)
    assert isinstance(again, Unchanged)
    await stage.build("acme/nightly")
    going = await stage.provider.builds(target("acme/nightly"), address, etag=first.etag)
    assert isinstance(going, Page)
    assert (len(going.builds), going.etag) == (2, None)
    await stage.advance("acme/nightly", 2, building=False, result="SUCCESS")
    ended = await stage.provider.builds(target("acme/nightly"), address)
    assert isinstance(ended, Page)
    assert ended.etag not in (None, first.etag)


async def test_rows_that_cannot_be_read_leave_the_others(stage: Stage) -> None:
    """A build without a time is told of; the page does not stand."""
    await stage.build("acme/nightly", building=False, result="SUCCESS")
    await stage.build("acme/nightly", building=False, result="SUCCESS", extra={"timestamp": None})
    page = await stage.provider.builds(
        target("acme/nightly"), stage.provider.listing(target("acme/nightly"), Span(NOW - HOUR))
    )
    assert isinstance(page, Page)
    assert ([b.run_number for b in page.builds], page.etag) == ([1], None)
    assert page.refused == ("build 2: no readable timestamp",)
    assert isinstance(await stage.provider.build(target("acme/nightly"), "2"), Unreadable)


async def test_a_job_made_again(stage: Stage) -> None:
    """Its first build is not the one that had the number before; that one is gone."""
    await stage.build("acme/nightly", building=False, result="FAILURE", timestamp=ms(NOW - HOUR))
    old = await one(stage, "acme/nightly")
    await stage.delete_job("acme/nightly")
    await stage.build("acme/nightly", building=False, result="SUCCESS", timestamp=ms(NOW))
    new = await one(stage, "acme/nightly")
    assert (old.run_number, new.run_number) == (1, 1)
    assert old.build.build_id != new.build.build_id
    assert old.identity() != new.identity()
    assert await stage.provider.build(target("acme/nightly"), old.build.run_id) == Gone(404)
    assert isinstance(
        await stage.provider.rerun(target("acme/nightly"), old.build, failed_only=False), Refused
    )
    assert [r async for r in stage.provider.reports(target("acme/nightly"), old.build)] == []
    assert await stage.provider.jobs(target("acme/nightly"), old) == Gone(404)
    for odd in ("9", "x", "", "1@2@3"):
        assert await stage.provider.build(target("acme/nightly"), odd) == Gone(404)
    assert await stage.provider.build(target("acme/nightly"), "1", 2) == Gone(404)


STAGES: list[dict[str, Any]] = [
    {"id": 6, "name": "Build", "status": "SUCCESS", "started": ms(NOW), "duration": 500},
    {
        "id": 12,
        "name": "Test",
        "status": "FAILED",
        "started": ms(NOW) + 500,
        "duration": 900,
        "error": "script returned exit code 1",
        "steps": [
            {
                "id": 13,
                "name": "Git",
                "status": "SUCCESS",
                "started": ms(NOW) + 500,
                "duration": 100,
                "log": "git\n",
            },
            {"id": 14, "name": "Sleep", "status": "SUCCESS", "started": ms(NOW) + 600, "duration": 10},
            {
                "id": 15,
                "name": "Shell",
                "status": "FAILED",
                "started": ms(NOW) + 610,
                "duration": 700,
                "log": "no ☹\n",
            },
        ],
    },
    {"id": 20, "name": "Deploy", "status": "NOT_EXECUTED"},
]


async def test_stages_are_jobs(stage: Stage) -> None:
    """Of one that failed the steps are asked for, and what they wrote is its log."""
    await stage.build(BRANCH, kind="branch", building=False, result="FAILURE", duration=2000, stages=STAGES)
    build = await one(stage)
    got = await stage.provider.jobs(target(BRANCH), build)
    assert isinstance(got, Jobs)
    assert [(j.job_id, j.name, j.state) for j in got.jobs] == [
        ("6", "Build", State.SUCCESS),
        ("12", "Test", State.FAILURE),
        ("20", "Deploy", State.SKIPPED),
    ]
    assert [s.name for s in got.jobs[1].steps] == ["Git", "Sleep", "Shell"]
    assert got.jobs[0].steps == ()
    assert await read_log(stage, build.build, BRANCH, "12") == "git\nno ☹\n"


async def test_a_stage_without_a_log_of_its_own_has_the_whole_console(stage: Stage) -> None:
    """As have a build without stages, and one whose log is no longer there has none."""
    await stage.build(
        BRANCH, kind="branch", building=False, result="FAILURE", stages=STAGES, console="whole\n"
    )
    build = await one(stage)
    assert await read_log(stage, build.build, BRANCH, "6") == "whole\n"
    assert await read_log(stage, build.build, BRANCH, "build") == "whole\n"
    await stage.delete_build(BRANCH, 1)
    with pytest.raises(LogGoneError):
        await read_log(stage, build.build, BRANCH, "6")


async def test_a_pipeline_without_stages(stage: Stage) -> None:
    """While it goes on it has no jobs yet; once it has ended, one stands for it, as where the plugin is missing."""
    await stage.build(BRANCH, kind="branch")
    assert await stage.provider.jobs(target(BRANCH), await one(stage)) == Jobs(())
    await stage.advance(BRANCH, 1, building=False, result="SUCCESS", duration=5)
    got = await stage.provider.jobs(target(BRANCH), await one(stage))
    assert isinstance(got, Jobs)
    assert [(j.job_id, j.name) for j in got.jobs] == [("build", "shop")]
    await stage.build(BRANCH, building=True, stages=None)
    without = await stage.provider.jobs(target(BRANCH), await one(stage, run_id="2"))
    assert isinstance(without, Jobs)
    assert [(j.job_id, j.state) for j in without.jobs] == [("build", State.RUNNING)]


async def test_a_freestyle_job_is_not_asked_for_stages(stage: Stage) -> None:
    """It has none, and a 404 a build would fill Jenkins' log."""
    await stage.build("acme/nightly", building=False, result="SUCCESS", built_on="agent-3")
    await stage.asked()
    got = await stage.provider.jobs(target("acme/nightly"), await one(stage, "acme/nightly"))
    assert isinstance(got, Jobs)
    assert [(j.job_id, j.name, j.runner) for j in got.jobs] == [("build", "nightly", "agent-3")]
    assert not [path for path in await stage.asked() if "wfapi" in path]


async def test_a_matrix(stage: Stage) -> None:
    """Its combinations are its jobs, each with its own log."""
    cells = [
        {"name": "OS=linux", "building": False, "result": "SUCCESS", "timestamp": ms(NOW), "duration": 5},
        {
            "name": "OS=mac",
            "number": 0,
            "building": False,
            "result": "FAILURE",
            "timestamp": 1,
            "duration": 5,
        },
    ]
    await stage.build(
        "acme/m", kind="matrix", building=False, result="SUCCESS", cells=cells, console="done\n"
    )
    build = await one(stage, "acme/m")
    got = await stage.provider.jobs(target("acme/m"), build)
    assert isinstance(got, Jobs)
    assert [(j.job_id, j.state) for j in got.jobs] == [("OS=linux", State.SUCCESS)]
    assert await read_log(stage, build.build, "acme/m", "OS=linux") == "OS=linux\ndone\n"


async def test_where_builds_come_from(stage: Stage) -> None:
    """A replay's parent is on the page; an upstream job is asked once; what is gone is no parent."""
    await stage.build("acme/up", building=False, result="SUCCESS", timestamp=ms(NOW - HOUR))
    up = (await one(stage, "acme/up")).build
    replay = {
        "_class": "org.jenkinsci.plugins.workflow.cps.replay.ReplayCause",
        "shortDescription": "Replayed #1",
    }

    def upstream(project: str, number: int) -> dict[str, Any]:
        name = "hudson.model.Cause$UpstreamCause"
        return {"_class": name, "upstreamProject": project, "upstreamBuild": number, "upstreamUrl": "x"}

    for cause in (upstream("acme/up", 1), replay, upstream("acme/up", 99), upstream("acme/gone", 1)):
        await stage.build("acme/down", building=False, result="SUCCESS", causes=[cause])
    by_number = {b.run_number: b for b in await listed(stage, "acme/down")}
    assert [by_number[n].parent for n in (1, 2, 3, 4)] == [up, by_number[1].build, None, None]
    assert all(b.build.attempt == 1 for b in by_number.values())
    await stage.asked()
    await listed(stage, "acme/down")
    assert set(await stage.asked()) == {"/job/acme/job/down/api/json"}
    await stage.build("acme/down", building=False, result="SUCCESS", causes=[upstream("acme/broken", 1)])
    await stage.fault("status", status=500, path="/job/broken/")
    assert len(await listed(stage, "acme/down")) == 5


CASE = {
    "className": "a.B",
    "name": "c",
    "status": "FAILED",
    "duration": 0.5,
    "errorDetails": "no",
    "stdout": "x" * 99,
}


async def test_results_jenkins_has_read(stage: Stage) -> None:
    """Without the tests' output; a flaky test's executions with them."""
    flaky = CASE | {"status": "PASSED", "flakyFailures": [{"message": "m", "type": "T", "stackTrace": "s"}]}
    report = {"suites": [{"name": "unit", "cases": [CASE, flaky]}]}
    artifacts = {"target/surefire-reports/TEST-a.xml": "<testsuite/>"}
    await stage.build("acme/nightly", building=False, result="UNSTABLE", report=report, artifacts=artifacts)
    build = (await one(stage, "acme/nightly")).build
    (results,) = [r async for r in stage.provider.reports(target("acme/nightly"), build)]
    assert isinstance(results, Results)
    assert (results.format, [c.outcome for c in results.cases]) == (
        "jenkins",
        [Outcome.FAILED, Outcome.PASSED],
    )
    assert results.cases[1].is_flaky


async def test_many_suites_and_children_come_in_pages(stage: Stage) -> None:
    """So that no answer is too large; each of them once."""
    suites = [{"name": f"s{n}", "cases": [CASE]} for n in range(500)]
    await stage.build("acme/big", building=False, result="UNSTABLE", report={"suites": suites})
    build = (await one(stage, "acme/big")).build
    found = [r async for r in stage.provider.reports(target("acme/big"), build)]
    assert [r.source for r in found] == [
        "testReport",
        "testReport, from suite 201",
        "testReport, from suite 401",
    ]
    assert [c.suite for r in found if isinstance(r, Results) for c in r.cases] == [s["name"] for s in suites]
    children = [
        {"child": {"number": 1, "url": f"http://x/job/m/OS=o{n}/1/"}, "result": {"suites": suites[:1]}}
        for n in range(245)
    ]
    await stage.build(
        "acme/m", kind="matrix", building=False, result="UNSTABLE", report={"childReports": children}
    )
    build = (await one(stage, "acme/m")).build
    found = [r async for r in stage.provider.reports(target("acme/m"), build)]
    assert [r.job for r in found] == [f"OS=o{n}" for n in range(245)]


async def test_a_report_too_large_for_one_answer(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for in smaller parts, and comes in whole; from a suite that is too large on it is told as refused."""
    monkeypatch.setattr(calls, "LARGEST_ANSWER_BYTES", 20_000)
    suites = [{"name": f"s{n}", "cases": [CASE | {"errorStackTrace": "x" * 900}]} for n in range(120)]
    await stage.build("acme/big", building=False, result="UNSTABLE", report={"suites": suites})
    build = (await one(stage, "acme/big")).build
    found = [r async for r in stage.provider.reports(target("acme/big"), build)]
    assert [c.suite for r in found if isinstance(r, Results) for c in r.cases] == [s["name"] for s in suites]
    huge = [{"name": "s", "cases": [CASE | {"errorStackTrace": "x" * 90_000}]}]
    await stage.build("acme/big", building=False, result="UNSTABLE", report={"suites": huge})
    build = (await one(stage, "acme/big", "2")).build
    [result] = [r async for r in stage.provider.reports(target("acme/big"), build)]
    assert isinstance(result, Results)
    assert result.cases == ()
    assert "more than" in (result.problem or "")
    assert (result.problem or "").endswith("What is from suite 1 on is left out.")


async def test_archived_reports_where_jenkins_read_none(stage: Stage) -> None:
    """Files named like reports are offered, and read when they are opened."""
    artifacts = {
        "target/surefire-reports/TEST-a b.xml": "<testsuite/>",
        "build/junit.xml": "<testsuites/>",
        "out/my-test-results-1.xml": "<testsuite/>",
        "test-results/a/b.xml": "<testsuite/>",
        "app.jar": "PK",
        "pom.xml": "<project/>",
    }
    await stage.build("acme/nightly", building=False, result="FAILURE", artifacts=artifacts)
    build = (await one(stage, "acme/nightly")).build
    found = [r async for r in stage.provider.reports(target("acme/nightly"), build)]
    assert [r.source for r in found] == list(artifacts)[:4]
    for document in found:
        assert isinstance(document, Document)
        async with document.open() as pieces:
            assert b"".join([p async for p in pieces]).decode() == artifacts[document.source]
    await stage.delete_build("acme/nightly", 1)
    assert isinstance(found[0], Document)
    with pytest.raises(PollFailedError, match="no longer has"):
        async with found[0].open():
            pass


async def test_patterns_find_jobs(stage: Stage) -> None:
    """A multibranch project stands for its branches, a folder for nothing by itself; depth is no matter."""
    deep = "a/b/c/d/e/f"
    for name in ("top", "acme/nightly", "acme/nightly-x", deep):
        await stage.job(name)
    for name in ("acme/shop/main", BRANCH, "acme/team/api/main"):
        await stage.job(name, kind="branch")

    async def found(pattern: str) -> list[str]:
        return sorted([one.name async for one in stage.provider.discover(pattern)])

    assert await found("*") == ["top"]
    assert await found("acme/*") == sorted(["acme/nightly", "acme/nightly-x", "acme/shop/main", BRANCH])
    assert await found("acme/nightly*") == ["acme/nightly", "acme/nightly-x"]
    assert await found("acme/**") == sorted(
        ["acme/nightly", "acme/nightly-x", "acme/shop/main", BRANCH, "acme/team/api/main"]
    )
    assert await found("acme/shop") == sorted([BRANCH, "acme/shop/main"])
    assert await found("acme/shop/feature*") == [BRANCH]
    assert await found("acme/*/api") == ["acme/team/api/main"]
    assert await found("acme/nightly") == ["acme/nightly"]
    assert await found("a/**") == [deep]
    assert len(await found("**")) == 7
    assert await found("acme/nothing*") == []
    with pytest.raises(PollFailedError, match=r"acme/team/\*"):
        await found("acme/team")
    with pytest.raises(PollFailedError, match="no folder none"):
        await found("none/*")


async def test_a_build_is_started_again(stage: Stage) -> None:
    """With its parameters; where that cannot be, it is said why, and nothing is started."""
    where = target("acme/deploy")
    await stage.job("acme/deploy", parameters=["REVISION", "WHERE"])
    given = [{"name": "REVISION", "value": "a&b=ü"}, {"name": "WHERE", "value": "eu"}]
    await stage.build("acme/deploy", building=False, result="FAILURE", parameters=given)
    build = (await one(stage, "acme/deploy")).build
    done = await stage.provider.rerun(where, build, failed_only=False)
    assert isinstance(done, Done)
    assert done.url is not None
    assert "/queue/item/" in done.url
    (effect,) = await stage.effects()
    assert (effect["job"], effect["number"]) == ("acme/deploy", 2)
    assert effect["parameters"] == {"REVISION": "a&b=ü", "WHERE": "eu"}
    started = await one(stage, "acme/deploy", "2")
    assert (started.event, started.state) == ("UserIdCause", State.RUNNING)

    assert isinstance(await stage.provider.rerun(where, build, failed_only=True), Refused)
    hidden = [{"_class": "hudson.model.PasswordParameterValue", "name": "SECRET"}]
    await stage.build("acme/deploy", building=False, result="FAILURE", parameters=hidden)
    build = (await one(stage, "acme/deploy", "3")).build
    refused = await stage.provider.rerun(where, build, failed_only=False)
    assert isinstance(refused, Refused)
    assert "SECRET" in refused.detail
    await stage.job("acme/deploy", buildable=False)
    refused = await stage.provider.rerun(where, (await one(stage, "acme/deploy")).build, failed_only=False)
    assert isinstance(refused, Refused)
    assert "disabled" in refused.detail
    assert len(await stage.effects()) == 1


@pytest.mark.parametrize(("status", "words"), [(403, "permission"), (404, "any more"), (409, "409")])
async def test_what_jenkins_will_not_do(stage: Stage, status: int, words: str) -> None:
    """A refusal is told as one; what passes is a failure, for a later try."""
    await stage.build("acme/nightly")
    build = (await one(stage, "acme/nightly")).build
    await stage.fault("status", status=status, path="/(build|stop)$")
    for refused in (
        await stage.provider.rerun(target("acme/nightly"), build, failed_only=False),
        await stage.provider.cancel(target("acme/nightly"), build),
    ):
        assert isinstance(refused, Refused)
        assert words in refused.detail
    await stage.heal()
    await stage.fault("status", status=503, path="/(build|stop)$")
    with pytest.raises(PollFailedError):
        await stage.provider.rerun(target("acme/nightly"), build, failed_only=False)
    with pytest.raises(PollFailedError):
        await stage.provider.cancel(target("acme/nightly"), build)
    assert await stage.effects() == []


async def test_a_build_is_stopped(stage: Stage) -> None:
    """Once; one that has ended is not asked to stop."""
    await stage.build(BRANCH, kind="branch")
    build = (await one(stage)).build
    done = await stage.provider.cancel(target(BRANCH), build)
    assert isinstance(done, Done)
    assert (await one(stage)).state is State.CANCELLED
    assert isinstance(await stage.provider.cancel(target(BRANCH), build), Refused)
    assert [e["kind"] for e in await stage.effects()] == ["build_stopped"]


async def test_a_password_needs_a_crumb() -> None:
    """It is fetched when Jenkins asks for one, with the session it belongs to."""
    async with in_process(token="sandbox-password") as stage:
        await stage.build("acme/nightly", building=False, result="SUCCESS")
        build = (await one(stage, "acme/nightly")).build
        for _ in range(2):
            assert isinstance(
                await stage.provider.rerun(target("acme/nightly"), build, failed_only=False), Done
            )
        assert [e["number"] for e in await stage.effects()] == [2, 3]
        assert (await stage.asked())["/crumbIssuer/api/json"] == 1


async def test_what_jenkins_does_not_have(stage: Stage) -> None:
    """No verdicts on commits, and no deployments."""
    await stage.build("acme/nightly", building=False, result="SUCCESS")
    build = (await one(stage, "acme/nightly")).build
    check = PublishCheckV1(
        request_id=uuid4(),
        build=build,
        repository="acme/nightly",
        by="key",
        commit_sha="a1" * 20,
        name="tests",
        conclusion="success",
        title="well",
        summary="well",
    )
    refused = await stage.provider.publish_check(target("acme/nightly"), check)
    assert isinstance(refused, Refused)
    assert "GitHub" in refused.detail
    assert [d async for d in stage.provider.deployments(target("acme/nightly"), NOW)] == []


@pytest.mark.parametrize(
    ("fault", "reason", "words"),
    [
        ({"kind": "auth"}, "unauthorized", "JENKINS_API_TOKEN"),
        ({"kind": "status", "status": 200}, "unauthorized", "log in"),
        ({"kind": "status", "status": 403}, "forbidden", "Job/Read"),
        ({"kind": "status", "status": 404}, "not_found", "JENKINS_JOBS"),
        ({"kind": "status", "status": 502}, "server_error", "is Jenkins up"),
        ({"kind": "status", "status": 503}, "server_error", "starting"),
        ({"kind": "status", "status": 418}, "nonsense", "JENKINS_URL"),
        ({"kind": "nonsense"}, "nonsense", "JSON"),
        ({"kind": "rate_limit", "seconds": 5}, "rate_limited", "fewer calls"),
    ],
)
async def test_failures_say_what_to_do(stage: Stage, fault: dict[str, Any], reason: str, words: str) -> None:
    """And name the setting; the token is in none of them."""
    await stage.build("acme/nightly", building=False, result="SUCCESS")
    await stage.fault(path="^/job/acme/", **fault)
    with pytest.raises(PollFailedError) as caught:
        await listed(stage, "acme/nightly")
    assert (caught.value.reason, words in caught.value.detail) == (reason, True), caught.value.detail
    assert "sandbox-token" not in caught.value.detail


@pytest.mark.parametrize(
    ("username", "token", "words"),
    [("sandbox", "wrong-token", "JENKINS_API_TOKEN"), (None, None, "without an account")],
)
async def test_who_may_not_read(username: str | None, token: str | None, words: str) -> None:
    """A wrong token and none at all are told apart."""
    async with in_process(username=username, token=token) as stage:
        with pytest.raises(PollFailedError, match=words) as caught:
            await listed(stage, "acme/nightly")
        assert caught.value.reason == "unauthorized"


async def test_a_folder_is_no_job(stage: Stage) -> None:
    """It is said how to name what is in it."""
    await stage.job("acme/nightly")
    with pytest.raises(PollFailedError, match=r"acme/\*"):
        await listed(stage, "acme")


async def test_a_name_in_another_case_is_told() -> None:
    """Jenkins would find the job; but its builds would be others than those of the right name."""
    job = {"_class": "hudson.model.FreeStyleProject", "fullName": "acme/Nightly", "allBuilds": []}
    provider = provider_of(
        "https://ci.test", transport=httpx.MockTransport(lambda _: httpx.Response(200, json=job))
    )
    where = target("acme/nightly")
    with pytest.raises(PollFailedError, match="acme/Nightly"):
        await provider.builds(where, provider.listing(where, Span(NOW)))


async def test_the_token_stays_at_home() -> None:
    """Where JENKINS_URL redirects to another host, neither user nor token goes there."""
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        if request.url.host == "ci.test":
            return httpx.Response(
                302, headers={"location": f"https://sso.test/login?from={request.url.path}"}
            )
        return httpx.Response(200, html="<html>Log in</html>")

    provider = provider_of("https://ci.test/jenkins", transport=httpx.MockTransport(answer))
    job = Target("jenkins", "ci.test", "acme/nightly")
    with pytest.raises(PollFailedError, match="log in") as caught:
        await provider.builds(job, provider.listing(job, Span(NOW)))
    assert caught.value.reason == "unauthorized"
    assert [(host, auth is None) for host, auth in seen] == [("ci.test", False), ("sso.test", True)]
