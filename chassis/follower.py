"""Following the log: apply every event after a checkpoint, in order, with exactly-once effect.

The checkpoint row is locked, the events after it applied and the checkpoint moved in one transaction; whoever
holds the row is the owner, and a process that was stopped meanwhile loses it
(`idle_in_transaction_session_timeout`). An event that cannot be applied is parked with its reason, and the
follower goes on; what is parked is tried again at the next start, which is when a fix may have come.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg
import structlog
from asyncpg import exceptions
from prometheus_client import Gauge

from chassis import crash
from chassis.database import Connection, Pool
from chassis.outage import outage_of


@dataclass(frozen=True, slots=True)
class Recorded:
    """One event of the log."""

    position: int
    id: str
    type: str
    subject: str | None
    source: str
    occurred_at: datetime
    recorded_at: datetime
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    data: Any


Apply = Callable[[Sequence[Recorded], Connection], Awaitable[None]]
"""Applies events in order inside the follower's transaction. Raising means: none of these was applied."""

LAG = Gauge(
    "buildlight_follower_lag_events", "Positions between the log's head and the checkpoint.", ["follower"]
)
CHECKPOINT = Gauge("buildlight_follower_checkpoint", "The position applied last.", ["follower"])
PARKED = Gauge("buildlight_follower_parked_events", "Events that could not be applied.", ["follower"])

log = structlog.get_logger()

_HEAD = "SELECT position FROM log.head"
_COLUMNS = """
    event.position, event.id::text, event.type, event.subject, event.source, event.occurred_at,
    event.recorded_at, event.correlation_id, event.causation_id, event.traceparent, event.data
"""
_SLICE = f"""
    SELECT {_COLUMNS}
      FROM log.events AS event
     WHERE event.position > $1 AND event.position <= $2 AND ($3::text[] IS NULL OR event.type = ANY($3))
     ORDER BY event.position
     LIMIT $4
"""
_RETRIED_TOGETHER = 100

_THE_DATAS_FAULT = (
    exceptions.DataError,
    exceptions.IntegrityConstraintViolationError,
    exceptions.ProgramLimitExceededError,  # too large for an index
)


class Follower:
    """Follows the log under a permanent `name`, with its checkpoint in `schema`.

    The schema has `checkpoints(follower text PRIMARY KEY, position bigint)` and
    `parked(follower text, position bigint, reason text, parked_at timestamptz)`.

    Args:
        name: of the checkpoint, in logs and metrics.
        pool: whose role may use both tables and read the log.
        apply: what to do with events.
        schema: the owner's.
        types: of the events to apply, as the log has them; all, unless given.
        batch: events applied together at most.
        window: positions a step covers at most, where few are of `types`.
        poll_seconds: how long to wait for a hint before looking anyway.
    """

    def __init__(
        self,
        name: str,
        pool: Pool,
        apply: Apply,
        *,
        schema: str,
        types: Sequence[str] | None = None,
        batch: int = 500,
        window: int = 10_000,
        poll_seconds: float = 1.0,
    ) -> None:
        self.name = name
        self._pool = pool
        self._apply = apply
        self._types = list(types) if types is not None else None
        self._batch = batch
        self._window = window
        self._poll_seconds = poll_seconds
        self._woken = asyncio.Event()
        self._create = f"INSERT INTO {schema}.checkpoints VALUES ($1, 0) ON CONFLICT DO NOTHING"
        self._own = f"SELECT position FROM {schema}.checkpoints WHERE follower = $1 FOR UPDATE"
        self._try_to_own = f"{self._own} SKIP LOCKED"
        self._move = f"UPDATE {schema}.checkpoints SET position = $2 WHERE follower = $1"
        self._park = f"""
            INSERT INTO {schema}.parked AS known (follower, position, reason, parked_at)
            VALUES ($1, $2, $3, now())
            ON CONFLICT (follower, position) DO UPDATE SET reason = excluded.reason
        """
        self._unpark = f"DELETE FROM {schema}.parked WHERE follower = $1 AND position = $2"
        self._parked_slice = f"""
            SELECT {_COLUMNS}
              FROM {schema}.parked JOIN log.events AS event USING (position)
             WHERE parked.follower = $1 AND position > $2
             ORDER BY position
             LIMIT {_RETRIED_TOGETHER}
        """
        self._standing = f"""
            SELECT (SELECT position FROM log.head),
                   coalesce((SELECT position FROM {schema}.checkpoints WHERE follower = $1), 0),
                   (SELECT count(*) FROM {schema}.parked WHERE follower = $1)
        """

    def hint(self) -> None:
        """The log may have grown: look now rather than at the next poll."""
        self._woken.set()

    async def run(self) -> None:
        """Follow until cancelled, through outages of the database."""
        failures = 0
        retried = False
        while True:
            try:
                if not retried:
                    await self.retry_parked()
                    retried = True
                await self.catch_up()
                failures = 0
            except Exception as error:
                failures += 1
                log.warning(
                    "follower interrupted",
                    follower=self.name,
                    error=f"{type(error).__name__}: {error}",
                    exc_info=None if outage_of(error) else error,
                )
                await asyncio.sleep(min(5.0, 0.1 * 2 ** min(failures, 6)))
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_seconds):
                    await self._woken.wait()
            self._woken.clear()

    async def catch_up(self) -> None:
        """Apply everything up to the log's head, unless another replica is doing so."""
        async with self._pool.acquire() as connection:
            await connection.execute(self._create, self.name)
        while await self.step():
            pass

    async def step(self) -> bool:
        """Apply one batch. Returns True when there may be more, False when the log's head is reached.

        False too while another replica owns the checkpoint, or when `catch_up` has never made it.
        """
        async with self._pool.acquire() as connection:
            async with connection.transaction():
                checkpoint = await connection.fetchval(self._try_to_own, self.name)
                more = checkpoint is not None and await self._step(checkpoint, connection)
                crash.point(f"{self.name}.before_commit")
            crash.point(f"{self.name}.after_commit")
            [(head, position, parked)] = await connection.fetch(self._standing, self.name)
        LAG.labels(self.name).set(head - position)
        CHECKPOINT.labels(self.name).set(position)
        PARKED.labels(self.name).set(parked)
        return more

    async def _step(self, checkpoint: int, connection: Connection) -> bool:
        head: int = await connection.fetchval(_HEAD)
        until = min(head, checkpoint + self._window)
        events = [
            Recorded(*row.values())
            for row in await connection.fetch(_SLICE, checkpoint, until, self._types, self._batch)
        ]
        if len(events) == self._batch:
            until = events[-1].position
        if events:
            await self._apply_or_park(events, connection)
        if until > checkpoint:
            await connection.execute(self._move, self.name, until)
        return until < head

    async def retry_parked(self) -> None:
        """Apply what was parked, each on its own and in order; what fails again stays, with its new reason.

        It comes after events that it should have come before, so `apply` must bear late events.
        """
        position = 0
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                await connection.fetchval(self._own, self.name)
                rows = await connection.fetch(self._parked_slice, self.name, position)
                for event in (Recorded(*row.values()) for row in rows):
                    position = event.position
                    if await self._apply_or_park([event], connection):
                        await connection.execute(self._unpark, self.name, position)
            if len(rows) < _RETRIED_TOGETHER:
                return

    async def _apply_or_park(self, events: Sequence[Recorded], connection: Connection) -> bool:
        """Apply `events` together; when that fails, halve until the one at fault is alone, and park it.

        Returns whether all were applied.
        """
        try:
            async with connection.transaction():
                await self._apply(events, connection)
        except Exception as error:
            if not _may_be_the_events_fault(error):
                raise
            if len(events) > 1:
                middle = len(events) // 2
                await self._apply_or_park(events[:middle], connection)
                await self._apply_or_park(events[middle:], connection)
                return False
            reason = f"{type(error).__name__}: {error}"
            log.exception(
                "event parked", follower=self.name, position=events[0].position, type=events[0].type
            )
            await connection.execute(self._park, self.name, events[0].position, reason[:2000])
            return False
        return True


def _may_be_the_events_fault(error: Exception) -> bool:
    """Whether another event could fare better.

    Not when a dependency is away, and not when Postgres says that the statement, the rights, the tables or a
    lock are the trouble: then every event would be parked for what is no event's fault.
    """
    if isinstance(error, asyncpg.PostgresError):
        return isinstance(error, _THE_DATAS_FAULT)
    return outage_of(error) is None
