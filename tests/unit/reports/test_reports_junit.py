# ruff: noqa: E501 -- documents stand here as tools write them
"""What JUnit XML means, dialect by dialect."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildlight_contracts.test_results import Outcome, TestCase
from reports.errors import NoReportError, UnreadableError
from tests.unit.reports.documents import counts, portions, read, read_pieces

LIVELY = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="all" tests="99" failures="98">
  <testsuite name="outer" file="a.py" timestamp="2026-03-01T10:00:00+02:00">
    <properties><property name="k" value="v &lt; w"/></properties>
    <testsuite name="inner">
      <testcase classname="A" name="passes" time="0.5"/>
      <testcase classname="A" name="fails" time="1.5"><failure type="AssertionError" message="1 != 2">at a.py:3
at b.py:4</failure></testcase>
      <testcase classname="A" name="crashes" file="b.py" line="12"><error>Boom &amp; bust</error></testcase>
    </testsuite>
    <testcase classname="B" name="left out"><skipped message="not today"/></testcase>
    <testcase classname="B" name="flaky" time="2"><flakyFailure type="T" message="once"><stackTrace><![CDATA[at <x>]]></stackTrace><system-out>noise</system-out></flakyFailure></testcase>
    <system-out><![CDATA[<testcase name="no test"/>]]></system-out>
  </testsuite>
</testsuites>
"""


def test_every_field() -> None:
    """Suites' names and files reach the cases inside; texts and types come along."""
    cases, reader = read(LIVELY)
    passes, fails, crashes, left_out, flaky = cases
    assert passes == TestCase(
        suite="outer > inner",
        classname="A",
        name="passes",
        file="a.py",
        outcome=Outcome.PASSED,
        duration_seconds=0.5,
    )
    assert (fails.outcome, fails.failure_type, fails.message) == (Outcome.FAILED, "AssertionError", "1 != 2")
    assert fails.detail == "at a.py:3\nat b.py:4"
    assert (crashes.outcome, crashes.message, crashes.detail) == (Outcome.ERROR, "Boom & bust", None)
    assert (crashes.file, crashes.line, crashes.duration_seconds) == ("b.py", 12, None)
    assert (left_out.outcome, left_out.message, left_out.suite) == (Outcome.SKIPPED, "not today", "outer")
    assert flaky.is_flaky
    assert counts(reader) == (5, 2, 1, 1, 1, 1)
    assert reader.totals.duration_seconds == 4.0
    assert reader.reported_at == datetime(2026, 3, 1, 8, tzinfo=UTC)
    assert (reader.format, reader.notes) == ("junit", ())


@pytest.mark.parametrize("portion", [1, 2, 3, 7, 64, 1000])
def test_portions_make_no_difference(portion: int) -> None:
    """However the bytes come in, the cases are the same."""
    assert read(LIVELY, portion)[0] == read(LIVELY)[0]


def test_surefire_retries_that_passed() -> None:
    """Each `flakyFailure` or `flakyError` is an attempt before the one that passed."""
    cases, reader = read(
        '<testsuite><testcase name="a" classname="C" time="3">'
        '<flakyFailure message="m1" type="T1" time="1.5">first</flakyFailure>'
        '<flakyError type="T2"><stackTrace>second\nline</stackTrace><system-err>noise</system-err></flakyError>'
        "</testcase></testsuite>"
    )
    assert [(a.outcome, a.failure_type, a.message, a.duration_seconds) for a in cases[0].attempts] == [
        (Outcome.FAILED, "T1", "m1", 1.5),
        (Outcome.ERROR, "T2", "second", None),
        (Outcome.PASSED, None, None, 3.0),
    ]
    assert counts(reader) == (1, 1, 0, 0, 0, 1)


def test_surefire_retries_that_failed() -> None:
    """The `failure` is the first attempt, every `rerunFailure` or `rerunError` a further one."""
    cases, reader = read(
        '<testsuite><testcase name="a" classname="C" time="3"><failure message="m0" type="T0">x</failure>'
        '<rerunFailure message="m1" type="T1"/><rerunError message="m2" type="T2"/></testcase></testsuite>'
    )
    assert [(a.outcome, a.message) for a in cases[0].attempts] == [
        (Outcome.FAILED, "m0"),
        (Outcome.FAILED, "m1"),
        (Outcome.ERROR, "m2"),
    ]
    assert (cases[0].outcome, cases[0].message, cases[0].is_flaky) == (Outcome.FAILED, "m0", False)
    assert counts(reader) == (1, 0, 1, 0, 0, 0)


def test_several_outcomes_in_one_case() -> None:
    """The gravest counts, once; the texts of all are kept."""
    cases, reader = read(
        '<testsuite><testcase name="a" classname="C"><failure message="call">in the call</failure>'
        '<error message="teardown">in the teardown</error></testcase>'
        '<testcase name="b" classname="C"><skipped/><failure message="f"/></testcase></testsuite>'
    )
    assert (cases[0].outcome, cases[0].message) == (Outcome.ERROR, "teardown")
    assert cases[0].detail == "in the call\nin the teardown"
    assert cases[1].outcome is Outcome.FAILED
    assert counts(reader) == (2, 0, 1, 1, 0, 0)


def test_the_same_test_many_times() -> None:
    """`go test -count=3` executes a test three times: three cases, as go itself counts."""
    case = '<testcase classname="pkg" name="TestA" time="0.1"/>'
    failed = '<testcase classname="pkg" name="TestA" time="0.1"><failure/></testcase>'
    assert counts(read(f"<testsuite>{case}{failed}{case}</testsuite>")[1]) == (3, 2, 1, 0, 0, 0)


def test_cases_decide() -> None:
    """What suites count themselves is not looked at."""
    document = '<testsuites tests="7" failures="7"><testsuite tests="5" errors="5"><testcase name="a"/></testsuite></testsuites>'
    assert counts(read(document)[1]) == (1, 1, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("attributes", "outcome"),
    [
        ('status="notrun" result="suppressed"', Outcome.SKIPPED),
        ('status="disabled"', Outcome.SKIPPED),
        ('status="run" result="completed"', Outcome.PASSED),
        ('status="run" result="skipped"', Outcome.SKIPPED),
        ('status="failed"', Outcome.FAILED),
        ('status="errored"', Outcome.ERROR),
        ('status="anything"', Outcome.PASSED),
    ],
)
def test_a_status_without_an_element(attributes: str, outcome: Outcome) -> None:
    """GoogleTest, CTest and others say only in an attribute that a test did not run."""
    cases, _ = read(f'<testsuite><testcase name="a" classname="C" time="0" {attributes}/></testsuite>')
    assert cases[0].outcome is outcome


def test_an_element_says_more_than_a_status() -> None:
    """A failure is one, whatever the attribute says."""
    cases, _ = read('<testsuite><testcase name="a" status="passed"><failure/></testcase></testsuite>')
    assert cases[0].outcome is Outcome.FAILED


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1.5", 1.5),
        ("1,200.05", 1200.05),
        ("0,160", 0.16),
        ("1.200,05", 1200.05),
        ("12,345,678.9", 12345678.9),
        ("00:01:02.5", 62.5),
        ("1e-05", 0.00001),
        ("2s", 2.0),
        ("", None),
        ("NaN", None),
        ("inf", None),
        ("-1", None),
        ("<computed>", None),
    ],
)
def test_times(text: str, seconds: float | None) -> None:
    """Seconds in whatever notation; what is none is unknown, never nought."""
    escaped = text.replace("<", "&lt;")
    cases, _ = read(f'<testsuite><testcase classname="C" name="a" time="{escaped}"/></testsuite>')
    assert cases[0].duration_seconds == seconds


def test_names() -> None:
    """A class may be called `class`; a case without a name is still counted."""
    cases, _ = read(
        '<testsuite><testcase class="C" time="1"/><testcase name="" classname="" time="1"/></testsuite>'
    )
    assert [(case.classname, case.name) for case in cases] == [("C", "(no name)"), (None, "(no name)")]


def test_long_names_stay_different() -> None:
    """Names that only differ beyond what is kept stay two names."""
    names = ["x" * 5000 + end for end in "ab"]
    elements = "".join(f'<testcase classname="C" name="{name}" time="1"/>' for name in names)
    cases, _ = read(f"<testsuite>{elements}</testsuite>")
    assert len({case.name for case in cases}) == 2
    assert all(len(case.name) <= 1000 for case in cases)


def test_long_texts_keep_both_ends() -> None:
    """Of a long stack trace the beginning and the end are kept, and how much is missing is said."""
    text = "BEGIN" + "x" * 50_000 + "END"
    cases, _ = read(
        f'<testsuite><testcase name="a"><failure message="{text}">{text}</failure></testcase></testsuite>'
    )
    detail = cases[0].detail
    assert detail is not None
    assert detail.startswith("BEGIN")
    assert detail.endswith("END")
    assert "characters left out" in detail
    assert len(detail) <= 8000
    assert len(cases[0].message or "") <= 2000
    TestCase.model_validate(cases[0].model_dump())


def test_a_zone_is_needed() -> None:
    """A timestamp without a zone is nobody's time."""
    assert (
        read('<testsuite timestamp="2026-03-01T10:00:00"><testcase name="a"/></testsuite>')[1].reported_at
        is None
    )


def test_failures_of_a_suite_are_told() -> None:
    """A suite that failed outside its tests is no test; a note says so."""
    _, reader = read('<testsuite><error message="no such file"/><testcase name="a"/></testsuite>')
    assert counts(reader) == (1, 1, 0, 0, 0, 0)
    assert reader.notes == ("failures of a suite outside any test, not counted (1)",)


def test_other_roots() -> None:
    """Eclipse's `testrun`, a lone suite, a prefix, a case on its own."""
    for document in (
        '<testrun><testsuite><testcase name="a"/></testsuite></testrun>',
        '<testsuites><testcase name="a"/></testsuites>',
        '<j:testsuites xmlns:j="urn:j"><j:testsuite><j:testcase name="a"/></j:testsuite></j:testsuites>',
        '<testcase name="a"/>',
    ):
        assert counts(read(document)[1]) == (1, 1, 0, 0, 0, 0), document


def test_a_case_in_a_case() -> None:
    """Each is one, neither dropped nor counted twice."""
    cases, _ = read(
        '<testsuite><testcase name="a"><failure message="m"/><testcase name="b" classname="C" time="1"/></testcase>'
        '<testcase name="c" classname="C" time="1"/></testsuite>'
    )
    assert [(case.name, case.outcome) for case in cases] == [
        ("b", Outcome.PASSED),
        ("a", Outcome.FAILED),
        ("c", Outcome.PASSED),
    ]


def test_empty_reports() -> None:
    """No tests is an answer."""
    assert counts(read("<testsuites/>")[1]) == (0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ("document", "meant"),
    [
        (b"", None),
        (b" \n ", None),
        (b"just text", None),
        (b"\x89PNG\r\n\x1a\n\0\0\0", None),
        (b"<project><artifactId>a</artifactId></project>", False),
        (b"<gtester></gtester>", True),
        (b"<wrapper><testsuite><testcase/></testsuite></wrapper>", True),
    ],
)
def test_what_is_no_report(document: bytes, meant: bool | None) -> None:
    """Something else is refused by name, and whether it was meant as a report is told."""
    with pytest.raises(NoReportError) as caught:
        read(document)
    assert caught.value.meant_as_report is meant


def test_deep_nesting_is_refused() -> None:
    """Memory does not grow with depth."""
    with pytest.raises(UnreadableError, match="nested"):
        read("<testsuite>" * 100_000)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=40)


def escaped(text: str) -> str:
    for character, escape in (
        ("&", "&amp;"),
        ("<", "&lt;"),
        (">", "&gt;"),
        ('"', "&quot;"),
        ("\n", "&#10;"),
        ("\t", "&#9;"),
    ):
        text = text.replace(character, escape)
    return "".join(c for c in text if ord(c) >= 0x20 and ord(c) not in (0xFFFE, 0xFFFF))


@given(
    st.lists(st.tuples(TEXT, TEXT, st.sampled_from(["", "failure", "error", "skipped"])), max_size=20),
    st.integers(1, 50),
)
@settings(max_examples=60, deadline=None)
def test_any_text_survives_in_any_portions(rows: list[tuple[str, str, str]], portion: int) -> None:
    """What was written is what is read."""
    document = "".join(
        f'<testcase classname="C" name="n{escaped(name)}" time="1">'
        + (f'<{kind} message="m{escaped(message)}"/>' if kind else "")
        + "</testcase>"
        for name, message, kind in rows
    )
    cases, reader = read_pieces(portions(f"<testsuite>{document}</testsuite>".encode(), portion))
    assert len(cases) == len(rows)
    assert reader.notes == ()
    for case, (name, message, kind) in zip(cases, rows, strict=True):
        kept = "".join(c for c in name if ord(c) >= 0x20 or c in "\n\t")
        assert case.name == "n" + kept.replace("\ufffe", "").replace("\uffff", "")
        assert case.outcome.value == {"": "passed", "failure": "failed"}.get(kind, kind)
        assert (case.message is not None) == bool(kind)
        assert not kind or message == "" or case.message is not None
