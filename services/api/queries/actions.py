"""What providers were asked to do with builds."""

from typing import Any
from uuid import UUID

from chassis.database import Pool


async def one(pool: Pool, request_id: UUID) -> dict[str, Any] | None:
    row = await pool.fetchrow(
        """
        SELECT request_id, action, build_id, repository, asked_by, status, detail, url, asked_at, expires_at,
               finished_at
          FROM poller.published_actions WHERE request_id = $1
        """,
        request_id,
    )
    return dict(row) if row else None
