"""The provisioner put together."""

import asyncio

import structlog

from chassis.broker import Broker
from chassis.database import make_pool, require_version
from chassis.outbox import Outbox
from chassis.service import Service
from services.provisioner.blueprints import Catalogue
from services.provisioner.handlers import ControlPlane, FrontDoors, Worker
from services.provisioner.metrics import watch_depths
from services.provisioner.queues import CALLBACK, PROVISION, jobs, work
from services.provisioner.render import Limits
from services.provisioner.settings import ProvisionerSettings
from services.provisioner.steps import At, Tools, nowhere
from services.provisioner.store import Store
from services.provisioner.workspace import Workspaces

log = structlog.get_logger()

_OTHER_CONNECTIONS = 4
"""Beside one a run and one a call-back in hand: the front doors, the outbox, the readiness check."""


def build(settings: ProvisionerSettings, *, at: At = nowhere) -> Service:
    """The service; nothing connects. `at` is called at named points of every run, for tests."""
    pool = make_pool(
        settings.database_url.get_secret_value(),
        application="provisioner",
        max_size=max(
            settings.database_pool_size, settings.concurrency + CALLBACK.prefetch + _OTHER_CONNECTIONS
        ),
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="provisioner", rungs=settings.retry_rungs)
    outbox = Outbox(pool, broker, schema="provisioner")
    store = Store(pool, outbox)
    catalogue = Catalogue(settings.blueprints, max_bytes=settings.max_template_bytes)
    workspaces = Workspaces(settings.workspaces)
    tells = settings.control_plane_url is not None
    tools = Tools(
        catalogue=catalogue,
        workspaces=workspaces,
        limits=Limits(
            seconds=settings.max_job_seconds,
            workspace_bytes=settings.max_workspace_bytes,
            commit_bytes=settings.max_commit_bytes,
        ),
        gitlab_url=settings.gitlab_url,
        gitlab_token=settings.gitlab_token,
        gitlab_timeout_seconds=settings.gitlab_timeout_seconds,
        default_group=settings.gitlab_group_id,
        tells="the control plane will be told" if tells else "no control plane is configured",
    )
    doors = FrontDoors(store, broker)
    worker = Worker(store, broker, tools, worker_id=settings.worker_id, tells=tells, at=at)
    control_plane = ControlPlane(
        store, url=settings.control_plane_url, api_key=settings.control_plane_api_key
    )
    queues = (jobs(settings), PROVISION, work(settings), CALLBACK)
    for queue, handler in zip(
        queues, (doors.plain, doors.command, worker.work, control_plane.tell), strict=True
    ):
        broker.subscribe(queue, handler)

    async def prepare() -> None:
        await require_version(pool, "provisioner", "provisioner_0001")
        if settings.template_cache is not None:
            log.info("TEMPLATE_CACHE_DIR is ignored: blueprints are read where they lie")
        cleared = await asyncio.to_thread(workspaces.open)
        log.info("workspaces ready", folder=str(settings.workspaces), stale_removed=cleared)

    async def blueprints_are_readable() -> None:
        await asyncio.to_thread(catalogue.names)

    return Service(
        "provisioner",
        pool,
        broker,
        prepare=prepare,
        tasks=(outbox.run, lambda: watch_depths(broker, queues)),
        checks={"blueprints": blueprints_are_readable},
    )
