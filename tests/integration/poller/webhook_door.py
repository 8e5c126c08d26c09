"""A poller's HTTP side on a real port, and deliveries to it."""

import asyncio
import hashlib
import hmac
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import aio_pika
import asyncpg
import httpx
import uvicorn

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import RefreshBuildV1
from buildlight_contracts.routing import COMMANDS
from chassis.http import make_app
from chassis.service import WEB, Service
from services.poller.providers.github.mapping import build_of
from services.poller.seen import Seen
from services.poller.service import build
from services.poller.settings import PollerSettings
from services.poller.webhooks import FactsOf
from tests.integration.ingest.conftest import keep_key_table

SECRET = "It's a Secret to Everybody"
REFRESH_KEYS = (RefreshBuildV1.type, f"{RefreshBuildV1.type}.express")
"""The routing keys of refreshes, the usual ones and those with priority."""
REPOSITORY = {"id": 1296269, "full_name": "acme/shop"}


def facts_of(event: str, body: Any, *, instance: str) -> Seen:
    """Runs as facts, jobs as a reason to look at their run; nothing else."""
    match event:
        case "workflow_run":
            run = {"repository": body.get("repository")} | body["workflow_run"]
            fact = build_of(run, instance=instance, repository="")
            return Seen((fact,), ((fact.repository, fact.build.run_id),))
        case "workflow_job":
            return Seen((), ((body["repository"]["full_name"], str(body["workflow_job"]["run_id"])),))
    return Seen(ignored=f"nothing is made of {event!r}")


STAND_IN: Mapping[str, FactsOf] = {"github": facts_of}


def run(number: int = 30433642, **changes: Any) -> dict[str, Any]:
    """The body of a `workflow_run`, as far as the mapping reads it."""
    row = {
        "id": number,
        "name": "CI",
        "workflow_id": 159038,
        "run_number": 562,
        "run_attempt": 1,
        "status": "completed",
        "conclusion": "failure",
        "created_at": "2026-03-02T09:00:00Z",
        "run_started_at": "2026-03-02T09:00:05Z",
        "updated_at": "2026-03-02T09:04:12Z",
        "head_branch": "main",
    }
    return {"action": "completed", "workflow_run": row | changes, "repository": REPOSITORY}


def signed(
    body: bytes, *, event: str = "workflow_run", delivery: str | None = None, **more: str
) -> dict[str, str]:
    """The headers of a delivery by GitHub."""
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return {
        "content-type": "application/json",
        "x-github-event": event,
        "x-github-delivery": delivery or str(uuid4()),
        "x-hub-signature-256": f"sha256={signature}",
    } | more


@dataclass
class Address:
    """Where an application listens."""

    port: int
    http: httpx.AsyncClient

    async def deliver(self, body: Any, *, path: str = "/webhooks/github", **options: Any) -> httpx.Response:
        """Post a signed delivery."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await self.http.post(path, content=raw, headers=signed(raw, **options))


@asynccontextmanager
async def listening(service: Service) -> AsyncIterator[Address]:
    """Serve a service's routes as a process would."""
    app = make_app()
    app.state.body_limits = dict(service.body_limits)
    for router in service.routers:
        app.include_router(router)
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, **WEB))
    serving = asyncio.create_task(server.serve([listener]))
    port = listener.getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http:
        while not server.started:  # noqa: ASYNC110 -- uvicorn has no event for it
            await asyncio.sleep(0.01)
        yield Address(port, http)
    server.should_exit = True
    await serving


@dataclass
class Refreshes:
    """The refreshes asked for."""

    commands: list[RefreshBuildV1] = field(default_factory=list)

    async def hear(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        command = command_of(parse(message.body))
        assert isinstance(command, RefreshBuildV1)
        self.commands.append(command)


@asynccontextmanager
async def hearing_refreshes(amqp_url: str) -> AsyncIterator[Refreshes]:
    """Stand in for who carries refreshes out."""
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("test.refresh", auto_delete=True)
        for key in REFRESH_KEYS:
            await queue.bind(COMMANDS.name, key)
        heard = Refreshes()
        await queue.consume(heard.hear, no_ack=True)
        yield heard


@asynccontextmanager
async def open_door(
    database_url: str, amqp_url: str, *, mappings: Mapping[str, FactsOf] = STAND_IN, **settings: Any
) -> AsyncIterator[Address]:
    """A started poller whose GitHub door knows one secret; the keys of `keep_key_table` hold."""
    superuser = await asyncpg.connect(database_url)
    await keep_key_table(superuser)
    await superuser.close()
    given: dict[str, Any] = {
        "database_url": database_url,
        "amqp_url": amqp_url,
        "github_token": "sandbox-token",
        # Nobody is there, and nobody is asked: what is looked for is what was pushed.
        "github_api_url": "http://127.0.0.1:9",
        "github_instance": "api.github.com",
        "github_repositories": ("Acme/Shop",),
        "github_webhook_secrets": (SECRET,),
        "interval_seconds": 86_400,
    }
    service = build(PollerSettings.load(**given | settings), mappings)
    await service.start()
    try:
        async with listening(service) as address:
            yield address
    finally:
        await service.stop()
