"""Reading the log of one job of a provider's, within limits of size and time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from buildlight_contracts.builds import BuildRef, JobObservedV1
from buildlight_contracts.collection import BuildLogCapturedV1
from reports.job_log import JobLog
from reports.stream import small
from services.poller.provider import Pieces, PollFailedError

MOST_LOGS = 20
"""Failed jobs of one attempt of whose logs an excerpt is kept: a matrix of a hundred fails for one reason."""


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`most_bytes` of one log are read, for `most_seconds`; what is read until then counts."""

    most_bytes: int = 200 * 1_048_576
    most_seconds: float = 180.0


def failed(jobs: Sequence[JobObservedV1]) -> list[JobObservedV1]:
    """The jobs whose logs are wanted: those that fail the build before those that may fail."""
    bad = [job for job in jobs if job.state.is_bad]
    return sorted(bad, key=lambda job: job.is_allowed_to_fail)[:MOST_LOGS]


async def capture(
    pieces: Pieces,
    job: JobObservedV1,
    build: BuildRef,
    *,
    repository: str,
    otherwise_at: datetime,
    limits: LogLimits,
) -> BuildLogCapturedV1 | None:
    """The part of a failed job's log that matters; None when the log is empty.

    Raises:
        LogGoneError, PollFailedError, MustWaitError: as `Provider.log`; also when not a byte came in time.
    """
    log, is_cut = await _read(pieces, job, limits)
    found = log.close(is_cut=is_cut)
    if not found.lines:
        return None
    return BuildLogCapturedV1(
        build=build,
        repository=repository,
        job_id=job.job_id,
        job=job.name,
        step=found.step,
        found_by=found.found_by,
        excerpt=found.text,
        first_line=found.first_line,
        lines=found.lines,
        masked=found.masked,
        is_cut=found.is_cut,
        captured_at=job.finished_at or otherwise_at,
    )


async def _read(pieces: Pieces, job: JobObservedV1, limits: LogLimits) -> tuple[JobLog, bool]:
    step = next((step for step in job.steps if step.state.is_bad), None)
    within = (step.started_at, step.finished_at) if step and step.started_at and step.finished_at else None
    log, size = JobLog(within=within, step=step.name if step else None), 0
    try:
        async with asyncio.timeout(limits.most_seconds), pieces as chunks:
            async for piece in small(chunks):
                log.feed(piece)
                size += len(piece)
                if size >= limits.most_bytes:
                    return log, True
    except TimeoutError:
        if not size:
            raise PollFailedError(
                "unreachable", f"Nothing came of the log of {job.name} in {limits.most_seconds:.0f} s."
            ) from None
        return log, True
    return log, False
