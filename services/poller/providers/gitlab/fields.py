"""Reading GitLab's JSON: each function takes whatever stands in a field, and gives a value or None."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

LONGEST_TEXT: Final = 1000
_OFFSET = re.compile(r"\s+([+-]\d\d:?\d\d)$")


class BadRowError(ValueError):
    """A row that names no pipeline or job, or cannot be placed in time; the text says what is missing."""


def an_object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRowError(f"{what} is no JSON object")
    return value


def part(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """An object inside a row; an empty one where there is none."""
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def rows(value: Any) -> list[Mapping[str, Any]]:
    """The objects of a list; whatever else is in it is left out."""
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def an_id(row: Mapping[str, Any], key: str, what: str | None = None) -> str:
    """An id as text.

    Raises:
        BadRowError: it is missing, or no number above zero.
    """
    value = number(row.get(key))
    if value is None or value < 1:
        raise BadRowError(f"{what or key} is missing or no number")
    return str(value)


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def seconds(value: Any) -> float | None:
    """A duration; None for one that is negative, endless or none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 1e9 else None


def raw(value: Any) -> str | None:
    """Exactly what was received; what is no text, as JSON."""
    if value is None:
        return None
    return _writable(value if isinstance(value, str) else json.dumps(value))


def text(value: Any, longest: int = LONGEST_TEXT) -> str | None:
    """A text, cut where it is long; None for what is none, or empty."""
    return _writable(value[:longest]) if isinstance(value, str) and value else None


def first_line(value: Any) -> str | None:
    lines = value.strip().splitlines() if isinstance(value, str) else []
    return text(lines[0]) if lines else None


def _writable(value: str) -> str:
    """JSON can smuggle in half a character, which no UTF-8 can write out again."""
    return value.encode("utf-8", "replace").decode()


def instant(value: Any) -> datetime | None:
    """A time in UTC; None for what is none.

    The API writes `2026-03-02T09:00:00.123Z`, hooks `2026-03-02 09:00:00 UTC` or `2026-03-02 10:00:00 +0100`.
    """
    if not isinstance(value, str):
        return None
    plain = _OFFSET.sub(r"\1", value.strip().removesuffix(" UTC"))
    try:
        found = datetime.fromisoformat(plain)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def moment(value: Any) -> datetime | None:
    """A time in UTC, cut to the second.

    Hooks cut their times so; a poll that did not would see another time for the same moment.
    """
    found = instant(value)
    return None if found is None else found.replace(microsecond=0)


def shifted(at: datetime | None, by: float | None) -> datetime | None:
    """A time so many seconds later, or earlier; None outside the calendar."""
    if at is None or by is None:
        return None
    try:
        return at + timedelta(seconds=by)
    except OverflowError:
        return None
