"""Test reports over HTTP, from a CI job or a script."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Fact, Id
from buildlight_contracts.test_results import Totals
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from reports.archive import files
from reports.chunks import Context
from reports.collect import Found, collect
from reports.stream import Limits, small

PATH = "/api/v1/test-reports"
_LIMITS = Limits(total_bytes=8 * 1_073_741_824)
_MOST_TOLD = 50
"""Of what is refused so much is told where nothing could be read."""
_Name = Annotated[str, Field(min_length=1, max_length=1000)]


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Of one replica: reading is work, and events wait for it."""

    at_once: int = 4
    wait_seconds: float = 30.0
    """For one of the `at_once` places."""
    most_seconds: float = 300.0
    """For the whole of an upload, its body's way here included."""


class ReportUpload(BaseModel):
    """The query parameters: whose tests they are."""

    provider: str = Field(min_length=1, max_length=32, examples=["github"])
    instance: Id = Field(examples=["api.github.com"], description="The provider's API's host.")
    repository_id: Id
    run_id: Id
    attempt: int = Field(default=1, ge=1)
    repository: _Name = Field(examples=["acme/shop"])
    workflow_id: Id | None = None
    branch: _Name | None = None
    commit_sha: _Name | None = None
    job: _Name | None = None
    source: _Name = Field(default="upload", description="The file's name, for people.")

    def context(self, now: datetime) -> Context:
        ref = {name: getattr(self, name) for name in BuildRef.model_fields}
        return Context(
            build=BuildRef(**ref),
            repository=self.repository,
            origin="upload",
            observed_at=now,
            workflow_id=self.workflow_id,
            branch=self.branch,
            commit_sha=self.commit_sha,
            job=self.job,
        )


class RecordedReport(BaseModel):
    report_id: UUID
    source: str = Field(
        description="The name it was given; of a report in an archive with its path in there."
    )
    format: str
    totals: Totals
    notes: list[str] = Field(description="What had to be recovered or left out.")


class RefusedReport(BaseModel):
    source: str
    reason: str


class ReportsRecorded(BaseModel):
    reports: list[RecordedReport]
    refused: list[RefusedReport] = Field(description="What should be a report and could not be read.")


def router(pool: Pool, broker: Broker, limits: UploadLimits | None = None) -> APIRouter:
    """The route that takes reports."""
    routes = APIRouter(tags=["ingest"])
    places = _Places(limits or UploadLimits())

    @routes.post(PATH, status_code=202, dependencies=[Depends(requires("write", pool))])
    async def test_reports(request: Request, of: Annotated[ReportUpload, Query()]) -> ReportsRecorded:
        """Take a test report, or a ZIP or tar with any number of them, as the request's body.

        202 once RabbitMQ has what was read; the same bytes for the same build are recorded once. 400 when there is
        no report in the body, 422 when none could be read, 408 when it takes too long, 503 while there are too many.
        """
        context = of.context(datetime.now(UTC))
        recorded: list[RecordedReport] = []
        refused: list[RefusedReport] = []
        async with places.one(), aclosing(_collected(request, of.source, context, broker)) as found:
            async for each in found:
                if each.problem:
                    refused.append(RefusedReport(source=each.name, reason=each.problem))
                elif each.report_id:
                    recorded.append(
                        RecordedReport(
                            report_id=each.report_id,
                            source=each.name,
                            format=each.format,
                            totals=each.totals,
                            notes=list(each.notes),
                        )
                    )
        if not recorded and refused:
            reasons = "; ".join(f"{each.source}: {each.reason}" for each in refused[:5])
            raise HttpError(
                422,
                reasons,
                kind="Unreadable",
                details={
                    "refused": [r.model_dump() for r in refused[:_MOST_TOLD]],
                    "refused_count": len(refused),
                },
            )
        if not recorded:
            raise HttpError(400, "there is no test report in the body that is known", kind="NoReport")
        return ReportsRecorded(reports=recorded, refused=refused)

    return routes


class _Places:
    """So many uploads are read at one time, each for so long."""

    def __init__(self, limits: UploadLimits) -> None:
        self._limits = limits
        self._free = asyncio.Semaphore(limits.at_once)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise HttpError(
                503,
                "So many reports are being read that there is no room for another; try again shortly",
                kind="Unavailable",
                headers={"Retry-After": "10"},
            ) from None
        timer = asyncio.timeout(self._limits.most_seconds)
        try:
            async with timer:
                yield
        except TimeoutError:
            if not timer.expired():
                raise
            raise HttpError(
                408,
                f"The reports were not here and read within {self._limits.most_seconds:.0f} s; what was read until "
                "then is recorded: send the same again, or in smaller parts",
                kind="TooSlow",
            ) from None
        finally:
            self._free.release()


async def _collected(
    request: Request, source: str, context: Context, broker: Broker
) -> AsyncGenerator[Found, None]:
    async def record(fact: Fact) -> None:
        await broker.record(fact)

    try:
        async for file in files(source, request.stream(), _LIMITS):
            # In small pieces: what comes out of an archive comes faster than others have their turn.
            found = await collect(replace(file, content=small(file.content)), context, record)
            if found is not None:
                yield found
    except ClientDisconnect:
        raise HttpError(400, "the body ended before it was whole", kind="Truncated") from None
