"""Postgres as every service meets it: pools of one shape, what an outage is, and the schema's version."""

import json
from typing import TYPE_CHECKING, Final

import asyncpg
from asyncpg import exceptions
from asyncpg.pool import PoolConnectionProxy

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:  # generic in the stubs alone
    Pool, Connection = asyncpg.Pool, asyncpg.Connection

APP_ROLE: Final = "buildlight_app"
"""What a service acts as: it may use the tables of every service's schema, and owns none of the log's."""
READER_ROLE: Final = "buildlight_reader"
"""What reads as: the log and the published views, and nothing else."""

CONNECT_SECONDS: Final = 10.0


class WrongVersionError(RuntimeError):
    """The database's schema is not the one this release needs; the message says what to do."""


def make_pool(
    url: str,
    *,
    application: str,
    role: str | None = APP_ROLE,
    min_size: int = 0,
    max_size: int = 4,
    command_timeout_seconds: float = 60.0,
    idle_in_transaction_seconds: float = 30.0,
) -> Pool:
    """A pool that has not connected: connections in UTC whose json and jsonb columns are Python values.

    `await` it to open it; connections are made when they are needed.

    Args:
        url: libpq's form, `postgresql://user@host/database`.
        application: what `pg_stat_activity` shows, e.g. "ingest".
        role: what the connections act as from their start; None leaves them the URL's user.
        min_size: connections made when it opens.
        max_size: connections at most.
        command_timeout_seconds: after which an operation raises TimeoutError.
        idle_in_transaction_seconds: after which the server ends a session that holds a transaction and does
            nothing, and so frees what a stopped process had locked.
    """
    settings = {
        "application_name": f"buildlight-{application}",
        "timezone": "UTC",
        "idle_in_transaction_session_timeout": str(int(idle_in_transaction_seconds * 1000)),
        "jit": "off",
    }
    if role is not None:
        settings["role"] = role
    return asyncpg.create_pool(
        url,
        min_size=min_size,
        max_size=max_size,
        timeout=CONNECT_SECONDS,
        command_timeout=command_timeout_seconds,
        server_settings=settings,
        init=_speak_json,
    )


async def open_made(pool: Pool) -> None:
    """Open what `make_pool` made, and try it.

    Raises:
        WrongVersionError: the role is not there yet, or not for this user.
        BaseException: for which `is_outage` holds, when the database is away; see `chassis.outage.patiently`.
    """
    await pool
    try:
        await pool.fetchval("SELECT 1")
    except (exceptions.InvalidParameterValueError, exceptions.InsufficientPrivilegeError) as error:
        raise WrongVersionError(
            f"The database's user cannot act as its role ({error}). Run `buildlight migrate`, then start again."
        ) from error


_POOL_IS_SHUT: Final = (
    "pool is not initialized",
    "pool is being initialized",
    "pool is closing",
    "pool is closed",
)
_MISCONFIGURED: Final = (
    exceptions.InvalidAuthorizationSpecificationError,
    exceptions.InvalidCatalogNameError,
)
_AWAY: Final = (
    *_MISCONFIGURED,  # the login or the database was taken away: no statement's fault
    exceptions.PostgresConnectionError,
    exceptions.TooManyConnectionsError,
    exceptions.DiskFullError,
    exceptions.AdminShutdownError,
    exceptions.CrashShutdownError,
    exceptions.CannotConnectNowError,
    exceptions.DatabaseDroppedError,
    exceptions.IdleSessionTimeoutError,
    exceptions.IdleInTransactionSessionTimeoutError,  # this process was stopped for too long
    exceptions.PostgresIOError,
    exceptions.ReadOnlySQLTransactionError,  # the primary has become a standby
    exceptions.TargetServerAttributeNotMatched,  # and none of the URL's hosts is a primary yet
)


def is_misconfigured(error: BaseException) -> bool:
    """Whether the login or the database's name is wrong: at the start, waiting mends neither."""
    return isinstance(error, _MISCONFIGURED)


def is_outage(error: BaseException) -> bool:
    """Whether the database is away and the same operation may succeed later; else the statement is at fault.

    Give it only what a database operation raised: from elsewhere, a TimeoutError means something else.
    A commit that ended in an outage may have happened: repeat only what is idempotent.
    """
    if isinstance(error, exceptions.ProtocolViolationError):
        # From Postgres it is a client's fault, but a connection pooler says it of a server it cannot reach.
        return error.severity == "FATAL"
    if isinstance(error, asyncpg.InterfaceError):
        # asyncpg's one class for every misuse; only these of its messages are about the server, or of a pool
        # that is not open yet or no more: HTTP is served while a service starts and stops.
        if any(words in str(error) for words in ("connection is closed", *_POOL_IS_SHUT)):
            return True
        # A rollback or a release that trips over a lost connection hides the loss.
        return error.__context__ is not None and is_outage(error.__context__)
    if isinstance(error, asyncpg.InternalClientError):
        return True  # the protocol was cut in the middle: "cannot switch to state 15"
    if isinstance(error, OSError):
        # Refused, reset, unreachable, no such socket, a name not found, timed out; not a file of our own.
        return error.filename is None
    return isinstance(error, _AWAY)


async def require_version(pool: Pool, branch: str, revision: str) -> None:
    """Refuse to start on a database that has not seen `revision` of the service `branch`.

    One that has seen later ones too is accepted: it is migrated before the last replica is replaced.

    Raises:
        WrongVersionError: with the sentence to show.
    """
    try:
        applied = await pool.fetch(
            "SELECT revision FROM buildlight.revisions WHERE branch = $1 ORDER BY applied_at, revision",
            branch,
        )
    except (
        exceptions.InvalidSchemaNameError,
        exceptions.UndefinedTableError,
        exceptions.InsufficientPrivilegeError,
    ):
        applied = []
    if revision in {row["revision"] for row in applied}:
        return
    has = f"has {branch} at {applied[-1]['revision']}" if applied else f"has nothing of {branch}"
    raise WrongVersionError(
        f"The database {has}; this release needs {revision}. Run `buildlight migrate`, then start again."
    )


async def _speak_json(connection: Connection) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads, format="text"
        )
