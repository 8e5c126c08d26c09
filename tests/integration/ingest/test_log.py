"""The event log on a real Postgres: fates, order, append-only, partitions and concurrent writers."""

import asyncio
import itertools
import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.database import READER_ROLE, Pool, is_outage, make_pool
from services.ingest.log import Entry, Fate, append

Eventually = Callable[..., Awaitable[object]]

WHEN = datetime(2026, 3, 1, 12, 0, 0, 250000, tzinfo=UTC)


def entry(number: int, *, digest: bytes = b"1", data: str = "{}", type_: str = "build.observed.v1") -> Entry:
    return Entry(
        id=UUID(int=number),
        digest=digest,
        type=type_,
        subject=f"github.com/1/{number}",
        source="/poller",
        occurred_at=WHEN,
        correlation_id=None,
        causation_id=None,
        traceparent=None,
        data=data,
    )


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, application="ingest", max_size=16) as pool:
        yield pool


@pytest_asyncio.fixture
async def superuser(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def integrity(pool: Pool) -> dict[str, object]:
    row = await pool.fetchrow("SELECT * FROM log.integrity()")
    assert row is not None
    return dict(row)


def whole(count: int) -> dict[str, object]:
    return {"events": count, "known": count, "last": count, "head": count, "intact": True}


async def test_an_event_is_kept_as_it_was_given(pool: Pool) -> None:
    """Every field of an entry is in the log, with its position and the time it was recorded."""
    given_entry = Entry(
        id=uuid4(),
        digest=b"\x00\xff",
        type="test_report.observed.v1",
        subject="jenkins.example/job/a%2Fb",
        source="/poller/jenkins",
        occurred_at=WHEN,
        correlation_id="c-1",
        causation_id="c-0",
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        data='{"name": "Prüfung \\"1\\"", "cases": [1, 2.5, null, {"{}": ",;"}]}',
    )
    before = await pool.fetchval("SELECT clock_timestamp()")
    assert await append(pool, [given_entry]) == [Fate("recorded", 1)]
    row = await pool.fetchrow("SELECT * FROM log.events")
    assert row is not None
    event = dict(row)
    assert before <= event.pop("recorded_at") <= await pool.fetchval("SELECT clock_timestamp()")
    assert event == {
        "position": 1,
        "id": given_entry.id,
        "type": "test_report.observed.v1",
        "subject": "jenkins.example/job/a%2Fb",
        "source": "/poller/jenkins",
        "occurred_at": WHEN,
        "correlation_id": "c-1",
        "causation_id": "c-0",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": {"name": 'Prüfung "1"', "cases": [1, 2.5, None, {"{}": ",;"}]},
    }


async def test_each_entry_learns_its_fate_in_the_order_given(pool: Pool) -> None:
    """New entries are numbered in the order given; repeats and conflicts are told with the known position."""
    first = await append(pool, [entry(3), entry(1), entry(3), entry(3, digest=b"2"), entry(2)])
    assert first == [
        Fate("recorded", 1),
        Fate("recorded", 2),
        Fate("duplicate", 1),
        Fate("conflict", 1),
        Fate("recorded", 3),
    ]
    second = await append(pool, [entry(2), entry(9, digest=b"2"), entry(1, digest=b"2"), entry(9)])
    assert second == [Fate("duplicate", 3), Fate("recorded", 4), Fate("conflict", 2), Fate("conflict", 4)]
    ids = await pool.fetch("SELECT id FROM log.events ORDER BY position")
    assert [row["id"].int for row in ids] == [3, 1, 2, 9]
    assert await integrity(pool) == whole(4)


async def test_nothing_new_writes_nothing_and_waits_for_nobody(pool: Pool) -> None:
    """Known entries, and no entries, are answered while another writer holds the head."""
    await append(pool, [entry(1), entry(2)])
    async with pool.acquire() as other, other.transaction():
        await append(other, [entry(3)])
        async with asyncio.timeout(5):
            assert await append(pool, [entry(2), entry(1)]) == [Fate("duplicate", 2), Fate("duplicate", 1)]
            assert await append(pool, []) == []


@pytest.mark.parametrize("commits", [True, False])
async def test_two_writers_of_one_new_id_agree(
    pool: Pool, superuser: asyncpg.Connection, eventually: Eventually, commits: bool
) -> None:
    """The second writer of an id waits for the first; what the first rolls back is recorded by the second."""
    async with pool.acquire() as other:
        transaction = other.transaction()
        await transaction.start()
        assert await append(other, [entry(1), entry(2)]) == [Fate("recorded", 1), Fate("recorded", 2)]
        second = asyncio.create_task(append(pool, [entry(2), entry(5), entry(1, digest=b"2")]))
        waiting = (
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        await eventually(lambda: superuser.fetchval(waiting))
        assert not second.done()
        await (transaction.commit() if commits else transaction.rollback())
    if commits:
        assert await second == [Fate("duplicate", 2), Fate("recorded", 3), Fate("conflict", 1)]
        assert await integrity(pool) == whole(3)
    else:
        assert await second == [Fate("recorded", 1), Fate("recorded", 2), Fate("recorded", 3)]
        assert await integrity(pool) == whole(3)


@pytest.mark.parametrize("data", ["{", '{"a": "\\u0000"}', ""])
async def test_a_batch_with_bad_json_is_refused_whole(pool: Pool, data: str) -> None:
    """Data that is not JSON, or holds a NUL, is told as such and nothing of its batch is recorded."""
    with pytest.raises(asyncpg.DataError) as refused:
        await append(pool, [entry(1), entry(2, data=data)])
    assert not is_outage(refused.value)
    assert await integrity(pool) == whole(0)


async def test_arrays_that_differ_in_length_are_refused(pool: Pool) -> None:
    """The function refuses a batch with an element missing, and a batch that is not there."""
    with pytest.raises(asyncpg.ArraySubscriptError, match="differ in length"):
        await pool.fetch(
            "SELECT log.append($1, '{a}', '{t}', '{s}', '{s}', '{}', '{c}', '{c}', '{t}', '{\"1\"}')",
            [uuid4()],
        )
    with pytest.raises(asyncpg.NullValueNotAllowedError):
        await pool.fetch("SELECT log.append(NULL, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')")


@pytest.mark.parametrize("table", ["log.events", "log.events_1", "log.events_1000001", "log.dedup"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET id = id", "DELETE FROM {}", "TRUNCATE {}", "DELETE FROM {} WHERE false"]
)
async def test_history_cannot_be_changed(
    pool: Pool, superuser: asyncpg.Connection, table: str, statement: str
) -> None:
    """Not the service, not the log's owner, not a superuser updates, deletes or truncates by accident."""
    await append(pool, [entry(1)])
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
        await pool.execute(statement.format(table))
    for role in ("buildlight_owner", "NONE"):
        await superuser.execute(f"SET ROLE {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="the log is append-only"):
            await superuser.execute(statement.format(table))
    assert await integrity(pool) == whole(1)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO log.events SELECT * FROM log.events",
        "INSERT INTO log.dedup VALUES (gen_random_uuid(), '', 1)",
        "UPDATE log.head SET position = 0",
        "ALTER TABLE log.events DISABLE TRIGGER append_only",
        "DROP TABLE log.events",
        "CREATE TABLE log.other ()",
    ],
)
async def test_the_service_writes_through_the_function_alone(pool: Pool, statement: str) -> None:
    """The service's role can write to the log in no other way than to append."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(statement)


async def test_a_stranger_may_not_append(superuser: asyncpg.Connection) -> None:
    """A role that is none of ours can neither append nor read."""
    async with superuser.transaction():
        await superuser.execute("CREATE ROLE stranger")
        await superuser.execute("SET LOCAL ROLE stranger")
        for function in ("append", "make_partitions", "integrity"):
            query = "SELECT has_function_privilege(oid, 'EXECUTE') FROM pg_proc WHERE proname = $1"
            assert await superuser.fetchval(query, function) is False
        assert await superuser.fetchval("SELECT has_schema_privilege('log', 'USAGE')") is False
        await superuser.execute("RESET ROLE")
        await superuser.execute("DROP ROLE stranger")


async def partitions(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'log.events'::regclass"
    )
    return sorted((row["name"] for row in rows), key=lambda name: int(name.rpartition("_")[2]))


async def test_partitions_are_made_ahead_of_the_head(pool: Pool, superuser: asyncpg.Connection) -> None:
    """However large a batch, its partitions are there, and two more; each is append-only from its birth."""
    await superuser.execute("UPDATE log.head SET partition_size = 10")
    assert await partitions(superuser) == []
    fates = await append(pool, [entry(number) for number in range(25)])
    assert fates == [Fate("recorded", position) for position in range(1, 26)]
    five = [f"log.events_{first}" for first in (1, 11, 21, 31, 41)]
    assert await partitions(superuser) == five
    assert await pool.fetchval("SELECT log.make_partitions()") == 0
    assert await pool.fetchval("SELECT log.make_partitions(51)") == 3
    assert await partitions(superuser) == [*five, "log.events_51", "log.events_61", "log.events_71"]
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match=r"TRUNCATE on log.events_71 is refused"):
        await superuser.execute("TRUNCATE log.events_71")
    for number in range(25, 90):
        await append(pool, [entry(number)])
    assert await integrity(pool) == whole(90)
    assert await superuser.fetchval("SELECT count(*) FROM log.events_81") == 10


async def test_a_new_partition_waits_for_no_reader(pool: Pool, superuser: asyncpg.Connection) -> None:
    """A reader's open transaction does not hold up an append that makes partitions."""
    await superuser.execute("UPDATE log.head SET partition_size = 10")
    await append(pool, [entry(0)])
    async with superuser.transaction():
        assert await superuser.fetchval("SELECT count(*) FROM log.events") == 1
        async with asyncio.timeout(5):
            await append(pool, [entry(number) for number in range(1, 100)])
    assert await integrity(pool) == whole(100)


async def test_a_followers_slice_reads_its_partition_alone(pool: Pool, superuser: asyncpg.Connection) -> None:
    """A read of the log's tail opens one partition, however many there are."""
    await superuser.execute("UPDATE log.head SET partition_size = 100")
    await append(pool, [entry(number) for number in range(1000)])
    await superuser.execute("ANALYZE log.events")
    plan = await pool.fetch(
        "EXPLAIN (COSTS OFF)"
        " SELECT * FROM log.events WHERE position > 910 AND position <= 960 ORDER BY position"
    )
    assert re.findall(r" on (\w+)", "\n".join(line for (line,) in plan)) == ["events_901"]


async def test_large_data_is_compressed_by_the_best_method_there_is(
    pool: Pool, superuser: asyncpg.Connection
) -> None:
    """Large data is stored compressed: with lz4 where the server has it, else with Postgres's own method."""
    cases = [{"name": f"test_{number}", "outcome": "passed"} for number in range(1000)]
    await append(pool, [entry(1, data=json.dumps(cases))])
    methods = await superuser.fetchval(
        "SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'"
    )
    stored = await superuser.fetchrow(
        "SELECT pg_column_compression(data) AS method, pg_column_size(data) AS size FROM log.events"
    )
    assert stored is not None
    assert stored["method"] == ("lz4" if "lz4" in methods else "pglz")
    assert stored["size"] < 20_000
    assert await pool.fetchval("SELECT data FROM log.events") == cases


# The property: whatever concurrent writers do, the log stays whole and no reader skips.


@dataclass(frozen=True)
class Session:
    """What one writer does on one connection: its batches of (id, digest), and how that ends."""

    batches: list[list[tuple[int, bytes]]]
    ending: str  # "autocommit", "commit", "rollback" or "kill"


@dataclass
class Ledger:
    """What the writers were told, and saw for certain."""

    answered: list[tuple[Entry, Fate]] = field(default_factory=list)
    maybe: set[UUID] = field(default_factory=set)  # given in calls whose end was not seen


sessions = st.builds(
    Session,
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 25), st.sampled_from([b"1", b"1", b"1", b"2"])), max_size=15),
        min_size=1,
        max_size=4,
    ),
    ending=st.sampled_from(["autocommit", "autocommit", "commit", "rollback", "kill"]),
)


async def write(pool: Pool, killer: Pool, session: Session, example: int, ledger: Ledger) -> None:
    def entries(batch: list[tuple[int, bytes]]) -> list[Entry]:
        return [entry(example << 64 | number, digest=digest) for number, digest in batch]

    if session.ending == "autocommit":
        for batch in map(entries, session.batches):
            ledger.answered += zip(batch, await append(pool, batch), strict=True)
    elif session.ending == "kill":
        for batch in map(entries, session.batches):
            try:
                async with pool.acquire() as connection:
                    call = asyncio.create_task(append(connection, batch))
                    await asyncio.sleep(0)
                    await killer.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
                    ledger.answered += zip(batch, await call, strict=True)
            except Exception as error:
                if not is_outage(error):
                    raise
                ledger.maybe |= {one.id for one in batch}
    else:
        told: list[tuple[Entry, Fate]] = []
        async with pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            for batch in map(entries, session.batches):
                told += zip(batch, await append(connection, batch), strict=True)
                await connection.execute("SELECT pg_sleep(0.002)")
            if session.ending == "commit":
                await transaction.commit()
                ledger.answered += told
            else:
                await transaction.rollback()


async def follow(pool: Pool, checkpoint: int, done: asyncio.Event) -> list[tuple[int, UUID]]:
    """Read the log after a checkpoint, as it grows, until the writers are done; return what was seen."""
    seen: list[tuple[int, UUID]] = []
    while True:
        last_round = done.is_set()
        rows = await pool.fetch(
            "SELECT position, id FROM log.events WHERE position > $1 ORDER BY position LIMIT 7", checkpoint
        )
        if rows:
            seen += [(row["position"], row["id"]) for row in rows]
            checkpoint = rows[-1]["position"]
        elif last_round:
            return seen


examples = itertools.count(1)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(plan=st.lists(sessions, min_size=2, max_size=6))
async def test_concurrent_writers_leave_the_log_whole(database_url: str, plan: list[Session]) -> None:
    """Overlapping batches, repeats, conflicts, rollbacks, killed calls: no gap, no loss, no reader skips."""
    example = next(examples)
    ledger = Ledger()
    done = asyncio.Event()
    async with (
        make_pool(database_url, application="ingest", max_size=12, command_timeout_seconds=10) as pool,
        make_pool(database_url, application="follower", role=READER_ROLE) as readers,
        make_pool(database_url, application="superuser", role=None) as superuser,
    ):
        # Small ones, so that they roll over as well.
        await superuser.execute("UPDATE log.head SET partition_size = 20")
        start = await superuser.fetchval("SELECT position FROM log.head")
        followers = [asyncio.create_task(follow(readers, start, done)) for _ in range(2)]
        await asyncio.gather(*(write(pool, superuser, session, example, ledger) for session in plan))
        done.set()
        seen, seen_too = await asyncio.gather(*followers)

        # The log is whole, and each follower saw all of it.
        known = {
            row["id"]: row
            for row in await superuser.fetch("SELECT * FROM log.dedup WHERE position > $1", start)
        }
        head = start + len(known)
        assert await integrity(readers) == whole(head)
        assert [position for position, _ in seen] == list(range(start + 1, head + 1))
        assert seen == seen_too
        assert {id_: position for position, id_ in seen} == {
            id_: row["position"] for id_, row in known.items()
        }

        # Everybody was told the truth.
        for given_entry, fate in ledger.answered:
            assert fate.position == known[given_entry.id]["position"]
            assert (fate.outcome == "conflict") == (given_entry.digest != known[given_entry.id]["digest"])
        recorded = Counter(one.id for one, fate in ledger.answered if fate.outcome == "recorded")
        assert set(recorded.values()) <= {1}
        assert set(recorded) <= set(known) <= set(recorded) | ledger.maybe
