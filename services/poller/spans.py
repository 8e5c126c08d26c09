"""Which stretches of time a poll lists. Pure.

A listing is asked for by whole UTC days: the address of a day that is over stays the same, so its pages are
answered "unchanged", at no cost, for as long as nothing in them changes.
"""

from datetime import UTC, datetime, timedelta

from services.poller.provider import Span

RERUN_REACH = timedelta(days=30)
"""How long after its creation GitHub lets a run be run again, keeping its creation time."""
NARROWEST = timedelta(minutes=1)
STRETCH = timedelta(days=30)
"""The most that a backfill lists in one."""


def reach(
    now: datetime,
    *,
    window: timedelta,
    sweep: timedelta,
    first: datetime | None,
    listed_through: datetime | None,
    swept_at: datetime | None,
) -> tuple[datetime, bool]:
    """How far back a poll lists by creation, and whether that is a sweep.

    The first poll takes in the backlog, from `first` on.  Each later one goes `window` back behind the last
    complete one, however long ago that was.  Every `sweep` one goes back as far as an old run may be run
    again, because that does not change its creation time.
    """
    backlog = first if first is not None else now - RERUN_REACH
    if listed_through is None:
        return backlog, True
    usual = min(listed_through, now) - window
    if swept_at is not None and now - swept_at < sweep:
        return usual, False
    return min(usual, max(backlog, now - RERUN_REACH)), True


def spans(since: datetime, now: datetime, *, window: timedelta) -> list[Span]:
    """The spans from `since` on, oldest first: what lies behind the window in one, then day by day."""
    since = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    day = (now - window).astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    found = []
    if since < day:
        found.append(Span(since, day))
    while day + timedelta(days=1) <= now:
        found.append(Span(day, day + timedelta(days=1)))
        day += timedelta(days=1)
    # The last has no end: the provider's clock may be ahead of ours.
    return [*found, Span(day)]


def halves(span: Span) -> tuple[Span, Span] | None:
    """`span` in two, for a provider that shows only so much of one; None when it is narrow already.

    It depends on the span alone, so that the next poll asks for the same addresses.
    """
    until = span.until or span.since + timedelta(days=1)
    middle = (span.since + (until - span.since) / 2).replace(microsecond=0)
    if middle - span.since < NARROWEST:
        return None
    return Span(span.since, middle), Span(middle, span.until)


def stretches(since: datetime, until: datetime) -> list[Span]:
    """A backfill's spans, oldest first: long ones, for a full one is halved."""
    since = since.astimezone(UTC).replace(microsecond=0)
    # Providers count in whole seconds, and what was created in the last, broken one belongs to it.
    last = until.astimezone(UTC).replace(microsecond=0)
    last += timedelta(seconds=1 if until.microsecond else 0)
    found = []
    while since < last:
        end = min(since + STRETCH, last)
        found.append(Span(since, end))
        since = end
    return found
