"""The provisioner between a real RabbitMQ, a real Postgres and the sandbox's GitLab and control plane."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from buildlight_contracts.catalogue import parse
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import INTAKE
from chassis import topology
from chassis.service import Service
from services.provisioner.queues import QUEUES
from services.provisioner.service import build
from services.provisioner.settings import ProvisionerSettings
from services.provisioner.steps import At, nowhere
from tests.sandbox_stage import Sandbox, fresh, started

CHECKOUT = Path(__file__).resolve().parents[3]
RUNGS = ("100ms", "200ms")


class Company(Sandbox):
    """The sandbox, and what it was made to do."""

    async def made(self) -> list[tuple[str, str]]:
        """What GitLab was made to do: (`project_created` or `commit_created`, the project's path)."""
        return [(effect["kind"], effect["path"]) for effect in await self.effects("gitlab")]

    async def told(self) -> list[dict[str, Any]]:
        """The call-backs the control plane took."""
        return await self.effects("control_plane")

    async def gitlab(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.addresses['gitlab']}/api/v4{path}"
        response = await self.http.request(method, url, headers={"private-token": "sandbox-token"}, **options)
        assert response.is_success, response.text
        return response.json()


@pytest.fixture(scope="session")
def sandbox_addresses() -> Iterator[dict[str, Any]]:
    with started() as addresses:
        yield addresses


@pytest_asyncio.fixture
async def sandbox(sandbox_addresses: dict[str, Any]) -> AsyncIterator[Company]:
    async with fresh(Company, sandbox_addresses) as sandbox:
        yield sandbox


class Rig:
    """Everything around the provisioner, and what it leaves behind."""

    def __init__(
        self, database: asyncpg.Connection, channel: AbstractChannel, settings: dict[str, Any], name: str
    ) -> None:
        self._database = database
        self._channel = channel
        self._settings = settings
        self.name = name
        """A repository's name of the test's own; also its run's id."""
        self.path = f"acme/platform/{name}"

    def settings(self, **changes: Any) -> ProvisionerSettings:
        return ProvisionerSettings.load(**(self._settings | changes))

    def build(self, *, at: At = nowhere, **changes: Any) -> Service:
        return build(self.settings(**changes), at=at)

    @asynccontextmanager
    async def running(self, *, at: At = nowhere, **changes: Any) -> AsyncIterator[Service]:
        """The service at work, with these changes of its settings; at the end its outbox is empty."""
        service = self.build(at=at, **changes)
        tasks: list[asyncio.Task[None]] = []
        try:
            await service.start()
            tasks = [asyncio.create_task(task()) for task in service.tasks]
            yield service
            async with asyncio.timeout(10):
                query = "SELECT count(*) AS n FROM provisioner.outbox"
                while (await self.row(query)) != {"n": 0}:  # noqa: ASYNC110 -- what was concluded is published
                    await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()
            await service.stop()

    def job(self, **changes: Any) -> dict[str, Any]:
        """The plain job with a name of the test's own; `changes` replaces parts of its blueprint."""
        return {
            "run_id": self.name,
            "type": "component",
            "blueprint": {
                "template": "go-backend",
                "name": self.name,
                "namespace": "my-team",
                "values": {"port": 8080, "database": "postgres"},
                **changes,
            },
            "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
        }

    async def ask(self, job: dict[str, Any] | bytes, *, queue: str = "provisioning-jobs") -> None:
        """Publish a plain JSON job as another team would."""
        body = job if isinstance(job, bytes) else json.dumps(job).encode()
        await self._channel.default_exchange.publish(aio_pika.Message(body), routing_key=queue)

    async def row(self, query: str, *values: Any) -> dict[str, Any] | None:
        found = await self._database.fetchrow(query, *values)
        return dict(found) if found else None

    async def run(self) -> dict[str, Any] | None:
        """The run as published."""
        return await self.row("SELECT * FROM provisioner.published_runs WHERE run_id = $1", self.name)

    async def is_(self, status: str) -> bool:
        run = await self.run()
        return run is not None and run["status"] == status

    async def steps(self) -> list[tuple[str, str]]:
        rows = await self._database.fetch(
            "SELECT step, status FROM provisioner.published_steps WHERE run_id = $1 ORDER BY number",
            self.name,
        )
        return [(row["step"], row["status"]) for row in rows]

    async def facts(self) -> list[Envelope]:
        """What was recorded on intake so far and not asked for before."""
        found = []
        queue = await self._channel.get_queue("recorded")
        while message := await queue.get(fail=False, no_ack=True):
            found.append(parse(message.body))
        return found

    async def depth(self, queue: str) -> int:
        declared = await self._channel.declare_queue(queue, passive=True)
        return declared.declaration_result.message_count or 0

    async def dead_letter(self, queue: str) -> AbstractIncomingMessage | None:
        return await (await self._channel.get_queue(f"{queue}.dead")).get(fail=False, no_ack=True)


@pytest_asyncio.fixture
async def rig(database_url: str, amqp_url: str, sandbox: Company, tmp_path: Path) -> AsyncIterator[Rig]:
    await topology.declare(amqp_url, QUEUES, RUNGS)
    settings = {
        "database_url": database_url,
        "amqp_url": amqp_url,
        "retry_rungs": RUNGS,
        "gitlab_url": sandbox.addresses["gitlab"],
        "gitlab_token": "sandbox-token",
        "gitlab_group_id": None,
        "gitlab_timeout_seconds": 5,
        "control_plane_url": sandbox.addresses["control_plane"],
        "control_plane_api_key": "sandbox-key",
        "workspaces": tmp_path / "workspaces",
        "worker_id": "worker-001",
    }
    database = await asyncpg.connect(database_url)
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        recorded = await channel.declare_queue("recorded", durable=True)
        await recorded.bind(INTAKE.name, "#")
        yield Rig(database, channel, settings, f"svc-{uuid.uuid4().hex[:8]}")
    await database.close()


Eventually = Callable[..., Any]
