"""The log, as the live feed reads it."""

from typing import Any

from chassis.database import Pool


async def head(pool: Pool) -> int:
    """The position of the newest event; 0 when there is none."""
    return int(await pool.fetchval("SELECT position FROM log.head"))


async def between(pool: Pool, after: int, until: int) -> list[dict[str, Any]]:
    """The events at the positions after `after` up to `until`, in order."""
    rows = await pool.fetch(
        """
        SELECT position, type, occurred_at, data FROM log.events
         WHERE position > $1 AND position <= $2 ORDER BY position
        """,
        after,
        until,
    )
    return [dict(row) for row in rows]
