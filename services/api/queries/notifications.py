"""What was told to people, and what could not be."""

from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Pool


async def newest(
    pool: Pool, *, limit: int, status: str | None = None, after: tuple[datetime, UUID] | None = None
) -> list[dict[str, Any]]:
    """Up to `limit` notifications, newest first; `after`: those that follow the one with this time and id."""
    rows = await pool.fetch(
        """
        SELECT delivery_id, rule, channel, title, status, reason, fact_type, fact_id, created_at, sent_at
          FROM notifier.published_history
         WHERE ($1::text IS NULL OR status = $1)
           AND ($2::timestamptz IS NULL
                OR created_at <= $2 AND (created_at < $2 OR delivery_id > $3::uuid))
         ORDER BY created_at DESC, delivery_id LIMIT $4
        """,
        status,
        *(after or (None, None)),
        limit,
    )
    return [dict(row) for row in rows]
