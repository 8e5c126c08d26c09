"""Following the log on a real Postgres: exactly-once effect through poison, rivals, kills and outages."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import asyncpg
import pytest_asyncio
from prometheus_client import REGISTRY

from buildlight.migrate import migrate
from buildlight.servers import Postgres
from chassis.database import Connection, Pool, make_pool
from chassis.follower import Follower, Recorded
from services.ingest.log import Entry, append

Eventually = Callable[..., Awaitable[object]]

TABLES = """
    CREATE SCHEMA play;
    CREATE TABLE play.checkpoints (follower text PRIMARY KEY, position bigint NOT NULL);
    CREATE TABLE play.parked (
        follower text, position bigint, reason text NOT NULL, parked_at timestamptz NOT NULL,
        PRIMARY KEY (follower, position)
    );
    CREATE TABLE play.applied (position bigint NOT NULL, note text, seq bigserial);
    GRANT USAGE ON SCHEMA play TO buildlight_app;
    GRANT ALL ON ALL TABLES IN SCHEMA play TO buildlight_app;
    GRANT ALL ON ALL SEQUENCES IN SCHEMA play TO buildlight_app;
"""


async def make_tables(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(TABLES)
    await connection.close()


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    await make_tables(database_url)
    async with make_pool(database_url, application="play", max_size=8) as pool:
        yield pool


@pytest_asyncio.fixture
async def superuser(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def record(pool: Pool, count: int, *, kind: str = "play.note.v1", note: str = "fine") -> None:
    entries = [
        Entry(
            id=uuid4(),
            digest=b"d",
            type=kind,
            subject="play",
            source="tests",
            occurred_at=datetime(2026, 3, 2, tzinfo=UTC),
            correlation_id=None,
            causation_id=None,
            traceparent=None,
            data=json.dumps({"note": note}),
        )
        for _ in range(count)
    ]
    await append(pool, entries)


async def write_down(events: Sequence[Recorded], connection: Connection) -> None:
    """An apply that leaves a row an event, so that twice would show."""
    for event in events:
        if event.data["note"] == "poison":
            raise ValueError("it is poison")
    await connection.execute(
        "INSERT INTO play.applied (position, note) SELECT * FROM unnest($1::bigint[], $2::text[])",
        [event.position for event in events],
        [event.data["note"] for event in events],
    )


async def applied(pool: Pool) -> list[int]:
    return [row["position"] for row in await pool.fetch("SELECT position FROM play.applied ORDER BY seq")]


async def checkpoint(pool: Pool) -> int:
    return int(await pool.fetchval("SELECT position FROM play.checkpoints WHERE follower = 'play'"))


def follower(pool: Pool, apply: Callable[..., Awaitable[None]] = write_down, **options: object) -> Follower:
    return Follower("play", pool, apply, schema="play", **{"batch": 10, "poll_seconds": 0.05} | options)  # type: ignore[arg-type]


@contextlib.asynccontextmanager
async def running(*followers: Follower) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in followers]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_every_event_of_its_types_is_applied_once_and_in_order(pool: Pool) -> None:
    """Batches and windows smaller than the log: each event of the type once, the checkpoint at the head."""
    for _ in range(5):
        await record(pool, 13)
        await record(pool, 20, kind="play.other.v1")
    follow = follower(pool, types=["play.note.v1"], window=25)
    await follow.catch_up()
    await follow.catch_up()
    wanted = [
        row["position"]
        for row in await pool.fetch("SELECT position FROM log.events WHERE type = 'play.note.v1' ORDER BY 1")
    ]
    assert len(wanted) == 65
    assert await applied(pool) == wanted
    assert await checkpoint(pool) == 165


async def test_an_event_is_given_as_it_was_recorded(pool: Pool) -> None:
    """All attributes, the id as text, data as Python values."""
    got: list[Recorded] = []

    async def keep(events: Sequence[Recorded], _: Connection) -> None:
        got.extend(events)

    entry_id = uuid4()
    at = datetime(2026, 3, 2, 9, tzinfo=UTC)
    await append(pool, [Entry(entry_id, b"d", "t", "s", "src", at, "cor", "cau", "tp", '{"a": [1, null]}')])
    await follower(pool, keep).catch_up()
    [event] = got
    assert event.recorded_at > at
    assert event == Recorded(
        1, str(entry_id), "t", "s", "src", at, event.recorded_at, "cor", "cau", "tp", {"a": [1, None]}
    )


async def test_poison_is_parked_with_its_reason_and_its_neighbours_flow_on(pool: Pool) -> None:
    """Two bad events among 30: both parked, all others applied once and in order; the gauges say so."""
    await record(pool, 7)
    await record(pool, 1, note="poison")
    await record(pool, 14)
    await record(pool, 1, note="poison")
    await record(pool, 7)
    await follower(pool).catch_up()
    assert await applied(pool) == [n for n in range(1, 31) if n not in (8, 23)]
    assert [
        tuple(row)
        for row in await pool.fetch("SELECT follower, position, reason FROM play.parked ORDER BY 2")
    ] == [("play", 8, "ValueError: it is poison"), ("play", 23, "ValueError: it is poison")]
    labels = {"follower": "play"}
    assert REGISTRY.get_sample_value("buildlight_follower_parked_events", labels) == 2
    assert REGISTRY.get_sample_value("buildlight_follower_checkpoint", labels) == 30
    assert REGISTRY.get_sample_value("buildlight_follower_lag_events", labels) == 0


async def test_what_is_parked_is_tried_again_at_the_next_start(pool: Pool, eventually: Eventually) -> None:
    """After a fix the parked event is applied and leaves; one that still fails stays, with its new reason."""
    await record(pool, 1, note="poison")
    await record(pool, 2, note="fine")
    await record(pool, 1, note="poison")
    await follower(pool).catch_up()

    async def fixed(events: Sequence[Recorded], connection: Connection) -> None:
        for event in events:
            if event.position == 4:
                raise ValueError("still poison")
            await connection.execute("INSERT INTO play.applied VALUES ($1, 'late')", event.position)

    async def parked() -> bool:
        return [tuple(row) for row in await pool.fetch("SELECT position, reason FROM play.parked")] == [
            (4, "ValueError: still poison")
        ]

    async with running(follower(pool, fixed)):
        await eventually(parked)
    assert await applied(pool) == [2, 3, 1]


async def test_what_is_no_events_fault_parks_none(
    pool: Pool, superuser: Connection, eventually: Eventually
) -> None:
    """Without the right to its table a follower waits; with it, it goes on where it was."""
    await superuser.execute("REVOKE ALL ON play.applied FROM buildlight_app")
    await record(pool, 3)
    tries = 0

    async def apply(events: Sequence[Recorded], connection: Connection) -> None:
        nonlocal tries
        tries += 1
        await write_down(events, connection)

    async with running(follower(pool, apply)):
        await eventually(lambda: tries >= 2)
        assert await superuser.fetchval("SELECT count(*) FROM play.parked") == 0
        await superuser.execute("GRANT ALL ON play.applied TO buildlight_app")
        await eventually(lambda: _equal(applied(pool), [1, 2, 3]))
    assert await superuser.fetchval("SELECT count(*) FROM play.parked") == 0


async def test_two_of_one_name_never_apply_twice_though_one_is_killed_again_and_again(
    pool: Pool, database_url: str, superuser: Connection, eventually: Eventually
) -> None:
    """Backends ended in the middle of a batch: every event applied exactly once in the end, in order."""

    async def slowly(events: Sequence[Recorded], connection: Connection) -> None:
        await write_down(events, connection)
        await connection.execute("SELECT pg_sleep(0.02)")

    rivals = [await make_pool(database_url, application=f"rival-{n}", max_size=2) for n in range(2)]
    killed = 0
    async with running(*(follower(rival, slowly) for rival in rivals)):
        for _ in range(15):
            await record(pool, 20)
            killed += len(
                await superuser.fetch(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name LIKE 'buildlight-rival-%' AND query LIKE '%pg_sleep%'"
                )
            )
            await asyncio.sleep(0.05)
        await eventually(lambda: _equal(checkpoint(pool), 300), timeout=60)
    for rival in rivals:
        await rival.close()
    assert killed >= 3
    assert await applied(pool) == list(range(1, 301))
    assert await superuser.fetchval("SELECT count(*) FROM play.parked") == 0


async def test_a_stopped_owner_loses_the_checkpoint_and_cannot_commit(
    pool: Pool, database_url: str, eventually: Eventually
) -> None:
    """One that holds the row and does nothing is ended by the server; its rival applies; nothing is applied twice."""
    await record(pool, 5)
    holding = asyncio.Event()
    resume = asyncio.Event()

    async def stall(events: Sequence[Recorded], connection: Connection) -> None:
        await write_down(events, connection)
        holding.set()
        await resume.wait()

    stopped = await make_pool(database_url, application="stopped", idle_in_transaction_seconds=0.2)
    async with running(follower(stopped, stall)):
        await holding.wait()
        async with running(follower(pool)):
            await eventually(lambda: _equal(applied(pool), [1, 2, 3, 4, 5]))
        resume.set()
        await record(pool, 1)
        await eventually(lambda: _equal(checkpoint(pool), 6))
    await stopped.close()
    assert await applied(pool) == [1, 2, 3, 4, 5, 6]


async def test_one_that_does_not_own_the_checkpoint_knows_the_lag_too(
    pool: Pool, superuser: Connection
) -> None:
    """While another holds the row, the gauges follow what the table says."""
    await follower(pool).catch_up()
    await record(pool, 40)
    async with superuser.transaction():
        await superuser.execute("SELECT * FROM play.checkpoints WHERE follower = 'play' FOR UPDATE")
        assert await follower(pool).step() is False
        assert REGISTRY.get_sample_value("buildlight_follower_lag_events", {"follower": "play"}) == 40
    assert await applied(pool) == []


async def test_a_hint_wakes_it_long_before_its_poll(pool: Pool, eventually: Eventually) -> None:
    """With a poll of ten minutes, an event after a hint is applied within the test's patience."""
    follow = follower(pool, poll_seconds=600)
    async with running(follow):
        await eventually(lambda: _equal(pool.fetchval("SELECT count(*) FROM play.checkpoints"), 1))
        await record(pool, 1)
        follow.hint()
        await eventually(lambda: _equal(applied(pool), [1]))


async def test_it_goes_on_after_the_database_was_away(own_postgres: Postgres, eventually: Eventually) -> None:
    """The server is killed while it works and comes back: everything is applied exactly once."""
    await migrate(own_postgres.url)
    await make_tables(own_postgres.url)
    pool = await make_pool(own_postgres.url, application="play", max_size=4)
    await record(pool, 100)
    started = asyncio.Event()

    async def slowly(events: Sequence[Recorded], connection: Connection) -> None:
        await write_down(events, connection)
        started.set()
        await connection.execute("SELECT pg_sleep(0.01)")

    async with running(follower(pool, slowly, batch=5)):
        await started.wait()
        await own_postgres.kill()
        await own_postgres.start()
        await record(pool, 1)
        await eventually(lambda: _equal(checkpoint(pool), 101), timeout=30)
    assert await applied(pool) == list(range(1, 102))
    await pool.close()


async def _equal(awaited: Awaitable[object], wanted: object) -> bool:
    return await awaited == wanted
