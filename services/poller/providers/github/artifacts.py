"""Which of a run's artifacts may hold the test reports of one attempt. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.poller.promising import is_promising
from services.poller.providers.github.mapping import moment_of, number_of, text_of


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something a run has left; it belongs to the run, not to an attempt."""

    id: int
    name: str
    size_bytes: int | None
    expired: bool
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class Lasted:
    """From when until when an attempt's jobs were running; `until` None: it is the latest attempt."""

    since: datetime | None = None
    until: datetime | None = None

    def holds(self, moment: datetime | None) -> bool:
        """Whether something made at `moment` was made by this attempt; what has no time counts for the latest."""
        if moment is None:
            return self.until is None
        return (self.since is None or self.since <= moment) and (self.until is None or moment < self.until)


def artifact_of(row: Any) -> Artifact | None:
    """GitHub's `artifact`; None for a row without id or name, which nobody could download or choose."""
    if not isinstance(row, dict):
        return None
    number, name = number_of(row.get("id")), text_of(row.get("name"))
    if number is None or not name:
        return None
    size = number_of(row.get("size_in_bytes"))
    return Artifact(
        id=number,
        name=name,
        size_bytes=size if size is None or size >= 0 else None,
        expired=row.get("expired") is True,
        created_at=moment_of(row.get("created_at")),
    )


def promising(artifacts: Iterable[Artifact], patterns: Sequence[str]) -> list[Artifact]:
    """Those that can be had and whose name fits one of the patterns, oldest first.

    GitHub says nothing of what an artifact holds, and most of them are builds of hundreds of megabytes.
    """
    chosen = {
        artifact.id: artifact
        for artifact in artifacts
        if not artifact.expired and is_promising([artifact.name], patterns)
    }
    return sorted(chosen.values(), key=lambda a: (a.created_at is None, a.created_at, a.id))
