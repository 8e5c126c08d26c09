"""The SQL of what is collected of builds that have ended, and of finding a build by its id."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import CollectReportsV1
from chassis.database import Pool
from services.poller.provider import Target

MEMORY = timedelta(days=35)


@dataclass(frozen=True, slots=True)
class Collected:
    """What was collected of an attempt so far."""

    is_done: bool
    documents: frozenset[UUID]
    jobs: frozenset[UUID]


class CollectionStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def begin(self, command: CollectReportsV1) -> Collected:
        """What there is of the attempt; with another end than before it is begun anew."""
        build = command.build
        row = await self._pool.fetchrow(
            """
            INSERT INTO poller.collections AS kept (build_id, provider, instance, target, ended_at)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (build_id) DO UPDATE SET
                target = excluded.target, ended_at = excluded.ended_at, status = 'running', documents = '{}',
                jobs = '{}', reports = 0, cases = 0, refused = 0, logs = 0, detail = NULL, started_at = now(),
                finished_at = NULL
                WHERE kept.ended_at < excluded.ended_at
            RETURNING status, documents, jobs
            """,
            build.build_id,
            build.provider,
            build.instance,
            command.target,
            command.ended_at,
        )
        if row is None:
            row = await self._pool.fetchrow(
                """
                SELECT CASE WHEN ended_at > $2 THEN 'done' ELSE status END AS status, documents, jobs
                FROM poller.collections WHERE build_id = $1
                """,
                build.build_id,
                command.ended_at,
            )
            assert row is not None
        return Collected(row["status"] == "done", frozenset(row["documents"]), frozenset(row["jobs"]))

    async def keep_document(
        self, command: CollectReportsV1, key: UUID, *, reports: int, cases: int, refused: int
    ) -> None:
        """All that is in a document has been published."""
        await self._pool.execute(
            """
            UPDATE poller.collections
            SET documents = documents || $3::uuid, reports = reports + $4, cases = cases + $5,
                refused = refused + $6
            WHERE build_id = $1 AND ended_at = $2 AND NOT documents @> ARRAY[$3::uuid]
            """,
            command.build.build_id,
            command.ended_at,
            key,
            reports,
            cases,
            refused,
        )

    async def keep_log(self, command: CollectReportsV1, key: UUID, *, found: bool) -> None:
        """A job's log has been seen to; `found`: there was one."""
        await self._pool.execute(
            """
            UPDATE poller.collections SET jobs = jobs || $3::uuid, logs = logs + $4
            WHERE build_id = $1 AND ended_at = $2 AND NOT jobs @> ARRAY[$3::uuid]
            """,
            command.build.build_id,
            command.ended_at,
            key,
            int(found),
        )

    async def tell(self, command: CollectReportsV1, detail: str) -> None:
        """Keep why it is tried again."""
        await self._pool.execute(
            "UPDATE poller.collections SET detail = $3 WHERE build_id = $1 AND ended_at = $2",
            command.build.build_id,
            command.ended_at,
            detail,
        )

    async def done(self, command: CollectReportsV1, detail: str | None) -> None:
        await self._pool.execute(
            """
            UPDATE poller.collections
            SET status = 'done', detail = $3, finished_at = now(), documents = '{}', jobs = '{}'
            WHERE build_id = $1 AND ended_at = $2
            """,
            command.build.build_id,
            command.ended_at,
            detail,
        )

    async def forget(self, *, before: datetime) -> None:
        await self._pool.execute("DELETE FROM poller.collections WHERE started_at < $1", before)

    async def find(self, build_id: UUID) -> tuple[Target, BuildRef] | None:
        """The attempt with this id, and the target it belongs to; None when it was never seen, or long ago."""
        row = await self._pool.fetchrow(
            """
            SELECT provider, instance, target, repository_id, run_id, attempt
            FROM poller.attempts JOIN poller.targets USING (target_id) WHERE build_id = $1
            """,
            build_id,
        )
        if row is None:
            return None
        target = Target(row["provider"], row["instance"], row["target"])
        return target, BuildRef(
            provider=target.provider,
            instance=target.instance,
            repository_id=row["repository_id"],
            run_id=row["run_id"],
            attempt=row["attempt"],
        )
