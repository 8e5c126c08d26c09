"""What an unclear end of an action means."""

from datetime import timedelta

import pytest

from buildlight_contracts.states import State
from services.poller.actions import Ask, Settled, action_of, after_unclear_end, is_late, look_in
from tests.pretend_provider import NOON, a_build, ref
from tests.station_stage import cancel, check, rerun


def test_a_rerun_that_shows_is_done() -> None:
    """A later attempt of the run is there: nobody is asked again."""
    found = after_unclear_end(rerun(), a_build(ref(attempt=2), State.RUNNING))
    assert isinstance(found, Settled)
    assert found.status == "done"
    assert found.url is not None


def test_a_rerun_that_does_not_show_is_asked_for_again() -> None:
    """Where a rerun would be seen and is not, it was not done."""
    assert after_unclear_end(rerun(), a_build(ref())) == Ask()
    gitlab = ref(provider="gitlab")
    assert after_unclear_end(rerun(gitlab, failed_only=True), a_build(gitlab)) == Ask()


@pytest.mark.parametrize("provider", ["gitlab", "jenkins"])
def test_where_it_cannot_be_seen_it_is_not_asked_again(provider: str) -> None:
    """A whole build started anew is another build: rather none than two, and it is said."""
    found = after_unclear_end(rerun(ref(provider=provider)), a_build(ref(provider=provider)))
    assert isinstance(found, Settled)
    assert found.status == "failed"
    assert "not known" in found.detail


def test_a_cancellation() -> None:
    """Asked for again while it runs; done when it has ended, or another attempt has begun."""
    assert after_unclear_end(cancel(), a_build(ref(), State.RUNNING)) == Ask()
    for build in (a_build(ref(), State.CANCELLED), a_build(ref(attempt=2), State.RUNNING)):
        found = after_unclear_end(cancel(), build)
        assert isinstance(found, Settled)
        assert found.status == "done"


def test_a_check_is_published_again() -> None:
    assert after_unclear_end(check(), None) == Ask()


def test_a_build_that_is_gone() -> None:
    found = after_unclear_end(rerun(), None)
    assert isinstance(found, Settled)
    assert found.status == "failed"


def test_lateness() -> None:
    """At its expiry a command is late; one without expiry never is."""
    assert is_late(NOON, NOON)
    assert not is_late(NOON, NOON + timedelta(seconds=1))
    assert is_late(NOON, NOON + timedelta(seconds=5), wait=timedelta(seconds=5))
    assert not is_late(NOON, None)
    assert look_in(NOON + timedelta(seconds=60), NOON) < timedelta()


def test_names() -> None:
    names = [action_of(c) for c in (rerun(), rerun(failed_only=True), cancel(), check())]
    assert names == ["rerun", "rerun_failed", "cancel", "publish_check"]
