"""What is sent to GitLab, and what is made of its answers."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.test_results import Outcome
from buildlight_contracts.testing import example
from services.poller.provider import (
    Done,
    Found,
    Gone,
    Jobs,
    Page,
    PollFailedError,
    Refused,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.providers.gitlab.client import GitLab, children_of
from services.poller.providers.gitlab.reports import case_of, results_of, suite_of
from tests.unit.poller.gitlab_rows import NOON, PIPELINE, job
from tests.unit.poller.test_poller_gitlab_mapping import ODD

TARGET = Target("gitlab", "gitlab.test", "acme/platform/shop")
API = "https://gitlab.test/api/v4"
PLACE = f"{API}/projects/acme%2Fplatform%2Fshop"
SPAN = Span(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))
Handler = Callable[[httpx.Request], httpx.Response]


def gitlab(answer: Handler) -> GitLab:
    return GitLab(
        api_url=API,
        instance="gitlab.test",
        token=SecretStr("glpat-secret"),
        reserve_percent=10,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )


def serving(routes: dict[str, Any], asked: list[str] | None = None) -> Handler:
    """Answers by the raw path's end, in order; 404 for what is not there."""

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode()
        if asked is not None:
            asked.append(path)
        for end, body in routes.items():
            if path.split("?")[0].endswith(end):
                return body if isinstance(body, httpx.Response) else httpx.Response(200, json=body)
        return httpx.Response(404, json={"message": "404 Not Found"})

    return answer


async def test_what_is_asked() -> None:
    """A span of changes, newest first, a hundred a page, with the token; then the child pipelines."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=[])

    provider = gitlab(answer)
    page = await provider.builds(TARGET, provider.listing(TARGET, SPAN))
    assert str(asked[0].url) == (
        f"{PLACE}/pipelines?updated_after=2026-03-01T23%3A59%3A59Z&updated_before=2026-03-03T00%3A00%3A00Z"
        "&order_by=updated_at&sort=desc&per_page=100"
    )
    assert asked[0].headers["authorization"] == "Bearer glpat-secret"
    assert isinstance(page, Page)
    assert page.sketched
    assert page.following == f"{asked[0].url}&source=parent_pipeline"
    assert children_of(page.following) is None
    assert "updated_before" not in provider.listing(TARGET, Span(SPAN.since))


async def test_the_children_follow_the_last_page() -> None:
    """And begin at their own first."""
    following = {"link": f'<{PLACE}/pipelines?page=3&per_page=100>; rel="next"'}
    provider = gitlab(lambda _: httpx.Response(200, json=[], headers=following))
    page = await provider.builds(TARGET, f"{PLACE}/pipelines?per_page=100&page=2")
    assert isinstance(page, Page)
    assert page.following == f"{PLACE}/pipelines?page=3&per_page=100"
    assert children_of(page.following) == f"{PLACE}/pipelines?per_page=100&source=parent_pipeline"


async def test_nothing_new_is_not_read() -> None:
    """304 is an answer of a listing and of a pipeline."""
    provider = gitlab(lambda request: httpx.Response(304 if "if-none-match" in request.headers else 500))
    assert await provider.builds(TARGET, f"{PLACE}/pipelines", etag='W/"x"') == Unchanged()
    assert await provider.build(TARGET, "4711", etag='W/"x"') == Unchanged()


JOBS = [
    job(1, "lint", "success", 12, 30),
    job(2, "unit", "failed", 12, 90),
    job(4, "unit", "success", 310, 390, created=300),
]


async def test_a_build_and_its_jobs_are_one_look() -> None:
    """The attempts and their jobs come from the answers that told the latest; who asks later, asks anew."""
    asked: list[str] = []
    provider = gitlab(serving({"/4711": PIPELINE, "/jobs": JOBS, "/bridges": []}, asked))
    newest = await provider.build(TARGET, "4711")
    assert isinstance(newest, Found)
    assert newest.build.build.attempt == 2
    found = await provider.build(TARGET, "4711", 1)
    assert isinstance(found, Found)
    assert found.build.build.attempt == 1
    first = await provider.jobs(TARGET, found.build)
    assert isinstance(first, Jobs)
    assert [(j.job_id, j.build.attempt) for j in first.jobs] == [("1", 1), ("2", 1)]
    latest = await provider.build(TARGET, "4711")
    assert isinstance(latest, Found)
    second = await provider.jobs(TARGET, latest.build)
    assert isinstance(second, Jobs)
    assert [(j.job_id, j.build.attempt) for j in second.jobs] == [("4", 2)]
    assert len(asked) == 2 * 3
    assert "include_retried=true" in asked[1]
    await provider.jobs(TARGET, latest.build)
    assert len(asked) == 3 * 3


async def test_an_attempt_that_is_gone() -> None:
    """GitLab can delete retried jobs with their attempt; and whole pipelines."""
    provider = gitlab(serving({"/4711": PIPELINE, "/jobs": JOBS[:2], "/bridges": []}))
    assert await provider.build(TARGET, "4711", 2) == Gone(404)
    assert await provider.build(TARGET, "4712") == Gone(404)


async def test_without_jobs_there_is_no_attempt() -> None:
    """Which one it is cannot be told, and is not guessed."""
    refused = httpx.Response(403, json={"message": "403 Forbidden"})
    provider = gitlab(serving({"/4711": PIPELINE, "/jobs": refused}))
    with pytest.raises(PollFailedError, match="CI/CD switched on") as caught:
        await provider.build(TARGET, "4711")
    assert caught.value.reason == "forbidden"


async def test_a_pipeline_that_cannot_be_read_is_told() -> None:
    """And so is a job of one that can."""
    rows = [*JOBS, {"id": 9}, 7]
    provider = gitlab(serving({"/1": {"id": 1}, "/4711": PIPELINE, "/jobs": rows, "/bridges": []}))
    assert isinstance(await provider.build(TARGET, "1"), Unreadable)
    found = await provider.build(TARGET, "4711")
    assert isinstance(found, Found)
    jobs = await provider.jobs(TARGET, found.build)
    assert isinstance(jobs, Jobs)
    assert len(jobs.refused) == 2


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(401, json={"message": "401 Unauthorized"}), "unauthorized"),
        (httpx.Response(403, json={"error": "insufficient_scope", "error_description": "more"}), "forbidden"),
        (httpx.Response(404, json={"message": "404 Project Not Found"}), "not_found"),
        (httpx.Response(429, text="Retry later\n", headers={"retry-after": "30"}), "rate_limited"),
        (httpx.Response(503, text="<html>"), "server_error"),
        (httpx.Response(302, text=""), "nonsense"),
        (httpx.Response(200, text="<html>Sign in</html>"), "nonsense"),
        (httpx.Response(200, json={"message": "hello"}), "nonsense"),
    ],
)
async def test_every_bad_answer_has_a_reason(answer: httpx.Response, reason: str) -> None:
    """And says what to do."""
    provider = gitlab(lambda _: answer)
    with pytest.raises(PollFailedError) as caught:
        await provider.builds(TARGET, provider.listing(TARGET, SPAN))
    assert caught.value.reason == reason
    assert (provider.budget.blocked_until is not None) is (reason == "rate_limited")


async def test_the_token_is_in_no_error() -> None:
    """Not even when GitLab repeats it, or when words are no text."""
    for said in ("no glpat-secret", ["glpat-secret"], {"base": ["glpat-secret"]}):
        provider = gitlab(lambda _, said=said: httpx.Response(401, json={"message": said}))  # type: ignore[misc]
        with pytest.raises(PollFailedError, match="redacted") as caught:
            await provider.builds(TARGET, f"{PLACE}/pipelines")
        assert "secret" not in str(caught.value)


async def test_the_budget_is_learnt() -> None:
    """From the headers that GitLab sends with every answer."""
    headers = {"ratelimit-limit": "2000", "ratelimit-remaining": "1203", "ratelimit-reset": "1900000000"}
    provider = gitlab(lambda _: httpx.Response(200, json=[], headers=headers))
    await provider.builds(TARGET, f"{PLACE}/pipelines")
    assert (provider.budget.limit, provider.budget.remaining) == (2000, 1203)


async def test_discovery_leaves_out_what_has_no_ci() -> None:
    """Archived projects, those with CI switched off, and those that the pattern does not fit."""
    rows: list[Any] = [
        {"path_with_namespace": "acme/one"},
        {"path_with_namespace": "acme/two", "archived": True},
        {"path_with_namespace": "acme/three", "builds_access_level": "disabled"},
        {"path_with_namespace": "acme/four", "jobs_enabled": False},
        {"path_with_namespace": "other/five"},
        {"path_with_namespace": 7},
        None,
    ]
    asked: list[str] = []
    provider = gitlab(serving({"/groups/acme/projects": rows}, asked))
    assert [t.name async for t in provider.discover("acme/*")] == ["acme/one"]
    assert "include_subgroups=false" in asked[0]
    assert "with_shared=false" in asked[0]
    assert [t.name async for t in provider.discover("acme/**")] == ["acme/one"]
    assert "include_subgroups=true" in asked[-1]


async def test_a_person_has_projects_too() -> None:
    """Who is no group."""
    asked: list[str] = []
    provider = gitlab(serving({"/users/mona/projects": [{"path_with_namespace": "mona/x"}]}, asked))
    assert [t.name async for t in provider.discover("mona/*")] == ["mona/x"]


REF = BuildRef(provider="gitlab", instance="gitlab.test", repository_id="15", run_id="4711")


async def test_a_merge_request_is_started_anew_as_such() -> None:
    """Not on its hidden ref, which GitLab would refuse; and a commit that moved on is said."""
    sent: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append((request.method, request.url.raw_path.decode()))
        if request.method == "GET":
            return httpx.Response(200, json=PIPELINE | {"ref": "refs/merge-requests/41/head"})
        return httpx.Response(201, json=PIPELINE | {"id": 4800, "sha": "beef"})

    done = await gitlab(answer).rerun(TARGET, REF, failed_only=False)
    assert isinstance(done, Done)
    assert "4800" in done.detail
    assert "moved on to another commit" in done.detail
    assert sent[-1] == ("POST", "/api/v4/projects/acme%2Fplatform%2Fshop/merge_requests/41/pipelines")


async def test_a_refusal_is_no_failure() -> None:
    """What no later try would change is told; what may pass is raised."""
    running = {"/pipelines/4711": PIPELINE | {"status": "running"}, "/jobs": [], "/bridges": []}

    def refusing(status: int) -> GitLab:
        refusal = httpx.Response(status, json={"message": "no"})
        return gitlab(serving({"/cancel": refusal} | running))

    for status in (400, 403, 404, 405):
        assert isinstance(await refusing(status).cancel(TARGET, REF), Refused)
    for status in (401, 429, 500):
        with pytest.raises(PollFailedError):
            await refusing(status).cancel(TARGET, REF)


@pytest.mark.parametrize("status", ["success", "failed", "skipped"])
async def test_a_pipeline_that_ended_is_not_cancelled(status: str) -> None:
    """GitLab would answer 200 and do nothing."""
    sent: list[str] = []
    routes = {"/cancel": PIPELINE, "/4711": PIPELINE | {"status": status}, "/jobs": [], "/bridges": []}
    assert isinstance(await gitlab(serving(routes, sent)).cancel(TARGET, REF), Refused)
    assert not [path for path in sent if path.endswith("/cancel")]


async def test_a_cancelled_pipeline_is_cancelled_once() -> None:
    """The answer to an earlier try may have been lost."""
    routes = {"/4711": PIPELINE | {"status": "canceled"}, "/jobs": [], "/bridges": []}
    assert isinstance(await gitlab(serving(routes)).cancel(TARGET, REF), Done)


async def test_what_is_changed_is_the_attempt_that_was_meant() -> None:
    """With a later attempt the earlier one is neither cancelled nor run again."""
    sent: list[str] = []
    jobs = [job(1, "unit", "failed", 3, 9), job(2, "unit", "failed", 20, 30, created=15)]
    routes = {"/4711": PIPELINE | {"status": "running"}, "/jobs": jobs, "/bridges": []}
    provider = gitlab(serving({"/cancel": PIPELINE, "/retry": PIPELINE} | routes, sent))
    assert isinstance(await provider.cancel(TARGET, REF), Refused)
    done = await provider.rerun(TARGET, REF, failed_only=True)
    assert isinstance(done, Done)
    assert "attempt 2 is the latest" in done.detail
    assert not [path for path in sent if path.endswith(("/cancel", "/retry"))]
    second = REF.model_copy(update={"attempt": 2})
    assert isinstance(await provider.rerun(TARGET, second, failed_only=True), Done)
    assert sent[-1].endswith("/retry")


async def test_nothing_failed_is_not_run_again() -> None:
    """GitLab would answer 201 and run nothing."""
    sent: list[str] = []
    jobs = [job(1, "unit", "success", 3, 9), job(2, "lint", "skipped")]
    routes = {"/retry": PIPELINE, "/4711": PIPELINE | {"status": "success"}, "/jobs": jobs, "/bridges": []}
    assert isinstance(await gitlab(serving(routes, sent)).rerun(TARGET, REF, failed_only=True), Refused)
    assert not [path for path in sent if path.endswith("/retry")]


async def test_a_verdict_is_shown_on_the_pipelines_own_commit() -> None:
    """Whatever commit others said the build is of."""
    sent: list[str] = []
    routes = {"/4711": PIPELINE | {"sha": "a/../b"}, "/statuses/a%2F..%2Fb": {}}
    check = example(PublishCheckV1, build=REF, commit_sha="0" * 40)
    assert isinstance(await gitlab(serving(routes, sent)).publish_check(TARGET, check), Done)
    assert sent[-1].endswith("/statuses/a%2F..%2Fb")


async def test_an_archive_that_promises_nothing_is_left_alone() -> None:
    """What a job declared, or a name of the job, its stage or its archive, makes it worth the download."""

    def left(number: int, name: str, stage: str, archive: str, *kinds: str) -> dict[str, Any]:
        files = [{"file_type": kind} for kind in kinds]
        size = {"filename": archive, "size": 4000}
        return job(number, name, "success", 3, 9, stage=stage, artifacts_file=size, artifacts=files)

    jobs = [
        left(1, "image", "build", "artifacts.zip", "archive"),
        left(2, "rspec", "verify", "artifacts.zip", "archive"),
        left(3, "unit", "Test", "artifacts.zip", "archive"),
        left(4, "check", "verify", "junit.zip", "archive"),
        left(5, "e2e", "verify", "artifacts.zip", "archive", "junit"),
        job(6, "tests", "success", 3, 9),
    ]
    provider = gitlab(serving({"/4711": PIPELINE, "/jobs": jobs, "/bridges": [], "/test_report": {}}))
    found = [one async for one in provider.reports(TARGET, REF)]
    assert [one.job for one in found] == ["rspec", "unit", "check", "e2e"]


@pytest.mark.parametrize(
    ("name", "suite"),
    [
        ("unit", "unit"),
        ("unit 1/3", "unit"),
        ("unit: [linux, 3.11]", "unit"),
        ("unit 2/3: [arm]", "unit"),
        ("build 2", "build 2"),
    ],
)
def test_parallel_jobs_are_one_suite(name: str, suite: str) -> None:
    """GitLab names a suite after what parallel jobs have in common."""
    assert suite_of(name) == suite


CASE: dict[str, Any] = {
    "status": "failed",
    "name": "takes long cards",
    "classname": "tests.Checkout",
    "file": "tests/checkout.py",
    "execution_time": 0.25,
    "system_output": "\nAssertionError: 2 != 3\nat line 7",
    "stack_trace": "checkout.py:7",
}


def test_a_case_of_a_test_report() -> None:
    """What failed tells why."""
    case = case_of(CASE)
    assert case is not None
    assert (case.outcome, case.duration_seconds, case.classname) == (Outcome.FAILED, 0.25, "tests.Checkout")
    assert case.message == "AssertionError: 2 != 3"
    assert case.detail is not None
    assert case.detail.endswith("at line 7\ncheckout.py:7")
    passed = case_of(CASE | {"status": "success"})
    assert passed is not None
    assert (passed.outcome, passed.message, passed.detail) == (Outcome.PASSED, None, None)
    assert {s: c.outcome.value for s in ("error", "skipped") if (c := case_of(CASE | {"status": s}))} == {
        "error": "error",
        "skipped": "skipped",
    }


def test_no_odd_field_loses_a_case() -> None:
    """Only its name and status are needed; what is endless is cut."""
    for name in CASE:
        for odd in (*ODD, "x" * 100_000, ["a", 7, {}], {"message": "a"}):
            case = case_of(CASE | {name: odd})
            assert case is not None or name in ("name", "status")
    long = case_of(CASE | {"system_output": "y" * 50_000, "stack_trace": "z" * 50_000})
    assert long is not None
    assert long.detail is not None
    assert len(long.detail) <= 8000
    assert long.detail[0] + long.detail[-1] == "yz"


def test_what_could_not_be_read_is_noted() -> None:
    """Of a suite: the report GitLab choked on, and the cases that are none."""
    suite = {"name": "unit", "suite_error": "JUnit XML parsing failed", "test_cases": [CASE, {}, 7]}
    (found,) = results_of({"test_suites": [suite, {"name": "empty", "test_cases": []}, None]})
    assert (found.job, len(found.cases), len(found.notes)) == ("unit", 1, 2)
    assert results_of({}) == results_of({"test_suites": 7}) == ()


async def test_a_listing_without_an_end_is_told() -> None:
    """What is beyond the last page that is read would be lost unseen."""
    following = {"link": f'<{PLACE}/deployments?page=2>; rel="next"'}

    def answer(request: httpx.Request) -> httpx.Response:
        is_project = not request.url.path.endswith("/deployments")
        return httpx.Response(200, json={"id": 15} if is_project else [], headers=following)

    with pytest.raises(PollFailedError, match="more than 10,000 rows for deployments") as caught:
        [one async for one in gitlab(answer).deployments(TARGET, NOON)]
    assert caught.value.reason == "nonsense"
