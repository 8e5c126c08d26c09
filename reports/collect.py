"""Reads the reports among the files of an artifact, an upload or a folder."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from buildlight_contracts.envelope import Fact
from buildlight_contracts.test_results import Totals
from reports.archive import File
from reports.chunks import Chunks, Context
from reports.errors import NoReportError, UnreadableError
from reports.reader import ReportReader

Record = Callable[[Fact], Awaitable[None]]

_XML_NAMES = (".xml", ".trx", ".xml.gz", ".trx.gz")


@dataclass(frozen=True, slots=True)
class Found:
    """A file that is a report, or should be one."""

    name: str
    format: str
    totals: Totals
    """Of what was read."""
    notes: tuple[str, ...]
    reported_at: datetime | None
    report_id: UUID | None = None
    problem: str | None = None
    """Why it could not be read, or not to its end."""


async def collect(file: File, context: Context | None = None, record: Record | None = None) -> Found | None:
    """Read `file`; None when it is no report and does not look meant as one.

    With `record`, its facts are given to it as they are made, under the file's name as their source: the report's
    messages, or that it was refused. When one cannot be recorded, what `record` raises goes on.
    """
    if file.problem and not file.is_archive and not _is_xml(file.name):
        return None
    reader = ReportReader()
    chunks = Chunks(context, file.name) if context else None
    problem = file.problem
    try:
        if problem is None:
            async for data in file.content:
                cases = reader.feed(data)
                if chunks and record:
                    for message in chunks.add(cases, reader):
                        await record(message)
            cases = reader.close()
            if chunks and record:
                for message in chunks.add(cases, reader):
                    await record(message)
                await record(chunks.close(reader))
    except NoReportError as error:
        if not _is_meant(error, file.name):
            return None
        problem = str(error)
    except UnreadableError as error:
        if not reader.format and not _is_xml(file.name):
            return None
        problem = str(error)
    if problem is not None and context and record:
        await record(context.refused(problem, source=file.name))
    return Found(
        name=file.name,
        format=reader.format,
        totals=reader.totals,
        notes=reader.notes,
        reported_at=reader.reported_at,
        report_id=chunks.report_id if chunks else None,
        problem=problem,
    )


def _is_xml(name: str) -> bool:
    return name.lower().endswith(_XML_NAMES)


def _is_meant(error: NoReportError, name: str) -> bool:
    return _is_xml(name) if error.meant_as_report is None else error.meant_as_report
