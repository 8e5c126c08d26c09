"""Reading what may hold test reports, and publishing what it says, as it comes."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from buildlight_contracts.test_results import TestCase, TestReportRefusedV1, Totals
from reports.archive import Limits, files
from reports.cases import Tally, without_secrets
from reports.chunks import Chunks, Context
from reports.collect import collect
from reports.stream import small
from services.poller.provider import Document, PollFailedError, Results

MOST_UNREADABLE = 50
"""Told of one document: an artifact of ten thousand broken files is one thing that is wrong."""

_CASES_AT_ONCE = 500

Record = Callable[[Fact], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How long one document may take, and what an archive may hold."""

    most_seconds: float = 600.0
    most_bytes: int = 1 << 30
    """What the provider says is larger is not downloaded."""
    archive: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Told:
    """What a document came to."""

    reports: int = 0
    cases: int = 0
    refused: int = 0
    """What should be a report and cannot be read, or not to its end."""
    note: str | None = None
    """Why it was not read at all."""


async def read_document(
    found: Document, command: CollectReportsV1, record: Record, limits: DocumentLimits
) -> Told:
    """Publish every report in a document, and what of it cannot be read.

    Raises:
        PollFailedError: the provider answered badly, also in the middle, or was too slow. What was published by
            then has the same ids when it is published again.
    """
    if found.size_bytes is not None and found.size_bytes > limits.most_bytes:
        return Told(
            note=f"{found.source} was not read: it has {found.size_bytes:,} bytes, more than {limits.most_bytes:,}"
        )
    context, told = _context(command, "artifact", found.job), Told()

    async def tell(fact: Fact) -> None:
        if not isinstance(fact, TestReportRefusedV1) or told.refused < MOST_UNREADABLE:
            await record(fact)

    try:
        async with asyncio.timeout(limits.most_seconds) as patience, found.open() as chunks:
            async for file in files(found.source, chunks, limits.archive):
                # In small pieces: what comes out of an archive comes faster than others have their turn.
                seen = await collect(replace(file, content=small(file.content)), context, tell)
                if seen is not None:
                    told.reports += seen.problem is None
                    told.refused += seen.problem is not None
                    told.cases += seen.totals.tests
    except TimeoutError:
        if not patience.expired():
            raise
        raise PollFailedError(
            "unreachable", f"{found.source} was not read to its end in {limits.most_seconds:.0f} s."
        ) from None
    if told.refused > MOST_UNREADABLE:
        more = f"{told.refused - MOST_UNREADABLE:,} more files in it cannot be read"
        await record(context.refused(more, source=found.source))
    return told


async def read_results(found: Results, command: CollectReportsV1, record: Record) -> Told:
    """Publish test results that the provider has read itself, or that they cannot be had."""
    context = _context(command, "provider", found.job)
    if found.problem is not None:
        await record(context.refused(found.problem, source=found.source))
        return Told(refused=1)
    reader, chunks = _Ready(found), Chunks(context, found.source)
    for start in range(0, len(found.cases), _CASES_AT_ONCE):
        some = [without_secrets(case) for case in found.cases[start : start + _CASES_AT_ONCE]]
        reader.count(some)
        for message in chunks.add(some, reader):
            await record(message)
        # Of a hundred thousand cases: others have their turn.
        await asyncio.sleep(0)
    await record(chunks.close(reader))
    return Told(reports=1, cases=len(found.cases))


def _context(command: CollectReportsV1, origin: Literal["artifact", "provider"], job: str | None) -> Context:
    return Context(
        build=command.build,
        repository=command.repository,
        origin=origin,
        observed_at=command.ended_at,
        workflow_id=command.workflow_id,
        branch=command.branch,
        commit_sha=command.commit_sha,
        job=job,
    )


class _Ready:
    """Results that are there already, as a reader that has been closed."""

    def __init__(self, found: Results) -> None:
        self._tally = Tally()
        self._found = found

    def count(self, cases: Iterable[TestCase]) -> None:
        for case in cases:
            self._tally.add(case)

    def feed(self, data: bytes) -> list[TestCase]:
        raise NotImplementedError

    def close(self) -> list[TestCase]:
        return []

    @property
    def format(self) -> str:
        return self._found.format

    @property
    def notes(self) -> tuple[str, ...]:
        return self._found.notes[:20]

    @property
    def totals(self) -> Totals:
        return self._tally.totals()

    @property
    def reported_at(self) -> datetime | None:
        return None
