"""Rate limits: what a provider says is left, and whether one more call may be made. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

UNSAID_WAIT_SECONDS = 60.0
"""How long to wait after a refusal that does not say; GitHub asks for at least a minute."""
LONGEST_WAIT_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What is known of one account's rate limit; None is not known (yet)."""

    limit: int | None = None
    remaining: int | None = None
    resets_at: datetime | None = None
    blocked_until: datetime | None = None
    """The provider refused a call and wants none before this."""


@dataclass(frozen=True, slots=True)
class Proceed:
    pass


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float
    reason: str


def decide(budget: Budget, *, now: datetime, reserve_percent: float) -> Proceed | Wait:
    """Whether to make another call: never one that the provider would refuse, nor one of the reserve."""
    if budget.blocked_until is not None and budget.blocked_until > now:
        return Wait((budget.blocked_until - now).total_seconds(), "the provider asked to wait")
    if budget.remaining is None or budget.limit is None or budget.resets_at is None:
        return Proceed()
    if budget.resets_at <= now:
        return Proceed()
    reserve = math.ceil(budget.limit * reserve_percent / 100)
    if budget.remaining > reserve:
        return Proceed()
    left = (budget.resets_at - now).total_seconds()
    return Wait(
        left, f"{budget.remaining} of {budget.limit} calls are left, and {reserve} are kept in reserve"
    )


def learn(budget: Budget, headers: Mapping[str, str], *, now: datetime, prefix: str) -> Budget:
    """The budget after an answer with these headers (lower case); what they do not say stays.

    `prefix`: how the provider's headers begin, e.g. `x-ratelimit-`.
    """
    limit, remaining, reset = (
        _integer(headers.get(prefix + name)) for name in ("limit", "remaining", "reset")
    )
    if limit is None or remaining is None or reset is None:
        return budget
    try:
        resets_at = datetime.fromtimestamp(reset, UTC)
    except (OverflowError, ValueError, OSError):
        return budget
    latest = now + timedelta(seconds=LONGEST_WAIT_SECONDS)
    return replace(budget, limit=limit, remaining=remaining, resets_at=min(resets_at, latest))


def refused(budget: Budget, headers: Mapping[str, str], *, now: datetime) -> Budget:
    """The budget after a call was refused for want of one: no call before the time the answer names."""
    wait = retry_after(headers, now=now)
    if wait is None and budget.remaining == 0 and budget.resets_at is not None and budget.resets_at > now:
        wait = (budget.resets_at - now).total_seconds()
    if wait is None:
        wait = UNSAID_WAIT_SECONDS
    return replace(budget, blocked_until=now + timedelta(seconds=min(wait, LONGEST_WAIT_SECONDS)))


def retry_after(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """The seconds of `Retry-After`, which may be a number or a date; None without a readable one."""
    text = headers.get("retry-after", "").strip()
    seconds = _integer(text)
    if seconds is not None:
        return float(seconds)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def _integer(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None
