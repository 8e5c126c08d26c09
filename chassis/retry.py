"""What becomes of a message whose handling failed: pure decisions, each with its reason.

- *hold*: a dependency is down. Not the message's fault: it is kept and tried again in process, no attempt spent.
- *park*: it failed for now, or it is not its time yet. It waits in a retry rung.
- *bury*: it can never succeed, or every rung is used up. It goes to the dead-letter queue with its reason.
"""

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pamqp import encode

from buildlight_contracts.catalogue import BadMessage
from chassis.outage import outage_of
from chassis.settings import seconds_of

ATTEMPT = "buildlight-attempt"
"""How many times handling has failed, an integer."""
FIRST_FAILURE = "buildlight-first-failure"
NOT_BEFORE = "buildlight-not-before"
"""ISO time before which the message is parked again rather than handled. (Not a number: AMQP floats are short.)"""
KIND = "buildlight-kind"
REASON = "buildlight-reason"
ERROR_CLASS = "buildlight-error-class"
FINGERPRINT = "buildlight-fingerprint"
DIED_AT = "buildlight-died-at"
REPLAY = "buildlight-replay"
"""How many times this dead letter was replayed, an integer."""
LONELY = "buildlight-lonely"
"""Set on the one retry that a message dead by delivery limit gets before it is archived."""

OURS = "buildlight-"
_BROKERS_OWN = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
_MAX_REASON_CHARACTERS = 2000
_MOST_ATTEMPTS = 999
_LONGEST_WAIT_SECONDS = 30 * 86_400.0
_NEARLY = 0.05
"""Of the shortest rung: a message that comes back so little early is handled."""
_MAX_HEADER_BYTES = 64 * 1024
"""Half of what fits in one AMQP frame, as all headers together have to."""


class Permanent(Exception):  # noqa: N818 -- names a verdict, not a kind of bug
    """The message can never be handled; the text says why, for a person."""


class Transient(Exception):  # noqa: N818
    """Handling failed for now. `retry_after_seconds`: no sooner than that, when the other side said so."""

    def __init__(self, reason: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after_seconds = retry_after_seconds


class NotYet(Exception):  # noqa: N818
    """Nothing is wrong, and it is not the time: the message is parked, and no attempt is spent."""

    def __init__(self, reason: str, *, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Hold:
    dependency: str


@dataclass(frozen=True)
class Park:
    rung: str
    headers: Mapping[str, Any]


@dataclass(frozen=True)
class Bury:
    kind: Literal["permanent", "exhausted"]
    headers: Mapping[str, Any]


def decide(
    error: Exception, headers: Mapping[str, Any], *, rungs: Sequence[str], now: datetime
) -> Hold | Park | Bury:
    """What becomes of a message with these `headers` whose handling raised `error`."""
    outage = outage_of(error)
    if outage is not None:
        return Hold(outage.dependency)
    if isinstance(error, NotYet):
        return _park(error.seconds, {}, rungs=rungs, least=rungs[0], now=now)
    attempt = _attempts(headers) + 1
    failed_before = _moment(headers.get(FIRST_FAILURE))
    told: dict[str, Any] = {
        ATTEMPT: attempt,
        FIRST_FAILURE: (failed_before or now).isoformat(),
        REASON: reason_of(error),
        ERROR_CLASS: type(error).__name__,
        FINGERPRINT: fingerprint(error),
    }
    if isinstance(error, Permanent | BadMessage):
        return Bury("permanent", told | {KIND: "permanent", DIED_AT: now.isoformat()})
    if attempt > len(rungs):
        return Bury("exhausted", told | {KIND: "exhausted", DIED_AT: now.isoformat()})
    wait = error.retry_after_seconds if isinstance(error, Transient) else None
    if wait is None:
        return Park(rungs[attempt - 1], told)
    return _park(wait, told, rungs=rungs, least=rungs[attempt - 1], now=now)


def _park(
    wait_seconds: float, told: Mapping[str, Any], *, rungs: Sequence[str], least: str, now: datetime
) -> Park:
    """Aside for a time the other side asked for, first in a rung no shorter than `least`."""
    wait = max(0.0, min(wait_seconds, _LONGEST_WAIT_SECONDS))
    return Park(
        _rung_of(wait, rungs, least),
        {**told, NOT_BEFORE: (now + timedelta(seconds=wait)).isoformat()},
    )


def still_early(headers: Mapping[str, Any], *, rungs: Sequence[str], now: datetime) -> Park | None:
    """A rung for a message that came back before the time its other side asked for; spends no attempt."""
    not_before = _moment(headers.get(NOT_BEFORE))
    if not_before is None:
        return None
    left = (not_before - now).total_seconds()
    if left <= seconds_of(rungs[0]) * _NEARLY:
        return None
    return Park(_rung_of(left, rungs, rungs[0]), {})


def _attempts(headers: Mapping[str, Any]) -> int:
    # Anyone can publish to a queue: a header is only believed when it could be ours.
    told = headers.get(ATTEMPT)
    return told if type(told) is int and 0 <= told <= _MOST_ATTEMPTS else 0


def _moment(told: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(told)
    except (TypeError, ValueError):
        return None
    return moment if moment.tzinfo else None


def _rung_of(wait_seconds: float, rungs: Sequence[str], least: str) -> str:
    """The longest rung that is over by then, no shorter than `least`; what is left is waited for after it.

    So the wait is too long by one shortest rung at most, and not by most of an hour.
    """
    floor = seconds_of(least)
    over_by_then = [rung for rung in rungs if floor <= seconds_of(rung) <= wait_seconds]
    return max(over_by_then, key=seconds_of, default=least)


def reason_of(error: BaseException) -> str:
    """What a person reads on the dead letter, at most 2,000 characters."""
    text = (
        str(error)
        if isinstance(error, Permanent | Transient | BadMessage)
        else f"{type(error).__name__}: {error}"
    )
    return _utf8(text)[:_MAX_REASON_CHARACTERS]


def fingerprint(error: BaseException) -> str:
    """Twelve hex characters, alike for errors that differ only in ids and numbers."""
    text = re.sub(r"[0-9a-f]{8,}(-[0-9a-f]{4,})*|\d+|'[^']*'", "#", str(error).lower())
    return hashlib.sha256(_utf8(f"{type(error).__name__}:{text}").encode()).hexdigest()[:12]


def strip_broker_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """`headers` fit to publish again: with RabbitMQ's own death records left in, it drops the message on expiry.

    What AMQP can carry but our encoder cannot becomes bytes or text. More than 64 KiB are too many to add our own
    to: then only ours are kept.
    """
    kept = {key: _encodable(value) for key, value in headers.items() if not key.startswith(_BROKERS_OWN)}
    if len(encode.field_table(kept)) > _MAX_HEADER_BYTES:
        return {key: value for key, value in kept.items() if key.startswith(OURS)}
    return kept


def _encodable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _encodable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(part) for part in value]
    if isinstance(value, bytes):
        return bytearray(value)  # a string that was not UTF-8
    try:
        encode.encode_table_value(value)
    except (TypeError, ValueError, ArithmeticError, struct.error):
        return _utf8(str(value))
    return value


def _utf8(text: str) -> str:
    """`text` without the lone surrogates that JSON lets in and no encoding lets out."""
    return text.encode(errors="backslashreplace").decode()


def strip_retry_headers(headers: Mapping[str, Any]) -> dict[str, Any]:
    """`headers` as they were before the first failure, but for the count of replays."""
    return {
        key: value
        for key, value in strip_broker_headers(headers).items()
        if not key.startswith(OURS) or key == REPLAY
    }
