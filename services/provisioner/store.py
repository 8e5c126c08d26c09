"""All of the provisioner's SQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from buildlight_contracts.commands import ProvisionV1
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.provisioning import (
    STEPS,
    ProvisioningFailedV1,
    ProvisioningStepCompletedV1,
    ProvisioningSucceededV1,
)
from chassis.database import Connection, Pool
from chassis.outbox import Outbox
from services.provisioner.job import canonical, requested, restored

SOURCE = "buildlight://provisioner"
_ASK_AGAIN_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """A run as it stands."""

    job: ProvisionV1
    status: str
    resumable: bool
    correlation_id: str
    worker_id: str | None
    project_id: int | None
    project_url: str | None
    project_path: str | None
    commit_sha: str | None
    error: str | None
    outcome: str | None
    version: int
    told: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def run_id(self) -> str:
        return self.job.run_id

    @property
    def is_over(self) -> bool:
        """Nothing is left to do, also when its message comes again."""
        return self.status == "succeeded" or (self.status == "failed" and not self.resumable)


@dataclass(frozen=True)
class Accepted:
    status: str
    is_new: bool
    is_same_job: bool
    """False: the run's id was used for another job before."""


class Store:
    """Runs and steps; what becomes of them goes to the outbox in the same transaction."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def accept(
        self, job: ProvisionV1, now: datetime, *, correlation_id: str | None, causation_id: str | None
    ) -> Accepted:
        """Note a job's run as queued, once, and say that it was asked for."""
        text = canonical(job)
        fact = Envelope.of(
            requested(job, now), source=SOURCE, correlation_id=correlation_id, causation_id=causation_id
        )
        async with self._pool.acquire() as connection, connection.transaction():
            new = await connection.fetchval(
                """
                INSERT INTO provisioner.runs (run_id, job, correlation_id, created_at)
                VALUES ($1, $2, $3, $4) ON CONFLICT (run_id) DO NOTHING RETURNING true
                """,
                job.run_id,
                text,
                fact.correlationid,
                now,
            )
            if new:
                await self._outbox.add([fact], connection)
                return Accepted("queued", is_new=True, is_same_job=True)
            row = await connection.fetchrow(
                "SELECT status, job FROM provisioner.runs WHERE run_id = $1", job.run_id
            )
            assert row is not None
            return Accepted(row["status"], is_new=False, is_same_job=row["job"] == text)

    @asynccontextmanager
    async def alone(self, run_id: str, what: str) -> AsyncIterator["Alone"]:
        """Be the only one, in all processes, that does `what` with the run; waits for another.

        The lock is the database session's: it goes with the connection, whatever becomes of this process.
        """
        async with self._pool.acquire() as connection:
            name = f"provisioner/{what}/{run_id}"
            while not await connection.fetchval(  # noqa: ASYNC110 -- the other may be another process
                "SELECT pg_try_advisory_lock(hashtextextended($1, 0))", name
            ):
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            # A connection that goes back to the pool gives up its advisory locks.
            yield Alone(connection, self._outbox, run_id)


class Alone:
    """One run, in the hands of one worker."""

    def __init__(self, connection: Connection, outbox: Outbox, run_id: str) -> None:
        self._connection = connection
        self._outbox = outbox
        self._run_id = run_id

    async def run(self) -> Run | None:
        row = await self._connection.fetchrow(
            """
            SELECT job, status, resumable, correlation_id, worker_id, project_id, project_url, project_path,
                   commit_sha, error, outcome, version, told, created_at, started_at, finished_at
              FROM provisioner.runs WHERE run_id = $1
            """,
            self._run_id,
        )
        return None if row is None else Run(**{**row, "job": restored(row["job"])})

    async def steps(self) -> Sequence[dict[str, Any]]:
        """Its steps in order: step, status, detail, started_at, finished_at, duration_seconds."""
        rows = await self._connection.fetch(
            """
            SELECT step, status, detail, started_at, finished_at, duration_seconds
              FROM provisioner.published_steps WHERE run_id = $1 ORDER BY number
            """,
            self._run_id,
        )
        return [dict(row) for row in rows]

    async def begin(self, worker_id: str) -> bool:
        """Set it running. Returns whether it was not."""
        return bool(
            await self._connection.fetchval(
                """
                UPDATE provisioner.runs AS run
                   SET status = 'running', worker_id = $2, resumable = false, error = NULL, outcome = NULL,
                       started_at = coalesce(run.started_at, now()), finished_at = NULL,
                       version = run.version + (before.status <> 'running')::integer
                  FROM (SELECT status FROM provisioner.runs WHERE run_id = $1) AS before
                 WHERE run.run_id = $1
                RETURNING before.status <> 'running'
                """,
                self._run_id,
                worker_id,
            )
        )

    async def begin_step(self, step: str, at: datetime) -> None:
        await self._connection.execute(
            """
            INSERT INTO provisioner.steps (run_id, number, step, status, started_at)
            VALUES ($1, $2, $3, 'running', $4)
            ON CONFLICT (run_id, number) DO UPDATE
               SET status = 'running', detail = NULL, started_at = excluded.started_at, finished_at = NULL
            """,
            self._run_id,
            STEPS.index(step) + 1,
            step,
            at,
        )

    async def finish_step(
        self,
        run: Run,
        step: str,
        *,
        detail: str,
        started_at: datetime,
        at: datetime,
        also: "Callable[[Alone], Awaitable[None]] | None" = None,
    ) -> None:
        """Note a step as done and say so; `also`: what else is to be written in the same transaction."""
        fact = ProvisioningStepCompletedV1(
            run_id=self._run_id,
            step=step,
            detail=detail,
            duration_seconds=max(0.0, (at - started_at).total_seconds()),
            completed_at=at,
        )
        async with self._connection.transaction():
            await self._end_step(step, "succeeded", detail, at)
            if also is not None:
                await also(self)
            await self._say(run, fact)

    async def created(self, project_id: int, url: str, path: str) -> None:
        await self._connection.execute(
            "UPDATE provisioner.runs SET project_id = $2, project_url = $3, project_path = $4 WHERE run_id = $1",
            self._run_id,
            project_id,
            url,
            path,
        )

    async def pushed(self, sha: str) -> None:
        await self._connection.execute(
            "UPDATE provisioner.runs SET commit_sha = $2 WHERE run_id = $1", self._run_id, sha
        )

    async def reported(self) -> None:
        """From now on the control plane is told that it succeeded."""
        await self._connection.execute(
            "UPDATE provisioner.runs SET outcome = 'succeeded', version = version + 1 WHERE run_id = $1",
            self._run_id,
        )

    async def succeed(self, at: datetime) -> None:
        async with self._connection.transaction():
            row = await self._connection.fetchrow(
                """
                UPDATE provisioner.runs SET status = 'succeeded', outcome = 'succeeded', finished_at = $2
                 WHERE run_id = $1 RETURNING project_id, project_url, commit_sha, correlation_id
                """,
                self._run_id,
                at,
            )
            assert row is not None
            fact = ProvisioningSucceededV1(
                run_id=self._run_id,
                project_id=row["project_id"],
                project_url=row["project_url"],
                commit_sha=row["commit_sha"],
                succeeded_at=at,
            )
            await self._say(row["correlation_id"], fact)

    async def fail(self, run: Run, step: str, reason: str, at: datetime, *, resumable: bool) -> None:
        async with self._connection.transaction():
            await self._end_step(step, "failed", reason, at)
            await self._connection.execute(
                """
                UPDATE provisioner.runs
                   SET status = 'failed', outcome = 'failed', error = $2, finished_at = $3, resumable = $4,
                       version = version + 1
                 WHERE run_id = $1
                """,
                self._run_id,
                reason,
                at,
                resumable,
            )
            fact = ProvisioningFailedV1(run_id=self._run_id, step=step, reason=reason, failed_at=at)
            await self._say(run, fact)

    async def told(self, version: int) -> None:
        """The control plane has taken this version."""
        await self._connection.execute(
            "UPDATE provisioner.runs SET told = greatest(told, $2) WHERE run_id = $1", self._run_id, version
        )

    async def _end_step(self, step: str, status: str, detail: str, at: datetime) -> None:
        await self._connection.execute(
            """
            UPDATE provisioner.steps SET status = $3, detail = $4, finished_at = $5
             WHERE run_id = $1 AND step = $2 AND status = 'running'
            """,
            self._run_id,
            step,
            status,
            detail,
            at,
        )

    async def _say(self, run: Run | str, fact: Fact) -> None:
        correlation = run if isinstance(run, str) else run.correlation_id
        envelope = Envelope.of(fact, source=SOURCE, correlation_id=correlation)
        await self._outbox.add([envelope], self._connection)
