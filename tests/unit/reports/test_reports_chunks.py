# ruff: noqa: E501 -- documents stand here as tools write them
"""The messages of a report: at most a thousand cases and well below a MiB, the same however its bytes came in."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import MAX_MESSAGE_BYTES, Envelope, Fact
from buildlight_contracts.test_results import TestReportObservedV1, TestReportRefusedV1, report_id_of
from buildlight_contracts.testing import example
from reports.archive import files
from reports.chunks import Chunks, Context, report_digest
from reports.collect import collect
from reports.reader import VERSION, ReportReader
from tests.unit.reports.documents import portions, read
from tests.unit.reports.zips import REPORT, pieces, zipped

CONTEXT = Context(
    build=example(BuildRef),
    repository="acme/shop",
    origin="upload",
    observed_at=datetime(2026, 3, 1, 10, tzinfo=UTC),
    branch="main",
    commit_sha="0" * 40,
    job="test",
)


def messages(document: bytes, portion: int = 65_536) -> list[TestReportObservedV1]:
    reader, chunks, made = ReportReader(), Chunks(CONTEXT, "r.xml"), []
    for piece in portions(document, portion):
        made += list(chunks.add(reader.feed(piece), reader))
    made += list(chunks.add(reader.close(), reader))
    return [*made, chunks.close(reader)]


def document(count: int, failure: str = "") -> bytes:
    cases = "".join(
        f'<testcase classname="C" name="t{n}" time="0.5">{failure}</testcase>' for n in range(count)
    )
    return f'<testsuite name="s" timestamp="2026-03-01T10:00:00Z">{cases}</testsuite>'.encode()


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1, [1]), (1000, [1000]), (1001, [1000, 1]), (2500, [1000, 1000, 500])]
)
def test_a_thousand_a_message(count: int, sizes: list[int]) -> None:
    """Full messages as soon as they are, the last with the totals; even an empty report is told."""
    made = messages(document(count))
    assert [len(message.cases) for message in made] == sizes
    assert [message.chunk for message in made] == list(range(1, len(sizes) + 1))
    assert [message.last for message in made] == [False] * (len(sizes) - 1) + [True]
    assert [message.totals is not None for message in made] == [message.last for message in made]
    last = made[-1]
    assert last.totals is not None
    assert (last.totals.tests, last.totals.duration_seconds) == (count, count * 0.5)
    assert last.reported_at == CONTEXT.observed_at
    assert {(m.format, m.reader, m.source, m.job, m.origin) for m in made} == {
        ("junit", VERSION, "r.xml", "test", "upload")
    }


def test_identity() -> None:
    """The report is known by its first message, each message by all the cases so far."""
    made = messages(document(2500))
    cases = [case for message in made for case in message.cases]
    assert [message.digest for message in made] == [report_digest(cases[:end]) for end in (1000, 2000, 2500)]
    assert {message.report_id for message in made} == {report_id_of(CONTEXT.build, made[0].digest)}
    assert len({message.identity() for message in made}) == 3


@given(st.integers(1, 5000))
@settings(max_examples=20, deadline=None)
def test_portions_make_no_difference(portion: int) -> None:
    """The same bytes give the same messages, to the last field, whatever the portions."""
    data = document(1500, "<failure message='m'>text &#27; &amp; more</failure>")
    assert messages(data, portion) == messages(data)


def test_large_cases_make_more_messages() -> None:
    """Messages stay well below a MiB, whatever stands in the cases."""
    wide = "\U0001f9ea" * 9000
    made = messages(document(300, f"<failure message='{wide}' type='{wide}'>{wide}</failure>"))
    assert len(made) > 5
    for message in made:
        size = len(Envelope.of(message, source="buildlight://ingest").to_json())
        assert size < MAX_MESSAGE_BYTES * 0.9


def test_the_largest_case_of_all() -> None:
    """One case with all it may have still fits into a message."""
    wide = "\U0001f9ea" * 9000
    attempts = f"<flakyFailure message='{wide}' type='{wide}'/>" * 60
    data = f"<testsuite name='{wide}' file='{wide}'><testcase name='{wide}' classname='{wide}'>{attempts}</testcase></testsuite>"
    made = messages(data.encode())
    assert max(len(Envelope.of(message, source="x").to_json()) for message in made) < MAX_MESSAGE_BYTES * 0.9
    assert len(made[0].cases[0].attempts) == 50


async def test_collecting() -> None:
    """Of an archive each report's messages are recorded, and what could not be read is; the rest is left out."""
    facts: list[Fact] = []

    async def record(fact: Fact) -> None:
        facts.append(fact)

    data = zipped(
        {
            "a.xml": REPORT,
            "pom.xml": b"<project/>",
            "x.png": b"\x89PNG",
            "broken.xml": b"oh",
            "empty.trx": b"",
        }
    )
    found = [await collect(file, CONTEXT, record) async for file in files("up.zip", pieces(data))]
    assert [(each.name, each.problem) for each in found if each] == [
        ("up.zip/a.xml", None),
        ("up.zip/broken.xml", "it is not XML: no element was found in it"),
        ("up.zip/empty.trx", "it is empty: the tool that writes it may have crashed"),
    ]
    observed, *refused = facts
    assert isinstance(observed, TestReportObservedV1)
    assert observed.source == "up.zip/a.xml"
    assert found[0] is not None
    assert found[0].report_id == observed.report_id
    assert [fact.source for fact in refused if isinstance(fact, TestReportRefusedV1)] == [
        "up.zip/broken.xml",
        "up.zip/empty.trx",
    ]


def test_a_digest_is_of_cases_alone() -> None:
    """How a document is written makes no difference, only what it says."""
    first, _ = read('<testsuite><testcase name="a" classname="C" time="1"/></testsuite>')
    second, _ = read(
        '<testsuites>\n<testsuite>  <testcase time="1.0" classname="C" name="a"></testcase></testsuite></testsuites>'
    )
    assert report_digest(first) == report_digest(second)
