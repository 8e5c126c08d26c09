"""The one ordered migration of all schemas.

Each service keeps its revisions in `services/<name>/migrations/`, an Alembic branch labelled with its
name; a revision that needs another service's tables `depends_on` that one's.  They run as
`buildlight_owner`, one after the other, in one transaction.  `buildlight.revisions` keeps what was
applied, for people and for the services' own check (`chassis.database.require_version`); Alembic's own
table leaves out a revision when another one depends on it.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import sqlalchemy
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, MigrationInfo, RevisionStep
from alembic.script import ScriptDirectory
from asyncpg import exceptions
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import services
from chassis.database import APP_ROLE, CONNECT_SECONDS, READER_ROLE, Connection

OWNER_ROLE: Final = "buildlight_owner"
ROLES: Final = (OWNER_ROLE, APP_ROLE, READER_ROLE)

LOCK: Final = 0x6275696C646C6967  # "buildlig": any number that nobody else locks by
"""The advisory lock, in the database that is migrated."""


class CannotMigrateError(RuntimeError):
    """The database's user lacks a right; the message says which statements an administrator must run."""


async def migrate(
    url: str,
    *,
    app_password: SecretStr | None = None,
    reader_password: SecretStr | None = None,
    report: Callable[[str], None] = lambda _: None,
    locations: Sequence[Path] | None = None,
) -> None:
    """Bring every schema of a database to its newest revision; at once done when it is there.

    Two at once are safe: the second waits for the first.  The URL's user must be a superuser, or have
    CREATEROLE and own the database.

    Args:
        url: of the database, libpq's form.
        app_password: let services log in as `buildlight_app` with it, not only act as it.
        reader_password: the same for `buildlight_reader`.
        report: told one line a revision, and when it has to wait.
        locations: folders of revisions; every service's, unless given.

    Raises:
        CannotMigrateError: the user's rights do not suffice.
    """
    connection = await asyncpg.connect(
        url,
        timeout=CONNECT_SECONDS,
        server_settings={"application_name": "buildlight-migrate", "timezone": "UTC"},
    )
    try:
        async with _alone(connection, report):
            await _make_roles(connection)
            for role, password in ((APP_ROLE, app_password), (READER_ROLE, reader_password)):
                if password is not None:
                    await _let_log_in(connection, role, password)
            await connection.execute(f"SET ROLE {OWNER_ROLE}")
            await _make_ledger(connection)
            async with _alone_in_process():
                await _run(connection, locations or _services_revisions(), report)
    finally:
        await connection.close()


def _services_revisions() -> list[Path]:
    return sorted(folder for root in services.__path__ for folder in Path(root).glob("*/migrations"))


@asynccontextmanager
async def _alone(connection: Connection, report: Callable[[str], None]) -> AsyncIterator[None]:
    """Hold the migration's lock.

    It is asked for again and again, not waited for in the server: there the waiting statement's snapshot
    would hold up a CREATE INDEX CONCURRENTLY of the one that has the lock.
    """
    waited = False
    while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
        if not waited:
            report("another migration of this database is running; waiting for its end")
            waited = True
        await asyncio.sleep(0.1)
    try:
        yield
    finally:
        if not connection.is_closed():
            await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


@asynccontextmanager
async def _alone_in_process() -> AsyncIterator[None]:
    """Keep migrations of two databases apart: the `op` of Alembic's revisions is one for the whole process.

    Polled, because it must hold between event loops and between threads.
    """
    while not _op_is_taken.acquire(blocking=False):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        _op_is_taken.release()


_op_is_taken: Final = threading.Lock()


async def _make_roles(connection: Connection) -> None:
    """Make the three roles, and let the user act as each.

    Roles belong to the server and the lock to one database: a migration of another database may be making the
    same ones at this moment.
    """
    database = await connection.fetchval("SELECT quote_ident(current_database())")
    user = await connection.fetchval("SELECT quote_ident(session_user)")
    needed = [
        *(f"CREATE ROLE {role};" for role in ROLES),
        f"GRANT {', '.join(ROLES)} TO {user};",
        f"GRANT CREATE, CONNECT ON DATABASE {database} TO {OWNER_ROLE};",
        f"GRANT CONNECT ON DATABASE {database} TO {APP_ROLE}, {READER_ROLE};",
    ]
    try:
        for role in ROLES:
            if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", role):
                await _despite_others(connection, f"CREATE ROLE {role} NOLOGIN")
            if not await _can_act_as(connection, role):
                await _despite_others(connection, f"GRANT {role} TO {user}")
        for role, right in ((OWNER_ROLE, "CREATE"), *((role, "CONNECT") for role in ROLES)):
            await _grant_on_database(connection, role, right)
    except exceptions.InsufficientPrivilegeError as error:
        reason = str(error).partition("\n")[0]
        raise CannotMigrateError(
            f"{user} cannot prepare the database ({reason}). Migrate as a superuser, or as a user with "
            "CREATEROLE that owns the database, or let an administrator run, leaving out what exists:\n  "
            + "\n  ".join(needed)
        ) from error


async def _grant_on_database(connection: Connection, role: str, right: str) -> None:
    async def has() -> bool:
        query = "SELECT has_database_privilege($1::text, current_database(), $2)"
        return bool(await connection.fetchval(query, role, right))

    if not await has():
        database = await connection.fetchval("SELECT quote_ident(current_database())")
        await connection.execute(f"GRANT {right} ON DATABASE {database} TO {role}")
        if not await has():  # to one who may not grant, Postgres gives no more than a warning
            raise exceptions.InsufficientPrivilegeError(f"{right} on {database} is not yours to grant")


async def _can_act_as(connection: Connection, role: str) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL ROLE {role}")
    except exceptions.InsufficientPrivilegeError:
        return False
    return True


async def _despite_others(connection: Connection, statement: str) -> None:
    """Run a statement about a role although another database's migration may run the same at this moment."""
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, None):
        try:
            await connection.execute(statement)
        except (exceptions.DuplicateObjectError, exceptions.UniqueViolationError):
            return  # the other has made it
        except exceptions.InternalServerError:  # "tuple concurrently updated"
            if pause is None:
                raise
            await asyncio.sleep(pause)
        else:
            return


async def _let_log_in(connection: Connection, role: str, password: SecretStr) -> None:
    statement = await connection.fetchval(
        "SELECT format('ALTER ROLE %I LOGIN PASSWORD %L', $1::text, $2::text)",
        role,
        password.get_secret_value(),
    )
    await _despite_others(connection, statement)


async def _make_ledger(connection: Connection) -> None:
    await connection.execute(
        f"""
        CREATE SCHEMA IF NOT EXISTS buildlight;
        CREATE TABLE IF NOT EXISTS buildlight.revisions (
            revision text PRIMARY KEY,
            branch text NOT NULL,
            title text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now()
        );
        GRANT USAGE ON SCHEMA buildlight TO {APP_ROLE}, {READER_ROLE};
        GRANT SELECT ON buildlight.revisions TO {APP_ROLE}, {READER_ROLE};
        """
    )


async def _run(connection: Connection, locations: Iterable[Path], report: Callable[[str], None]) -> None:
    script = ScriptDirectory(str(Path(__file__).parent), version_locations=[str(path) for path in locations])

    async def the_connection() -> Connection:
        return connection

    engine = create_async_engine("postgresql+asyncpg://", async_creator=the_connection, poolclass=NullPool)
    async with engine.connect() as wrapped:
        await wrapped.run_sync(_upgrade, script, report)
        await wrapped.commit()


def _upgrade(
    connection: sqlalchemy.Connection, script: ScriptDirectory, report: Callable[[str], None]
) -> None:
    def to_the_heads(current: Any, _: MigrationContext) -> list[RevisionStep]:
        return script._upgrade_revs("heads", current)  # noqa: SLF001 -- as Alembic's own command does

    def note(*, step: MigrationInfo, **_: Any) -> None:
        assert step.up_revision_id is not None
        revision = script.get_revision(step.up_revision_id)
        title = revision.doc.rstrip(".")
        connection.execute(
            sqlalchemy.text("INSERT INTO buildlight.revisions (revision, branch, title) VALUES (:r, :b, :t)"),
            {"r": revision.revision, "b": Path(revision.path).parent.parent.name, "t": title},
        )
        report(f"{revision.revision}  {title}")

    with EnvironmentContext(Config(), script, fn=to_the_heads) as environment:
        environment.configure(
            connection=connection,
            version_table_schema="buildlight",
            on_version_apply=note,  # type: ignore[arg-type]  # it is called by keywords
        )
        with environment.begin_transaction():
            environment.run_migrations()
