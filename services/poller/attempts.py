"""What the poller knows of an attempt of a build, and what that leaves to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.commands import Priority
from buildlight_contracts.envelope import material_digest

BACKLOG = timedelta(hours=2)
"""What ended longer ago than this nobody waits for: it must not hold up what ends now."""
LONGEST_PAUSE = timedelta(hours=1)
LATE_JOBS_TRIES = 12
"""How often a build that has ended is asked for jobs that have not, or are not there; pauses grow, to some hours."""

_SHOWN = {"raw_status", "raw_conclusion", "updated_at"}
"""What a listing shows, whatever the provider: some leave out the start."""


@dataclass(frozen=True, slots=True)
class Known:
    """One attempt as it was last seen."""

    build_id: UUID
    repository_id: str
    run_id: str
    attempt: int
    settled: bool
    """Nothing more will come of it, unless a listing shows another version."""
    ended: bool = False
    version: str | None = None
    fact_id: UUID | None = None
    job_facts: frozenset[UUID] = frozenset()
    etag: str | None = None
    unchanged: int = 0
    """How often in a row it was asked for and had not changed."""
    due_at: datetime | None = None
    """When it is to be asked for again; None once it is settled."""
    latest: bool = True
    """No later attempt of its run is known."""
    collected_for: UUID | None = None
    """The fact of the end for which its reports were asked for."""

    @property
    def set_aside(self) -> bool:
        """It, or its run, was asked for in vain: its own fault, and no reason to keep back the others."""
        return not self.settled and self.version is None and self.unchanged > 0


def version_of(build: BuildObservedV1) -> str:
    """A digest that differs when the provider shows the attempt differently, jobs included."""
    return material_digest(build.model_dump(mode="json", include=_SHOWN))


def missing(build: BuildObservedV1, known: Mapping[int, Known]) -> list[int]:
    """The earlier attempts of a run that are still to be fetched, given those known by number."""
    return [n for n in range(1, build.build.attempt) if n not in known or not known[n].settled]


def pause(unchanged: int, interval: timedelta) -> timedelta:
    """How long until an attempt that stood still `unchanged` times is asked for again.

    At first no longer than until the next poll; then about twice as long each time, up to an hour.
    """
    doublings = min(unchanged, 12)
    return min(LONGEST_PAUSE, interval * ((1 << doublings) - 1))


def is_settled(*, ended: bool, jobs_ended: bool, unchanged: int) -> bool:
    """Whether an attempt is done with.

    Some jobs are shown as running for a moment after their run has ended, and a few for ever; some are not
    there at first, and those of old runs never again.
    """
    return ended and (jobs_ended or unchanged >= LATE_JOBS_TRIES)


def priority_of(ended_at: datetime, *, now: datetime, urgent: bool) -> Priority:
    """How soon the reports of an attempt that ended then are wanted: those of a backlog can wait."""
    if now - ended_at > BACKLOG:
        return "low"
    return "high" if urgent else "normal"


def due_at(now: datetime, unchanged: int, interval: timedelta) -> datetime:
    return now + pause(unchanged, interval)
