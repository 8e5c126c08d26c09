"""The event log's one way in: a batch of entries, each answered with its fate."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from chassis.database import Connection, Pool


@dataclass(frozen=True, slots=True)
class Entry:
    """An event ready to be recorded.

    `digest` tells two events of one id apart; `occurred_at` is aware; `data` is JSON text without a NUL.
    """

    id: UUID
    digest: bytes
    type: str
    subject: str
    source: str
    occurred_at: datetime
    correlation_id: str | None
    causation_id: str | None
    traceparent: str | None
    data: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of an entry, and the position its id has in the log.

    `recorded`: new. `duplicate`: its id was there with the same digest. `conflict`: its id was there with
    another digest, and this entry was not written.
    """

    outcome: Literal["recorded", "duplicate", "conflict"]
    position: int


async def append(database: Pool | Connection, entries: Sequence[Entry]) -> list[Fate]:
    """Record a batch, whole or not at all, and return the entries' fates in their order.

    New entries get positions in the order given.  One call commits by itself; repeating it is harmless, so
    repeat it when its end was not seen.  100 to 500 entries a call are best.

    Raises:
        asyncpg.DataError: an entry's data is not JSON, or holds a NUL; none of the batch was recorded.
    """
    rows = await database.fetch(
        "SELECT fate, position FROM log.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) ORDER BY ordinal",
        [entry.id for entry in entries],
        [entry.digest for entry in entries],
        [entry.type for entry in entries],
        [entry.subject for entry in entries],
        [entry.source for entry in entries],
        [entry.occurred_at for entry in entries],
        [entry.correlation_id for entry in entries],
        [entry.causation_id for entry in entries],
        [entry.traceparent for entry in entries],
        [entry.data for entry in entries],
    )
    return [Fate(row["fate"], row["position"]) for row in rows]
