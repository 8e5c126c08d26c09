"""When a failing poll is news. Pure."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Episode:
    """A stretch of time in which every poll of a target failed for one reason."""

    since: datetime
    reason: str


def after_failure(before: Episode | None, reason: str, now: datetime) -> tuple[Episode, bool]:
    """The episode a failure belongs to, and whether it has just begun: another reason is another episode."""
    if before is not None and before.reason == reason:
        return before, False
    return Episode(now, reason), True
