"""What is polled and how that goes, and what of it the log has."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

from chassis.database import Pool


async def targets(pool: Pool, *, target: str | None = None) -> list[dict[str, Any]]:
    """Everything that is polled, or `target` wherever it is; those that fail first."""
    rows = await pool.fetch(
        """
        SELECT provider, instance, target, polled_at, succeeded_at, listed_through, not_before, failing_since,
               failing_reason, failing_detail
          FROM poller.published_targets WHERE is_polled AND ($1::text IS NULL OR target = $1)
         ORDER BY failing_since IS NULL, target, provider, instance
        """,
        target,
    )
    return [dict(row) for row in rows]


async def standing(pool: Pool, *, target: str | None = None) -> list[dict[str, Any]]:
    """What is polled, as `targets` chooses it, and which measurement of it came to an end last."""
    rows = await pool.fetch(
        """
        SELECT polled.target_id, polled.provider, polled.instance, polled.target,
               last.request_id, last.measured_at, last.postponed_request_id, last.postponed_until
          FROM poller.published_targets AS polled
          LEFT JOIN poller.published_completeness AS last USING (target_id)
         WHERE polled.is_polled AND ($1::text IS NULL OR polled.target = $1)
         ORDER BY polled.target, polled.provider, polled.instance
        """,
        target,
    )
    return [dict(row) for row in rows]


async def measured(pool: Pool, *, since: date, target: str | None = None) -> list[dict[str, Any]]:
    """By target, the sums over the days from `since` on, how it was measured last, and how its polls go."""
    rows = await pool.fetch(
        """
        SELECT polled.target_id, polled.provider, polled.instance, polled.target, polled.polled_at,
               polled.succeeded_at, polled.failing_since, polled.failing_reason, polled.failing_detail,
               last.since, last.until, last.measured_at, last.request_id, last.asked_again,
               last.postponed_until, last.postponed_why, last.postponed_request_id,
               coalesce(found.at_provider, 0) AS at_provider, coalesce(found.recorded, 0) AS recorded,
               coalesce(found.unavailable, 0) AS unavailable, coalesce(found.missing, 0) AS missing,
               coalesce(found.open_but_ended, 0) AS open_but_ended,
               found.measured_from, coalesce(found.measured_days, 0) AS measured_days
          FROM poller.published_targets AS polled
          LEFT JOIN poller.published_completeness AS last USING (target_id)
          LEFT JOIN LATERAL (
            SELECT sum(at_provider) AS at_provider, sum(recorded) AS recorded, sum(unavailable) AS unavailable,
                   sum(missing) AS missing, sum(open_but_ended) AS open_but_ended,
                   min(day) AS measured_from, count(*) AS measured_days
              FROM poller.published_completeness_days AS of_day
             WHERE of_day.target_id = polled.target_id AND of_day.day >= $1
          ) AS found ON true
         WHERE polled.is_polled AND ($2::text IS NULL OR polled.target = $2)
         ORDER BY polled.target, polled.provider, polled.instance
        """,
        since,
        target,
    )
    return [dict(row) for row in rows]


async def gaps(
    pool: Pool, target_ids: list[UUID], *, since: datetime, most: int
) -> dict[UUID, list[dict[str, Any]]]:
    """By target, what is missing or open though ended, oldest first, `most` a target."""
    rows = await pool.fetch(
        """
        SELECT gap.* FROM unnest($1::uuid[]) AS asked (target_id)
         CROSS JOIN LATERAL (
            SELECT target_id, run_id, attempt, kind, reason, detail, created_at, noticed_at
              FROM poller.published_completeness_gaps AS one
             WHERE one.target_id = asked.target_id AND one.created_at >= $2
             ORDER BY one.created_at, one.run_id, one.attempt LIMIT $3
         ) AS gap
        """,
        target_ids,
        since,
        most,
    )
    found: dict[UUID, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["target_id"], []).append(dict(row))
    return found
