"""One leader among replicas, on a real Postgres."""

from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest_asyncio

from chassis.database import Pool, make_pool
from chassis.lease import Lease

Eventually = Callable[..., Awaitable[object]]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        CREATE SCHEMA play;
        CREATE TABLE play.leases (name text PRIMARY KEY, holder uuid NOT NULL, expires_at timestamptz NOT NULL);
        GRANT USAGE ON SCHEMA play TO buildlight_app;
        GRANT ALL ON play.leases TO buildlight_app;
    """)
    await connection.close()
    async with make_pool(database_url, application="play") as pool:
        yield pool


async def test_one_holds_it_until_it_lets_go(pool: Pool) -> None:
    """The second gets it after the first has released it, and not before; the first may renew."""
    first, second = (Lease("clock", pool, schema="play", seconds=60) for _ in range(2))
    assert await first.hold() is True
    assert await second.hold() is False
    assert await first.hold() is True
    await second.release()
    assert await second.hold() is False
    await first.release()
    assert await second.hold() is True
    assert await first.hold() is False


async def test_it_passes_on_when_its_holder_is_silent(pool: Pool, eventually: Eventually) -> None:
    """By the database's clock: after its time, and not before, another gets it and the first has lost it."""
    first, second = (Lease("clock", pool, schema="play", seconds=0.3) for _ in range(2))
    assert await first.hold() is True
    assert await second.hold() is False
    until = await pool.fetchval("SELECT expires_at FROM play.leases")
    await eventually(second.hold)
    assert await pool.fetchval("SELECT clock_timestamp()") > until
    assert await first.hold() is False


async def test_leases_of_other_names_are_apart(pool: Pool) -> None:
    """Each name has a holder of its own."""
    assert await Lease("clock", pool, schema="play", seconds=60).hold() is True
    assert await Lease("sweep", pool, schema="play", seconds=60).hold() is True
