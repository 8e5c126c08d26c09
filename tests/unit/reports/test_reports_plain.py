"""Runs of plain cases are read without the parser, and nobody can tell."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reports.junit
import reports.plain
from buildlight_contracts.test_results import TestCase
from reports.errors import UnreadableError
from tests.corpora import corpus
from tests.unit.reports.documents import portions, read_pieces

PARTS = [
    '<testcase classname="C" name="a" time="0.5"/>',
    '<testcase name="b" classname="C" time="1"/>',
    '<testcase classname="C" name="c" time="2"></testcase>',
    '<testcase classname="C" name="x > y" time="1"/>',
    '<testcase classname="C" name="&amp;" time="1"/>',
    '<testcase classname="C" name="d" time="1.2.3"/>',
    '<testcase classname="C" name="" time="1"/>',
    '<testcase classname="C" name="e" time="1"><failure message="m">t</failure></testcase>',
    '<testcase classname="C" name="f" time="1" file="f.py"/>',
    '<testcase classname="C" name="ö" time="1"/>',
    "\n  ",
    "text > text",
    '<system-out><![CDATA[\n<testcase classname="C" name="printed" time="1"/>\n',
    "]]></system-out>",
    '<!-- >\n<testcase classname="C" name="commented" time="1"/>',
    "-->",
    '<testsuite name="inner">',
    "</testsuite>",
    '<properties><property name="p" value="v"/></properties>',
]


def both_ways(pieces: list[bytes], monkeypatch: pytest.MonkeyPatch) -> tuple[object, object]:
    """The cases and totals with runs taken out, and with the parser alone."""

    def attempt() -> object:
        try:
            cases, reader = read_pieces(pieces)
        except UnreadableError as error:
            return str(error)
        return cases, reader.totals, reader.notes

    with_runs = attempt()
    with monkeypatch.context() as patched:
        patched.setattr(reports.junit, "take", lambda _, at: ([], at))
        return with_runs, attempt()


@given(st.lists(st.sampled_from(PARTS), max_size=60), st.integers(1, 2000))
@settings(max_examples=300, deadline=None)
def test_any_order_of_parts(parts: list[str], portion: int) -> None:
    """Whatever stands around it, a case in CDATA or a comment is none, and every other is one."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        document = f"<testsuites><testsuite name='s'>\n{''.join(parts)}</testsuite></testsuites>".encode()
        fast, slow = both_ways(list(portions(document, portion)), monkeypatch)
        assert fast == slow


def test_every_recorded_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways give the same of every report there is."""
    folder = corpus("junit")
    for entry in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        fast, slow = both_ways(list(portions((folder / entry["file"]).read_bytes(), 5000)), monkeypatch)
        assert fast == slow, entry["file"]


def test_runs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It does happen: of a long report nearly all goes that way, and the cases are valid."""
    taken = 0
    take = reports.plain.take

    def counting(text: str, at: int) -> tuple[list[tuple[str, str, str]], int]:
        nonlocal taken
        rows, end = take(text, at)
        taken += len(rows)
        return rows, end

    monkeypatch.setattr(reports.junit, "take", counting)
    document = f"<testsuite name='s'>{PARTS[0] * 900}{PARTS[7]}{PARTS[1] * 900}</testsuite>".encode()
    cases, reader = read_pieces(portions(document, 4096))
    assert reader.totals.tests == 1801
    assert taken > 1500
    assert all(TestCase.model_validate(case.model_dump()) == case for case in cases)
