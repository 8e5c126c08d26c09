"""When polls are due, how far back they go, and what is asked for again."""

from datetime import UTC, datetime, timedelta

import pytest

from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import command_key
from buildlight_contracts.testing import example
from services.poller.attempts import is_settled, pause, priority_of
from services.poller.episodes import Episode, after_failure
from services.poller.provider import Span, Target
from services.poller.queues import QUEUES
from services.poller.schedule import due, due_time
from services.poller.spans import RERUN_REACH, halves, reach, spans
from services.poller.store import State

NOW = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SHOP, APP = Target("github", "api.github.com", "acme/shop"), Target("github", "api.github.com", "acme/app")
NEVER = State(None, None, None, None, None, None, None)


def state(**known: datetime) -> State:
    return State(**{name: known.get(name) for name in NEVER.__dataclass_fields__})  # type: ignore[arg-type]


def test_due_times_stand_on_a_grid() -> None:
    """Without jitter a poll is due at each whole interval, whenever one looks."""
    for second in (0, 1, 29, 59):
        at = NOW.replace(second=second)
        assert due_time(SHOP, at, interval=MINUTE, jitter=timedelta(0)) == NOW.replace(second=0)


def test_jitter_spreads_and_is_the_same_for_all_replicas() -> None:
    """Each target is late by its own part of the jitter, decided by the due time alone."""
    interval, jitter, slot = MINUTE, timedelta(seconds=10), NOW.replace(second=0)
    begins = set()
    for number in range(50):
        target = Target("github", "api.github.com", f"acme/{number}")
        times = [
            due_time(target, slot + timedelta(seconds=s / 10), interval=interval, jitter=jitter)
            for s in range(101)
        ]
        assert set(times) == {slot - interval, slot}
        assert times == sorted(times)
        begins.add(times.index(slot))
    assert len(begins) > 25


def test_a_poll_is_asked_for_once() -> None:
    """Not again in its interval, not while the target waits; those longest unpolled first."""
    slot = NOW.replace(second=0)

    def asked(**states: State) -> list[str]:
        known = {t: states[n] for n, t in (("shop", SHOP), ("app", APP)) if n in states}
        return [
            t.name
            for t, time in due([SHOP, APP], known, NOW, interval=MINUTE, jitter=timedelta(0))
            if time == slot
        ]

    assert asked() == ["acme/app", "acme/shop"]
    assert asked(app=state(scheduled_for=slot)) == ["acme/shop"]
    assert asked(app=state(scheduled_for=slot - MINUTE, polled_at=slot)) == ["acme/shop", "acme/app"]
    assert asked(shop=state(not_before=NOW + MINUTE), app=state(not_before=NOW)) == ["acme/app"]


def test_how_far_back_a_poll_goes() -> None:
    """The backlog first; then the window behind the last complete listing; and now and then thirty days."""

    def back(listed: datetime | None, swept: datetime | None, first: datetime | None = None) -> object:
        return reach(NOW, window=DAY, sweep=6 * HOUR, first=first, listed_through=listed, swept_at=swept)

    assert back(None, None) == (NOW - RERUN_REACH, True)
    assert back(None, None, NOW - 900 * DAY) == (NOW - 900 * DAY, True)
    assert back(NOW - MINUTE, NOW - HOUR) == (NOW - MINUTE - DAY, False)
    assert back(NOW - 3 * DAY, NOW - HOUR) == (NOW - 4 * DAY, False)
    assert back(NOW - MINUTE, NOW - 6 * HOUR) == (NOW - RERUN_REACH, True)
    assert back(NOW - MINUTE, NOW - 6 * HOUR, NOW - 2 * DAY) == (NOW - 2 * DAY, True)
    assert back(NOW - 40 * DAY, NOW - 40 * DAY) == (NOW - 41 * DAY, True)


def test_spans_are_whole_days_but_for_the_backlog() -> None:
    """They meet without a gap, and the last has no end."""
    today = NOW.replace(hour=0, minute=0, second=0)
    assert spans(NOW - DAY, NOW, window=DAY) == [Span(today - DAY, today), Span(today)]
    assert spans(NOW - 30 * DAY, NOW, window=DAY) == [
        Span(NOW.replace(minute=0, second=0) - 30 * DAY, today - DAY),
        Span(today - DAY, today),
        Span(today),
    ]


def test_spans_are_halved_down_to_a_minute() -> None:
    """The halves meet; what has no end keeps none."""
    day = datetime(2026, 3, 2, tzinfo=UTC)
    noon = day + 12 * HOUR
    assert halves(Span(day, day + DAY)) == (Span(day, noon), Span(noon, day + DAY))
    assert halves(Span(day)) == (Span(day, noon), Span(noon))
    assert halves(Span(day, day + MINUTE)) is None


def test_pauses_grow_to_an_hour() -> None:
    """No pause for what moves; then ever longer."""
    assert [pause(n, MINUTE) / MINUTE for n in (0, 1, 2, 3, 6, 99)] == [0, 1, 3, 7, 60, 60]


def test_what_waits_for_months_is_asked_for_weekly() -> None:
    """An hour while it is young; a day after a month, a week after seven; however old, it begins as all do."""

    def longest(days: int) -> timedelta:
        return pause(99, MINUTE, age=days * DAY)

    assert [longest(days) for days in (29, 30, 90, 210, 999)] == [HOUR, DAY, 3 * DAY, 7 * DAY, 7 * DAY]
    assert [pause(n, MINUTE, age=99 * DAY) / MINUTE for n in (0, 1, 2)] == [0, 1, 3]


@pytest.mark.parametrize(
    ("ended", "jobs_ended", "unchanged", "settled"),
    [(True, True, 0, True), (True, False, 0, False), (True, False, 12, True), (False, True, 99, False)],
)
def test_when_an_attempt_is_done_with(ended: bool, jobs_ended: bool, unchanged: int, settled: bool) -> None:
    """When it and its jobs have ended, or its jobs never will; never while it has not."""
    assert is_settled(ended=ended, jobs_ended=jobs_ended, unchanged=unchanged) is settled


def test_another_reason_is_another_episode() -> None:
    """A failure is news when polls went well before, or failed for another reason."""
    before = Episode(NOW - HOUR, "not_found")
    assert after_failure(None, "not_found", NOW) == (Episode(NOW, "not_found"), True)
    assert after_failure(before, "not_found", NOW) == (before, False)
    assert after_failure(before, "forbidden", NOW) == (Episode(NOW, "forbidden"), True)


def test_a_target_s_id_is_its_name() -> None:
    """The same for every process; no two targets share one."""
    assert SHOP.id == Target("github", "api.github.com", "acme/shop").id != APP.id


def test_a_backlog_does_not_hold_up_what_ends_now() -> None:
    """Old ends are of low priority even when they were asked for urgently, and have a queue of their own."""
    ends = {
        priority_of(NOW - age, now=NOW, urgent=urgent): (age, urgent)
        for age, urgent in ((HOUR, False), (HOUR, True), (3 * HOUR, True), (DAY, False))
    }
    assert ends == {"normal": (HOUR, False), "high": (HOUR, True), "low": (DAY, False)}
    queues = {
        command_key(
            Envelope.wrap(
                example(CollectReportsV1).model_copy(update={"priority": priority}),
                source="buildlight://test",
                time=NOW,
            )
        ): priority
        for priority in ends
    }
    by_key = {binding.key: queue for queue in QUEUES for binding in queue.bindings if binding.key in queues}
    assert {queues[key]: queue.name for key, queue in by_key.items()} == {
        "normal": "poller.collect",
        "high": "poller.collect.express",
        "low": "poller.collect.backlog",
    }
