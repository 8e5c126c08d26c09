"""What the tests of readers share: reading bytes in any portions."""

from collections.abc import Iterable, Iterator

from buildlight_contracts.test_results import TestCase
from reports.reader import ReportReader


def read(document: bytes | str, portion: int | None = None) -> tuple[list[TestCase], ReportReader]:
    """The cases of a document, and its closed reader; fed `portion` bytes at a time."""
    data = document.encode() if isinstance(document, str) else document
    return read_pieces(portions(data, portion or len(data) or 1))


def read_pieces(pieces: Iterable[bytes]) -> tuple[list[TestCase], ReportReader]:
    reader = ReportReader()
    cases = [case for piece in pieces for case in reader.feed(piece)]
    return cases + reader.close(), reader


def portions(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def counts(reader: ReportReader) -> tuple[int, int, int, int, int, int]:
    """How many tests, passed, failed, errors, skipped, flaky."""
    totals = reader.totals
    return totals.tests, totals.passed, totals.failed, totals.errors, totals.skipped, totals.flaky
