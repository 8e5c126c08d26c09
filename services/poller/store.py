"""The SQL of targets, attempts and pages."""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.envelope import Envelope
from chassis.database import Pool
from chassis.outbox import Outbox
from services.poller.attempts import Known
from services.poller.episodes import Episode
from services.poller.provider import Page, Target


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


class Store:
    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
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

    async def deployments_refused(self, target: Target, *, at: datetime, detail: str) -> None:
        await self._pool.execute(
            """
            UPDATE poller.targets SET deployments_asked_at = $2, deployments_refused = $3 WHERE target_id = $1
            """,
            target.id,
            at,
            detail,
        )

    # -- attempts

    async def known(self, target: Target, run_ids: Sequence[str]) -> dict[str, dict[int, Known]]:
        """By run and number, what is known of the attempts of these runs."""
        rows = await self._pool.fetch(
            """
            SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts, etag,
                   unchanged, due_at, collected_for, attempt = max(attempt) OVER (PARTITION BY run_id) AS latest
            FROM poller.attempts WHERE target_id = $1 AND run_id = ANY($2)
            """,
            target.id,
            run_ids,
        )
        found: dict[str, dict[int, Known]] = {}
        for row in rows:
            found.setdefault(row["run_id"], {})[row["attempt"]] = _known(row)
        return found

    async def open(self, target: Target, *, now: datetime, since: datetime) -> list[Known]:
        """Attempts to be asked for on their own: due, not settled, and not shown by a listing from `since` on.

        A listing shows a run's latest attempt, and not whether its jobs have ended. With them those set aside,
        due or not: they must not go unseen.
        """
        rows = await self._pool.fetch(
            """
            SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts, etag,
                   unchanged, due_at, collected_for, latest
            FROM (
                SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts,
                       etag, unchanged, created_at, due_at, collected_for,
                       NOT EXISTS (
                           SELECT FROM poller.attempts AS later
                           WHERE later.target_id = one.target_id AND later.run_id = one.run_id
                             AND later.attempt > one.attempt
                       ) AS latest
                FROM poller.attempts AS one
                WHERE target_id = $1 AND NOT settled AND (due_at <= $2 OR version IS NULL AND unchanged > 0)
            ) AS candidate
            WHERE created_at < $3 OR ended OR NOT latest
            ORDER BY due_at
            """,
            target.id,
            now,
            since,
        )
        return [_known(row) for row in rows]

    async def keep(
        self, target: Target, known: Known, *, created_at: datetime, shown_at: datetime, looked_at: datetime
    ) -> None:
        """Remember an attempt as it has just been published, as the provider showed it at `shown_at`.

        Two may look at one run at a time: who saw it before its end does not make the other forget that.
        """
        await self._pool.execute(
            """
            INSERT INTO poller.attempts (
                build_id, target_id, repository_id, run_id, attempt, created_at, version, fact_id, job_facts,
                ended, settled, etag, unchanged, due_at, collected_for, shown_at, looked_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
            ON CONFLICT (build_id) DO UPDATE SET
                target_id = excluded.target_id, version = excluded.version, fact_id = excluded.fact_id,
                job_facts = excluded.job_facts, ended = excluded.ended, settled = excluded.settled,
                etag = excluded.etag, unchanged = excluded.unchanged, due_at = excluded.due_at,
                collected_for = excluded.collected_for, shown_at = excluded.shown_at,
                looked_at = excluded.looked_at,
                unavailable = NULL, seen_at = now()
            WHERE excluded.ended OR NOT poller.attempts.ended OR poller.attempts.shown_at IS NULL
               OR poller.attempts.shown_at <= excluded.shown_at
            """,
            known.build_id,
            target.id,
            known.repository_id,
            known.run_id,
            known.attempt,
            created_at,
            known.version,
            known.fact_id,
            [] if known.settled else sorted(known.job_facts),
            known.ended,
            known.settled,
            known.etag,
            known.unchanged,
            known.due_at,
            known.collected_for,
            shown_at,
            looked_at,
        )

    async def keep_announced(
        self, target: Target, builds: Sequence[BuildObservedV1], *, now: datetime
    ) -> None:
        """Remember builds that were published from their listing alone: jobs and earlier attempts are to come."""
        await self._pool.executemany(
            """
            INSERT INTO poller.attempts (
                build_id, target_id, repository_id, run_id, attempt, created_at, fact_id, ended, settled, due_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false, $9)
            ON CONFLICT (build_id) DO UPDATE SET
                target_id = excluded.target_id, version = NULL, fact_id = excluded.fact_id,
                ended = excluded.ended, settled = false, unchanged = 0, due_at = excluded.due_at,
                unavailable = NULL, seen_at = now()
            """,
            [
                (
                    build.build.build_id,
                    target.id,
                    build.build.repository_id,
                    build.build.run_id,
                    build.build.attempt,
                    build.created_at or build.updated_at,
                    build.identity(),
                    build.state.is_terminal,
                    now,
                )
                for build in builds
            ],
        )

    async def keep_gone(self, target: Target, ref: BuildRef, *, created_at: datetime, status: int) -> None:
        """Remember that the provider does not have an attempt, so that it is never asked for again."""
        await self._pool.execute(
            """
            INSERT INTO poller.attempts (
                build_id, target_id, repository_id, run_id, attempt, created_at, unavailable, ended, settled
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, true, true)
            ON CONFLICT (build_id) DO UPDATE SET
                unavailable = excluded.unavailable, settled = true, due_at = NULL, etag = NULL, job_facts = '{}',
                seen_at = now()
            """,
            ref.build_id,
            target.id,
            ref.repository_id,
            ref.run_id,
            ref.attempt,
            created_at,
            status,
        )

    async def looked_since(self, target: Target, run_id: str, moment: datetime) -> bool:
        """Whether the run's latest attempt was looked at, by a look that began at `moment` or later."""
        return bool(
            await self._pool.fetchval(
                """
                SELECT version IS NOT NULL AND looked_at >= $3 FROM poller.attempts
                WHERE target_id = $1 AND run_id = $2 ORDER BY attempt DESC LIMIT 1
                """,
                target.id,
                run_id,
                moment,
            )
        )

    async def postpone(self, known: Known, *, looked_at: datetime) -> None:
        """Remember when an open attempt, that stood still or is set aside, is to be asked for again."""
        await self._pool.execute(
            """
            UPDATE poller.attempts
            SET version = $2, settled = false, due_at = $3, unchanged = $4, etag = $5, looked_at = $6,
                seen_at = now()
            WHERE build_id = $1
            """,
            known.build_id,
            known.version,
            known.due_at,
            known.unchanged,
            known.etag,
            looked_at,
        )

    async def forget(self, *, before: datetime) -> None:
        """Forget settled attempts not seen since, unless one of their run is still open; old pages and deliveries."""
        await self._pool.execute(
            """
            DELETE FROM poller.attempts AS old
            WHERE settled AND seen_at < $1 AND created_at < $1 AND NOT EXISTS (
                SELECT FROM poller.attempts AS open
                WHERE open.target_id = old.target_id AND open.run_id = old.run_id AND NOT open.settled
            )
            """,
            before,
        )
        await self._pool.execute("DELETE FROM poller.pages WHERE kept_at < now() - interval '2 days'")
        # Longer than any provider delivers again: by hand GitHub does for three days.
        await self._pool.execute(
            "DELETE FROM poller.deliveries WHERE received_at < now() - interval '7 days'"
        )
        await self._pool.execute("DELETE FROM poller.backfills WHERE started_at < now() - interval '90 days'")

    # -- pages

    async def pages(self, target: Target) -> dict[str, Page]:
        """The pages kept, by address; without their builds."""
        rows = await self._pool.fetch(
            "SELECT address, etag, following, capped FROM poller.pages WHERE target_id = $1", target.id
        )
        return {row["address"]: Page((), (), row["etag"], row["following"], row["capped"]) for row in rows}

    async def keep_pages(self, target: Target, pages: Mapping[str, Page]) -> None:
        """Keep the pages, all on which has been published, that have an ETag."""
        await self._pool.executemany(
            """
            INSERT INTO poller.pages (target_id, address, etag, following, capped)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (target_id, address) DO UPDATE SET
                etag = excluded.etag, following = excluded.following, capped = excluded.capped, kept_at = now()
            """,
            [(target.id, at, p.etag, p.following, p.capped) for at, p in pages.items() if p.etag is not None],
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


def _known(row: asyncpg.Record) -> Known:
    return Known(**dict(row) | {"job_facts": frozenset(row["job_facts"])})
