"""The values in Jenkins' JSON: each is what it should be, or None. Pure, and total."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

LONGEST_TEXT = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadRowError(ValueError):
    """A row that names no build or job, or cannot be placed in time; the text says what is missing."""


def an_object(value: Any, what: str) -> Mapping[str, Any]:
    """Raises BadRowError for anything else."""
    if not isinstance(value, dict):
        raise BadRowError(f"{what} is no JSON object")
    return value


def part(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = row.get(key)
    return found if isinstance(found, dict) else {}


def rows(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """The objects in a list; Jenkins fills lists up with empty ones, and what is none is left out."""
    found = row.get(key)
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def raw(value: Any) -> str | None:
    """Exactly what was received; what is no text, as JSON."""
    if value is None:
        return None
    return _writable(value if isinstance(value, str) else json.dumps(value))


def text(value: Any, longest: int = LONGEST_TEXT) -> str | None:
    """None also for a text without anything in it: Jenkins writes "" where there is nothing."""
    return (_writable(value[:longest]) if value.strip() else None) if isinstance(value, str) else None


def moment(value: Any) -> datetime | None:
    """Milliseconds since 1970 as a time in UTC; 0 and less is how Jenkins says that there is none."""
    milliseconds = number(value)
    if milliseconds is None or milliseconds <= 0:
        return None
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


def later(start: datetime | None, milliseconds: Any) -> datetime | None:
    """`start` and so many milliseconds; None without either."""
    lasted = number(milliseconds)
    if start is None or lasted is None or lasted < 0:
        return None
    try:
        return start + timedelta(milliseconds=lasted)
    except OverflowError:
        return None


def kind(row: Mapping[str, Any]) -> str:
    """The simple name of the class a row is of: `UserIdCause` of `hudson.model.Cause$UserIdCause`."""
    name = row.get("_class")
    return name.replace("$", ".").rsplit(".", 1)[-1] if isinstance(name, str) else ""


def _writable(value: str) -> str:
    """JSON can smuggle in half a character, which no UTF-8 can write out again."""
    return value.encode("utf-8", "replace").decode()
