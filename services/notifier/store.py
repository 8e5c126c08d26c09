"""The notifier's SQL."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from buildlight_contracts.envelope import Envelope
from chassis.database import Pool
from chassis.outbox import Outbox
from services.notifier.dedupe import Record
from services.notifier.rules import Break

_BREAKS = """
    SELECT DISTINCT ON (broke.rule, broke.channel)
           broke.rule, broke.channel, broke.delivery_id, recovered.fact_id AS followed_by
      FROM notifier.deliveries AS broke
      LEFT JOIN notifier.deliveries AS recovered ON recovered.follows = broke.delivery_id
     WHERE broke.pipeline_id = $1 AND broke.fact_type = 'pipeline.broke.v1'
       AND CASE WHEN $2::timestamptz IS NULL THEN broke.occurred_at <= $3 ELSE broke.occurred_at = $2 END
     ORDER BY broke.rule, broke.channel, broke.occurred_at DESC, broke.created_at DESC
"""
# Also in conflict: a second recovery that follows the same break.
_ADD = """
    INSERT INTO notifier.deliveries (
        delivery_id, rule, channel, fact_id, fact_type, pipeline_id, occurred_at, title, envelope, follows, reason
    )
    SELECT new.delivery_id, new.rule, new.channel, $5, $6, $7, $8, $9, $10, new.follows,
           CASE WHEN new.follows IS NOT NULL THEN 'waits until its break is told' END
      FROM unnest($1::uuid[], $2::text[], $3::text[], $4::uuid[]) AS new (delivery_id, rule, channel, follows)
     ORDER BY new.delivery_id
    ON CONFLICT DO NOTHING
"""
_READY = """
    SELECT delivery.delivery_id, delivery.channel, delivery.title, delivery.envelope
      FROM notifier.deliveries AS delivery
      LEFT JOIN notifier.deliveries AS broke ON broke.delivery_id = delivery.follows
     WHERE (delivery.fact_id = $1 OR delivery.follows = $2) AND delivery.status = 'pending'
       AND (delivery.follows IS NULL OR broke.status = 'sent')
     ORDER BY delivery.delivery_id
"""
_READ = """
    SELECT delivery_id, rule, channel, title, envelope, follows, status, attempts, sent_at,
           greatest(0, extract(epoch FROM claimed_until - now()))::float8 AS claimed_seconds
      FROM notifier.deliveries
     WHERE delivery_id = $1
"""
_CLAIM = """
    UPDATE notifier.deliveries SET claimed_until = now() + make_interval(secs => $2)
     WHERE delivery_id = $1 AND status <> 'sent' AND (claimed_until IS NULL OR claimed_until <= now())
    RETURNING true
"""
_RELEASE = """
    UPDATE notifier.deliveries SET claimed_until = NULL, reason = $2, attempts = attempts + $3
     WHERE delivery_id = $1 AND status <> 'sent'
"""
_SENT = """
    UPDATE notifier.deliveries
       SET status = 'sent', sent_at = $2, claimed_until = NULL, reason = NULL, attempts = attempts + 1
     WHERE delivery_id = $1 AND status <> 'sent'
    RETURNING true
"""
# Says whether it had failed before: being given up is a fact once.
_FAILED = """
    UPDATE notifier.deliveries AS delivery
       SET status = 'failed', claimed_until = NULL, reason = $2, attempts = delivery.attempts + 1
      FROM (SELECT status FROM notifier.deliveries WHERE delivery_id = $1 FOR UPDATE) AS before
     WHERE delivery.delivery_id = $1 AND before.status <> 'sent'
    RETURNING before.status = 'pending'
"""


@dataclass(frozen=True)
class NewDelivery:
    delivery_id: UUID
    rule: str
    channel: str
    follows: UUID | None


@dataclass(frozen=True)
class Told:
    """The fact that deliveries are about."""

    fact_id: str
    fact_type: str
    pipeline_id: UUID
    occurred_at: datetime
    title: str
    envelope: str


@dataclass(frozen=True)
class Ready:
    """A delivery whose message may go to its channel's queue."""

    delivery_id: UUID
    channel: str
    title: str
    envelope: str


class Store:
    """Deliveries. Every write may be repeated."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def breaks(
        self, pipeline_id: UUID, *, at: datetime | None, until: datetime
    ) -> dict[tuple[str, str], Break]:
        """By rule and channel, the pipeline's break at that time that was to be told.

        The newest up to `until` when the time is not known. Only then: facts are evaluated side by side, and the
        newest on record may be the one before the one that is meant.
        """
        rows = await self._pool.fetch(_BREAKS, pipeline_id, at, until)
        return {(r["rule"], r["channel"]): Break(r["delivery_id"], r["followed_by"]) for r in rows}

    async def add(self, deliveries: Sequence[NewDelivery], told: Told) -> None:
        """Put deliveries on record as pending; those that are there stay as they are."""
        await self._pool.execute(
            _ADD,
            [new.delivery_id for new in deliveries],
            [new.rule for new in deliveries],
            [new.channel for new in deliveries],
            [new.follows for new in deliveries],
            told.fact_id,
            told.fact_type,
            told.pipeline_id,
            told.occurred_at,
            told.title,
            told.envelope,
        )

    async def ready_of(self, fact_id: str) -> list[Ready]:
        """The fact's pending deliveries, but for a recovery whose break is not told yet."""
        return _ready(await self._pool.fetch(_READY, fact_id, None))

    async def ready_after(self, delivery_id: UUID) -> list[Ready]:
        """The recovery that waited for this delivery of a break, if it may go now."""
        return _ready(await self._pool.fetch(_READY, None, delivery_id))

    async def read(self, delivery_id: UUID) -> Record | None:
        row = await self._pool.fetchrow(_READ, delivery_id)
        return Record(**row) if row else None

    async def claim(self, delivery_id: UUID, *, seconds: float) -> bool:
        """Take the delivery in hand, by the database's clock; False when another has it or it is sent."""
        return bool(await self._pool.fetchval(_CLAIM, delivery_id, seconds))

    async def release(self, delivery_id: UUID, reason: str, *, answered: bool) -> None:
        """Give the claim up; `answered`: the channel said no, rather than nothing."""
        await self._pool.execute(_RELEASE, delivery_id, reason, int(answered))

    async def sent(self, delivery_id: UUID, at: datetime, fact: Envelope) -> None:
        """Record that the channel accepted it, and `fact` for the log, together."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_SENT, delivery_id, at):
                await self._outbox.add([fact], connection)

    async def failed(self, delivery_id: UUID, reason: str, fact: Envelope) -> None:
        """Record that it was given up, and the first time `fact` for the log, together."""
        async with self._pool.acquire() as connection, connection.transaction():
            if await connection.fetchval(_FAILED, delivery_id, reason):
                await self._outbox.add([fact], connection)


def _ready(rows: Sequence[asyncpg.Record]) -> list[Ready]:
    return [Ready(**row) for row in rows]
