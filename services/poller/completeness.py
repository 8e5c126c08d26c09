"""What a provider says exists, compared with what the log has; why something is missing; what to do. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Literal

from services.poller.provider import Counted, Span

Key = tuple[str, int]
"""An attempt of a target: its run's id and its number."""

Kind = Literal["missing", "open"]
Reason = Literal[
    "never_listed",
    "not_published",
    "not_recorded",
    "unreadable",
    "gone",
    "newer_than_poll",
    "target_failing",
    "end_not_seen",
]

MOST_AGAIN = 100
"""Runs that one measurement asks for again at most: each costs a few calls."""
_NOT_AGAIN: frozenset[Reason] = frozenset({"newer_than_poll", "target_failing"})
"""What the next poll brings by itself, and what no asking brings."""


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log has of an attempt."""

    ended: bool
    is_unavailable: bool = False
    """The provider was asked for it and did not have it: that is on record."""


@dataclass(frozen=True, slots=True)
class Memory:
    """What the poller believes of an attempt. It proves nothing, but tells why something is missing."""

    is_published: bool
    is_set_aside: bool
    """It, or its run, could not be read the last time."""
    unavailable: int | None
    """The status with which the provider said that it does not have it."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the polling of the target goes."""

    listed_through: datetime | None
    """Every build created before this has been listed once."""
    succeeded_at: datetime | None
    failing_since: datetime | None
    failing_reason: str | None = None

    def polled_well_since(self, moment: datetime) -> bool:
        """Whether a poll came to a good end after `moment`."""
        return self.succeeded_at is not None and self.succeeded_at > moment


@dataclass(frozen=True, slots=True)
class Gap:
    """An attempt the log lacks, or holds open though it has ended; `detail` says for a person why."""

    attempt: Counted
    kind: Kind
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Day:
    """The figures of the runs created on one UTC day, in attempts."""

    day: date
    at_provider: int = 0
    recorded: int = 0
    unavailable: int = 0
    missing: int = 0
    open_but_ended: int = 0


def usual_since(now: datetime, *, reach: timedelta, first: datetime | None) -> datetime:
    """From where to measure by the schedule: whole UTC days within `reach`, and nothing from before `first`.

    `first`: where collecting begins by the settings.
    """
    begin = (now - reach).astimezone(UTC)
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = midnight if midnight == begin else midnight + timedelta(days=1)
    return whole if first is None else max(whole, first)


def span_of(since: datetime, until: datetime, *, now: datetime, interval: timedelta) -> Span | None:
    """The span to measure: nothing so young that two polls have yet to pass. None when nothing is left of it."""
    begin = since.astimezone(UTC).replace(microsecond=0)
    end = min(until, now - 2 * interval).astimezone(UTC).replace(microsecond=0)
    return Span(begin, end) if begin < end else None


def key(counted: Counted) -> Key:
    return counted.run_id, counted.attempt


def once(counted: Iterable[Counted]) -> list[Counted]:
    """Each attempt once, ended if any sighting says so: pages move while they are read."""
    found: dict[Key, Counted] = {}
    for one in counted:
        before = found.setdefault(key(one), one)
        if one.ended and not before.ended:
            found[key(one)] = replace(before, ended=True)
    return list(found.values())


def suspects(counted: Iterable[Counted], logged: Mapping[Key, Logged]) -> list[Counted]:
    """Those the log lacks, or holds open though they have ended."""
    return [
        one
        for one in counted
        if (has := logged.get(key(one))) is None or (one.ended and not has.ended and not has.is_unavailable)
    ]


def explain(
    one: Counted, logged: Mapping[Key, Logged], memory: Mapping[Key, Memory], standing: Standing
) -> Gap:
    """Why a suspect is one; `memory` has it, and the other attempts of its run, as far as they are known."""
    remembered = memory.get(key(one))
    if key(one) in logged:
        reason, detail = _why_open(remembered, standing)
        return Gap(one, "open", reason, detail)
    reason, detail = _why_missing(one, remembered, standing)
    if reason == "never_listed" and any(run_id == one.run_id for run_id, _ in memory):
        reason, detail = "not_published", "Its run was listed, and this attempt not fetched yet."
    return Gap(one, "missing", reason, detail)


def _why_open(remembered: Memory | None, standing: Standing) -> tuple[Reason, str]:
    if remembered is not None and remembered.is_set_aside:
        return "unreadable", "Its run could not be read the last time it was asked for."
    if standing.failing_since is not None:
        return "target_failing", _failing(standing)
    return "end_not_seen", "It has ended, and no observation of that end is recorded."


def _why_missing(one: Counted, remembered: Memory | None, standing: Standing) -> tuple[Reason, str]:
    if remembered is not None:
        if remembered.unavailable is not None:
            status = remembered.unavailable
            return (
                "gone",
                f"Asked for alone, the provider answered {status}; the notice of that is not recorded.",
            )
        if remembered.is_set_aside:
            return "unreadable", "Listed, and refused: it, or its run, could not be read."
        if remembered.is_published:
            return (
                "not_recorded",
                "Published, and not in the log: look at the queue of ingest and its dead letters.",
            )
        return "not_published", "Listed, and not published yet."
    if standing.failing_since is not None and one.created_at >= (
        standing.listed_through or standing.failing_since
    ):
        return "target_failing", _failing(standing)
    if standing.listed_through is None or one.created_at >= standing.listed_through:
        return "newer_than_poll", "Newer than the last complete poll."
    return "never_listed", "No listing that was polled has shown it."


def _failing(standing: Standing) -> str:
    since = f"{standing.failing_since:%Y-%m-%d %H:%M} UTC" if standing.failing_since else "unknown"
    return f"The target fails since {since}: {standing.failing_reason or 'no reason was kept'}."


def days(
    span: Span, counted: Iterable[Counted], logged: Mapping[Key, Logged], gaps: Sequence[Gap]
) -> list[Day]:
    """The figures by day of creation, of every day of the span: one without a run has zeros.

    `logged` is what the log had at first; what came in while one waited shows by not being in `gaps`.
    """
    open_, missing = ({key(gap.attempt) for gap in gaps if gap.kind == kind} for kind in ("open", "missing"))
    figures: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for one in counted:
        row = figures[one.created_at.astimezone(UTC).date()]
        row[0] += 1
        has = logged.get(key(one))
        row[1] += has is not None and has.is_unavailable
        row[2] += key(one) in missing
        row[3] += key(one) in open_
    until = (span.until or span.since) - timedelta(microseconds=1)
    length = (until.astimezone(UTC).date() - span.since.astimezone(UTC).date()).days
    for number in range(length + 1):
        figures.setdefault(span.since.astimezone(UTC).date() + timedelta(days=number), [0, 0, 0, 0])
    return [
        Day(day, total, total - lacks, unavailable, lacks, held)
        for day, (total, unavailable, lacks, held) in sorted(figures.items())
    ]


def again(gaps: Iterable[Gap]) -> list[str]:
    """The runs to ask the provider for again, oldest first."""
    worth = sorted(
        (gap for gap in gaps if gap.reason not in _NOT_AGAIN), key=lambda gap: gap.attempt.created_at
    )
    return list(dict.fromkeys(gap.attempt.run_id for gap in worth))
