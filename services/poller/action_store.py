"""The SQL of what was asked of providers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from buildlight_contracts.collection import BuildAction, BuildActionTakenV1
from buildlight_contracts.envelope import Envelope
from chassis.database import Connection, Pool
from chassis.outbox import Outbox
from services.poller.actions import ActionCommand

MEMORY = timedelta(days=90)
"""How long an answer is kept; the log keeps what was done for ever."""
_LOCK_RETRY_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Kept:
    """An action as it stands."""

    action: BuildAction
    build_id: UUID
    status: str
    begun_at: datetime | None


class ActionStore:
    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    @asynccontextmanager
    async def alone(self, build_id: UUID) -> AsyncIterator["Alone"]:
        """Be the only one, in all replicas, that acts on the build; waits for another.

        The lock is the database session's: it goes with the connection, whatever becomes of this process.
        """
        async with self._pool.acquire() as connection:
            while not await connection.fetchval(  # noqa: ASYNC110 -- the other may be another process
                "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", f"poller/action/{build_id}"
            ):
                await asyncio.sleep(_LOCK_RETRY_SECONDS)
            # A connection that goes back to the pool gives up its advisory locks.
            yield Alone(connection, self._outbox)

    async def forget(self, *, before: datetime) -> None:
        await self._pool.execute(
            "DELETE FROM poller.actions WHERE asked_at < $1 AND finished_at IS NOT NULL", before
        )


class Alone:
    """The actions on one build, in the hands of one replica."""

    def __init__(self, connection: Connection, outbox: Outbox) -> None:
        self._connection = connection
        self._outbox = outbox

    async def admit(
        self, command: ActionCommand, action: BuildAction, *, expires_at: datetime | None
    ) -> Kept:
        """Note what is asked, once; what stands under its id already is left as it is."""
        await self._connection.execute(
            """
            INSERT INTO poller.actions (request_id, action, build_id, repository, asked_by, expires_at)
            VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (request_id) DO NOTHING
            """,
            command.request_id,
            action,
            command.build.build_id,
            command.repository,
            command.by,
            expires_at,
        )
        row = await self._connection.fetchrow(
            """
            SELECT action, build_id, status, begun_at FROM poller.actions WHERE request_id = $1
            """,
            command.request_id,
        )
        assert row is not None
        return Kept(**dict(row))

    async def begin(self, request_id: UUID, *, at: datetime) -> None:
        """The provider is about to be asked."""
        await self._connection.execute(
            "UPDATE poller.actions SET begun_at = $2 WHERE request_id = $1", request_id, at
        )

    async def take_back(self, request_id: UUID) -> None:
        """The provider was asked and surely did nothing."""
        await self._connection.execute(
            "UPDATE poller.actions SET begun_at = NULL WHERE request_id = $1", request_id
        )

    async def tell(self, request_id: UUID, detail: str) -> None:
        await self._connection.execute(
            "UPDATE poller.actions SET detail = $2 WHERE request_id = $1", request_id, detail
        )

    async def settle(
        self,
        request_id: UUID,
        status: str,
        detail: str,
        *,
        url: str | None = None,
        fact: BuildActionTakenV1 | None = None,
        cause: Envelope,
        at: datetime,
    ) -> None:
        """Keep what came of it, and in the same transaction what is to be published about it."""
        async with self._connection.transaction():
            await self._connection.execute(
                """
                UPDATE poller.actions SET status = $2, detail = $3, url = $4, finished_at = $5
                WHERE request_id = $1
                """,
                request_id,
                status,
                detail,
                url,
                at,
            )
            if fact is not None:
                envelope = Envelope.of(
                    fact,
                    source="buildlight://poller",
                    correlation_id=cause.correlationid,
                    causation_id=cause.id,
                )
                await self._outbox.add([envelope], self._connection)
