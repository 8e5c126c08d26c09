"""Pipelines: a workflow of a repository on a branch; what is broken, and what happened in a stretch of time."""

from datetime import timedelta
from typing import Any
from uuid import UUID

from chassis.database import Pool

BAD = ("failure", "timed_out", "startup_failure")
"""The conclusive ends that are not success."""
OPEN = ("queued", "waiting", "action_required", "running")


async def counts(pool: Pool, window: timedelta) -> dict[str, Any]:
    """`{total, states: {state: n}, median_duration_seconds, mean_duration_seconds}` of the builds in `window`.

    Durations are those of the conclusive builds: a cancelled one says nothing of how long it takes.
    """
    rows = await pool.fetch(
        """
        SELECT state, count(*) AS builds FROM analytics.builds
         WHERE ordered_at >= now() - $1::interval GROUP BY state ORDER BY state
        """,
        window,
    )
    durations = await pool.fetchrow(
        """
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY duration_seconds) AS median,
               avg(duration_seconds) AS mean
          FROM analytics.builds
         WHERE ordered_at >= now() - $1::interval AND state = ANY($2::text[])
        """,
        window,
        ["success", *BAD],
    )
    return {
        "total": sum(row["builds"] for row in rows),
        "states": {row["state"]: row["builds"] for row in rows},
        "median_duration_seconds": durations["median"] if durations else None,
        "mean_duration_seconds": durations["mean"] if durations else None,
    }


async def waiting_and_running(pool: Pool, *, limit: int) -> list[dict[str, Any]]:
    """The open builds, newest first."""
    rows = await pool.fetch(
        """
        SELECT build_id, repository, workflow, branch, title, commit_sha, commit_message, author, actor, attempt,
               run_number, state, raw_status, raw_conclusion, created_at, started_at, ordered_at, url
          FROM analytics.builds WHERE state = ANY($1::text[])
         ORDER BY ordered_at DESC, build_id DESC LIMIT $2
        """,
        list(OPEN),
        limit,
    )
    return [dict(row) for row in rows]


async def count_open(pool: Pool) -> dict[str, int]:
    """How many builds are in each open state now."""
    rows = await pool.fetch(
        "SELECT state, count(*) AS builds FROM analytics.builds WHERE state = ANY($1::text[]) GROUP BY state",
        list(OPEN),
    )
    found = {row["state"]: row["builds"] for row in rows}
    return {state: found.get(state, 0) for state in OPEN}


async def one(pool: Pool, pipeline_id: UUID) -> dict[str, Any] | None:
    row = await pool.fetchrow(
        """
        SELECT pipeline_id, provider, repository, workflow, branch, state, state_since, latest_build_id,
               conclusive_build_id, ordered_at
          FROM analytics.pipelines WHERE pipeline_id = $1
        """,
        pipeline_id,
    )
    return dict(row) if row else None


async def newest(pool: Pool, *, limit: int) -> list[dict[str, Any]]:
    """The pipelines in which something happened last."""
    rows = await pool.fetch(
        """
        SELECT pipeline_id, provider, repository, workflow, branch, state, state_since, latest_build_id,
               conclusive_build_id, ordered_at
          FROM analytics.pipelines ORDER BY ordered_at DESC, pipeline_id DESC LIMIT $1
        """,
        limit,
    )
    return [dict(row) for row in rows]


async def broken(pool: Pool, *, limit: int) -> list[dict[str, Any]]:
    """The pipelines that are broken now, each with the build that broke it; main branches, then newest breaks first.

    That build is the oldest bad one after the last good one; `bad_builds` counts from it on, up to 100.
    """
    rows = await pool.fetch(
        """
        SELECT pipeline.pipeline_id, pipeline.repository, pipeline.workflow, pipeline.branch, pipeline.state,
               pipeline.state_since, pipeline.conclusive_build_id, breaking.build_id AS breaking_build_id,
               breaking.commit_sha, breaking.commit_message, breaking.title, breaking.author, since.bad_builds
          FROM (
                SELECT * FROM analytics.pipelines WHERE state = ANY($1::text[])
                 ORDER BY ordered_at DESC, pipeline_id DESC LIMIT $2
               ) AS pipeline
         CROSS JOIN LATERAL (
                SELECT coalesce(max(good.ordered_at), '-infinity') AS good_at
                  FROM analytics.builds AS good
                 WHERE good.pipeline_id = pipeline.pipeline_id AND good.state = 'success'
               ) AS last
          LEFT JOIN LATERAL (
                SELECT bad.* FROM analytics.builds AS bad
                 WHERE bad.pipeline_id = pipeline.pipeline_id AND bad.ordered_at > last.good_at
                   AND bad.state IN ('failure', 'timed_out', 'startup_failure')
                 ORDER BY bad.ordered_at LIMIT 1
               ) AS breaking ON true
         CROSS JOIN LATERAL (
                SELECT count(*) AS bad_builds FROM (
                    SELECT FROM analytics.builds AS bad
                     WHERE bad.pipeline_id = pipeline.pipeline_id AND bad.ordered_at > last.good_at
                       AND bad.state IN ('failure', 'timed_out', 'startup_failure')
                     LIMIT 100) AS counted
               ) AS since
         ORDER BY pipeline.branch IN ('main', 'master') DESC, pipeline.state_since DESC NULLS LAST, pipeline.pipeline_id
        """,
        list(BAD),
        limit,
    )
    return [dict(row) for row in rows]


async def grid(pool: Pool, *, pipelines: int, builds: int) -> list[dict[str, Any]]:
    """The newest pipelines with their last `builds` builds each, oldest first."""
    rows = await pool.fetch(
        """
        SELECT pipeline.pipeline_id, pipeline.repository, pipeline.workflow, pipeline.branch, pipeline.state,
               pipeline.state_since, recent.builds
          FROM (SELECT * FROM analytics.pipelines ORDER BY ordered_at DESC, pipeline_id DESC LIMIT $1)
               AS pipeline
          CROSS JOIN LATERAL (
                SELECT jsonb_agg(jsonb_build_object(
                           'build_id', last.build_id, 'state', last.state, 'raw_status', last.raw_status,
                           'raw_conclusion', last.raw_conclusion, 'run_number', last.run_number,
                           'attempt', last.attempt, 'duration_seconds', last.duration_seconds, 'author', last.author
                       ) ORDER BY last.ordered_at, last.build_id) AS builds
                  FROM (SELECT * FROM analytics.builds WHERE builds.pipeline_id = pipeline.pipeline_id
                         ORDER BY ordered_at DESC, build_id DESC LIMIT $2) AS last
               ) AS recent
         ORDER BY pipeline.repository, pipeline.workflow, pipeline.branch, pipeline.pipeline_id
        """,
        pipelines,
        builds,
    )
    return [{**row, "builds": row["builds"] or []} for row in rows]


async def last_states(pool: Pool) -> dict[str, str]:
    """By workflow name, the state of its newest build; of two repositories' alike, the newer build's."""
    rows = await pool.fetch(
        """
        SELECT DISTINCT ON (pipeline.workflow) pipeline.workflow, build.state
          FROM (SELECT * FROM analytics.pipelines ORDER BY ordered_at DESC LIMIT 2000) AS pipeline
          JOIN analytics.builds AS build ON build.build_id = pipeline.latest_build_id
         ORDER BY pipeline.workflow, build.ordered_at DESC, build.build_id
        """
    )
    return {row["workflow"]: row["state"] for row in rows}
