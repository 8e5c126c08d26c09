"""What the poller knows of an attempt of a build, and what that leaves to do. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.commands import Priority
from buildlight_contracts.envelope import material_digest
from buildlight_contracts.states import State

BACKLOG = timedelta(hours=2)
"""What ended longer ago than this nobody waits for: it must not hold up what ends now."""
LONGEST_PAUSE = timedelta(hours=1)
OLD = timedelta(days=30)
"""What has been open for longer than this is asked for ever less, down to once in `LONGEST_PAUSE_OF_OLD`."""
LONGEST_PAUSE_OF_OLD = timedelta(days=7)
LATE_JOBS_TRIES = 12
"""How often a build that has ended is asked for jobs that have not, or are not there; pauses grow, to some hours."""

PAUSES = frozenset({State.WAITING, State.ACTION_REQUIRED})
"""From these an attempt goes back to where it was."""
_BEGINNINGS = frozenset({State.QUEUED, State.UNKNOWN})

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
    state: State | None = None
    created_at: datetime | None = None
    resumed_at: datetime | None = None
    """When it last left a pause, or went back to an earlier state."""

    @property
    def set_aside(self) -> bool:
        """It, or its run, was asked for in vain: its own fault, and no reason to keep back the others."""
        return not self.settled and self.version is None and self.unchanged > 0


def version_of(build: BuildObservedV1) -> str:
    """A digest that differs when the provider shows the attempt differently, jobs included."""
    return material_digest(build.model_dump(mode="json", include=_SHOWN))


def onward(build: BuildObservedV1, before: Known | None) -> BuildObservedV1:
    """The build with the time it resumed, if it ever did: a state that comes back is another fact.

    Ends have none, so that a webhook, which knows nothing of what was before, makes the same fact of them.
    """
    if before is None or build.state.is_terminal:
        return build
    resumed = build.updated_at if _has_turned(build.state, before.state) else before.resumed_at
    return build if resumed is None else build.model_copy(update={"resumed_at": resumed})


def is_to_be_looked_at(build: BuildObservedV1, before: Known | None) -> bool:
    """Whether a build that a webhook tells whole is to be looked at instead: only the memory makes its fact.

    So it is of pauses, which have to be remembered, and of what came after one.
    """
    if build.state.is_terminal:
        return False
    if build.state in PAUSES:
        return True
    return before is not None and (before.resumed_at is not None or _has_turned(build.state, before.state))


def _has_turned(state: State, before: State | None) -> bool:
    if before is None or before == state or before.is_terminal:
        return False
    return before not in _BEGINNINGS


def missing(build: BuildObservedV1, known: Mapping[int, Known]) -> list[int]:
    """The earlier attempts of a run that are still to be fetched, given those known by number."""
    return [n for n in range(1, build.build.attempt) if n not in known or not known[n].settled]


def pause(unchanged: int, interval: timedelta, *, age: timedelta = timedelta(0)) -> timedelta:
    """How long until an attempt that stood still `unchanged` times is asked for again.

    At first no longer than until the next poll; then about twice as long each time, up to an hour. What waits for
    somebody since more than a month may do so for ever: of its age a thirtieth, up to a week.
    """
    doublings = min(unchanged, 20)
    longest = LONGEST_PAUSE if age < OLD else min(LONGEST_PAUSE_OF_OLD, age / 30)
    return min(longest, interval * ((1 << doublings) - 1))


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


def due_at(
    now: datetime, unchanged: int, interval: timedelta, *, open_since: datetime | None = None
) -> datetime:
    return now + pause(unchanged, interval, age=timedelta(0) if open_since is None else now - open_since)
