"""What a dead letter is, and what becomes of it: pure decisions on a message from a dead-letter queue.

A letter that a service gave up itself is archived. One that RabbitMQ gave up, for it was delivered again and
again with no answer, may be innocent: it was in hand whenever its consumer died. It gets one more try, alone;
should it come back, it is archived too.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from buildlight_contracts.envelope import TYPE_PREFIX, derive_id
from buildlight_contracts.operations import MessageDeadLetteredV1
from chassis.retry import (
    ATTEMPT,
    DIED_AT,
    ERROR_CLASS,
    FINGERPRINT,
    KIND,
    LONELY,
    REASON,
    REPLAY,
    Permanent,
    fingerprint,
    strip_broker_headers,
    strip_retry_headers,
)
from services.ingest.admission import visible

DELIVERY_LIMIT = "delivery_limit"
_OWN_TYPE = TYPE_PREFIX + MessageDeadLetteredV1.type


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message given up, with all it takes to put it back. Texts and headers are fit for Postgres."""

    dead_letter_id: UUID
    queue: str
    message_id: str
    message_type: str | None
    kind: str
    reason: str
    error_class: str | None
    fingerprint: str
    attempts: int
    died_at: datetime
    headers: Mapping[str, Any]
    content_type: str | None
    body: bytes

    def fact(self) -> MessageDeadLetteredV1 | None:
        """What is recorded of it; nothing of a dead record of a dead letter, lest each make the next."""
        if self.message_type == _OWN_TYPE:
            return None
        return MessageDeadLetteredV1(
            dead_letter_id=self.dead_letter_id,
            queue=self.queue,
            message_id=self.message_id,
            message_type=self.message_type,
            kind=self.kind,
            reason=self.reason,
            fingerprint=self.fingerprint,
            attempts=self.attempts,
            died_at=self.died_at,
        )


@dataclass(frozen=True, slots=True)
class TryAlone:
    """The message goes back to its queue once, with these headers."""

    headers: Mapping[str, Any]


def examine(
    queue: str,
    body: bytes,
    headers: Mapping[str, Any],
    *,
    message_id: str | None,
    content_type: str | None,
    now: datetime,
) -> DeadLetter | TryAlone:
    """Decide on a message from the dead-letter queue of `queue`."""
    death = _broker_death(headers, queue)
    cause = str(headers.get(KIND) or death.get("reason") or "unknown")
    if cause == DELIVERY_LIMIT and LONELY not in headers:
        return TryAlone({**strip_broker_headers(headers), LONELY: 1})
    told = _moment(headers.get(DIED_AT)) or _moment(death.get("time"))
    name = visible(message_id) if message_id else f"sha256:{hashlib.sha256(body).hexdigest()[:32]}"
    reason = str(headers.get(REASON) or _REASONS.get(cause, f"it was dead-lettered: {cause}"))
    return DeadLetter(
        dead_letter_id=derive_id("dead-letter", queue, name, told.isoformat() if told else "unknown"),
        queue=queue,
        message_id=name,
        message_type=_type_of(body),
        kind=visible(cause),
        reason=visible(reason),
        error_class=visible(str(headers[ERROR_CLASS])) if ERROR_CLASS in headers else None,
        fingerprint=visible(str(headers.get(FINGERPRINT) or fingerprint(Permanent(f"{queue} {cause}")))),
        attempts=_count(headers.get(ATTEMPT)),
        died_at=told or now,
        headers=_plain(headers),
        content_type=visible(content_type),
        body=body,
    )


_REASONS = {
    DELIVERY_LIMIT: "it was delivered again and again with no answer, the last time alone: "
    "it seems to kill whoever handles it",
    "unknown": "no reason was left with it",
}


def headers_for_replay(headers: Mapping[str, Any], replay: int) -> dict[str, Any]:
    """The headers it had before its first failure, and how often it has been put back, this time included."""
    return {**strip_retry_headers(headers), REPLAY: _count(headers.get(REPLAY)) + replay}


def _broker_death(headers: Mapping[str, Any], queue: str) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    for death in deaths if isinstance(deaths, Sequence) else ():
        if isinstance(death, Mapping) and death.get("queue") == queue:
            return death
    return {}


def _moment(value: Any) -> datetime | None:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _count(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**31 else 0


def _type_of(body: bytes) -> str | None:
    try:
        named = from_json(body)["type"]
    except (ValueError, TypeError, KeyError):
        return None
    return visible(named)[:256] if isinstance(named, str) else None


def _plain(value: Any) -> Any:
    """An AMQP header's value as JSON that Postgres takes."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, bool | int | None):
        return value
    if isinstance(value, Mapping):
        return {visible(str(key)): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return visible(bytes(value).decode(errors="backslashreplace"))
    return visible(str(value))
