"""A try that ends anywhere is followed by another: never two projects, never two commits."""

import asyncio
import json
import os
import sys

import pytest

from buildlight_contracts.provisioning import STEPS
from chassis.broker import Broker
from chassis.database import make_pool
from chassis.delivery import Delivery
from chassis.outbox import Outbox
from services.provisioner.blueprints import Catalogue
from services.provisioner.handlers import FrontDoors, Worker
from services.provisioner.render import Limits
from services.provisioner.steps import At, Tools
from services.provisioner.store import Store
from services.provisioner.workspace import Workspaces
from tests.integration.provisioner.conftest import CHECKOUT, RUNGS, Company, Eventually, Rig

POINTS = [f"{moment} {step}" for step in STEPS for moment in ("before", "did", "recorded")]


class Crash(BaseException):
    """The end of a try that nothing in it may catch, as of a process that is killed."""


async def test_one_project_one_commit_wherever_a_try_ends(
    rig: Rig, sandbox: Company, database_url: str, amqp_url: str
) -> None:
    """A run whose every try ends one point further on than the last comes to the same end as an untroubled one."""
    left = [*POINTS, "before succeeded"]

    async def end_here(point: str) -> None:
        if left and point == left[0]:
            left.pop(0)
            raise Crash(point)

    settings = rig.settings()
    pool = make_pool(database_url, application="test")
    await pool
    broker = Broker(amqp_url, service="test", rungs=RUNGS)
    await broker.start()
    try:
        store = Store(pool, Outbox(pool, broker, schema="provisioner"))
        await FrontDoors(store, broker).plain(Delivery(json.dumps(rig.job()).encode()))
        worker = Worker(store, broker, tools_of(rig), worker_id="w", tells=False, at=end_here)
        message = Delivery(json.dumps({"run_id": rig.name}).encode(), redelivered=True)
        ended = []
        while not await rig.is_("succeeded"):
            try:
                await worker.work(message)
            except Crash as crash:
                ended.append(str(crash))
        assert ended == [*POINTS, "before succeeded"]
        await worker.work(message)
    finally:
        await broker.stop()
        await pool.close()
    assert await sandbox.made() == [("project_created", rig.path), ("commit_created", rig.path)]
    assert await rig.steps() == [(step, "succeeded") for step in STEPS]
    said = await rig.row(
        "SELECT array_agg(envelope::json ->> 'type' ORDER BY seq) AS types FROM provisioner.outbox"
    )
    assert said == {
        "types": [
            "dev.buildlight.provisioning.requested.v1",
            *["dev.buildlight.provisioning.step_completed.v1"] * 7,
            "dev.buildlight.provisioning.succeeded.v1",
        ]
    }
    assert list(settings.workspaces.glob("worker-*/*/")) == []


def tools_of(rig: Rig) -> Tools:
    settings = rig.settings()
    return Tools(
        catalogue=Catalogue(settings.blueprints, max_bytes=settings.max_template_bytes),
        workspaces=Workspaces(settings.workspaces),
        limits=Limits(),
        gitlab_url=settings.gitlab_url,
        gitlab_token=settings.gitlab_token,
        gitlab_timeout_seconds=5,
        default_group=None,
        tells="no control plane is configured",
    )


@pytest.mark.parametrize("point", ["did create", "did push", "recorded report"])
async def test_an_error_in_the_service_is_retried(
    rig: Rig, sandbox: Company, eventually: Eventually, point: str
) -> None:
    """Raised once at the point, in the running service: the next rung ends it well."""
    raised: list[str] = []

    async def once(here: str) -> None:
        if here == point and not raised:
            raised.append(here)
            raise ValueError(here)

    async with rig.running(at=once):
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert raised == [point]
    assert await sandbox.made() == [("project_created", rig.path), ("commit_created", rig.path)]


async def test_two_replicas_are_one_at_a_time_at_a_run(
    rig: Rig, sandbox: Company, eventually: Eventually
) -> None:
    """The same message at two workers: the second waits for the first, and finds the work done."""
    inside: list[int] = []
    most: list[int] = []

    def counted() -> At:
        async def at(point: str) -> None:
            if point == "before validate":
                inside.append(1)
            most.append(len(inside))
            if point == "before succeeded":
                inside.pop()

        return at

    async with rig.running(at=counted(), concurrency=1), rig.running(at=counted(), concurrency=1):
        await rig.ask(rig.job())
        await eventually(rig.run)
        for _ in range(2):
            await rig.ask(json.dumps({"run_id": rig.name}).encode(), queue="provisioner.work")
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert max(most) == 1
    assert await sandbox.made() == [("project_created", rig.path), ("commit_created", rig.path)]


@pytest.mark.fault
@pytest.mark.parametrize("path", ["^/api/v4/projects$", "repository/commits$"])
async def test_a_process_killed_while_gitlab_works(
    rig: Rig, sandbox: Company, eventually: Eventually, path: str
) -> None:
    """Killed between an effect in GitLab and its answer: a new process takes the effect over."""
    if "commits" in path:
        # The look for an earlier try's commit comes first: it is told, as of any empty project, that there is none.
        await sandbox.fault(target="gitlab", kind="status", status=404, path=path, times=1)
    await sandbox.fault(target="gitlab", kind="hang", path=path, seconds=30, after=True)
    settings = rig.settings()
    environment = os.environ | {
        "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{CHECKOUT / 'contracts'}",
        "BUILDLIGHT_DATABASE_URL": settings.database_url.get_secret_value(),
        "BUILDLIGHT_AMQP_URL": settings.amqp_url.get_secret_value(),
        "BUILDLIGHT_RETRY_RUNGS": ",".join(RUNGS),
        "GITLAB_URL": settings.gitlab_url,
        "GITLAB_TOKEN": "sandbox-token",
        "WORKSPACE_DIR": str(settings.workspaces),
    }
    code = """if True:
        import asyncio
        from chassis.service import serve
        from services.provisioner.service import build
        from services.provisioner.settings import ProvisionerSettings

        async def main():
            await serve([build(ProvisionerSettings.load())], host="127.0.0.1", port=0)

        asyncio.run(main())
    """
    wanted = ["project_created"] if "commits" not in path else ["project_created", "commit_created"]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, env=environment, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        await rig.ask(rig.job())
        await eventually(lambda: _made(sandbox, wanted), timeout=60)
    finally:
        process.kill()
        await process.wait()
    await sandbox.control("DELETE", "/faults")
    assert [folder.name for folder in settings.workspaces.iterdir()] != []
    async with rig.running():
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert await sandbox.made() == [("project_created", rig.path), ("commit_created", rig.path)]


async def _made(sandbox: Company, kinds: list[str]) -> bool:
    return [kind for kind, _ in await sandbox.made()] == kinds
