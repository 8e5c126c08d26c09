"""The read models on a real Postgres: functions of the set of events, documented, and cheap to read."""

import itertools
import json
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildObservedV1, BuildUnavailableV1
from buildlight_contracts.envelope import Fact, derive_id
from buildlight_contracts.states import State
from buildlight_contracts.testing import example
from chassis.database import READER_ROLE, Connection, Pool, make_pool
from chassis.follower import Follower, Recorded
from services.analytics.projections import PROJECTIONS, pipelines
from services.ingest.log import append
from tests.conftest import PostgresServer
from tests.observations import a_build, a_job, at, entry, record, ref

TABLES = {
    "builds": "build_id",
    "jobs": "job_key",
    "pipelines": "pipeline_id",
    "unavailable_attempts": "build_id",
}


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, application="analytics", max_size=8) as pool:
        yield pool


async def project(pool: Pool, *, batch: int = 500) -> None:
    for projection in PROJECTIONS:
        await Follower(
            projection.follower,
            pool,
            projection.apply,
            schema="analytics",
            types=projection.types,
            batch=batch,
        ).catch_up()


async def snapshot(pool: Pool) -> dict[str, list[dict[str, Any]]]:
    """Every row of every read model, by key, without the position."""
    return {
        table: [
            {name: value for name, value in row.items() if name != "position"}
            for row in await pool.fetch(f"SELECT * FROM analytics.{table} ORDER BY {key}")
        ]
        for table, key in TABLES.items()
    }


async def test_a_build_is_shown_as_it_was_last_seen(pool: Pool) -> None:
    """Every column of a build that was queued, ran and failed, from the newest observation alone."""
    last = a_build(
        7, "failure", minute=11, started_at=at(8), title="Break it", pull_request=41, url="https://ci/7"
    )
    await record(pool, [a_build(7, "running", minute=8), last, a_build(7, "queued", minute=7)])
    await project(pool)
    [row] = await pool.fetch("SELECT * FROM analytics.builds")
    assert dict(row) == {
        "build_id": last.build.build_id,
        "pipeline_id": last.pipeline.pipeline_id,
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "1",
        "repository": "acme/shop",
        "workflow_id": "159038",
        "workflow": "CI",
        "run_id": "7",
        "attempt": 1,
        "run_number": 7,
        "title": "Break it",
        "event": "push",
        "branch": "main",
        "commit_sha": "009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
        "commit_message": "Take cards with a long number",
        "author": "octocat",
        "actor": "octocat",
        "pull_request": 41,
        "url": "https://ci/7",
        "raw_status": "completed",
        "raw_conclusion": "failure",
        "state": "failure",
        "created_at": at(7),
        "started_at": at(8),
        "finished_at": at(11),
        "updated_at": at(11),
        "ordered_at": at(7),
        "run_order": 7,
        "duration_seconds": 180.0,
        "queue_seconds": 60.0,
        "state_rank": State.FAILURE.rank,
        "event_id": last.identity(),
        "position": 2,
    }


async def test_a_later_attempt_has_no_queue_time(pool: Pool) -> None:
    """Its creation is the run's, perhaps days ago; its duration is its own."""
    await record(pool, [a_build(1, "success", attempt=2, started_at=at(500), minute=501)])
    await project(pool)
    row = await pool.fetchrow("SELECT attempt, duration_seconds, queue_seconds FROM analytics.builds")
    assert row is not None
    assert tuple(row) == (2, 60.0, None)


async def test_a_job_is_shown_as_it_was_last_seen(pool: Pool) -> None:
    """Every column of a job that ran and failed, with its steps."""
    last = a_job(7, "failure", minute=9)
    await record(pool, [last, a_job(7, "running", minute=8)])
    await project(pool)
    [row] = await pool.fetch("SELECT * FROM analytics.jobs")
    assert dict(row) == {
        "job_key": derive_id("job", "github/api.github.com/1/runs/7/jobs/1", "1"),
        "build_id": last.build.build_id,
        "job_id": "1",
        "name": "unit tests",
        "runner": "ubuntu-24.04",
        "url": "https://github.com/acme/shop/actions/runs/30433642",
        "raw_status": "completed",
        "raw_conclusion": "failure",
        "state": "failure",
        "created_at": at(7),
        "started_at": at(7),
        "finished_at": at(9),
        "observed_at": at(9),
        "duration_seconds": 120.0,
        "queue_seconds": 0.0,
        "steps": [
            {
                "number": 1,
                "name": "Run the tests",
                "raw_status": "completed",
                "raw_conclusion": "failure",
                "state": "failure",
                "started_at": "2026-03-02T09:00:05Z",
                "finished_at": "2026-03-02T09:04:10Z",
            }
        ],
        "state_rank": State.FAILURE.rank,
        "event_id": last.identity(),
        "position": 1,
    }


async def test_a_pipeline_is_as_good_as_its_newest_conclusive_build(pool: Pool) -> None:
    """Bad since the first of the failures after the last success; a cancelled one after them is only newer."""
    builds = [
        a_build(1, "failure"),
        a_build(2, "success"),
        a_build(3, "failure"),
        a_build(4, "cancelled"),
        a_build(5, "timed_out"),
        a_build(6, "cancelled"),
    ]
    await record(pool, builds)
    await project(pool)
    [row] = await pool.fetch("SELECT * FROM analytics.pipelines")
    assert dict(row) == {
        "pipeline_id": builds[0].pipeline.pipeline_id,
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "1",
        "repository": "acme/shop",
        "workflow_id": "159038",
        "workflow": "CI",
        "branch": "main",
        "state": "timed_out",
        "latest_build_id": builds[5].build.build_id,
        "conclusive_build_id": builds[4].build.build_id,
        "state_since": at(3.5),
        "ordered_at": at(6),
    }


@pytest.mark.parametrize("batch", [1, 500])
async def test_of_two_ends_at_one_moment_the_same_wins_in_either_order(pool: Pool, batch: int) -> None:
    """Two runs with the same two contradicting ends, recorded in opposite orders: the larger event id's."""
    ends = [[a_build(run, state, minute=9) for state in ("success", "failure")] for run in (1, 2)]
    for pair, descending in zip(ends, (False, True), strict=True):
        pair.sort(key=lambda build: build.identity(), reverse=descending)
        await record(pool, pair)
    await project(pool, batch=batch)
    rows = await pool.fetch("SELECT run_id, event_id FROM analytics.builds ORDER BY run_id")
    assert [tuple(row) for row in rows] == [("1", ends[0][1].identity()), ("2", ends[1][0].identity())]


async def test_a_pipeline_whose_only_build_moved_away_is_gone(pool: Pool) -> None:
    """A run seen without its branch at first, then with it: one pipeline, that of the branch."""
    await record(pool, [a_build(1, "running", minute=1, branch=None)])
    await project(pool)
    assert await pool.fetchval("SELECT branch FROM analytics.pipelines") is None
    await record(pool, [a_build(1, "success", minute=2)])
    await project(pool)
    rows = await pool.fetch("SELECT branch, state FROM analytics.pipelines")
    assert [tuple(row) for row in rows] == [("main", "success")]


async def test_an_attempt_the_provider_lost_is_kept_as_first_noticed(pool: Pool) -> None:
    """One row an attempt."""
    await record(pool, [example(BuildUnavailableV1, build=ref(3), noticed_at=at(9), status=410)])
    await project(pool)
    [row] = await pool.fetch(
        "SELECT subject, attempt, repository, status, noticed_at FROM analytics.unavailable_attempts"
    )
    assert tuple(row) == ("github/api.github.com/1/runs/3", 1, "acme/shop", 410, at(9))


async def test_what_does_not_fit_is_parked_with_its_reason_and_the_rest_flows_on(pool: Pool) -> None:
    """One event without its fields, one with a number no column holds, among eight good ones."""
    builds = [a_build(n, "success") for n in range(1, 9)]
    entries = [entry(build) for build in builds]
    entries.insert(3, entry(a_build(90, "success"), data='{"nonsense": 1}'))
    entries.insert(5, entry(a_build(91, "success", run_number=2**70)))
    await append(pool, entries)
    await project(pool)
    assert await pool.fetchval("SELECT count(*) FROM analytics.builds") == 8
    parked = await pool.fetch("SELECT follower, position, reason FROM analytics.parked ORDER BY position")
    assert [(row["follower"], row["position"]) for row in parked] == [("builds.v1", 4), ("builds.v1", 6)]
    assert parked[0]["reason"].startswith(
        "BadMessage: not a valid build.observed.v1: build: Field required; repository: Field required;"
    )
    assert parked[1]["reason"].startswith("DataError: ")


# -- any order, duplication and batching


def builds() -> st.SearchStrategy[BuildObservedV1]:
    """A few runs on a few branches, with moments that tie and times that are missing."""
    return st.builds(
        lambda run, attempt, branch, state, minute, created, number, distinct: a_build(
            run,
            state.value,
            attempt=attempt,
            branch=branch,
            minute=minute,
            created_at=created,
            run_number=number,
            raw_status=f"status {distinct}",
            repository=f"acme/shop-{distinct}",
        ),
        st.integers(1, 3),
        st.integers(1, 2),
        st.sampled_from(["main", "main", "main", "topic", None]),
        st.sampled_from(list(State)),
        st.integers(0, 1),
        st.sampled_from([None, at(0), at(1)]),
        st.sampled_from([None, 5, 6]),
        st.integers(0, 5),
    )


def facts() -> st.SearchStrategy[Fact]:
    jobs = st.builds(
        lambda run, state, job, minute: a_job(run, state.value, job=job, minute=minute),
        st.integers(1, 3),
        st.sampled_from(list(State)),
        st.integers(1, 2),
        st.integers(0, 3),
    )
    lost = st.builds(
        lambda run, status: example(BuildUnavailableV1, build=ref(run), status=status),
        st.integers(1, 3),
        st.sampled_from([404, 410]),
    )
    return st.one_of(builds(), builds(), builds(), jobs, lost)


def batches(facts: list[Fact], randomness: random.Random) -> Iterator[list[Fact]]:
    """`facts` with some of them twice, in any order, cut anywhere."""
    mixed = facts + [fact for fact in facts if randomness.random() < 0.3]
    randomness.shuffle(mixed)
    while mixed:
        size = randomness.randint(1, 8)
        yield mixed[:size]
        del mixed[:size]


@asynccontextmanager
async def database(server: PostgresServer, template: str) -> AsyncIterator[Pool]:
    name = f"test_{uuid4().hex[:12]}"
    await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    async with make_pool(server.database(name), application="analytics") as pool:
        yield pool
    await server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    # One event an id: the log keeps no more.
    given_facts=st.lists(facts(), min_size=1, max_size=30, unique_by=lambda fact: fact.identity()),
    randomness=st.randoms(use_true_random=False),
)
async def test_the_same_events_in_any_order_give_the_same_tables(
    postgres_server: PostgresServer,
    migrated_template: str,
    given_facts: list[Fact],
    randomness: random.Random,
) -> None:
    """Interleaved, repeated, cut and replayed at will: all rows alike; and pipelines as builds imply."""
    async with database(postgres_server, migrated_template) as pool:
        for batch in batches(given_facts, randomness):
            await record(pool, batch)
            if randomness.random() < 0.6:
                await project(pool, batch=randomness.randint(1, 7))
            if randomness.random() < 0.2:  # as if the log were read again
                await pool.execute(
                    "UPDATE analytics.checkpoints SET position = floor(position * $1::float8)::bigint",
                    randomness.random(),
                )
        await project(pool, batch=randomness.randint(1, 7))
        mixed = await snapshot(pool)
        await project_in_one(pool)
        assert mixed == await snapshot(pool)
        assert await pool.fetchval("SELECT count(*) FROM analytics.parked") == 0
        assert {row["pipeline_id"]: row for row in mixed["pipelines"]} == implied_pipelines(mixed["builds"])


async def project_in_one(pool: Pool) -> None:
    """Fill the tables anew with all events at once, in an order that has nothing to do with the log's."""
    got: list[Recorded] = []

    async def keep(events: Sequence[Recorded], _: Connection) -> None:
        got.extend(events)

    await Follower("all", pool, keep, schema="analytics").catch_up()
    got.sort(key=lambda event: event.id)
    async with pool.acquire() as connection:
        for table in TABLES:
            await connection.execute(f"DELETE FROM analytics.{table}")
        for projection in PROJECTIONS:
            await projection.apply([event for event in got if event.type in projection.types], connection)


def implied_pipelines(rows: list[dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """What the table of pipelines must say, told from all builds in plain Python."""
    rows = sorted(
        rows,
        key=lambda row: (
            str(row["pipeline_id"]),
            row["ordered_at"],
            row["run_order"],
            row["run_id"],
            row["attempt"],
        ),
    )
    return {
        pipeline_id: _implied(list(of_one))
        for pipeline_id, of_one in itertools.groupby(rows, key=lambda row: row["pipeline_id"])
    }


def _implied(rows: list[dict[str, Any]]) -> dict[str, Any]:
    newest = rows[-1]
    conclusive = [row for row in rows if State(row["state"]).is_conclusive]
    verdicts = [row["state"] == "success" for row in conclusive]
    unbroken = list(itertools.takewhile(lambda good: good == verdicts[-1], reversed(verdicts)))
    since = conclusive[-len(unbroken)] if conclusive else None
    shared = (
        "pipeline_id",
        "provider",
        "instance",
        "repository_id",
        "repository",
        "workflow_id",
        "workflow",
        "branch",
    )
    return {name: newest[name] for name in shared} | {
        "state": conclusive[-1]["state"] if conclusive else "unknown",
        "latest_build_id": newest["build_id"],
        "conclusive_build_id": conclusive[-1]["build_id"] if conclusive else None,
        "state_since": (since["finished_at"] or since["updated_at"]) if since else None,
        "ordered_at": newest["ordered_at"],
    }


# -- readers


async def test_the_read_models_are_documented_and_open_to_readers_alone(database_url: str) -> None:
    """A comment on every table and column; the reader may select these four and nothing else of analytics."""
    async with make_pool(database_url, application="grafana", role=READER_ROLE) as reader:
        columns = await reader.fetch("""
            SELECT relname, attname,
                   col_description(pg_class.oid, attnum) IS NOT NULL AND obj_description(pg_class.oid) IS NOT NULL
                       AS documented
              FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid
             WHERE relnamespace = 'analytics'::regnamespace AND relkind = 'r' AND attnum > 0
               AND has_table_privilege(pg_class.oid, 'SELECT')
        """)
        assert {row["relname"] for row in columns} == set(TABLES)
        assert [(row["relname"], row["attname"]) for row in columns if not row["documented"]] == []
        for table in TABLES:
            assert await reader.fetch(f"SELECT * FROM analytics.{table}") == []
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute("DELETE FROM analytics.builds")


MANY_BUILDS = """
    INSERT INTO analytics.builds
    SELECT gen_random_uuid(), md5('pipeline' || n % $1)::uuid, 'github', 'api.github.com', (n % 40)::text,
           'acme/shop-' || n % 40, '1', 'CI', n::text, 1, n, NULL, 'push', 'branch-' || n % 25, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL,
           CASE WHEN n % 20 = 0 THEN 'running' WHEN n % $2 = 1 THEN 'failure' ELSE 'success' END,
           moment, moment, moment, moment, moment, n, 1, 1, 5, gen_random_uuid(), n
      FROM generate_series(1, 20000) AS n,
           LATERAL (SELECT timestamptz '2026-01-01' + n * interval '1 minute' AS moment) AS at
"""


@pytest_asyncio.fixture
async def many(pool: Pool) -> Pool:
    """20,000 builds of 200 pipelines, and as many jobs."""
    await pool.execute(MANY_BUILDS, 200, 7)
    await pool.execute("""
        INSERT INTO analytics.jobs
        SELECT gen_random_uuid(), build_id, run_id, 'test', NULL, NULL, NULL, NULL, state, created_at, started_at,
               finished_at, updated_at, 1, 1, '[]', 5, event_id, position
          FROM analytics.builds
    """)
    await pipelines.refresh(
        [row["pipeline_id"] for row in await pool.fetch("SELECT DISTINCT pipeline_id FROM analytics.builds")],
        pool,  # type: ignore[arg-type]  # it executes as a connection does
    )
    return pool


NEWEST_FIRST = "ORDER BY ordered_at DESC, build_id DESC LIMIT 50"
QUERIES = {
    "the newest builds": f"SELECT * FROM analytics.builds {NEWEST_FIRST}",
    "the page after a build": f"""
        SELECT * FROM analytics.builds
         WHERE (ordered_at, build_id) < ('2026-01-10', '00000000-0000-0000-0000-000000000000') {NEWEST_FIRST}
    """,
    "a repository's": f"SELECT * FROM analytics.builds WHERE repository = 'acme/shop-7' {NEWEST_FIRST}",
    "the failed": f"SELECT * FROM analytics.builds WHERE state = 'failure' {NEWEST_FIRST}",
    "a branch's": f"SELECT * FROM analytics.builds WHERE branch = 'branch-7' {NEWEST_FIRST}",
    "a pipeline's": f"""
        SELECT * FROM analytics.builds WHERE pipeline_id = md5('pipeline7')::uuid {NEWEST_FIRST}
    """,
    "a build": "SELECT * FROM analytics.builds WHERE build_id = md5('x')::uuid",
    "a build's jobs": "SELECT * FROM analytics.jobs WHERE build_id = md5('x')::uuid",
}


@pytest.mark.parametrize("analyzed", [True, False], ids=["with statistics", "without statistics"])
async def test_no_question_of_the_api_reads_a_whole_table(many: Pool, analyzed: bool) -> None:
    """Each is answered by an index, also right after a bulk of events, when Postgres knows no statistics yet."""
    if analyzed:
        owner = await asyncpg.connect(many._connect_args[0])  # type: ignore[attr-defined]
        await owner.execute("ANALYZE analytics.builds, analytics.jobs")
        await owner.close()
    for name, query in QUERIES.items():
        plan = await many.fetchval(f"EXPLAIN (FORMAT JSON) {query}")
        assert "Seq Scan" not in json.dumps(plan), name


async def test_what_a_pipeline_costs_does_not_grow_with_its_history(pool: Pool) -> None:
    """A pipeline of 20,000 builds, all good but the first: computed from a handful of pages."""
    await pool.execute(MANY_BUILDS, 1, 1_000_000)
    [pipeline_id] = [row[0] for row in await pool.fetch("SELECT DISTINCT pipeline_id FROM analytics.builds")]
    async with pool.acquire() as connection:
        await pipelines.refresh([pipeline_id], connection)
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {pipelines.REFRESH}", [pipeline_id]
        )
    [plan] = rows[0][0]
    assert "Seq Scan" not in json.dumps(plan)
    assert plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"] < 60
    row = await pool.fetchrow("SELECT state, state_since FROM analytics.pipelines")
    assert row is not None
    assert tuple(row) == ("success", at(0).replace(month=1, day=1, hour=0, minute=2))
