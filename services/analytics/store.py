"""What the fold over builds remembers, in Postgres: loaded and saved a batch at a time."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from buildlight_contracts.states import State
from chassis.database import Connection
from services.analytics.facts import Attempt, Fold, Pipeline, Place, Seen

LOAD_ATTEMPTS: Final = """
    SELECT build_id, updated_at, state_rank, event_id, end_state
      FROM analytics.fact_attempts
     WHERE build_id = ANY($1)
"""
SAVE_ATTEMPTS: Final = """
    INSERT INTO analytics.fact_attempts AS known (build_id, updated_at, state_rank, event_id, end_state)
    SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::smallint[], $4::uuid[], $5::text[])
    ON CONFLICT (build_id) DO UPDATE
       SET updated_at = excluded.updated_at, state_rank = excluded.state_rank,
           event_id = excluded.event_id, end_state = excluded.end_state
     WHERE known.* IS DISTINCT FROM excluded.*
"""
LOAD_PIPELINES: Final = """
    SELECT pipeline_id, ordered_at, run_order, run_id, attempt, good, since, good_run_id, good_attempt
      FROM analytics.fact_pipelines
     WHERE pipeline_id = ANY($1)
"""
SAVE_PIPELINES: Final = """
    INSERT INTO analytics.fact_pipelines AS known (
        pipeline_id, ordered_at, run_order, run_id, attempt, good, since, good_run_id, good_attempt
    )
    SELECT * FROM unnest(
        $1::uuid[], $2::timestamptz[], $3::bigint[], $4::text[], $5::integer[], $6::boolean[],
        $7::timestamptz[], $8::text[], $9::integer[]
    )
    ON CONFLICT (pipeline_id) DO UPDATE
       SET ordered_at = excluded.ordered_at, run_order = excluded.run_order, run_id = excluded.run_id,
           attempt = excluded.attempt, good = excluded.good, since = excluded.since,
           good_run_id = excluded.good_run_id, good_attempt = excluded.good_attempt
     WHERE known.* IS DISTINCT FROM excluded.*
"""


async def load(build_ids: Iterable[UUID], pipeline_ids: Iterable[UUID], connection: Connection) -> Fold:
    """What is remembered of these attempts and pipelines."""
    attempts = await connection.fetch(LOAD_ATTEMPTS, list(build_ids))
    pipelines = await connection.fetch(LOAD_PIPELINES, list(pipeline_ids))
    return Fold(
        {
            row["build_id"]: Attempt(
                Seen(row["updated_at"], row["state_rank"], row["event_id"]),
                State(row["end_state"]) if row["end_state"] else None,
            )
            for row in attempts
        },
        {
            row["pipeline_id"]: Pipeline(
                newest=Place(row["ordered_at"], row["run_order"], row["run_id"], row["attempt"]),
                good=row["good"],
                since=row["since"],
                last_good=(row["good_run_id"], row["good_attempt"]) if row["good_run_id"] else None,
            )
            for row in pipelines
        },
    )


async def save(fold: Fold, connection: Connection) -> None:
    """Remember everything in `fold`."""
    attempts, pipelines = fold.attempts.values(), fold.pipelines.values()
    await connection.execute(
        SAVE_ATTEMPTS,
        list(fold.attempts),
        *([getattr(attempt.seen, field) for attempt in attempts] for field in Seen._fields),
        [attempt.end_state for attempt in attempts],
    )
    await connection.execute(
        SAVE_PIPELINES,
        list(fold.pipelines),
        *([getattr(pipeline.newest, field) for pipeline in pipelines] for field in Place._fields),
        [pipeline.good for pipeline in pipelines],
        [pipeline.since for pipeline in pipelines],
        [pipeline.last_good[0] if pipeline.last_good else None for pipeline in pipelines],
        [pipeline.last_good[1] if pipeline.last_good else None for pipeline in pipelines],
    )
