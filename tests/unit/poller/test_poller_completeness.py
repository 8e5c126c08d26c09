"""What a provider has against what the log has: what is missing, why, and what is asked for again."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.poller import completeness
from services.poller.completeness import Day, Gap, Logged, Memory, Standing
from services.poller.measurements import Asked
from services.poller.provider import Counted, Span, Target
from services.poller.reconcile_schedule import due

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
WELL = Standing(listed_through=NOON, succeeded_at=NOON, failing_since=None)
FAILING = Standing(NOON - DAY, NOON - DAY, NOON - 20 * HOUR, "unauthorized")
ENDED, OPEN, GONE = Logged(ended=True), Logged(ended=False), Logged(ended=True, is_unavailable=True)


def counted(run: int, attempt: int = 1, *, ended: bool = True, at: datetime = NOON - HOUR) -> Counted:
    return Counted(str(run), attempt, at, ended)


def test_what_the_log_has_is_no_suspect() -> None:
    """Recorded and ended, recorded and open on both sides, or recorded as unavailable: all is accounted for."""
    rows = [counted(1), counted(2, ended=False), counted(3), counted(3, 2)]
    logged = {("1", 1): ENDED, ("2", 1): OPEN, ("3", 1): GONE, ("3", 2): ENDED}
    assert completeness.suspects(rows, logged) == []


def test_the_missing_and_the_forgotten_open_are_suspects() -> None:
    """An attempt nobody recorded, an earlier one too; one the log holds open; not one that ended here first."""
    rows = [counted(1), counted(2), counted(2, 2), counted(3), counted(4, ended=False)]
    logged = {("2", 2): ENDED, ("3", 1): OPEN, ("4", 1): ENDED}
    assert completeness.suspects(rows, logged) == [counted(1), counted(2), counted(3)]


def test_a_page_that_moved_counts_once() -> None:
    """An attempt seen on two pages is one, and ended when one sighting says so."""
    assert completeness.once([counted(1, ended=False), counted(2), counted(1)]) == [counted(1), counted(2)]


@pytest.mark.parametrize(
    ("memory", "standing", "at", "reason"),
    [
        ({}, WELL, NOON - HOUR, "never_listed"),
        ({}, WELL, NOON + HOUR, "newer_than_poll"),
        ({}, Standing(None, None, None), NOON - HOUR, "newer_than_poll"),
        ({}, FAILING, NOON - HOUR, "target_failing"),
        ({}, FAILING, NOON - 2 * DAY, "never_listed"),
        ({}, Standing(None, None, NOON - HOUR, "forbidden"), NOON, "target_failing"),
        ({("7", 2): Memory(True, False, None)}, WELL, NOON - HOUR, "not_published"),
        ({("7", 1): Memory(False, False, None)}, WELL, NOON - HOUR, "not_published"),
        ({("7", 1): Memory(True, False, None)}, WELL, NOON - HOUR, "not_recorded"),
        ({("7", 1): Memory(True, True, None)}, WELL, NOON - HOUR, "unreadable"),
        ({("7", 1): Memory(False, False, 404)}, WELL, NOON - HOUR, "gone"),
        ({("8", 1): Memory(True, False, None)}, WELL, NOON - HOUR, "never_listed"),
    ],
)
def test_why_it_is_missing(
    memory: dict[completeness.Key, Memory], standing: Standing, at: datetime, reason: str
) -> None:
    """What the poller remembers, and how its polls go, name the reason."""
    gap = completeness.explain(counted(7, at=at), {}, memory, standing)
    assert (gap.kind, gap.reason) == ("missing", reason)
    assert gap.detail.endswith((".", "answered 404; the notice of that is not recorded."))


@pytest.mark.parametrize(
    ("memory", "standing", "reason"),
    [
        ({}, WELL, "end_not_seen"),
        ({}, FAILING, "target_failing"),
        ({("7", 1): Memory(True, True, None)}, FAILING, "unreadable"),
    ],
)
def test_why_it_is_open(memory: dict[completeness.Key, Memory], standing: Standing, reason: str) -> None:
    """Of one held open though it ended: its end was not seen, could not be read, or nothing can be."""
    gap = completeness.explain(counted(7), {("7", 1): OPEN}, memory, standing)
    assert (gap.kind, gap.reason) == ("open", reason)


def test_a_failing_target_is_named_with_its_time() -> None:
    """The detail says since when, and the reason of the failure."""
    detail = completeness.explain(counted(7), {}, {}, FAILING).detail
    assert detail == "The target fails since 2026-03-01 16:00 UTC: unauthorized."


def test_figures_by_day() -> None:
    """A run's attempts count on the day of its creation; a day without any has zeros; sums are whole."""
    rows = [
        counted(1, at=NOON - 2 * DAY),
        counted(1, 2, at=NOON - 2 * DAY),
        counted(2, at=NOON),
        counted(3, at=NOON),
    ]
    logged = {("1", 1): GONE, ("1", 2): ENDED, ("2", 1): OPEN}
    gaps = [
        completeness.explain(counted(2, at=NOON), logged, {}, WELL),
        completeness.explain(counted(3, at=NOON), logged, {}, WELL),
    ]
    span = Span(NOON - 2 * DAY, NOON + HOUR)
    assert completeness.days(span, rows, logged, gaps) == [
        Day(date(2026, 2, 28), at_provider=2, recorded=2, unavailable=1),
        Day(date(2026, 3, 1)),
        Day(date(2026, 3, 2), at_provider=2, recorded=1, missing=1, open_but_ended=1),
    ]


def test_what_came_in_while_one_waited_counts_as_recorded() -> None:
    """Missing at the first look and not at the last: no gap."""
    assert completeness.days(Span(NOON - HOUR, NOON), [counted(1)], {}, []) == [
        Day(date(2026, 3, 2), at_provider=1, recorded=1)
    ]


def test_each_run_is_asked_for_again_once_oldest_first() -> None:
    """Not those the next poll brings by itself, nor any while the target fails."""
    gaps = [
        Gap(counted(1), "missing", "newer_than_poll", ""),
        Gap(counted(2), "open", "end_not_seen", ""),
        Gap(counted(3, at=NOON - DAY), "missing", "never_listed", ""),
        Gap(counted(3, 2, at=NOON - DAY), "missing", "never_listed", ""),
        Gap(counted(4), "missing", "target_failing", ""),
        Gap(counted(5), "missing", "gone", ""),
    ]
    assert completeness.again(gaps) == ["3", "2", "5"]


def test_what_is_too_young_is_not_judged() -> None:
    """A span ends two intervals before now, whatever was asked; nothing left of it is None."""
    minute = timedelta(minutes=1)
    span = completeness.span_of(NOON - DAY, NOON + DAY, now=NOON, interval=minute)
    assert span == Span(NOON - DAY, NOON - 2 * minute)
    assert completeness.span_of(NOON - minute, NOON, now=NOON, interval=minute) is None


def test_the_usual_span_is_whole_days_of_what_is_collected() -> None:
    """From a midnight within reach; not from before collecting begins."""
    usual = completeness.usual_since(NOON, reach=30 * DAY, first=None)
    assert usual == datetime(2026, 2, 1, tzinfo=UTC)
    assert completeness.usual_since(NOON, reach=30 * DAY, first=NOON - DAY) == NOON - DAY
    assert completeness.usual_since(usual, reach=DAY, first=None) == usual - DAY


def test_measurements_are_spread_over_the_interval() -> None:
    """The first at once, then each target at its own time, once; one put off when its pause is over."""
    targets = [Target("github", "api.github.com", f"acme/{number}") for number in range(40)]
    assert [target for target, _ in due(targets, {}, NOON, interval=6 * HOUR)] == targets
    known = {target.id: Asked(scheduled_for=NOON - 6 * HOUR) for target in targets}
    counts = [len(due(targets, known, NOON + number * HOUR, interval=6 * HOUR)) for number in range(7)]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert counts[6] == 40
    assert 0 < counts[3] < 40
    put_off = {targets[0].id: Asked(scheduled_for=NOON, postponed_until=NOON + HOUR)}
    assert due(targets[:1], put_off, NOON + HOUR / 2, interval=6 * HOUR) == []
    assert due(targets[:1], put_off, NOON + HOUR, interval=6 * HOUR) == [(targets[0], NOON + HOUR)]
