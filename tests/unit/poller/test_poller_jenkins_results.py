"""Jenkins' testReport as test cases."""

from typing import Any

from buildlight_contracts.test_results import Outcome
from services.poller.providers.jenkins.results import is_full, results_of

CASE: dict[str, Any] = {
    "className": "acme.Cards",
    "name": "takes long ones",
    "status": "PASSED",
    "duration": 0.25,
    "age": 0,
    "failedSince": 0,
    "skipped": False,
    "skippedMessage": None,
    "errorDetails": None,
    "errorStackTrace": None,
    "flakyFailures": [],
    "rerunFailures": [],
}
BAD = {"status": "FAILED", "errorDetails": "1 != 2", "errorStackTrace": "at line 1"}


def cases(*changes: dict[str, Any]) -> list[Any]:
    body = {"suites": [{"name": "unit", "cases": [CASE | change for change in changes]}]}
    (results,) = results_of(body, start=0)
    assert (results.source, results.format, results.job) == ("testReport", "jenkins", None)
    return list(results.cases)


def test_every_status() -> None:
    """Fixed is passed, a regression is a failure; another word goes by whether there is an error."""
    skipped = {"status": "SKIPPED", "skipped": True, "skippedMessage": "not today"}
    found = cases(
        {}, {"status": "FIXED"}, BAD, BAD | {"status": "REGRESSION"}, skipped, BAD | {"status": "NEW"}
    )
    assert [case.outcome.value for case in found] == [
        "passed",
        "passed",
        "failed",
        "failed",
        "skipped",
        "failed",
    ]
    assert (found[2].message, found[2].detail) == ("1 != 2", "at line 1")
    assert found[4].message == "not today"
    assert (found[0].suite, found[0].classname, found[0].name, found[0].duration_seconds) == (
        "unit",
        "acme.Cards",
        "takes long ones",
        0.25,
    )


def test_executions() -> None:
    """A flaky test failed before it passed; a bad one failed again; one that ran once has no list of them."""
    failure = {"message": "timed out", "type": "TimeoutError", "stackTrace": "...", "stdout": "much"}
    flaky, bad, once = cases({"flakyFailures": [failure, failure]}, BAD | {"rerunFailures": [failure]}, {})
    assert [a.outcome for a in flaky.attempts] == [Outcome.FAILED, Outcome.FAILED, Outcome.PASSED]
    assert flaky.is_flaky
    assert (flaky.attempts[0].failure_type, flaky.attempts[0].message) == ("TimeoutError", "timed out")
    assert [(a.outcome, a.message) for a in bad.attempts] == [
        (Outcome.FAILED, "1 != 2"),
        (Outcome.FAILED, "timed out"),
    ]
    assert once.attempts == ()
    (many,) = cases({"flakyFailures": [failure] * 200})
    assert (len(many.attempts), many.attempts[-1].outcome) == (50, Outcome.PASSED)


def test_the_aggregated_shape() -> None:
    """Of a matrix or a Maven project there is a report for each child."""

    def child(url: str) -> dict[str, Any]:
        return {"child": {"number": 7, "url": url}, "result": {"suites": [{"name": "unit", "cases": [CASE]}]}}

    body = {
        "failCount": 0,
        "childReports": [
            child("https://ci.test/job/m/OS=linux/7/"),
            child("https://ci.test/job/maven/acme$core/7/"),
            {"child": None, "result": None},
            child("http://[odd"),
        ],
    }
    assert [(r.source, r.job, len(r.cases)) for r in results_of(body, start=0)] == [
        ("testReport of OS=linux", "OS=linux", 1),
        ("testReport of acme$core", "acme$core", 1),
        ("testReport of 4", None, 1),
    ]


def test_how_long_tests_have_failed_is_noted() -> None:
    """There is no field for it."""
    body = {"suites": [{"cases": [CASE | BAD | {"age": 3, "failedSince": 5}, CASE | BAD | {"age": 1}]}]}
    (results,) = results_of(body, start=0)
    assert results.notes == ("1 failed in the builds before, too; the first of them since build 5",)


def test_pages() -> None:
    """A page that is full may have another after it, and a report that goes on says so."""
    assert is_full({"suites": [{}] * 20}, 20)
    assert is_full({"childReports": [{}] * 20}, 20)
    assert not is_full({"suites": [{}] * 19}, 20)
    (results,) = results_of({"suites": [{"cases": [CASE]}]}, start=20)
    assert results.source == "testReport, from suite 21"


def test_odd_fields_lose_no_case() -> None:
    """Whatever is in a field, there is a case; texts are cut, of a trace the middle."""
    odd_values: tuple[Any, ...] = (
        None,
        "",
        "x" * 20_000,
        -1,
        1e400,
        float("nan"),
        True,
        [],
        {},
        [None],
        2**70,
        "\ud800",
    )
    for field in CASE:
        for odd in odd_values:
            (case,) = cases({field: odd})
            assert case.name
    (long,) = cases(BAD | {"errorStackTrace": "a" * 9000 + "z" * 9000})
    assert len(long.detail) <= 8000
    assert long.detail.startswith("a")
    assert long.detail.endswith("z")
    assert list(results_of({"suites": [None, {}, {"cases": 3}], "childReports": "x"}, start=0)) == []
