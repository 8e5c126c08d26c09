"""The SQL of targets; and of their attempts and pages, which has a file of its own."""

from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from buildlight_contracts.envelope import Envelope
from chassis.database import Pool
from chassis.outbox import Outbox
from services.poller.attempt_store import AttemptStore
from services.poller.episodes import Episode
from services.poller.provider import Target


@dataclass(frozen=True, slots=True)
class State:
    """Where the polling of a target stands."""

    scheduled_for: datetime | None
    polled_for: datetime | None
    not_before: datetime | None
    polled_at: datetime | None
    listed_through: datetime | None
    swept_at: datetime | None
    episode: Episode | None
    discovered_by: str | None = None
    vanished_at: datetime | None = None
    deployments_asked_at: datetime | None = None
    deployments_through: datetime | None = None
    """The provider's time of the newest change of a deployment that was seen."""
    deployments_known: frozenset[UUID] = frozenset()
    """The facts published of deployments that changed shortly before that."""


class Store(AttemptStore):
    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        super().__init__(pool)
        self._outbox = outbox

    # -- targets

    async def add(self, targets: Iterable[Target]) -> None:
        await self._pool.executemany(
            """
            INSERT INTO poller.targets (target_id, provider, instance, target) VALUES ($1, $2, $3, $4)
            ON CONFLICT DO NOTHING
            """,
            [(t.id, t.provider, t.instance, t.name) for t in targets],
        )

    async def polled(self, targets: Collection[Target]) -> None:
        """Show that these are polled, and no others."""
        await self._pool.execute(
            """
            UPDATE poller.targets SET is_polled = target_id = ANY($1)
            WHERE is_polled IS DISTINCT FROM (target_id = ANY($1))
            """,
            [t.id for t in targets],
        )

    async def discovered(self) -> list[tuple[Target, str]]:
        """What patterns have found and still find, with the pattern of each."""
        rows = await self._pool.fetch(
            """
            SELECT provider, instance, target, discovered_by FROM poller.targets
            WHERE discovered_by IS NOT NULL AND vanished_at IS NULL ORDER BY target_id
            """
        )
        return [(Target(r["provider"], r["instance"], r["target"]), r["discovered_by"]) for r in rows]

    async def called(self, target: Target) -> list[tuple[Target, str | None, bool]]:
        """The targets of that name, in whatever case: each with the pattern that found it, and whether it vanished."""
        rows = await self._pool.fetch(
            """
            SELECT target, discovered_by, vanished_at IS NOT NULL AS vanished FROM poller.targets
            WHERE provider = $1 AND instance = $2 AND lower(target) = lower($3)
            """,
            target.provider,
            target.instance,
            target.name,
        )
        return [
            (Target(target.provider, target.instance, row["target"]), row["discovered_by"], row["vanished"])
            for row in rows
        ]

    async def states(self, targets: Collection[Target]) -> dict[UUID, State]:
        rows = await self._pool.fetch(
            """
            SELECT target_id, scheduled_for, polled_for, not_before, polled_at, listed_through, swept_at,
                   failing_since, failing_reason, discovered_by, vanished_at, deployments_asked_at,
                   deployments_through, deployments_known
            FROM poller.targets WHERE target_id = ANY($1)
            """,
            [t.id for t in targets],
        )
        return {row["target_id"]: _state(row) for row in rows}

    async def scheduled(self, target: Target, due: datetime) -> None:
        await self._pool.execute(
            "UPDATE poller.targets SET scheduled_for = $2 WHERE target_id = $1", target.id, due
        )

    async def listed(self, target: Target, *, through: datetime) -> None:
        """Every build created before `through` has been published."""
        await self._pool.execute(
            "UPDATE poller.targets SET listed_through = GREATEST(listed_through, $2) WHERE target_id = $1",
            target.id,
            through,
        )

    async def swept(self, target: Target, *, at: datetime) -> None:
        await self._pool.execute(
            "UPDATE poller.targets SET swept_at = $2 WHERE target_id = $1", target.id, at
        )

    async def succeeded(self, target: Target, *, due: datetime, now: datetime) -> None:
        await self._pool.execute(
            """
            UPDATE poller.targets
            SET polled_for = $2, polled_at = $3, succeeded_at = $3, not_before = NULL,
                failing_since = NULL, failing_reason = NULL, failing_detail = NULL
            WHERE target_id = $1
            """,
            target.id,
            due,
            now,
        )

    async def unfinished(self, target: Target, *, now: datetime) -> None:
        """A poll went well and its time was up: the schedule may ask for the same one again."""
        await self._pool.execute(
            """
            UPDATE poller.targets
            SET scheduled_for = NULL, polled_at = $2, not_before = NULL,
                failing_since = NULL, failing_reason = NULL, failing_detail = NULL
            WHERE target_id = $1
            """,
            target.id,
            now,
        )

    async def waits(self, target: Target, *, due: datetime, until: datetime) -> None:
        await self._pool.execute(
            "UPDATE poller.targets SET polled_for = $2, not_before = $3 WHERE target_id = $1",
            target.id,
            due,
            until,
        )

    async def failed(
        self,
        target: Target,
        *,
        due: datetime,
        now: datetime,
        episode: Episode,
        detail: str,
        not_before: datetime | None,
        announcement: Envelope | None,
    ) -> None:
        """Keep that a poll failed, and in the same transaction what is to be published about it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                """
                UPDATE poller.targets
                SET polled_for = $2, polled_at = $3, failing_since = $4, failing_reason = $5,
                    failing_detail = $6, not_before = $7
                WHERE target_id = $1
                """,
                target.id,
                due,
                now,
                episode.since,
                episode.reason,
                detail,
                not_before,
            )
            if announcement is not None:
                await self._outbox.add([announcement], connection)

    async def deployments_asked(
        self, target: Target, *, at: datetime, through: datetime | None, known: Collection[UUID]
    ) -> None:
        """Every deployment that changed before `through` has been published."""
        await self._pool.execute(
            """
            UPDATE poller.targets
            SET deployments_asked_at = $2, deployments_through = $3, deployments_known = $4,
                deployments_refused = NULL
            WHERE target_id = $1
            """,
            target.id,
            at,
            through,
            sorted(known),
        )

    async def deployments_came(
        self, target: Target, *, through: datetime | None, known: Collection[UUID]
    ) -> None:
        """As `deployments_asked`, of a visit that has not come to its end: it is due again."""
        await self._pool.execute(
            """
            UPDATE poller.targets
            SET deployments_through = $2, deployments_known = $3
            WHERE target_id = $1
            """,
            target.id,
            through,
            sorted(known),
        )

    async def deployments_refused(self, target: Target, *, at: datetime, detail: str) -> None:
        await self._pool.execute(
            """
            UPDATE poller.targets SET deployments_asked_at = $2, deployments_refused = $3 WHERE target_id = $1
            """,
            target.id,
            at,
            detail,
        )

    # -- one at a time

    @asynccontextmanager
    async def alone(self, what: UUID | str, *, patience_seconds: float) -> AsyncIterator[bool]:
        """Be the only one, in all replicas, at a target or a run; False when another was for all that time."""
        async with self._pool.acquire() as connection:
            try:
                # First come, first served: one that tried now and then would wait for ever beside a backfill.
                await connection.execute(
                    "SELECT pg_advisory_lock(hashtextextended($1, 0))",
                    f"poller/at/{what}",
                    timeout=patience_seconds,
                )
            except TimeoutError:
                yield False
                return
            # Given back with the connection: the pool releases what a connection holds.
            yield True


def _state(row: asyncpg.Record) -> State:
    since, reason = row["failing_since"], row["failing_reason"]
    return State(
        scheduled_for=row["scheduled_for"],
        polled_for=row["polled_for"],
        not_before=row["not_before"],
        polled_at=row["polled_at"],
        listed_through=row["listed_through"],
        swept_at=row["swept_at"],
        episode=None if since is None else Episode(since, reason),
        discovered_by=row["discovered_by"],
        vanished_at=row["vanished_at"],
        deployments_asked_at=row["deployments_asked_at"],
        deployments_through=row["deployments_through"],
        deployments_known=frozenset(row["deployments_known"]),
    )
