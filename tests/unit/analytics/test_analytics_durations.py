"""Durations and the order of builds, from what providers tell."""

from datetime import UTC, datetime, timedelta

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.states import State
from buildlight_contracts.testing import example
from services.analytics.durations import duration_seconds, seconds_between
from services.analytics.newness import ordered_at, run_order

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_a_build_has_a_duration_once_it_has_ended() -> None:
    """Ended: seconds from start to end. Running, or without a start: none."""
    later = NOON + timedelta(seconds=90.5)
    assert duration_seconds(State.SUCCESS, NOON, later) == 90.5
    assert duration_seconds(State.RUNNING, NOON, later) is None
    assert duration_seconds(State.CANCELLED, None, later) is None


def test_a_time_before_its_start_is_no_time() -> None:
    """An end a second before its start gives 0, not a negative number."""
    assert seconds_between(NOON, NOON - timedelta(seconds=1)) == 0.0


def test_builds_are_ordered_by_creation_else_start_else_change() -> None:
    """The first of the three times that is there."""
    build = example(BuildObservedV1)
    assert ordered_at(build) == build.created_at
    build = example(BuildObservedV1, created_at=None)
    assert ordered_at(build) == build.started_at
    build = example(BuildObservedV1, created_at=None, started_at=None)
    assert ordered_at(build) == build.updated_at


@pytest.mark.parametrize(
    ("run_number", "run_id", "order"),
    [(7, "900", 7), (None, "900", 900), (None, "nightly", 0), (None, "9" * 30, 0), (None, "٣", 0)],
)
def test_runs_of_one_moment_are_ordered_by_number(run_number: int | None, run_id: str, order: int) -> None:
    """The run's number; without one its id, when that is a number that fits; else 0."""
    build = example(BuildObservedV1, run_number=run_number)
    ref = build.build.model_copy(update={"run_id": run_id})
    assert run_order(build.model_copy(update={"build": ref})) == order
