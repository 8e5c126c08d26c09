"""Backfills and the targets they may be of, as the poller publishes them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chassis.database import Pool


async def of_request(pool: Pool, request_id: UUID) -> list[dict[str, Any]]:
    """One row a target that has begun."""
    rows = await pool.fetch(
        """
        SELECT provider, instance, target, targets, since, until, through, status, builds, facts, unreadable,
               waits_until, reason, detail, started_at, updated_at, finished_at
          FROM poller.published_backfills WHERE request_id = $1 ORDER BY provider, instance, target
        """,
        request_id,
    )
    return [dict(row) for row in rows]


async def targets(pool: Pool, names: Sequence[str] | None) -> list[dict[str, Any]]:
    """What is polled and called one of `names`, in any case; everything that is polled without names."""
    rows = await pool.fetch(
        """
        SELECT provider, instance, target FROM poller.published_targets
         WHERE is_polled AND ($1::text[] IS NULL OR lower(target) = ANY($1)) ORDER BY provider, instance, target
        """,
        None if names is None else [name.lower() for name in names],
    )
    return [dict(row) for row in rows]
