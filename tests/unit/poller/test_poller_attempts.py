"""States that come back, and which webhooks are left to a look."""

from datetime import UTC, datetime, timedelta

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.states import State
from buildlight_contracts.testing import example
from services.poller.attempts import Known, is_to_be_looked_at, onward

NOW = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def seen_through(*states: State) -> list[BuildObservedV1]:
    """What a build's states become, each seen after the one before."""
    seen: list[BuildObservedV1] = []
    before: Known | None = None
    for minute, state in enumerate(states):
        told = example(
            BuildObservedV1,
            raw_status=state,
            raw_conclusion=None,
            state=state,
            updated_at=NOW + minute * MINUTE,
        )
        build = onward(told, before)
        number = build.build
        before = Known(
            number.build_id,
            number.repository_id,
            number.run_id,
            number.attempt,
            settled=False,
            state=state,
            resumed_at=build.resumed_at,
        )
        seen.append(build)
    return seen


@pytest.mark.parametrize(
    "states",
    [
        (State.RUNNING, State.WAITING, State.RUNNING, State.WAITING, State.RUNNING),
        (State.QUEUED, State.RUNNING, State.QUEUED, State.RUNNING),
        (State.WAITING, State.RUNNING, State.ACTION_REQUIRED, State.RUNNING),
    ],
)
def test_a_state_that_returns_is_news(states: tuple[State, ...]) -> None:
    """Each has an id of its own, and the end the one that a webhook gives it."""
    seen = seen_through(*states, State.SUCCESS)
    assert len({build.identity() for build in seen}) == len(seen)
    assert seen[-1].resumed_at is None


def test_what_only_goes_forward_has_not_resumed() -> None:
    """Neither by being seen again."""
    states = (State.QUEUED, State.QUEUED, State.WAITING, State.WAITING)
    assert [build.resumed_at for build in seen_through(*states)] == [None] * 4
    resumed = seen_through(State.WAITING, State.RUNNING, State.RUNNING)
    assert [build.resumed_at for build in resumed] == [None, NOW + MINUTE, NOW + MINUTE]


@pytest.mark.parametrize(
    ("told", "before", "resumed", "look"),
    [
        (State.WAITING, None, False, True),
        (State.RUNNING, State.WAITING, False, True),
        (State.RUNNING, State.RUNNING, True, True),
        (State.QUEUED, State.RUNNING, False, True),
        (State.RUNNING, State.QUEUED, False, False),
        (State.RUNNING, None, False, False),
        (State.SUCCESS, State.WAITING, True, False),
    ],
)
def test_webhooks_that_ask_for_a_look(told: State, before: State | None, resumed: bool, look: bool) -> None:
    """Those of pauses and of what follows one; never those of an end, which a webhook tells as well."""
    build = example(BuildObservedV1, state=told)
    number = build.build
    known = before and Known(
        number.build_id,
        number.repository_id,
        number.run_id,
        1,
        settled=False,
        state=before,
        resumed_at=NOW if resumed else None,
    )
    assert is_to_be_looked_at(build, known or None) is look
