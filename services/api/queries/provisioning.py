"""Repositories scaffolded from templates: the runs and their steps."""

from typing import Any

from chassis.database import Pool

_COLUMNS = """
    run_id, status, kind, template, name, namespace, group_id, visibility, project_id, project_url, commit_sha,
    error, created_at, started_at, finished_at
"""


async def one(pool: Pool, run_id: str) -> dict[str, Any] | None:
    row = await pool.fetchrow(f"SELECT {_COLUMNS} FROM provisioner.published_runs WHERE run_id = $1", run_id)
    return dict(row) if row else None


async def steps(pool: Pool, run_id: str) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        """
        SELECT number, step, status, detail, started_at, finished_at, duration_seconds
          FROM provisioner.published_steps WHERE run_id = $1 ORDER BY number
        """,
        run_id,
    )
    return [dict(row) for row in rows]


async def newest(pool: Pool, *, limit: int) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        f"SELECT {_COLUMNS} FROM provisioner.published_runs ORDER BY created_at DESC, run_id LIMIT $1", limit
    )
    return [dict(row) for row in rows]
