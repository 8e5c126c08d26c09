"""Runs of the plainest JUnit elements, taken without a parser.

Most of a large report is `<testcase classname="..." name="..." time="..."/>`, thousands in a row. Where the parser is
known to stand between two elements, such a run reads in one way only, and a regular expression takes a third of the
time. Anything that is not exactly so (another attribute, a reference, a character beyond ASCII) ends the run and is
the parser's. A test reads every report both ways.
"""

import re

Row = tuple[str, str, str]
"""Class, name and time, as they stand there: the texts neither empty nor too long, the time a number."""

_VALUE = r'"([^"<&\t\n\r]{1,1000})"'
_TIME = r'"([0-9]{1,8}(?:\.[0-9]{1,12})?)"'
_END = r"[ ]?(?:/>|>\s*</testcase>)"
_ELEMENTS = (
    rf"\s*<testcase classname={_VALUE} name={_VALUE} time={_TIME}{_END}",
    rf"\s*<testcase name={_VALUE} classname={_VALUE} time={_TIME}{_END}",
)
_RUNS = tuple(
    re.compile(rf"(?:{element.replace('(', '(?:').replace('(?:?:', '(?:')})++") for element in _ELEMENTS
)
_EACH = tuple(re.compile(element) for element in _ELEMENTS)
_IS_TIME = re.compile(_TIME.replace('"', "")).fullmatch
_NEXT = re.compile(rb">\s*(?=<testcase )")


def take(text: str, at: int) -> tuple[list[Row], int]:
    """The run at `text[at]`, if one begins there, and where it ends."""
    for kind, run in enumerate(_RUNS):
        if found := run.match(text, at):
            rows = _EACH[kind].findall(text, at, found.end())
            return ([(c, n, t) for n, c, t in rows] if kind else rows), found.end()
    return [], at


def next_boundary(data: bytes, at: int) -> int:
    """Where the tag ends that stands before the next case from `at` on; the end of `data` when there is none."""
    found = _NEXT.search(data, at)
    return found.start() + 1 if found else len(data)


def is_plain(row: Row) -> bool:
    """Whether a row that the parser read is as `take` would have it."""
    classname, name, time = row
    return 0 < len(name) <= 1000 and 0 < len(classname) <= 1000 and _IS_TIME(time) is not None
