"""All of ingest's SQL but the log's: the archive of dead letters."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from chassis.database import Connection, Pool
from services.ingest.dead_letters import DeadLetter

_ARCHIVE = """
    INSERT INTO ingest.dead_letters (
        dead_letter_id, queue, message_id, message_type, kind, reason, error_class, fingerprint, attempts,
        died_at, headers, content_type, body
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
    ON CONFLICT (dead_letter_id) DO NOTHING
    RETURNING true
"""
_LIST = """
    SELECT * FROM ingest.published_dead_letters
     WHERE ($1::text IS NULL OR queue = $1)
       AND ($2::text IS NULL OR fingerprint = $2)
       AND ($3::uuid IS NULL OR (died_at, dead_letter_id) < (
               SELECT last.died_at, last.dead_letter_id FROM ingest.dead_letters AS last
                WHERE last.dead_letter_id = $3
           ))
     ORDER BY died_at DESC, dead_letter_id DESC
     LIMIT $4
"""
_ONE = """
    SELECT published.*, kept.headers, kept.content_type, kept.body, kept.archived_at
      FROM ingest.published_dead_letters AS published
      JOIN ingest.dead_letters AS kept USING (dead_letter_id)
     WHERE dead_letter_id = $1
"""
_UNKNOWN = """
    SELECT id FROM unnest($1::uuid[]) AS id
     WHERE NOT EXISTS (SELECT FROM ingest.dead_letters WHERE dead_letter_id = id)
"""
_LOCK = """
    SELECT queue, message_id, headers, content_type, body, replays + 1 AS replay
      FROM ingest.dead_letters WHERE dead_letter_id = $1 FOR UPDATE
"""
_CLAIM = """
    INSERT INTO ingest.replays (request_id, dead_letter_id, replay, asked_by, replayed_at)
    VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (request_id, dead_letter_id) DO NOTHING
    RETURNING true
"""
_MARK = "UPDATE ingest.dead_letters SET replays = $2, replayed_at = $3 WHERE dead_letter_id = $1"


@dataclass(frozen=True, slots=True)
class Kept:
    """What the archive gives back of a dead letter; `replay` is the number its next replay has."""

    queue: str
    message_id: str
    headers: dict[str, Any]
    content_type: str | None
    body: bytes
    replay: int


async def archive(connection: Connection, letter: DeadLetter) -> bool:
    """Keep `letter`. False when it was kept before."""
    return bool(
        await connection.fetchval(
            _ARCHIVE,
            letter.dead_letter_id,
            letter.queue,
            letter.message_id,
            letter.message_type,
            letter.kind,
            letter.reason,
            letter.error_class,
            letter.fingerprint,
            letter.attempts,
            letter.died_at,
            letter.headers,
            letter.content_type,
            letter.body,
        )
    )


async def page(
    pool: Pool, *, queue: str | None, fingerprint: str | None, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Dead letters, newest first, from the one after `after`; without bodies."""
    return [dict(row) for row in await pool.fetch(_LIST, queue, fingerprint, after, limit)]


async def one(pool: Pool, dead_letter_id: UUID) -> dict[str, Any] | None:
    """A dead letter with its headers and body."""
    row = await pool.fetchrow(_ONE, dead_letter_id)
    return dict(row) if row else None


async def unknown(pool: Pool, dead_letter_ids: Sequence[UUID]) -> list[UUID]:
    """Those of the ids that no dead letter has."""
    return [row["id"] for row in await pool.fetch(_UNKNOWN, dead_letter_ids)]


async def claim(
    connection: Connection, dead_letter_id: UUID, *, request_id: UUID, by: str, at: datetime
) -> Kept | None:
    """Take a dead letter for its replay under `request_id`; None when that request has replayed it already.

    Its row stays locked until the caller's transaction ends.

    Raises:
        KeyError: there is no such dead letter.
    """
    row = await connection.fetchrow(_LOCK, dead_letter_id)
    if row is None:
        raise KeyError(dead_letter_id)
    letter = Kept(*row.values())
    if not await connection.fetchval(_CLAIM, request_id, dead_letter_id, letter.replay, by, at):
        return None
    await connection.execute(_MARK, dead_letter_id, letter.replay, at)
    return letter
