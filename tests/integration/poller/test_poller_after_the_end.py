"""From the end of a build at a provider to its reports, its logs and what it is asked to do; GitHub's as an example."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from uuid import uuid4

import asyncpg
import httpx
import pytest
import uvicorn

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.collection import BuildActionTakenV1, BuildLogCapturedV1
from buildlight_contracts.commands import RerunBuildV1
from buildlight_contracts.test_results import TestReportObservedV1, TestReportRefusedV1
from chassis.http import make_app
from chassis.service import WEB
from tests.integration.poller.conftest import Intake, Poller, Sandbox, StartPoller
from tests.unit.reports.job_logs import PYTEST, github

pytestmark = pytest.mark.timeout(200)


@contextlib.asynccontextmanager
async def answering(poller: Poller) -> AsyncIterator[httpx.AsyncClient]:
    """The poller's HTTP side."""
    app = make_app()
    for router in poller.service.routers:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **WEB))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    web = asyncio.create_task(server.serve([listener]))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    try:
        while not server.started:  # noqa: ASYNC110 -- uvicorn sends no event
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
            yield client
    finally:
        server.should_exit = server.force_exit = True
        await web


JUNIT = (
    '<testsuite name="cart"><testcase classname="Cart" name="adds"/>'
    '<testcase classname="Cart" name="sums"><failure/></testcase></testsuite>'
)


async def test_a_build_that_ended(bare: Sandbox, start_poller: StartPoller, intake: Intake) -> None:
    """A poll sees the end: its reports and its failed job's log are facts; the log is sent on; it is run again."""
    log = github(("make test", PYTEST)).decode("utf-8-sig")
    run = bare.run(
        repository="acme/shop",
        status="completed",
        conclusion="failure",
        jobs=[
            {"name": "lint", "status": "completed", "conclusion": "success", "log": "fine\n"},
            {"name": "unit", "status": "completed", "conclusion": "failure", "log": log},
        ],
        artifacts=[
            {"name": "test-results", "files": {"junit/cart.xml": JUNIT, "notes.txt": "hello"}},
            {"name": "test-broken", "files": {"a.xml": "<!DOCTYPE a [<!ENTITY b 'c'>]><testsuite/>"}},
        ],
    )
    async with start_poller(bare, ["acme/shop"], collects=True) as poller:
        await poller.poll()
        kept = await until_collected(poller)
        await intake.settle()
        assert (kept["reports"], kept["cases"], kept["refused"], kept["logs"]) == (1, 2, 1, 1)
        (report,) = intake.facts(TestReportObservedV1)
        assert (report.source, report.build.run_id) == ("test-results/junit/cart.xml", str(run["id"]))
        (refused,) = intake.facts(TestReportRefusedV1)
        assert refused.source == "test-broken/a.xml"
        (fact,) = intake.facts(BuildLogCapturedV1)
        assert (fact.job, fact.found_by) == ("unit", "failure_line")
        assert "assert 12 == 7" in fact.excerpt

        async with answering(poller) as client:
            path = f"/api/v1/builds/{fact.build.build_id}"
            text = (await client.get(f"{path}/jobs/{fact.job_id}/log")).text
            assert "E       assert 12 == 7\n" in text
            steps = (await client.get(f"{path}/jobs/{fact.job_id}/log", params={"format": "steps"})).json()
            assert [step["name"] for step in steps["steps"] if step["failed"]] == ["Run make test"]
            whole = (await client.get(f"{path}/log")).text
            assert "===== lint (" in whole
            assert "fine\n" in whole

        command = RerunBuildV1(
            request_id=uuid4(), build=fact.build, repository="acme/shop", by="ada", failed_only=True
        )
        await poller.service.broker.command(command)
        async with asyncio.timeout(60):
            while not any(build.build.attempt == 2 for build in intake.facts(BuildObservedV1)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        (action,) = intake.facts(BuildActionTakenV1)
        assert (action.outcome, action.action) == ("done", "rerun_failed"), action.detail


async def until_collected(poller: Poller) -> asyncpg.Record:
    async with asyncio.timeout(60):
        while True:
            row = await poller.database.fetchrow(
                "SELECT * FROM poller.published_collections WHERE status = 'done'"
            )
            if row is not None:
                return row
            await asyncio.sleep(0.05)
