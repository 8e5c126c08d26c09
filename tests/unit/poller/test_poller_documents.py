"""What of a document is read at all."""

import asyncio
import contextlib
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Fact
from buildlight_contracts.test_results import (
    Outcome,
    TestCase,
    TestReportObservedV1,
    TestReportRefusedV1,
)
from services.poller.documents import DocumentLimits, read_document, read_results
from services.poller.provider import Document, Pieces, Results, Target
from services.poller.providers.gitlab.client import GitLab
from services.poller.providers.jenkins.client import Jenkins
from tests.station_stage import collect
from tests.unit.poller.gitlab_rows import PIPELINE, job


async def test_what_is_too_large_is_not_downloaded() -> None:
    """The provider says how large it is; the note says what was left out."""
    opened: list[str] = []
    recorded: list[Fact] = []

    def download() -> Pieces:
        opened.append("test-results")
        raise AssertionError

    async def record(fact: Fact) -> None:
        recorded.append(fact)

    found = Document("test-results", download, size_bytes=1001)
    told = await read_document(found, collect(), record, DocumentLimits(most_bytes=1000))
    assert (told.note, opened, recorded) == (
        "test-results was not read: it has 1,001 bytes, more than 1,000",
        [],
        [],
    )


async def test_others_have_their_turn_between_cases() -> None:
    """Also while a provider's own report of many cases is published."""
    turns = 0
    recorded: list[Fact] = []

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def record(fact: Fact) -> None:
        recorded.append(fact)

    case = TestCase(name="a", outcome=Outcome.PASSED)
    found = Results("test_report", "gitlab", (case,) * 10_000)
    running = asyncio.create_task(others())
    told = await read_results(found, collect(), record)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert turns >= 10_000 / 500
    last = recorded[-1]
    assert isinstance(last, TestReportObservedV1)
    assert last.totals is not None
    assert (told.cases, last.totals.tests) == (10_000, 10_000)


async def test_results_that_cannot_be_had_are_refused() -> None:
    """As a fact that says why: trying again brings nothing."""
    recorded: list[Fact] = []

    async def record(fact: Fact) -> None:
        recorded.append(fact)

    told = await read_results(Results("test_report", "gitlab", (), problem="too large"), collect(), record)
    (fact,) = recorded
    assert isinstance(fact, TestReportRefusedV1)
    assert (told.refused, told.reports, fact.reason, fact.source) == (1, 0, "too large", "test_report")


async def test_a_gitlab_report_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told once, and the archives are read in its place."""
    monkeypatch.setattr("services.poller.calls.LARGEST_ANSWER_BYTES", 5000)
    archive = {"filename": "artifacts.zip", "size": 4000}
    jobs = [job(1, "tests", "success", 3, 9, artifacts_file=archive)]
    answers = {"/4711": PIPELINE, "/jobs": jobs, "/bridges": [], "/test_report": {"x": "x" * 6000}}

    def answer(request: httpx.Request) -> httpx.Response:
        return next(
            httpx.Response(200, json=body) for end, body in answers.items() if request.url.path.endswith(end)
        )

    gitlab = GitLab(
        api_url="https://gitlab.test/api/v4",
        instance="gitlab.test",
        token=SecretStr("glpat-secret"),
        reserve_percent=10,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )
    build = BuildRef(provider="gitlab", instance="gitlab.test", repository_id="15", run_id="4711")
    target = Target("gitlab", "gitlab.test", "acme/shop")
    refused, document = [one async for one in gitlab.reports(target, build)]
    assert isinstance(refused, Results)
    assert "more than 5,000 bytes" in (refused.problem or "")
    assert isinstance(document, Document)


async def test_a_jenkins_suite_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """After asking for fewer at once; what came before it is kept."""
    monkeypatch.setattr("services.poller.calls.LARGEST_ANSWER_BYTES", 5000)
    stamp = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp() * 1000)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/testReport/api/json"):
            first = "{0,1}" in request.url.params["tree"]
            case = {"name": "a" if first else "a" * 6000, "status": "PASSED"}
            return httpx.Response(200, json={"suites": [{"name": "unit", "cases": [case]}]})
        return httpx.Response(200, json={"number": 7, "timestamp": stamp, "artifacts": []})

    jenkins = Jenkins(
        url="https://jenkins.test",
        instance="jenkins.test",
        username=None,
        token=None,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )
    build = BuildRef(
        provider="jenkins", instance="jenkins.test", repository_id="nightly", run_id=f"7@{stamp}"
    )
    found = [one async for one in jenkins.reports(Target("jenkins", "jenkins.test", "nightly"), build)]
    good, refused = found
    assert isinstance(good, Results)
    assert [case.name for case in good.cases] == ["a"]
    assert isinstance(refused, Results)
    assert "from suite 2 on is left out" in (refused.problem or "")
