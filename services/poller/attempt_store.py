"""The SQL of attempts, and of the pages of listings."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from uuid import UUID

import asyncpg

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.states import State
from chassis.database import Pool
from services.poller.attempts import Known
from services.poller.provider import Page, Target


class AttemptStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def known(self, target: Target, run_ids: Sequence[str]) -> dict[str, dict[int, Known]]:
        """By run and number, what is known of the attempts of these runs."""
        rows = await self._pool.fetch(
            """
            SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts, etag,
                   unchanged, due_at, collected_for, state, resumed_at, created_at,
                   attempt = max(attempt) OVER (PARTITION BY run_id) AS latest
            FROM poller.attempts WHERE target_id = $1 AND run_id = ANY($2)
            """,
            target.id,
            run_ids,
        )
        found: dict[str, dict[int, Known]] = {}
        for row in rows:
            found.setdefault(row["run_id"], {})[row["attempt"]] = _known(row)
        return found

    async def one(self, build_id: UUID) -> Known | None:
        """What is known of one attempt, whichever target's it is."""
        row = await self._pool.fetchrow(
            """
            SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts, etag,
                   unchanged, due_at, collected_for, state, resumed_at, created_at
            FROM poller.attempts WHERE build_id = $1
            """,
            build_id,
        )
        return None if row is None else _known(row)

    async def open(self, target: Target, *, now: datetime, since: datetime) -> list[Known]:
        """Attempts to be asked for on their own: due, not settled, and not shown by a listing from `since` on.

        A listing shows a run's latest attempt, and not whether its jobs have ended. With them those set aside,
        due or not: they must not go unseen.
        """
        rows = await self._pool.fetch(
            """
            SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts, etag,
                   unchanged, due_at, collected_for, state, resumed_at, created_at, latest
            FROM (
                SELECT build_id, repository_id, run_id, attempt, settled, ended, version, fact_id, job_facts,
                       etag, unchanged, created_at, due_at, collected_for, state, resumed_at,
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
                ended, settled, etag, unchanged, due_at, collected_for, shown_at, looked_at, state, resumed_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
            ON CONFLICT (build_id) DO UPDATE SET
                target_id = excluded.target_id, version = excluded.version, fact_id = excluded.fact_id,
                job_facts = excluded.job_facts, ended = excluded.ended, settled = excluded.settled,
                etag = excluded.etag, unchanged = excluded.unchanged, due_at = excluded.due_at,
                collected_for = excluded.collected_for, shown_at = excluded.shown_at,
                looked_at = excluded.looked_at, state = excluded.state, resumed_at = excluded.resumed_at,
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
            known.state,
            known.resumed_at,
        )

    async def keep_announced(
        self, target: Target, builds: Sequence[BuildObservedV1], *, now: datetime
    ) -> None:
        """Remember builds that were published from their listing alone: jobs and earlier attempts are to come.

        As with `keep`, a listing that was read before an end does not make another look's end forgotten.
        """
        await self._pool.executemany(
            """
            INSERT INTO poller.attempts (
                build_id, target_id, repository_id, run_id, attempt, created_at, fact_id, ended, settled, due_at,
                state, resumed_at, shown_at
            ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false, $9, $10, $11, $12)
            ON CONFLICT (build_id) DO UPDATE SET
                target_id = excluded.target_id, version = NULL, fact_id = excluded.fact_id,
                ended = excluded.ended, settled = false, unchanged = 0, due_at = excluded.due_at,
                state = excluded.state, resumed_at = excluded.resumed_at, shown_at = excluded.shown_at,
                unavailable = NULL, seen_at = now()
            WHERE excluded.ended OR NOT poller.attempts.ended OR poller.attempts.shown_at IS NULL
               OR poller.attempts.shown_at <= excluded.shown_at
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
                    build.state,
                    build.resumed_at,
                    build.updated_at,
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
        await self._pool.execute("DELETE FROM poller.backfills WHERE started_at < now() - interval '90 days'")
        # Longer than any provider delivers again: by hand GitHub does for three days.
        await self._pool.execute(
            "DELETE FROM poller.deliveries WHERE received_at < now() - interval '7 days'"
        )

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


def _known(row: asyncpg.Record) -> Known:
    state = row["state"]
    return Known(
        **dict(row)
        | {"job_facts": frozenset(row["job_facts"]), "state": None if state is None else State(state)}
    )
