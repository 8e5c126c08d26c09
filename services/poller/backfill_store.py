"""The SQL of backfills."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from buildlight_contracts.commands import BackfillTargetV1
from chassis.database import Pool
from services.poller.provider import Target


@dataclass(frozen=True, slots=True)
class Backfill:
    """One target of a request, and how far it has come."""

    request_id: UUID
    target_id: UUID
    status: str
    """`running`, `done` or `failed`."""
    until: datetime
    through: datetime
    failing_since: datetime | None


class BackfillStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, command: BackfillTargetV1, target: Target) -> Backfill:
        """The backfill that this command asks for, begun unless it was."""
        await self._pool.execute(
            """
            INSERT INTO poller.backfills (
                request_id, target_id, provider, instance, target, targets, since, until, through
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $7)
            ON CONFLICT DO NOTHING
            """,
            command.request_id,
            target.id,
            target.provider,
            target.instance,
            target.name,
            command.targets,
            command.since,
            command.until,
        )
        begun = await self.find(command.request_id, target)
        assert begun is not None
        return begun

    async def find(self, request_id: UUID, target: Target) -> Backfill | None:
        row = await self._pool.fetchrow(
            """
            SELECT request_id, target_id, status, until, through, failing_since FROM poller.backfills
            WHERE request_id = $1 AND target_id = $2
            """,
            request_id,
            target.id,
        )
        return Backfill(**dict(row)) if row else None

    async def advanced(
        self,
        backfill: Backfill,
        *,
        through: datetime,
        builds: int,
        facts: int,
        unreadable: int,
        done: bool,
    ) -> None:
        """A slice went well."""
        await self._pool.execute(
            """
            UPDATE poller.backfills
            SET through = GREATEST(through, LEAST($3, until)), builds = builds + $4, facts = facts + $5,
                unreadable = unreadable + $6, status = CASE WHEN $7 THEN 'done' ELSE status END,
                finished_at = CASE WHEN $7 THEN now() END, waits_until = NULL, failing_since = NULL,
                reason = NULL, detail = NULL, updated_at = now()
            WHERE request_id = $1 AND target_id = $2
            """,
            backfill.request_id,
            backfill.target_id,
            through,
            builds,
            facts,
            unreadable,
            done,
        )

    async def stopped(
        self,
        backfill: Backfill,
        *,
        through: datetime,
        builds: int,
        facts: int,
        reason: str,
        detail: str,
        failing_since: datetime | None,
        waits_until: datetime | None,
    ) -> None:
        """A slice came to a stop before its end. It has failed for good unless it waits until some time."""
        await self._pool.execute(
            """
            UPDATE poller.backfills
            SET through = GREATEST(through, LEAST($3, until)), builds = builds + $4, facts = facts + $5,
                reason = $6, detail = $7, failing_since = $8, waits_until = $9,
                status = CASE WHEN $9::timestamptz IS NULL THEN 'failed' ELSE status END,
                finished_at = CASE WHEN $9::timestamptz IS NULL THEN now() END, updated_at = now()
            WHERE request_id = $1 AND target_id = $2
            """,
            backfill.request_id,
            backfill.target_id,
            through,
            builds,
            facts,
            reason,
            detail,
            failing_since,
            waits_until,
        )
