"""Turns the cases of a report into the messages they travel in."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.test_results import (
    MOST_CASES,
    TestCase,
    TestReportObservedV1,
    TestReportRefusedV1,
    report_id_of,
)
from reports.reader import VERSION, Reader

MOST_BYTES = 786_432
"""Of cases in a message; with all the rest it stays well below the 1 MiB that a message may have."""
LONGEST_SOURCE = 1000
_ABSENT_FIELDS = 220
_ABSENT_ATTEMPT_FIELDS = 80
_to_json = TestCase.__pydantic_serializer__.to_json


@dataclass(frozen=True, slots=True)
class Context:
    """Whose tests they are, and how their reports came."""

    build: BuildRef
    repository: str
    origin: Literal["artifact", "provider", "upload"]
    observed_at: datetime
    workflow_id: str | None = None
    branch: str | None = None
    commit_sha: str | None = None
    job: str | None = None

    def refused(self, reason: str, *, source: str) -> TestReportRefusedV1:
        """The fact that what was found at `source` could not be read."""
        return TestReportRefusedV1(
            build=self.build,
            repository=self.repository,
            origin=self.origin,
            source=source[:LONGEST_SOURCE],
            reason=reason,
            refused_at=self.observed_at,
        )


def canonical(case: TestCase) -> bytes:
    """A case as it goes into the digest: what is absent or a default is left out, so that new fields change nothing."""
    return bytes(_to_json(case, exclude_defaults=True))


def report_digest(cases: Iterable[TestCase]) -> str:
    """SHA-256 over the cases, each in canonical JSON and a line of its own."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(canonical(case) + b"\n")
    return digest.hexdigest()


class Chunks:
    """Messages of one report. How the cases come in makes no difference to them."""

    def __init__(self, context: Context, source: str) -> None:
        self.report_id: UUID | None = None
        """Known with the first message."""
        self._context = context
        self._source = source[:LONGEST_SOURCE]
        self._digest = hashlib.sha256()
        self._cases: list[TestCase] = []
        self._bytes = 0
        self._number = 0

    def add(self, cases: Sequence[TestCase], reader: Reader) -> Iterator[TestReportObservedV1]:
        """The messages that are full. The last one is kept back, for it says that it is."""
        for case in cases:
            line = canonical(case)
            size = len(line) + _ABSENT_FIELDS + _ABSENT_ATTEMPT_FIELDS * len(case.attempts)
            if self._cases and (len(self._cases) == MOST_CASES or self._bytes + size > MOST_BYTES):
                yield self._message(reader, last=False)
            self._digest.update(line + b"\n")
            self._cases.append(case)
            self._bytes += size

    def close(self, reader: Reader) -> TestReportObservedV1:
        """The last message, of a reader that is closed."""
        return self._message(reader, last=True)

    def _message(self, reader: Reader, *, last: bool) -> TestReportObservedV1:
        digest = self._digest.hexdigest()
        if self.report_id is None:
            self.report_id = report_id_of(self._context.build, digest)
        self._number += 1
        cases, self._cases, self._bytes = tuple(self._cases), [], 0
        # Only what the whole report yields: before its end it would depend on how the bytes came in.
        of_all: dict[str, Any] = (
            {"totals": reader.totals, "notes": reader.notes, "reported_at": reader.reported_at}
            if last
            else {}
        )
        context = self._context
        return TestReportObservedV1(
            build=context.build,
            repository=context.repository,
            workflow_id=context.workflow_id,
            branch=context.branch,
            commit_sha=context.commit_sha,
            job=context.job,
            report_id=self.report_id,
            chunk=self._number,
            last=last,
            digest=digest,
            origin=context.origin,
            source=self._source,
            format=reader.format,
            reader=VERSION,
            observed_at=context.observed_at,
            cases=cases,
            **of_all,
        )
