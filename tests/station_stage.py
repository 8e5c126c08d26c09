"""What the poller does with builds beside watching them, on real servers, with a provider in memory."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import uvicorn

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import (
    CancelBuildV1,
    CollectReportsV1,
    Command,
    PublishCheckV1,
    RerunBuildV1,
)
from chassis.broker import Broker
from chassis.database import make_pool
from chassis.http import make_app
from chassis.outbox import Outbox
from chassis.service import WEB, Service
from services.poller.acting import Actions
from services.poller.action_store import ActionStore
from services.poller.collecting import Collections, Limits
from services.poller.collection_store import CollectionStore
from services.poller.full_logs import FullLogs, router
from services.poller.queues import ACTIONS, COLLECT, COLLECT_BACKLOG, COLLECT_EXPRESS
from services.poller.store import Store
from tests.pretend_provider import NOON, TARGET, PretendProvider, a_build, ref


@dataclass
class Station:
    """The poller's collections, actions and whole logs, running; `url` is where its HTTP side answers."""

    service: Service
    provider: PretendProvider
    database: "asyncpg.Connection[asyncpg.Record]"
    url: str

    async def send(self, command: Command, *, lives_seconds: float | None = 600.0) -> None:
        expires = None if lives_seconds is None else datetime.now(UTC) + timedelta(seconds=lives_seconds)
        await self.service.broker.command(command, expires_at=expires)

    async def collection(self, build: BuildRef | None = None) -> dict[str, Any]:
        row = await self.database.fetchrow(
            "SELECT * FROM poller.published_collections WHERE build_id = $1", (build or ref()).build_id
        )
        return dict(row) if row else {"status": None}

    async def collected(self, build: BuildRef | None = None, *, seconds: float = 40.0) -> dict[str, Any]:
        """The collection of a build, once it is done."""
        async with asyncio.timeout(seconds):
            while (found := await self.collection(build))["status"] != "done":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found

    async def action(self, request_id: UUID) -> dict[str, Any]:
        row = await self.database.fetchrow(
            "SELECT * FROM poller.published_actions WHERE request_id = $1", request_id
        )
        return dict(row) if row else {"status": "queued", "detail": None}

    async def settled(self, request_id: UUID, *, seconds: float = 40.0) -> dict[str, Any]:
        """What came of an action, once it is settled and published."""
        async with asyncio.timeout(seconds):
            while (found := await self.action(request_id))["status"] == "queued":  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            while await self.database.fetchval("SELECT EXISTS (SELECT FROM poller.outbox)"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        return found


def collect(build: BuildRef | None = None, **changes: Any) -> CollectReportsV1:
    return CollectReportsV1(
        **{
            "build": build or ref(), "target": TARGET.name, "repository": "acme/shop", "workflow_id": "7",
            "branch": "main", "commit_sha": "c0ffee", "ended_at": NOON, "failed": True, **changes,
        }
    )  # fmt: skip


def rerun(build: BuildRef | None = None, **changes: Any) -> RerunBuildV1:
    return RerunBuildV1(**_asked(build) | changes)


def cancel(build: BuildRef | None = None, **changes: Any) -> CancelBuildV1:
    return CancelBuildV1(**_asked(build) | changes)


def check(build: BuildRef | None = None, **changes: Any) -> PublishCheckV1:
    verdict = {
        "commit_sha": "c0ffee" + "0" * 34,
        "name": "Buildlight",
        "conclusion": "failure",
        "title": "Red",
        "summary": "It is.",
    }
    return PublishCheckV1(**_asked(build) | verdict | changes)


def _asked(build: BuildRef | None) -> dict[str, Any]:
    return {"request_id": uuid4(), "build": build or ref(), "repository": "acme/shop", "by": "ada"}


@contextlib.asynccontextmanager
async def station(
    database_url: str,
    amqp_url: str,
    provider: PretendProvider,
    *,
    limits: Limits | None = None,
    rungs: Sequence[str] = ("200ms", "300ms"),
    builds: Sequence[BuildRef] = (),
    **logs: Any,
) -> AsyncIterator[Station]:
    pool = make_pool(database_url, application="poller", max_size=16)
    broker = Broker(amqp_url, service="poller", rungs=rungs)
    outbox = Outbox(pool, broker, schema="poller")
    kept = CollectionStore(pool)
    providers = {(provider.name, provider.instance): provider}
    collections = Collections(providers, kept, broker, limits=limits)
    broker.subscribe(COLLECT, collections.usual)
    broker.subscribe(COLLECT_EXPRESS, collections.express)
    broker.subscribe(COLLECT_BACKLOG, collections.usual)
    broker.subscribe(ACTIONS, Actions(providers, kept, ActionStore(pool, outbox), broker).act)
    guarded = logs.pop("reads_need_key", False)
    full = FullLogs(providers, kept, **logs)

    async def prepare() -> None:
        store = Store(pool, outbox)
        await store.add([TARGET])
        await store.keep_announced(TARGET, [a_build(build) for build in builds or (ref(),)], now=NOON)

    service = Service("poller", pool, broker, prepare=prepare, tasks=[outbox.run])
    app = make_app()
    app.include_router(router(full, pool, reads_need_key=guarded))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **WEB))
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    database = await asyncpg.connect(database_url)
    await service.start()
    tasks = [asyncio.create_task(task()) for task in service.tasks]
    web = asyncio.create_task(server.serve([listener]))
    try:
        while not server.started:  # noqa: ASYNC110 -- uvicorn sends no event
            await asyncio.sleep(0.01)
        yield Station(service, provider, database, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.should_exit = server.force_exit = True
        await web
        await service.stop()
        await database.close()
