"""Reads any test report: bytes in, cases out, whatever the format, the encoding and the size."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from buildlight_contracts.test_results import TestCase, Totals
from reports.cases import Tally
from reports.encoding import Utf8
from reports.errors import NoReportError
from reports.junit import JUnit
from reports.nunit import NUnit
from reports.sniff import find_root
from reports.testng import TestNG
from reports.trx import Trx
from reports.vocabulary import Vocabulary
from reports.xunit import XUnit

VERSION = 2
"""Raised when the same bytes would be read differently, so that they can be told apart."""
MOST_NOTES = 20
_LONGEST_NOTE = 300
_PIECE = 262_144

VOCABULARIES: tuple[type[Vocabulary], ...] = (JUnit, Trx, XUnit, NUnit, TestNG)
_ENOUGH_TO_TELL = 4096
_MARKS = (b"<testsuite", b"<testcase", b"<test-case", b"<UnitTestResult")
_KNOWN_OTHERS = {
    "gtester": "GLib's gtester",
    "tusar": "TUSAR",
    "Site": "CTest's Test.xml (run ctest with --output-junit)",
    "TestLog": "Boost.Test's own (use --log_format=JUNIT)",
    "TestResult": "Boost.Test's own (use --log_format=JUNIT)",
    "TestCase": "Qt Test's own (use -o file,junitxml)",
    "CUNIT_TEST_RUN_REPORT": "CUnit's own",
    "Catch": "Catch's own (use --reporter junit)",
    "doctest": "doctest's own (use --reporters=junit)",
}


class Reader(Protocol):
    """A test report that is being read. Cases come out as soon as they are complete."""

    def feed(self, data: bytes) -> list[TestCase]:
        """The cases that end in `data`. Raises UnreadableError; NoReportError when it is something else."""

    def close(self) -> list[TestCase]:
        """The cases that were not complete before the end. Raises as `feed` does."""

    @property
    def format(self) -> str:
        """Empty until the root element has been seen."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be recovered or left out, for a person; complete after `close`."""

    @property
    def totals(self) -> Totals: ...

    @property
    def reported_at(self) -> datetime | None:
        """The report's own time, where it has one with a zone."""


class ReportReader:
    """The one reader: picks the format by the root element."""

    def __init__(self, vocabularies: Sequence[type[Vocabulary]] = VOCABULARIES) -> None:
        self._vocabularies = vocabularies
        self._utf8 = Utf8()
        self._head = b""
        self._junk = False
        self._vocabulary: Vocabulary | None = None

    def feed(self, data: bytes) -> list[TestCase]:
        if len(data) <= _PIECE:
            return self._feed(self._utf8.feed(data))
        made = []
        for start in range(0, len(data), _PIECE):
            made += self._feed(self._utf8.feed(data[start : start + _PIECE]))
        return made

    def close(self) -> list[TestCase]:
        made = self._feed(self._utf8.close(), final=True)
        vocabulary = self._vocabulary
        if vocabulary is None:
            return made
        vocabulary.markup.close()
        vocabulary.finish()
        return made + self._taken(vocabulary)

    @property
    def format(self) -> str:
        return self._vocabulary.format if self._vocabulary else ""

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note[:_LONGEST_NOTE] for note in self._notes()[:MOST_NOTES])

    @property
    def totals(self) -> Totals:
        return (self._vocabulary.tally if self._vocabulary else Tally()).totals()

    @property
    def reported_at(self) -> datetime | None:
        return self._vocabulary.reported_at if self._vocabulary else None

    def _feed(self, clean: bytes, *, final: bool = False) -> list[TestCase]:
        if self._vocabulary is None:
            self._head += clean
            self._vocabulary, clean = self._begin(final=final), self._head
            if self._vocabulary is None:
                return []
            self._head = b""
        self._vocabulary.read(clean)
        return self._taken(self._vocabulary)

    def _begin(self, *, final: bool) -> Vocabulary | None:
        root = find_root(self._head, final=final)
        if root is None:
            return None
        for vocabulary in self._vocabularies:
            if root.name in vocabulary.roots:
                self._head = self._head[root.start :]
                self._junk = root.junk
                return vocabulary()
        if other := _KNOWN_OTHERS.get(root.name):
            raise NoReportError(
                f"<{root.name}> is {other}, a format that is not read: write JUnit XML", meant_as_report=True
            )
        if len(self._head) < _ENOUGH_TO_TELL and not final:
            return None
        # A `pom.xml` is nobody's report; a report in a wrapper of somebody's own is.
        meant = any(mark in self._head[:_ENOUGH_TO_TELL] for mark in _MARKS)
        raise NoReportError(
            f"<{root.name}> is the root of no test report that is known", meant_as_report=meant
        )

    @staticmethod
    def _taken(vocabulary: Vocabulary) -> list[TestCase]:
        vocabulary.flush()
        cases, vocabulary.cases = vocabulary.cases, []
        return cases

    def _notes(self) -> list[str]:
        notes = []
        if self._junk:
            notes.append("text before the XML was left out")
        if self._utf8.unknown:
            notes.append(f"the encoding {self._utf8.unknown} is not known; read as UTF-8")
        if self._utf8.replaced:
            notes.append(f"bytes that are not of the encoding were replaced ({self._utf8.replaced:,})")
        if self._utf8.removed:
            notes.append(f"characters that XML does not allow were left out ({self._utf8.removed:,})")
        if self._vocabulary is None:
            return notes
        markup = self._vocabulary.markup
        notes += [f"not well-formed, mended: {what} ({times:,})" for what, times in markup.repairs.items()]
        if markup.is_truncated:
            notes.append("the report ends in the middle: what follows is missing")
        return notes + [f"{what} ({times:,})" for what, times in self._vocabulary.remarks.items()]
