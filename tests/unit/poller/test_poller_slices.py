"""A slice of time: it ends, and a long listing does not use it up."""

import pytest

from services.poller import slices
from services.poller.slices import Slice


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_listing_as_long_as_the_slice_leaves_half_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else nothing of what was listed would be taken, at every poll anew."""
    clock = Clock()
    monkeypatch.setattr(slices, "time", clock)
    ours = Slice(10, stopping=lambda: False)
    clock.now += 9
    assert not ours.is_over()
    clock.now += 3
    assert ours.is_over()
    ours.has_listed()
    assert not ours.is_over()
    clock.now += 5.1
    assert ours.is_over()


def test_a_short_listing_gives_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the slice, when that is more than half."""
    clock = Clock()
    monkeypatch.setattr(slices, "time", clock)
    ours = Slice(10, stopping=lambda: False)
    clock.now += 1
    ours.has_listed()
    clock.now += 8.9
    assert not ours.is_over()
    clock.now += 0.2
    assert ours.is_over()


def test_a_stop_is_not_put_off() -> None:
    """Whoever is told to stop stops after the run in hand."""
    assert Slice(10, stopping=lambda: True).is_over()
