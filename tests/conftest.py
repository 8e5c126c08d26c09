"""What every test may ask for: real servers, and in them a database and a virtual host of its own.

The servers start when the first test asks. They are, in this order: those whose addresses are in
BUILDLIGHT_TEST_DATABASE_URL and BUILDLIGHT_TEST_AMQP_URL (whoever gives an address lends the server:
databases and virtual hosts are made and dropped in it); containers, with BUILDLIGHT_TEST_CONTAINERS=1
(which needs a Docker engine); private servers in a temporary folder. With pytest-xdist each worker has
its own.
"""

import asyncio
import importlib
import importlib.util
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import aio_pika
import asyncpg
import httpx
import pytest
import pytest_asyncio

from buildlight.servers import Postgres, RabbitMQ


@dataclass(frozen=True)
class PostgresServer:
    """A server that databases may be made in; `url` is a superuser's."""

    url: str

    def database(self, name: str) -> str:
        """The URL of another database on the server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    async def execute(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()


@dataclass(frozen=True)
class RabbitMQServer:
    """A broker that virtual hosts may be made in; `management_url` is its HTTP API, with credentials."""

    url: str
    management_url: str

    def vhost(self, name: str) -> str:
        """The URL of another virtual host of the broker."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{name}"))

    async def become_ready(self) -> None:
        """Wait until clients are served and the management API answers."""
        async with asyncio.timeout(90):
            while True:
                try:
                    await self.manage("GET", "/api/overview")
                    await (await aio_pika.connect(self.url)).close()
                except (httpx.HTTPError, aio_pika.exceptions.AMQPError, OSError):
                    await asyncio.sleep(0.5)
                else:
                    return

    async def manage(self, method: str, path: str) -> httpx.Response:
        """Call the management API, for example `manage("GET", "/api/queues/...")`."""
        async with httpx.AsyncClient(base_url=self.management_url, trust_env=False) as client:
            return (await client.request(method, path)).raise_for_status()


def containers_wanted() -> bool:
    return os.environ.get("BUILDLIGHT_TEST_CONTAINERS") == "1"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[PostgresServer]:
    """One PostgreSQL for the session."""
    if url := os.environ.get("BUILDLIGHT_TEST_DATABASE_URL"):
        yield PostgresServer(url)
    elif containers_wanted():
        from testcontainers.community.postgres import PostgresContainer

        with PostgresContainer("postgres:18", driver=None) as container:
            yield PostgresServer(container.get_connection_url())
    else:
        server = Postgres(tmp_path_factory.mktemp("servers") / "postgres")
        await server.start()
        yield PostgresServer(server.url)
        await server.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def rabbitmq_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RabbitMQServer]:
    """One RabbitMQ for the session."""
    if url := os.environ.get("BUILDLIGHT_TEST_AMQP_URL"):
        address = urlsplit(url)
        login = address.netloc.rpartition("@")[0] or "guest:guest"
        management = os.environ.get(
            "BUILDLIGHT_TEST_MANAGEMENT_URL", f"http://{login}@{address.hostname}:15672"
        )
        yield RabbitMQServer(url, management)
    elif containers_wanted():
        from testcontainers.core.container import DockerContainer

        # Not testcontainers' own RabbitMqContainer: it needs a second AMQP library only to wait.
        with DockerContainer("rabbitmq:4-management").with_exposed_ports(5672, 15672) as container:
            host = container.get_container_host_ip()
            amqp, http = (container.get_exposed_port(port) for port in (5672, 15672))
            server = RabbitMQServer(f"amqp://guest:guest@{host}:{amqp}/", f"http://guest:guest@{host}:{http}")
            await server.become_ready()
            yield server
    else:
        private = RabbitMQ(tmp_path_factory.mktemp("servers") / "rabbitmq")
        await private.start()
        yield RabbitMQServer(private.url, private.management_url)
        await private.kill()


def unique(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:12]}"


async def fresh_database(server: PostgresServer, template: str) -> AsyncIterator[str]:
    name = unique("test")
    await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    yield server.database(name)
    await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest_asyncio.fixture
async def empty_database_url(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database of the test's own, with nothing in it."""
    async for url in fresh_database(postgres_server, "template1"):
        yield url


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def migrated_template(postgres_server: PostgresServer) -> AsyncIterator[str]:
    """A database with all the migrations applied, made once, for others to be copied from."""
    name = unique("migrated")
    await postgres_server.execute(f'CREATE DATABASE "{name}" TEMPLATE "template1"')
    if importlib.util.find_spec("buildlight.migrate") is not None:
        migrate = importlib.import_module("buildlight.migrate").migrate
        await migrate(postgres_server.database(name))
    yield name
    await postgres_server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest_asyncio.fixture
async def database_url(postgres_server: PostgresServer, migrated_template: str) -> AsyncIterator[str]:
    """A migrated database of the test's own."""
    async for url in fresh_database(postgres_server, migrated_template):
        yield url


@pytest_asyncio.fixture
async def amqp_url(rabbitmq_server: RabbitMQServer) -> AsyncIterator[str]:
    """A virtual host of the test's own."""
    name = unique("test")
    await rabbitmq_server.manage("PUT", f"/api/vhosts/{name}")
    yield rabbitmq_server.vhost(name)
    await rabbitmq_server.manage("DELETE", f"/api/vhosts/{name}")


@pytest_asyncio.fixture
async def own_postgres(tmp_path: Path) -> AsyncIterator[Postgres]:
    """A PostgreSQL of the test's own, to kill() and start() again; its database is not migrated."""
    async with Postgres(tmp_path / "postgres") as server:
        yield server


@pytest_asyncio.fixture
async def own_rabbitmq(tmp_path: Path) -> AsyncIterator[RabbitMQ]:
    """A RabbitMQ of the test's own, to kill() and start() again."""
    server = RabbitMQ(tmp_path / "rabbitmq")
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def eventually() -> Callable[..., Awaitable[object]]:
    """Give a function that waits for a condition (plain or async) where a test would sleep."""

    async def wait(condition: Callable[[], object], *, timeout: float = 60.0) -> object:  # noqa: ASYNC109
        async with asyncio.timeout(timeout):
            while True:
                result = condition()
                if asyncio.iscoroutine(result):
                    result = await result
                if result:
                    return result
                await asyncio.sleep(0.02)

    return wait
