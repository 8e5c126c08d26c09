"""Builds: one row an attempt of a run. Lists go newest first and read no more of the history than they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Pool

COUNTED_AT_MOST = 10_000
"""Beyond this a total is not counted out: the cost of a page must not grow with the history."""

_COLUMNS = """
    build_id, pipeline_id, provider, instance, repository_id, repository, workflow_id, workflow, run_id,
    attempt, run_number, title, event, branch, commit_sha, commit_message, author, actor, pull_request, url,
    state, raw_status, raw_conclusion, created_at, started_at, finished_at, updated_at, ordered_at,
    duration_seconds, queue_seconds, position
"""
_CONDITIONS = {
    "repository": "repository = ${}",
    "branch": "branch = ${}",
    "workflow": "workflow = ${}",
    "states": "state = ANY(${}::text[])",
    "provider": "provider = ${}",
    "author": "author = ${}",
    "pipeline_id": "pipeline_id = ${}",
    "since": "ordered_at >= ${}",
    "until": "ordered_at < ${}",
}


@dataclass(frozen=True)
class Filter:
    """What a list of builds is narrowed to; None leaves a field open. Times compare with `ordered_at`."""

    repository: str | None = None
    branch: str | None = None
    workflow: str | None = None
    states: Sequence[str] | None = None
    provider: str | None = None
    author: str | None = None
    pipeline_id: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    def where(self) -> tuple[str, list[Any]]:
        """The conditions that are asked for, and their values.

        Only those: with `$1 IS NULL OR ...` for each, Postgres would settle on one plan for every filter.
        """
        asked = [(c, v) for name, c in _CONDITIONS.items() if (v := getattr(self, name)) is not None]
        clauses = [condition.format(number) for number, (condition, _) in enumerate(asked, 1)]
        return " AND ".join(clauses) or "true", [value for _, value in asked]


async def newest(
    pool: Pool, filter_: Filter, *, limit: int, after: tuple[datetime, UUID] | None = None, offset: int = 0
) -> list[dict[str, Any]]:
    """Up to `limit` builds, newest first; `after`: those that follow the one with this time and id."""
    where, values = filter_.where()
    if after is not None:
        at, build = len(values) + 1, len(values) + 2
        where += f" AND (ordered_at, build_id) < (${at}, ${build})"
        values += after
    rows = await pool.fetch(
        f"""
        SELECT {_COLUMNS} FROM analytics.builds WHERE {where}
         ORDER BY ordered_at DESC, build_id DESC LIMIT {limit:d} OFFSET {offset:d}
        """,
        *values,
    )
    return [dict(row) for row in rows]


async def count(pool: Pool, filter_: Filter) -> int:
    """How many builds there are, up to COUNTED_AT_MOST + 1."""
    where, values = filter_.where()
    return int(
        await pool.fetchval(
            f"""
            SELECT count(*) FROM (
                SELECT FROM analytics.builds WHERE {where} LIMIT {COUNTED_AT_MOST + 1}
            ) AS counted
            """,
            *values,
        )
    )


async def one(pool: Pool, build_id: UUID) -> dict[str, Any] | None:
    row = await pool.fetchrow(f"SELECT {_COLUMNS} FROM analytics.builds WHERE build_id = $1", build_id)
    return dict(row) if row else None


async def jobs(pool: Pool, build_id: UUID) -> list[dict[str, Any]]:
    """The jobs of a build in the order they began; `steps` as the provider told them."""
    rows = await pool.fetch(
        """
        SELECT job_id, name, runner, url, state, raw_status, raw_conclusion, created_at, started_at, finished_at,
               observed_at, duration_seconds, queue_seconds, steps
          FROM analytics.jobs WHERE build_id = $1
         ORDER BY coalesce(started_at, created_at, observed_at), name, job_id
         LIMIT 1000
        """,
        build_id,
    )
    return [dict(row) for row in rows]


async def attempts(pool: Pool, build: dict[str, Any]) -> list[dict[str, Any]]:
    """Every attempt of the run that `build` is one of, by number.

    `available` is false for those the provider no longer has and Buildlight never saw.
    """
    rows = await pool.fetch(
        """
        SELECT attempt, build_id, state, true AS available, created_at, started_at, finished_at,
               duration_seconds, actor
          FROM analytics.builds
         WHERE pipeline_id = $1 AND run_id = $2
         UNION ALL
        SELECT gone.attempt, gone.build_id, 'unknown', false, NULL, NULL, NULL, NULL, NULL
          FROM analytics.unavailable_attempts AS gone
         WHERE gone.subject = $3
           AND NOT EXISTS (SELECT FROM analytics.builds AS seen WHERE seen.build_id = gone.build_id)
         ORDER BY attempt
         LIMIT 1000
        """,
        build["pipeline_id"],
        build["run_id"],
        f"{build['provider']}/{build['instance']}/{build['repository_id']}/runs/{build['run_id']}",
    )
    return [dict(row) for row in rows]


async def choices(pool: Pool) -> dict[str, list[str]]:
    """What a list can be narrowed to: the repositories and workflows of the pipelines there are."""
    row = await pool.fetchrow(
        """
        SELECT array_agg(DISTINCT repository ORDER BY repository) AS repositories,
               array_agg(DISTINCT workflow ORDER BY workflow) AS workflows
          FROM (SELECT repository, workflow FROM analytics.pipelines ORDER BY ordered_at DESC LIMIT 2000) AS recent
        """
    )
    assert row is not None
    return {key: [value for value in row[key] or () if value] for key in ("repositories", "workflows")}
