"""How a page says things: durations, ages, states. Pure."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Look:
    """How a state is shown: never by colour alone."""

    label: str
    icon: str
    """A symbol of static/icons.svg."""
    tone: str
    """A class of static/buildlight.css."""


_LOOKS = {
    "success": Look("success", "check", "good"),
    "failure": Look("failure", "cross", "bad"),
    "timed_out": Look("timed out", "timer", "bad"),
    "startup_failure": Look("could not start", "bolt", "bad"),
    "running": Look("running", "run", "busy"),
    "queued": Look("queued", "dots", "wait"),
    "waiting": Look("waiting", "pause", "wait"),
    "action_required": Look("needs approval", "hand", "ask"),
    "cancelled": Look("cancelled", "slash", "mute"),
    "skipped": Look("skipped", "skip", "mute"),
    "neutral": Look("neutral", "dash", "mute"),
    "stale": Look("stale", "clock", "mute"),
    "unknown": Look("unknown", "ask", "odd"),
    # Of notifications and provisioning runs.
    "sent": Look("sent", "check", "good"),
    "failed": Look("failed", "cross", "bad"),
    "pending": Look("pending", "dots", "wait"),
    "succeeded": Look("succeeded", "check", "good"),
    # Of targets.
    "complete": Look("complete", "check", "good"),
    "incomplete": Look("incomplete", "cross", "bad"),
    "failing": Look("polls fail", "bolt", "bad"),
    "not_measured": Look("not measured", "ask", "odd"),
}


def look(state: str | None) -> Look:
    return _LOOKS.get(state or "unknown", _LOOKS["unknown"])


def raw(thing: dict[str, Any]) -> str:
    """The provider's own words: `completed / failure`."""
    words = [word for word in (thing.get("raw_status"), thing.get("raw_conclusion")) if word]
    return " / ".join(words) or "no status given"


def duration(seconds: float | None) -> str:
    """`245.0` -> "4m 05s"; an en dash for None."""
    if seconds is None:
        return "–"
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    if hours >= 48:
        return f"{hours // 24}d {hours % 24}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {whole % 60:02}s" if minutes else f"{whole}s"


def ago(moment: datetime | None, now: datetime) -> str:
    """How long before `now`: "just now", "5 min", "3 h", "2 d"; the date beyond a month."""
    if moment is None:
        return "–"
    seconds = (now - moment).total_seconds()
    if seconds < 60:
        return "just now"
    if seconds < 3600:
        return f"{int(seconds // 60)} min ago"
    if seconds < 48 * 3600:
        return f"{int(seconds // 3600)} h ago"
    if seconds < 30 * 86400:
        return f"{int(seconds // 86400)} d ago"
    return moment.strftime("%d %b %Y")


def stamp(moment: datetime | None) -> str:
    """A time in full, for a title."""
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else ""


def iso(moment: datetime | None) -> str:
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


def web_address(url: str | None) -> str | None:
    """`url` when it is one to link to: what a provider was told may be `javascript:...`."""
    try:
        return url if url and urlsplit(url).scheme in {"http", "https"} else None
    except ValueError:
        return None


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} %" if value in {0.0, 100.0} else f"{value:.1f} %"
