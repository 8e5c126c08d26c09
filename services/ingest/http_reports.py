"""Test reports over HTTP, from a CI job or a script."""

from collections.abc import AsyncIterator
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
from reports.stream import Limits

PATH = "/api/v1/test-reports"
_LIMITS = Limits(total_bytes=8 * 1_073_741_824)
_Name = Annotated[str, Field(min_length=1, max_length=1000)]


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


def router(pool: Pool, broker: Broker) -> APIRouter:
    """The route that takes reports."""
    routes = APIRouter(tags=["ingest"])

    @routes.post(PATH, status_code=202, dependencies=[Depends(requires("write", pool))])
    async def test_reports(request: Request, of: Annotated[ReportUpload, Query()]) -> ReportsRecorded:
        """Take a test report, or a ZIP or tar with any number of them, as the request's body.

        202 once RabbitMQ has what was read; the same bytes for the same build are recorded once. 400 when there is
        no report in the body, 422 when none could be read.
        """
        context = of.context(datetime.now(UTC))
        found = [each async for each in _collected(request, of.source, context, broker)]
        refused = [RefusedReport(source=each.name, reason=each.problem) for each in found if each.problem]
        recorded = [
            RecordedReport(
                report_id=each.report_id,
                source=each.name,
                format=each.format,
                totals=each.totals,
                notes=list(each.notes),
            )
            for each in found
            if each.report_id and not each.problem
        ]
        if not recorded and refused:
            reasons = "; ".join(f"{each.source}: {each.reason}" for each in refused[:5])
            raise HttpError(
                422, reasons, kind="Unreadable", details={"refused": [r.model_dump() for r in refused]}
            )
        if not recorded:
            raise HttpError(400, "there is no test report in the body that is known", kind="NoReport")
        return ReportsRecorded(reports=recorded, refused=refused)

    return routes


async def _collected(request: Request, source: str, context: Context, broker: Broker) -> AsyncIterator[Found]:
    async def record(fact: Fact) -> None:
        await broker.record(fact)

    try:
        async for file in files(source, request.stream(), _LIMITS):
            found = await collect(file, context, record)
            if found is not None:
                yield found
    except ClientDisconnect:
        raise HttpError(400, "the body ended before it was whole", kind="Truncated") from None
