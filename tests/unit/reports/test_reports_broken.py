# ruff: noqa: E501 -- documents stand here as tools write them
"""Reports that are not well-formed, in odd encodings, cut off: read as far as they can be, and said so."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.errors import UnreadableError
from tests.unit.reports.documents import counts, portions, read, read_pieces

PLAIN = '<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name="s"><testcase classname="Ä" name="grün" time="1"/></testsuite>'

ESCAPE = '<testsuite><testcase name="a"><failure message="&#27;[31mred&#x1b;[0m">x &#27;[1m &#0; y</failure></testcase><testcase name="b"/></testsuite>'
BROKEN = {
    "references to characters that XML does not allow": ESCAPE,
    "an ampersand": '<testsuite><testcase name="a & b"><failure message="x && y">p & q &r</failure></testcase><testcase name="b"/></testsuite>',
    "an entity of HTML": '<testsuite><testcase name="a&nbsp;b"><failure>x&nbsp;y &eacute;</failure></testcase><testcase name="b"/></testsuite>',
    "a bracket in an attribute": '<testsuite><testcase name="a <b> c"><failure message="List<String> &lt; x"/></testcase><testcase name="b"/></testsuite>',
    "a bracket in text": '<testsuite><testcase name="a"><failure>expected 1 < 2, i <3 u</failure></testcase><testcase name="b"/></testsuite>',
    "brackets as of CDATA": '<testsuite><testcase name="a"><failure>x[y[0]]> z</failure></testcase><testcase name="b"/></testsuite>',
    "an element left open": '<testsuite><testcase name="a"><failure>x</testcase><testcase name="b"/></testsuite>',
    "an element closed twice": '<testsuite><testcase name="a"><failure>x</failure></failure></testcase><testcase name="b"/></testsuite>',
    "an attribute given twice": '<testsuite><testcase name="a" name="a"><failure/></testcase><testcase name="b"/></testsuite>',
    "an attribute without quotes": '<testsuite><testcase name="a" time=0.5 x><failure/></testcase><testcase name="b" time="1"/></testsuite>',
    "attributes without a space": '<testsuite><testcase name="a"time="1"><failure type="t"message="m"/></testcase><testcase name="b"/></testsuite>',
    "quotes in an attribute": '<testsuite><testcase name="a"><failure message="say "hi" or "ho""/></testcase><testcase name="b"/></testsuite>',
    "a tag that never ends": '<testsuite><testcase name="a" <failure message="m"/></testcase><testcase name="b"/></testsuite>',
    "dashes in a comment": '<testsuite><!-- <testcase name="x"/> -- --><testcase name="a"><failure/></testcase><testcase name="b"/></testsuite>',
    "control characters": '<testsuite><testcase name="a\x1b"><failure>\x00\x08\x1b[31m</failure></testcase><testcase name="b"/></testsuite>',
    "text behind": '<testsuite><testcase name="a"><failure/></testcase><testcase name="b"/></testsuite> Done. 1 < 2 & 3',
}


@pytest.mark.parametrize("portion", [1, 5, 4096])
@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_mended(document: str, portion: int) -> None:
    """A test that failed and one that passed: whatever is wrong between them, that much is read."""
    cases, reader = read(document, portion)
    assert counts(reader) == (2, 1, 1, 0, 0, 0), reader.notes
    assert cases[1].name == "b"
    assert reader.notes


def test_what_was_mended_reads_as_it_was_meant() -> None:
    """The text around what was wrong is kept."""
    (red, _), _ = read(ESCAPE)
    assert (red.message, red.detail) == ("[31mred[0m", "x [1m  y")
    (both, _), _ = read(BROKEN["an ampersand"])
    assert (both.name, both.message, both.detail) == ("a & b", "x && y", "p & q &r")
    (bracket, _), _ = read(BROKEN["a bracket in an attribute"])
    assert (bracket.name, bracket.message) == ("a <b> c", "List<String> < x")
    (text, _), _ = read(BROKEN["a bracket in text"])
    assert text.message == "expected 1 < 2, i <3 u"


def test_references_to_no_character() -> None:
    """Half a surrogate pair, a number beyond Unicode: they stay as they were written."""
    (case,), reader = read(
        '<testsuite><testcase name="a&#xD83D;b&#x1FFFFFFF;"><failure>&#65534;</failure></testcase></testsuite>'
    )
    assert case.name == "a&#xD83D;b&#x1FFFFFFF;"
    assert case.outcome.value == "failed"
    assert reader.notes


def test_cdata_is_left_alone() -> None:
    """Nothing in CDATA is mended: it is not broken."""
    text = "a && b &#27; &nbsp; 1 < 2"
    (case,), reader = read(
        f'<testsuite><testcase name="a"><failure><![CDATA[{text}]]></failure></testcase></testsuite>'
    )
    assert case.message == text
    assert reader.notes == ()


@pytest.mark.parametrize("portion", [1, 3, 100])
@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "iso-8859-1", "cp1252"]
)
def test_encodings(encoding: str, portion: int) -> None:
    """Byte order marks, UTF-16 with and without one, what the declaration says."""
    declared = "UTF-16" if encoding.startswith("utf-16") else encoding.removesuffix("-sig")
    cases, reader = read(PLAIN.replace("UTF-8", declared).encode(encoding), portion)
    assert [(case.classname, case.name) for case in cases] == [("Ä", "grün")]
    assert reader.notes == ()


def test_utf_16_that_is_none() -> None:
    """.NET declares UTF-16 in what it writes as UTF-8."""
    cases, _ = read(PLAIN.replace("UTF-8", "utf-16").encode())
    assert cases[0].name == "grün"


def test_bytes_of_another_encoding() -> None:
    """What is no UTF-8 is replaced, and said so."""
    cases, reader = read(PLAIN.encode("iso-8859-1"))
    assert cases[0].name == "gr\ufffdn"
    assert reader.notes == ("bytes that are not of the encoding were replaced (2)",)


def test_an_unknown_encoding() -> None:
    """Read as UTF-8, and said so; base64 is none that a document is written in."""
    for name in ("klingon-1", "base64", "idna"):
        _, reader = read(PLAIN.replace("UTF-8", name).encode())
        assert reader.notes == (f"the encoding {name} is not known; read as UTF-8",)


@pytest.mark.parametrize(
    "before", ["\n\n", "npm notice: new version\n", "<!-- a comment with <testsuite> -->\n", "\ufeff\n"]
)
def test_what_stands_before(before: str) -> None:
    """Blank lines, a tool's chatter, comments."""
    assert counts(read(before + PLAIN)[1]) == (1, 1, 0, 0, 0, 0)


def test_several_documents_in_one() -> None:
    """Reports that were put together with `cat` are all read."""
    cases, reader = read(PLAIN + "\n" + PLAIN + "\n" + PLAIN)
    assert len(cases) == 3
    assert any("several documents" in note for note in reader.notes)


def test_a_report_cut_off() -> None:
    """What is whole is read; a test that had not said how it went is not called passed."""
    document = (
        '<testsuites><testsuite><testcase name="a" classname="C" time="1"/>'
        '<testcase name="b"><failure message="m">text'
    )
    cases, reader = read(document)
    assert [(case.name, case.outcome.value) for case in cases] == [("a", "passed"), ("b", "failed")]
    assert reader.notes == ("the report ends in the middle: what follows is missing",)
    cases, reader = read('<testsuite><testcase name="a"><system-out>x')
    assert cases == []
    assert len(reader.notes) == 2


@given(st.binary(max_size=200), st.integers(0, 400), st.integers(1, 64))
@settings(max_examples=150, deadline=None)
def test_anything_is_read_or_refused(noise: bytes, at: int, portion: int) -> None:
    """Noise anywhere in a report never crashes, and never depends on how it comes in."""
    document = BROKEN["an entity of HTML"].encode() + PLAIN.encode()
    document = document[:at] + noise + document[at:]

    def attempt(size: int) -> object:
        try:
            cases, reader = read_pieces(portions(document, size))
        except UnreadableError as error:
            return str(error)
        return [(case.name, case.outcome) for case in cases], reader.totals

    assert attempt(portion) == attempt(len(document))


def test_endless_errors_are_given_up() -> None:
    """A document of nothing but errors is not mended for ever."""
    with pytest.raises(UnreadableError, match="errors in the XML"):
        read("<testsuite>" + "</x>" * 20_000)
