"""Stretches of time that end now, and the rates within them: pure."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from chassis.http import HttpError
from services.api.queries.pipelines import BAD

_WINDOW = re.compile(r"([1-9]\d{0,3})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
LEAST = timedelta(hours=1)
MOST = timedelta(days=30)


def parse_window(window: str) -> timedelta:
    """`"24h"` -> one day. From 1h to 30d, in whole minutes, hours or days.

    Raises:
        HttpError: 422, not such a window.
    """
    match = _WINDOW.fullmatch(window)
    length = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else timedelta()
    if not LEAST <= length <= MOST:
        raise HttpError(
            422, "window: give one from 1h to 30d, such as 90m, 24h or 7d", kind="ValidationError"
        )
    return length


def parse_since(since: str, now: datetime) -> date:
    """Where so many UTC days begin, today the last of them (`7d`); or the day or time given (`2026-03-01`).

    Raises:
        HttpError: 422, it is neither, or does not lie before now.
    """
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        return min(now, now - parse_window(since) + timedelta(days=1)).astimezone(UTC).date()
    day = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).date()
    if day > now.date():
        raise HttpError(422, f"since: {since} has yet to come", kind="ValidationError")
    return day


def rates(states: Mapping[str, int]) -> tuple[float, float] | None:
    """Success and failure in percent, one decimal, of the builds that say whether code is good; None without any."""
    good, bad = states.get("success", 0), sum(states.get(state, 0) for state in BAD)
    if not good + bad:
        return None
    success = round(100 * good / (good + bad), 1)
    return success, round(100 - success, 1)
