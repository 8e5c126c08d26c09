"""The one migration of all schemas, on real servers and with less than all rights."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

import services
from buildlight.migrate import CannotMigrateError, migrate
from buildlight.servers import Postgres
from chassis.database import make_pool, require_version

INGEST = Path(services.__file__).parent / "ingest" / "migrations"
INGEST_REVISIONS = [
    "ingest_0001  The event log",
    "ingest_0002  The relay's checkpoint, and the archive of dead letters",
]
"""What the progress says of ingest's own migrations, in order."""


@pytest_asyncio.fixture
async def server(own_postgres: Postgres) -> AsyncIterator[asyncpg.Connection]:
    """A superuser's connection to a server on which no role of ours exists."""
    connection = await asyncpg.connect(own_postgres.url)
    yield connection
    await connection.close()


def address(server: Postgres, database: str, user: str | None = None, password: str = "secret") -> str:
    """The address of another database of the server, for another user."""
    parts = urlsplit(server.url)._replace(path=f"/{database}")
    if user is not None:
        parts = parts._replace(netloc=f"{user}:{password}@{parts.hostname}:{parts.port}")
    return urlunsplit(parts)


def revisions(folder: Path, name: str, upgrade: str, depends_on: str | None = None) -> Path:
    """Write the one revision of a pretended service and return its folder."""
    migrations = folder / name / "migrations"
    migrations.mkdir(parents=True)
    (migrations / f"{name}_0001_things.py").write_text(
        f'"""Things of {name}."""\n'
        "from alembic import op\n"
        f'revision = "{name}_0001"\ndown_revision = None\nbranch_labels = ("{name}",)\n'
        f"depends_on = {depends_on!r}\n"
        f"def upgrade() -> None:\n    op.execute({upgrade!r})\n"
    )
    return migrations


async def test_a_second_migration_has_nothing_to_do(empty_database_url: str) -> None:
    """The first run tells of every revision in a line; the next finds nothing to do."""
    lines: list[str] = []
    await migrate(empty_database_url, report=lines.append, locations=[INGEST])
    assert lines == INGEST_REVISIONS
    await migrate(empty_database_url, report=lines.append, locations=[INGEST])
    assert lines == INGEST_REVISIONS


async def test_every_services_revisions_are_found(empty_database_url: str) -> None:
    """Without being told where, it runs what lies in the services' own folders."""
    lines: list[str] = []
    await migrate(empty_database_url, report=lines.append)
    assert "ingest_0001  The event log" in lines


async def test_migrations_at_once_are_one_after_the_other(empty_database_url: str) -> None:
    """Several at once apply each revision once, and those that have to wait say so."""
    lines: list[str] = []
    await asyncio.gather(
        *(migrate(empty_database_url, report=lines.append, locations=[INGEST]) for _ in range(4))
    )
    waits = [line for line in lines if line.endswith("waiting for its end")]
    assert [line for line in lines if line not in waits] == INGEST_REVISIONS
    assert len(waits) == 3


async def test_databases_at_once_share_the_servers_roles(
    own_postgres: Postgres, server: asyncpg.Connection
) -> None:
    """Migrations of many databases of one new server, at once, all find the roles made."""
    names = [f"company_{number}" for number in range(6)]
    for name in names:
        await server.execute(f"CREATE DATABASE {name}")
    await asyncio.gather(*(migrate(address(own_postgres, name), locations=[INGEST]) for name in names))
    for name in names:
        async with make_pool(address(own_postgres, name), application="ingest") as pool:
            await require_version(pool, "ingest", "ingest_0001")


async def test_the_databases_owner_who_may_create_roles_suffices(
    own_postgres: Postgres, server: asyncpg.Connection
) -> None:
    """A user with CREATEROLE who owns the database migrates it, and services act as their role."""
    await server.execute("CREATE ROLE tenant LOGIN CREATEROLE PASSWORD 'secret'")
    await server.execute("CREATE DATABASE company OWNER tenant")
    url = address(own_postgres, "company", "tenant")
    await migrate(url, locations=[INGEST])
    await migrate(url, locations=[INGEST])
    async with make_pool(url, application="ingest") as pool:
        assert await pool.fetchval("SELECT current_user::text") == "buildlight_app"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute("DELETE FROM log.events")
    owners = await server.fetch(
        "SELECT rolname, rolcanlogin, rolsuper, rolcreaterole FROM pg_roles"
        " WHERE rolname LIKE 'buildlight\\__%' ORDER BY rolname"
    )
    assert [tuple(row) for row in owners] == [
        ("buildlight_app", False, False, False),
        ("buildlight_owner", False, False, False),
        ("buildlight_reader", False, False, False),
    ]


async def test_a_user_without_rights_is_told_what_an_administrator_must_run(
    own_postgres: Postgres, server: asyncpg.Connection
) -> None:
    """The refusal holds the very statements after which the same user can migrate."""
    await server.execute("CREATE ROLE nobody_much LOGIN PASSWORD 'secret'")
    await server.execute("CREATE DATABASE company")
    url = address(own_postgres, "company", "nobody_much")
    with pytest.raises(CannotMigrateError, match=r"^nobody_much cannot prepare the database") as refused:
        await migrate(url, locations=[INGEST])
    statements = [line.strip() for line in str(refused.value).splitlines()[1:]]
    assert statements == [
        "CREATE ROLE buildlight_owner;",
        "CREATE ROLE buildlight_app;",
        "CREATE ROLE buildlight_reader;",
        "GRANT buildlight_owner, buildlight_app, buildlight_reader TO nobody_much;",
        "GRANT CREATE, CONNECT ON DATABASE company TO buildlight_owner;",
        "GRANT CONNECT ON DATABASE company TO buildlight_app, buildlight_reader;",
    ]
    for statement in statements[:4]:
        await server.execute(statement)
    with pytest.raises(CannotMigrateError, match="CREATE"):
        await migrate(url, locations=[INGEST])
    for statement in statements[4:]:
        await server.execute(statement)
    await migrate(url, locations=[INGEST])
    async with make_pool(url, application="ingest") as pool:
        await require_version(pool, "ingest", "ingest_0001")


async def test_services_may_log_in_with_passwords_of_their_own(own_postgres: Postgres) -> None:
    """With passwords given, the services' role and the reader's log in by themselves."""
    await migrate(
        own_postgres.url,
        app_password=SecretStr("it's"),
        reader_password=SecretStr("read"),
        locations=[INGEST],
    )
    for role, password in (("buildlight_app", "it%27s"), ("buildlight_reader", "read")):
        url = address(own_postgres, "buildlight", role, password)
        async with make_pool(url, application="try", role=role) as pool:
            row = await pool.fetchrow(
                "SELECT current_user::text, session_user::text, count(*) FROM log.events"
            )
            assert row is not None
            assert tuple(row) == (role, role, 0)


async def test_a_service_that_builds_on_the_log_comes_after_it(
    empty_database_url: str, tmp_path: Path
) -> None:
    """A revision that depends on ingest's runs after it, and the version of both can be required."""
    after = revisions(tmp_path, "aftermath", "CREATE VIEW log.tail AS TABLE log.events", "ingest_0001")
    lines: list[str] = []
    await migrate(empty_database_url, report=lines.append, locations=[after, INGEST])
    assert lines == [*INGEST_REVISIONS, "aftermath_0001  Things of aftermath"]
    async with make_pool(empty_database_url, application="aftermath") as pool:
        await require_version(pool, "ingest", "ingest_0001")
        await require_version(pool, "aftermath", "aftermath_0001")
    await migrate(empty_database_url, report=lines.append, locations=[after, INGEST])
    assert len(lines) == 3


async def test_a_revision_that_fails_leaves_nothing(empty_database_url: str, tmp_path: Path) -> None:
    """When one revision fails, none of the run is applied, and the next run starts where this one did."""
    broken = revisions(tmp_path, "broken", "CREATE TABLE nowhere.things ()", "ingest_0001")
    with pytest.raises(Exception, match='schema "nowhere" does not exist'):
        await migrate(empty_database_url, locations=[INGEST, broken])
    lines: list[str] = []
    await migrate(empty_database_url, report=lines.append, locations=[INGEST])
    assert lines == INGEST_REVISIONS
