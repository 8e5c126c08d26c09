"""Jenkins' `testReport` as test cases. Pure, and total: an odd case is read as far as it goes.

A report has suites, or, of a matrix or a Maven project, the reports of its children. Jenkins does not keep
whether a test failed or could not be carried out: every bad one is `failed`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from buildlight_contracts.test_results import Outcome, TestAttempt, TestCase
from services.poller.provider import Results
from services.poller.providers.jenkins.names import combination_in, leaf, name_in
from services.poller.providers.jenkins.values import number, part, rows, text

FORMAT: Final = "jenkins"
_CASE: Final = (
    "className,name,status,duration,skipped,skippedMessage,errorDetails,errorStackTrace,age,failedSince,"
    "flakyFailures[message,type,stackTrace],rerunFailures[message,type,stackTrace]"
)
_SUITES: Final = f"suites[name,cases[{_CASE}]]"
_MOST_ATTEMPTS: Final = 50
_LONGEST_MESSAGE: Final = 2000
_LONGEST_DETAIL: Final = 8000


def tree_of(start: int, count: int) -> str:
    """What to ask for: so many suites or children, without the tests' output, which may be many megabytes."""
    some = f"{{{start},{start + count}}}"
    return f"{_SUITES}{some},childReports[child[number,url],result[{_SUITES}]]{some}"


def is_full(body: Mapping[str, Any], count: int) -> bool:
    """Whether there may be more, after so many."""
    return any(len(rows(body, key)) >= count for key in ("suites", "childReports"))


def results_of(body: Mapping[str, Any], *, start: int) -> Iterator[Results]:
    """The reports in one answer: of the build itself, and of each child."""
    place = f", from suite {start + 1}" if start else ""
    own = list(_cases(body))
    if own:
        yield Results(f"testReport{place}", FORMAT, tuple(own), notes=_notes(body))
    for count, report in enumerate(rows(body, "childReports"), start + 1):
        result = part(report, "result")
        cases = tuple(_cases(result))
        if cases:
            job = _child(part(report, "child"))
            yield Results(f"testReport of {job or count}", FORMAT, cases, job=job, notes=_notes(result))


def _child(child: Mapping[str, Any]) -> str | None:
    """The name of the child's job: a matrix's combination, or a Maven module."""
    address, count = text(child.get("url")) or "", number(child.get("number")) or 0
    try:
        name = combination_in(address, count) or name_in(address)
    except ValueError:
        return None
    return leaf(name) if name else None


def _notes(body: Mapping[str, Any]) -> tuple[str, ...]:
    """What the cases have no field for: how long the bad ones have been so."""
    old = [
        since
        for suite in rows(body, "suites")
        for case in rows(suite, "cases")
        if (number(case.get("age")) or 0) > 1 and (since := number(case.get("failedSince")))
    ]
    if not old:
        return ()
    return (f"{len(old)} failed in the builds before, too; the first of them since build {min(old)}",)


def _cases(body: Mapping[str, Any]) -> Iterator[TestCase]:
    for suite in rows(body, "suites"):
        name = text(suite.get("name"))
        for case in rows(suite, "cases"):
            yield _case(case, name)


def _case(case: Mapping[str, Any], suite: str | None) -> TestCase:
    outcome = _outcome(case)
    message = case.get("skippedMessage") if outcome is Outcome.SKIPPED else case.get("errorDetails")
    return TestCase(
        suite=suite,
        classname=text(case.get("className")),
        name=text(case.get("name")) or "(?)",
        outcome=outcome,
        duration_seconds=_seconds(case.get("duration")),
        message=text(message, _LONGEST_MESSAGE),
        detail=_middle_cut(text(case.get("errorStackTrace"), 10**9)),
        attempts=_attempts(case, outcome),
    )


def _outcome(case: Mapping[str, Any]) -> Outcome:
    status = case.get("status")
    if status == "SKIPPED" or case.get("skipped") is True:
        return Outcome.SKIPPED
    if status in ("PASSED", "FIXED"):
        return Outcome.PASSED
    if status in ("FAILED", "REGRESSION"):
        return Outcome.FAILED
    # Jenkins' own rule, should it ever have another word.
    bad = case.get("errorDetails") is not None or case.get("errorStackTrace") is not None
    return Outcome.FAILED if bad else Outcome.PASSED


def _attempts(case: Mapping[str, Any], outcome: Outcome) -> tuple[TestAttempt, ...]:
    """Every execution: of a flaky test the failures and then its pass, of a bad one its failure and the reruns."""
    flaky, reruns = rows(case, "flakyFailures"), rows(case, "rerunFailures")
    last = TestAttempt(
        outcome=outcome,
        duration_seconds=_seconds(case.get("duration")),
        message=text(case.get("errorDetails"), _LONGEST_MESSAGE),
    )
    if outcome is Outcome.PASSED and flaky:
        return (*_failures(flaky[: _MOST_ATTEMPTS - 1]), last)
    if outcome is Outcome.FAILED and reruns:
        return (last, *_failures(reruns[: _MOST_ATTEMPTS - 1]))
    return ()


def _failures(found: Sequence[Mapping[str, Any]]) -> Iterator[TestAttempt]:
    for failure in found:
        yield TestAttempt(
            outcome=Outcome.FAILED,
            failure_type=text(failure.get("type"), 500),
            message=text(failure.get("message"), _LONGEST_MESSAGE),
        )


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _middle_cut(value: str | None) -> str | None:
    if value is None or len(value) <= _LONGEST_DETAIL:
        return value
    sign = "\n[...]\n"
    half = (_LONGEST_DETAIL - len(sign)) // 2
    return value[:half] + sign + value[-half:]
