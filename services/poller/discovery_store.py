"""The SQL of discovery: which targets a pattern was found to stand for."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from buildlight_contracts.envelope import Envelope
from chassis.database import Pool
from chassis.outbox import Outbox
from services.poller.episodes import Episode
from services.poller.provider import Target
from services.poller.targets import Pattern


@dataclass(frozen=True, slots=True)
class Standing:
    """How finding a pattern's targets goes."""

    tried_at: datetime | None = None
    not_before: datetime | None = None
    episode: Episode | None = None


class DiscoveryStore:
    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def standing(self, patterns: Collection[Pattern]) -> dict[Pattern, Standing]:
        rows = await self._pool.fetch(
            """
            SELECT provider, instance, pattern, tried_at, not_before, failing_since, failing_reason
            FROM poller.discoveries
            """
        )
        found = {Pattern(row["provider"], row["instance"], row["pattern"]): row for row in rows}
        return {
            pattern: Standing(
                row["tried_at"],
                row["not_before"],
                None
                if row["failing_since"] is None
                else Episode(row["failing_since"], row["failing_reason"]),
            )
            for pattern, row in found.items()
            if pattern in patterns
        }

    async def add(self, pattern: Pattern, targets: Sequence[Target]) -> int:
        """Keep targets as they are found: new ones are polled at once. Returns how many are new, or back."""
        return int(
            await self._pool.fetchval(
                """
                WITH known AS (
                    SELECT target_id FROM poller.targets WHERE target_id = ANY($1) AND vanished_at IS NULL
                ), kept AS (
                    INSERT INTO poller.targets (target_id, provider, instance, target, discovered_by)
                    SELECT id, $2, $3, name, $5 FROM unnest($1::uuid[], $4::text[]) AS found (id, name)
                    ON CONFLICT (target_id) DO UPDATE
                        SET discovered_by = excluded.discovered_by, vanished_at = NULL, is_polled = true
                )
                SELECT cardinality($1::uuid[]) - (SELECT count(*) FROM known)
                """,
                [t.id for t in targets],
                pattern.provider,
                pattern.instance,
                [t.name for t in targets],
                pattern.text,
            )
        )

    async def succeeded(
        self, pattern: Pattern, targets: Collection[Target], *, named: Collection[Target], now: datetime
    ) -> list[str]:
        """All that the pattern stands for was found. What it found before and is no more is kept, and not polled.

        `named` are polled whatever patterns find. Returns the names of what has vanished.
        """
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(
                """
                UPDATE poller.targets SET vanished_at = $5, is_polled = target_id = ANY($6)
                WHERE provider = $1 AND instance = $2 AND discovered_by = $3 AND vanished_at IS NULL
                  AND NOT target_id = ANY($4)
                RETURNING target
                """,
                pattern.provider,
                pattern.instance,
                pattern.text,
                [t.id for t in targets],
                now,
                [t.id for t in named],
            )
            await connection.execute(
                """
                INSERT INTO poller.discoveries (provider, instance, pattern, tried_at, found_at, targets)
                VALUES ($1, $2, $3, $4, $4, $5)
                ON CONFLICT (provider, instance, pattern) DO UPDATE SET
                    tried_at = excluded.tried_at, found_at = excluded.found_at, targets = excluded.targets,
                    not_before = NULL, failing_since = NULL, failing_reason = NULL, failing_detail = NULL
                """,
                pattern.provider,
                pattern.instance,
                pattern.text,
                now,
                len(targets),
            )
        return [row["target"] for row in rows]

    async def waits(self, pattern: Pattern, *, until: datetime) -> None:
        await self._pool.execute(
            """
            INSERT INTO poller.discoveries (provider, instance, pattern, not_before) VALUES ($1, $2, $3, $4)
            ON CONFLICT (provider, instance, pattern) DO UPDATE SET not_before = excluded.not_before
            """,
            pattern.provider,
            pattern.instance,
            pattern.text,
            until,
        )

    async def failed(
        self,
        pattern: Pattern,
        *,
        now: datetime,
        not_before: datetime,
        episode: Episode,
        detail: str,
        announcement: Envelope | None,
    ) -> None:
        """Keep that it failed, and in the same transaction what is to be published about it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                """
                INSERT INTO poller.discoveries (
                    provider, instance, pattern, tried_at, not_before, failing_since, failing_reason,
                    failing_detail
                ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                ON CONFLICT (provider, instance, pattern) DO UPDATE SET
                    tried_at = excluded.tried_at, not_before = excluded.not_before,
                    failing_since = excluded.failing_since, failing_reason = excluded.failing_reason,
                    failing_detail = excluded.failing_detail
                """,
                pattern.provider,
                pattern.instance,
                pattern.text,
                now,
                not_before,
                episode.since,
                episode.reason,
                detail,
            )
            if announcement is not None:
                await self._outbox.add([announcement], connection)
