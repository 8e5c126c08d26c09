"""Reading what may hold test reports, and publishing what it says, as it comes."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from buildlight_contracts.test_results import TestCase, Totals
from reports.archive import File, Limits, files
from reports.cases import Tally
from reports.chunks import Chunks, Context
from reports.errors import NoReportError, UnreadableError
from reports.reader import ReportReader
from services.poller.provider import Document, PollFailedError, Results

MOST_UNREADABLE = 50
"""In one document: an artifact of ten thousand broken files is one thing that is wrong."""

Record = Callable[[Fact], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How long one document may take, and what an archive may hold."""

    most_seconds: float = 600.0
    archive: Limits = field(default_factory=Limits)


@dataclass(slots=True)
class Told:
    """What a document came to."""

    reports: int = 0
    cases: int = 0
    refused: int = 0
    """What should be a report and cannot be read."""


async def read_document(
    found: Document, command: CollectReportsV1, record: Record, limits: DocumentLimits
) -> Told:
    """Publish every report in a document, and what of it cannot be read.

    Raises:
        PollFailedError: the provider answered badly, also in the middle, or was too slow. What was published by
            then has the same ids when it is published again.
    """
    reading = _Reading(found, command, record)
    try:
        async with asyncio.timeout(limits.most_seconds) as patience, found.open() as chunks:
            async for file in files(found.source, chunks, limits.archive):
                await reading.take(file)
    except TimeoutError:
        if not patience.expired():
            raise
        raise PollFailedError(
            "unreachable", f"{found.source} was not read to its end in {limits.most_seconds:.0f} s."
        ) from None
    await reading.end()
    return reading.told


async def read_results(found: Results, command: CollectReportsV1, record: Record) -> Told:
    """Publish test results that the provider has read itself."""
    reader, chunks = _Ready(found), Chunks(_context(command, "provider", found.source, found.job))
    for message in chunks.add(found.cases, reader):
        await record(message)
    await record(chunks.close(reader))
    return Told(reports=1, cases=len(found.cases))


def _context(
    command: CollectReportsV1, origin: Literal["artifact", "provider"], source: str, job: str | None
) -> Context:
    return Context(
        build=command.build,
        repository=command.repository,
        origin=origin,
        source=source,
        observed_at=command.ended_at,
        workflow_id=command.workflow_id,
        branch=command.branch,
        commit_sha=command.commit_sha,
        job=job,
    )


class _Reading:
    def __init__(self, found: Document, command: CollectReportsV1, record: Record) -> None:
        self._found = found
        self._command = command
        self._record = record
        self.told = Told()

    async def take(self, file: File) -> None:
        if file.problem is not None:
            return await self._refuse(file.name, file.problem)
        try:
            await self._read(file)
        except NoReportError as error:
            # Of most artifacts most files are something else.
            if error.meant_as_report or self._found.is_report:
                await self._refuse(file.name, str(error))
        except UnreadableError as error:
            await self._refuse(file.name, str(error))
        return None

    async def end(self) -> None:
        more = self.told.refused - MOST_UNREADABLE
        if more > 0:
            reason = f"{more:,} more files in it cannot be read"
            await self._record(self._context(self._found.source).refused(reason))

    async def _read(self, file: File) -> None:
        reader = ReportReader()
        chunks = Chunks(self._context(file.name))
        cases = 0
        async for piece in file.content:
            made = reader.feed(piece)
            cases += len(made)
            for message in chunks.add(made, reader):
                await self._record(message)
            await asyncio.sleep(0)  # others have their turn
        made = reader.close()
        for message in chunks.add(made, reader):
            await self._record(message)
        await self._record(chunks.close(reader))
        self.told.reports += 1
        self.told.cases += cases + len(made)

    async def _refuse(self, source: str, reason: str) -> None:
        self.told.refused += 1
        if self.told.refused <= MOST_UNREADABLE:
            await self._record(self._context(source).refused(reason))

    def _context(self, source: str) -> Context:
        return _context(self._command, "artifact", source, self._found.job)


class _Ready:
    """Results that are there already, as a reader that has been closed."""

    def __init__(self, found: Results) -> None:
        tally = Tally()
        for case in found.cases:
            tally.add(case)
        self._totals = tally.totals()
        self._found = found

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
        return self._totals

    @property
    def reported_at(self) -> datetime | None:
        return None
