"""The SQL of the completeness report: what the log has, and where what was found is kept."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1, BuildRef, BuildUnavailableV1
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope
from buildlight_contracts.states import State
from chassis.database import Connection, Pool
from chassis.outbox import Outbox
from services.poller.completeness import Day, Gap, Key, Logged, Memory, Standing, key
from services.poller.provider import Counted, Span, Target

_CHUNK: Final = 5_000
_MOST_GAPS: Final = 2_000
_TYPES: Final = [TYPE_PREFIX + BuildObservedV1.type, TYPE_PREFIX + BuildUnavailableV1.type]


class Record:
    """What the log has of attempts, read as `buildlight_reader`.

    The read models follow the log, and lag is no loss: what they lack is looked up in the log itself, from
    the newest position that they are known to have reached.
    """

    def __init__(self, reader: Pool) -> None:
        self._reader = reader

    async def has(
        self, target: Target, counted: Collection[Counted], *, repository_ids: Collection[str] = ()
    ) -> dict[Key, Logged]:
        """Those of `counted` that are recorded.

        `repository_ids`: of the target, as far as they are known; for a census that does not name them.
        """
        found: dict[Key, Logged] = {}
        async with (
            self._reader.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            rows = list(counted)
            unnamed = any(one.repository_id is None for one in rows)
            others = {*repository_ids, *await _repository_ids(connection, target)} if unnamed else set()
            reached = await _reached(connection)
            for start in range(0, len(rows), _CHUNK):
                refs = {
                    ref.build_id: (ref, key(one))
                    for one in rows[start : start + _CHUNK]
                    for ref in _refs(target, one, others)
                }
                for build_id, logged in (await _read(connection, refs, after=reached)).items():
                    found[refs[build_id][1]] = logged
        return found


def _refs(target: Target, one: Counted, others: Collection[str]) -> list[BuildRef]:
    """The attempt by the provider's ids; by each repository of the target when the census names none."""
    return [
        BuildRef(
            provider=target.provider,
            instance=target.instance,
            repository_id=repository_id,
            run_id=one.run_id,
            attempt=one.attempt,
        )
        for repository_id in ([one.repository_id] if one.repository_id is not None else others)
    ]


async def _repository_ids(connection: Connection, target: Target) -> list[str]:
    rows = await connection.fetch(
        """
        SELECT DISTINCT repository_id FROM analytics.builds
         WHERE repository = $1 AND provider = $2 AND instance = $3
        """,
        target.name,
        target.provider,
        target.instance,
    )
    return [row["repository_id"] for row in rows]


async def _reached(connection: Connection) -> int:
    """A position up to which `analytics.builds` has everything: it applies the log in order."""
    return int(
        await connection.fetchval(
            """
            SELECT coalesce(max(position), 0)
              FROM (SELECT position FROM analytics.builds ORDER BY ordered_at DESC, build_id DESC LIMIT 1000)
                AS newest
            """
        )
    )


async def _read(
    connection: Connection, refs: Mapping[UUID, tuple[BuildRef, Key]], *, after: int
) -> dict[UUID, Logged]:
    found: dict[UUID, Logged] = {}
    ids = list(refs)
    for row in await connection.fetch(
        "SELECT build_id FROM analytics.unavailable_attempts WHERE build_id = ANY($1)", ids
    ):
        found[row["build_id"]] = Logged(ended=True, is_unavailable=True)
    for row in await connection.fetch(
        "SELECT build_id, state FROM analytics.builds WHERE build_id = ANY($1)", ids
    ):
        build_id = row["build_id"]
        found[build_id] = Logged(State(row["state"]).is_terminal, is_unavailable=build_id in found)
    by_subject = {(ref.subject, ref.attempt): build_id for build_id, (ref, _) in refs.items()}
    for row in await connection.fetch(
        """
        SELECT type, subject, coalesce((data -> 'build' ->> 'attempt')::integer, 1) AS attempt,
               data ->> 'state' AS state
          FROM log.events
         WHERE type = ANY($1) AND position > $2 AND subject = ANY($3)
         ORDER BY position
        """,
        _TYPES,
        after,
        list({subject for subject, _ in by_subject}),
    ):
        build_id = by_subject.get((row["subject"], row["attempt"]))
        if build_id is None:
            continue
        before = found.get(build_id)
        if row["state"] is None:
            found.setdefault(build_id, Logged(ended=True, is_unavailable=True))
        elif before is None or not before.ended:
            found[build_id] = Logged(State(row["state"]).is_terminal)
    return found


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one came to."""

    request_id: UUID
    span: Span
    measured_at: datetime
    took_seconds: float
    days: Sequence[Day]
    gaps: Sequence[Gap]
    asked_again: int


@dataclass(frozen=True, slots=True)
class Asked:
    """Where the measuring of a target stands."""

    scheduled_for: datetime | None = None
    request_id: UUID | None = None
    postponed_until: datetime | None = None


class Measurements:
    """What was found, in the poller's own tables."""

    def __init__(self, pool: Pool, outbox: Outbox) -> None:
        self._pool = pool
        self._outbox = outbox

    async def standing(self, target: Target) -> Standing | None:
        """How the polling of the target goes; None when it is not polled."""
        row = await self._pool.fetchrow(
            """
            SELECT listed_through, succeeded_at, failing_since, failing_reason
              FROM poller.targets WHERE target_id = $1
            """,
            target.id,
        )
        return Standing(**row) if row else None

    async def collected(self) -> list[Target]:
        """What is polled and was listed whole once: before that everything is missing, and on its way.

        A sweep that went through counts though a poll of it did not succeed: one run that cannot be read must
        not keep all others from being measured. A sweep asked for anew takes nothing of that back.
        """
        rows = await self._pool.fetch(
            """
            SELECT provider, instance, target FROM poller.targets
             WHERE is_polled AND (swept_at IS NOT NULL OR succeeded_at IS NOT NULL) ORDER BY target_id
            """
        )
        return [Target(row["provider"], row["instance"], row["target"]) for row in rows]

    async def gaps(self) -> dict[tuple[str, str, str], int]:
        """By provider, target and kind, how many gaps the last measurement of what is polled found."""
        rows = await self._pool.fetch(
            """
            SELECT target.provider, target.target, kinds.kind, count(gap.run_id) AS number
              FROM poller.targets AS target
              JOIN poller.completeness AS last USING (target_id)
             CROSS JOIN (VALUES ('missing'), ('open')) AS kinds (kind)
              LEFT JOIN poller.completeness_gaps AS gap
                ON gap.target_id = target.target_id AND gap.kind = kinds.kind AND gap.created_at >= last.since
             WHERE target.is_polled AND last.measured_at IS NOT NULL
             GROUP BY target.provider, target.target, kinds.kind
            """
        )
        return {(row["provider"], row["target"], row["kind"]): row["number"] for row in rows}

    async def asked(self, targets: Iterable[Target]) -> dict[UUID, Asked]:
        rows = await self._pool.fetch(
            """
            SELECT target_id, scheduled_for, request_id, postponed_until
              FROM poller.completeness WHERE target_id = ANY($1)
            """,
            [target.id for target in targets],
        )
        return {
            row["target_id"]: Asked(row["scheduled_for"], row["request_id"], row["postponed_until"])
            for row in rows
        }

    async def scheduled(self, target: Target, due: datetime) -> None:
        await self._pool.execute(
            """
            INSERT INTO poller.completeness AS known (target_id, scheduled_for) VALUES ($1, $2)
            ON CONFLICT (target_id) DO UPDATE SET scheduled_for = excluded.scheduled_for, postponed_until = NULL
            """,
            target.id,
            due,
        )

    async def postponed(self, target: Target, *, request_id: UUID, until: datetime, why: str) -> None:
        """Remember that a measurement could not be had, of a target that was ever polled."""
        await self._pool.execute(
            """
            INSERT INTO poller.completeness AS known (
                target_id, postponed_request_id, postponed_until, postponed_why
            )
            SELECT target_id, $2, $3, $4 FROM poller.targets WHERE target_id = $1
            ON CONFLICT (target_id) DO UPDATE SET
                postponed_request_id = excluded.postponed_request_id,
                postponed_until = excluded.postponed_until, postponed_why = excluded.postponed_why
            """,
            target.id,
            request_id,
            until,
            why,
        )

    async def repository_ids(self, target: Target) -> list[str]:
        """Under which ids the provider has shown what belongs to the target."""
        rows = await self._pool.fetch(
            "SELECT DISTINCT repository_id FROM poller.attempts WHERE target_id = $1", target.id
        )
        return [row["repository_id"] for row in rows]

    async def memory(self, target: Target, run_ids: Collection[str]) -> dict[Key, Memory]:
        """What the poller believes of the attempts of these runs."""
        rows = await self._pool.fetch(
            """
            SELECT run_id, attempt, fact_id IS NOT NULL AS is_published,
                   NOT settled AND version IS NULL AND unchanged > 0 AS is_set_aside, unavailable
              FROM poller.attempts WHERE target_id = $1 AND run_id = ANY($2)
            """,
            target.id,
            list(run_ids),
        )
        return {
            (row["run_id"], row["attempt"]): Memory(
                row["is_published"], row["is_set_aside"], row["unavailable"]
            )
            for row in rows
        }

    async def disbelieve(self, target: Target, run_ids: Collection[str]) -> None:
        """Forget that anything of these runs was published: they are due, and published when next looked at."""
        await self._pool.execute(
            """
            UPDATE poller.attempts
               SET version = NULL, fact_id = NULL, job_facts = '{}', settled = false, unavailable = NULL,
                   etag = NULL, unchanged = 0, due_at = now(), looked_at = NULL
             WHERE target_id = $1 AND run_id = ANY($2)
            """,
            target.id,
            list(run_ids),
        )

    async def list_anew(self, target: Target) -> None:
        """Let the next poll go back as far as one ever does, and see every page as if for the first time."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute("DELETE FROM poller.pages WHERE target_id = $1", target.id)
            await connection.execute(
                "UPDATE poller.targets SET swept_at = NULL WHERE target_id = $1", target.id
            )

    async def keep(self, target: Target, found: Measurement, fact: Envelope) -> None:
        """Keep a measurement in place of the one before, and in the same transaction the fact about it."""
        async with self._pool.acquire() as connection, connection.transaction():
            await connection.execute(
                """
                INSERT INTO poller.completeness AS known (
                    target_id, request_id, since, until, measured_at, took_seconds, asked_again
                ) VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (target_id) DO UPDATE SET
                    request_id = excluded.request_id, since = excluded.since, until = excluded.until,
                    measured_at = excluded.measured_at, took_seconds = excluded.took_seconds,
                    asked_again = excluded.asked_again, postponed_until = NULL, postponed_why = NULL,
                    postponed_request_id = NULL
                """,
                target.id,
                found.request_id,
                found.span.since,
                found.span.until,
                found.measured_at,
                found.took_seconds,
                found.asked_again,
            )
            await self._keep_days(connection, target, found)
            await self._keep_gaps(connection, target, found)
            await self._outbox.add([fact], connection)

    async def _keep_days(self, connection: Connection, target: Target, found: Measurement) -> None:
        await connection.executemany(
            """
            INSERT INTO poller.completeness_days VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (target_id, day) DO UPDATE SET
                at_provider = excluded.at_provider, recorded = excluded.recorded,
                unavailable = excluded.unavailable, missing = excluded.missing,
                open_but_ended = excluded.open_but_ended, measured_at = excluded.measured_at
            """,
            [
                (
                    target.id,
                    day.day,
                    day.at_provider,
                    day.recorded,
                    day.unavailable,
                    day.missing,
                    day.open_but_ended,
                    found.measured_at,
                )
                for day in found.days
            ],
        )

    async def _keep_gaps(self, connection: Connection, target: Target, found: Measurement) -> None:
        gaps = sorted(found.gaps, key=lambda gap: gap.attempt.created_at)[:_MOST_GAPS]
        await connection.execute(
            """
            DELETE FROM poller.completeness_gaps AS gap
             WHERE target_id = $1 AND created_at >= $2 AND NOT EXISTS (
                SELECT FROM unnest($3::text[], $4::integer[]) AS still (run_id, attempt)
                 WHERE still.run_id = gap.run_id AND still.attempt = gap.attempt
             )
            """,
            target.id,
            found.span.since,
            [gap.attempt.run_id for gap in gaps],
            [gap.attempt.attempt for gap in gaps],
        )
        await connection.executemany(
            """
            INSERT INTO poller.completeness_gaps AS known VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
            ON CONFLICT (target_id, run_id, attempt) DO UPDATE SET
                kind = excluded.kind, reason = excluded.reason, detail = excluded.detail
            """,
            [
                (
                    target.id,
                    gap.attempt.run_id,
                    gap.attempt.attempt,
                    gap.kind,
                    gap.reason,
                    gap.detail,
                    gap.attempt.created_at,
                    found.measured_at,
                )
                for gap in gaps
            ],
        )
