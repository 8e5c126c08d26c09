"""Pools against a real Postgres, and one that is killed."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import asyncpg
import pytest

from buildlight.servers import Postgres
from chassis.database import (
    APP_ROLE,
    READER_ROLE,
    WrongVersionError,
    is_outage,
    make_pool,
    open_made,
    require_version,
)
from chassis.outage import patiently


async def test_a_pool_acts_as_the_services_role_in_utc_with_json(database_url: str) -> None:
    """A pool's connections act as the services' role, in UTC, and give JSON as Python values."""
    async with make_pool(database_url, application="try") as pool:
        for _ in range(2):  # again after the pool has reset the connection
            row = await pool.fetchrow(
                "SELECT current_user AS role, current_setting('timezone') AS zone, $1::jsonb AS json, "
                "current_setting('application_name') AS name, "
                "current_setting('idle_in_transaction_session_timeout') AS idle",
                {"a": [1, None, "ü"]},
            )
            assert row is not None
            assert dict(row) == {
                "role": APP_ROLE,
                "zone": "UTC",
                "json": {"a": [1, None, "ü"]},
                "name": "buildlight-try",
                "idle": "30s",
            }


async def test_the_reader_reads_the_log_and_writes_nothing(database_url: str) -> None:
    """The reader's role may read the log; it may not append to it."""
    async with make_pool(database_url, application="api", role=READER_ROLE) as pool:
        assert await pool.fetch("SELECT * FROM log.events") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(
                "SELECT log.append('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')"
            )


async def test_a_stalled_transaction_loses_its_locks(database_url: str) -> None:
    """A session that holds a transaction and does nothing is ended, and its locks are free."""
    async with (
        make_pool(database_url, application="stalled", idle_in_transaction_seconds=0.1) as stalled,
        make_pool(database_url, application="other", command_timeout_seconds=5) as other,
    ):

        async def stall() -> None:
            async with stalled.acquire() as connection, connection.transaction():
                await connection.execute("SELECT pg_advisory_xact_lock(1)")
                await other.execute("SELECT pg_advisory_xact_lock(1)")
                await connection.execute("SELECT 1")

        with pytest.raises((asyncpg.InterfaceError, asyncpg.PostgresError)) as ended:
            await stall()
        assert is_outage(ended.value)


async def test_a_role_that_is_missing_is_named_with_what_to_do(own_postgres: Postgres) -> None:
    """On a server that was never migrated, opening a pool says to migrate."""
    with pytest.raises(
        WrongVersionError, match=r"cannot act as its role .*buildlight_app.* Run `buildlight migrate`"
    ):
        await open_made(make_pool(own_postgres.url, application="ingest"))


async def test_the_schemas_version_is_required(database_url: str, empty_database_url: str) -> None:
    """A service starts on a database that has its revision and refuses one that has not."""
    async with make_pool(database_url, application="ingest") as pool:
        await require_version(pool, "ingest", "ingest_0001")
        with pytest.raises(WrongVersionError) as refused:
            await require_version(pool, "ingest", "ingest_9999")
        assert str(refused.value).endswith(
            "this release needs ingest_9999. Run `buildlight migrate`, then start again."
        )
    async with make_pool(empty_database_url, application="ingest", role=None) as pool:
        with pytest.raises(WrongVersionError) as refused:
            await require_version(pool, "ingest", "ingest_0001")
        assert str(refused.value) == (
            "The database has nothing of ingest; this release needs ingest_0001. "
            "Run `buildlight migrate`, then start again."
        )


async def test_every_operation_fails_with_an_outage_while_the_server_is_away(
    own_postgres: Postgres, eventually: Callable[..., Awaitable[object]]
) -> None:
    """Whatever a killed server interrupts, and whatever is tried until it is back, fails with an outage."""
    failures: list[BaseException] = []
    successes = 0
    stop = asyncio.Event()

    async def work(operation: Callable[[], Awaitable[object]]) -> None:
        nonlocal successes
        while not stop.is_set():
            try:
                await operation()
                successes += 1
            except Exception as error:  # noqa: BLE001 -- every one of them is looked at below
                failures.append(error)
            await asyncio.sleep(0.002)

    pool = await make_pool(own_postgres.url, application="try", role=None, min_size=4, max_size=8)
    await pool.execute("CREATE TABLE t (n int)")

    async def transaction() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")
            await connection.execute("SELECT pg_sleep(0.005)")
            await connection.fetchval("SELECT count(*) FROM t WHERE n = $1", 1)

    async def copy() -> None:
        async with pool.acquire() as connection:
            await connection.copy_records_to_table("t", records=[(2,)] * 1000)

    async def cursor() -> None:
        async with pool.acquire() as connection, connection.transaction():
            async for _ in connection.cursor("SELECT generate_series(1, 500)", prefetch=10):
                pass

    async def connect() -> None:
        await (await asyncpg.connect(own_postgres.url)).close()

    async def tried(failed: list[BaseException]) -> None:
        try:
            await connect()
        except Exception as error:
            failed.append(error)
            raise

    operations: list[Callable[[], Awaitable[object]]] = [
        lambda: pool.fetchval("SELECT pg_sleep(0.01)"),
        lambda: pool.fetch("SELECT $1::int", 1),
        *(transaction, copy, cursor, connect),
    ]
    tasks = [asyncio.create_task(work(operation)) for operation in operations]
    for interrupt in (own_postgres.kill, own_postgres.stop):
        before = successes
        await eventually(lambda before=before: successes > before + 50)
        await interrupt()
        seen = len(failures)
        await eventually(lambda seen=seen: len(failures) > seen + 50)
        starting = asyncio.create_task(own_postgres.start())
        waited: list[BaseException] = []
        await patiently("postgres", partial(tried, waited))
        await starting
        assert waited
        assert all(map(is_outage, waited))
    before = successes
    await eventually(lambda: successes > before + 50)
    stop.set()
    await asyncio.gather(*tasks)
    await pool.close()
    assert {repr(error) for error in failures if not is_outage(error)} == set()


async def test_waiting_ends_at_once_for_a_wrong_name_and_in_time_for_silence(database_url: str) -> None:
    """A database that does not exist is no reason to wait; a server that is away is, for the time given."""
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        await patiently("postgres", partial(asyncpg.connect, database_url.rpartition("/")[0] + "/nowhere"))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await patiently("postgres", partial(asyncpg.connect, "postgresql://nobody@127.0.0.1:1/nowhere"))
