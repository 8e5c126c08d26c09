"""Budgets: when a call may be made."""

from datetime import UTC, datetime, timedelta

import pytest

from services.poller.budget import Budget, Proceed, Wait, decide, learn, refused, retry_after

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
IN_TEN = NOW + timedelta(minutes=10)


def test_nothing_known_proceeds() -> None:
    """The first call is how one learns the budget."""
    assert decide(Budget(), now=NOW, reserve_percent=10) == Proceed()


@pytest.mark.parametrize(
    ("remaining", "expected"),
    [
        (501, Proceed()),
        (500, Wait(600.0, "500 of 5000 calls are left, and 500 are kept in reserve")),
        (0, Wait(600.0, "0 of 5000 calls are left, and 500 are kept in reserve")),
    ],
)
def test_the_reserve_is_kept(remaining: int, expected: Proceed | Wait) -> None:
    """The last call made leaves exactly the reserve."""
    assert decide(Budget(5000, remaining, IN_TEN), now=NOW, reserve_percent=10) == expected


def test_a_renewed_allowance_proceeds() -> None:
    """What was left before the reset says nothing after it."""
    assert decide(Budget(5000, 0, NOW), now=NOW, reserve_percent=10) == Proceed()


def test_a_refusal_blocks_until_its_time() -> None:
    """However much is left."""
    blocked = Budget(5000, 4000, IN_TEN, blocked_until=NOW + timedelta(seconds=7))
    assert decide(blocked, now=NOW, reserve_percent=10) == Wait(7.0, "the provider asked to wait")
    assert decide(blocked, now=NOW + timedelta(seconds=7), reserve_percent=10) == Proceed()


def test_headers_are_learnt_only_whole() -> None:
    """A missing or odd header leaves what is known."""
    known = Budget(60, 3, IN_TEN)
    reset = str(int(IN_TEN.timestamp()))
    headers = {"x-ratelimit-limit": "5000", "x-ratelimit-remaining": "4999", "x-ratelimit-reset": reset}
    assert learn(known, headers, now=NOW, prefix="x-ratelimit-") == Budget(5000, 4999, IN_TEN)
    for name in headers:
        for odd in ("", "-1", "many", "½"):
            assert learn(known, headers | {name: odd}, now=NOW, prefix="x-ratelimit-") == known


@pytest.mark.parametrize(
    ("budget", "headers", "seconds"),
    [
        (Budget(), {"retry-after": "30"}, 30),
        (Budget(5000, 0, IN_TEN), {"retry-after": "30"}, 30),
        (Budget(5000, 0, IN_TEN), {}, 600),
        (Budget(5000, 10, IN_TEN), {}, 60),
        (Budget(), {}, 60),
        (Budget(), {"retry-after": "99999999999"}, 86_400),
    ],
)
def test_how_long_a_refusal_lasts(budget: Budget, headers: dict[str, str], seconds: int) -> None:
    """Retry-After, else the reset of a spent budget, else a minute; never more than a day."""
    assert refused(budget, headers, now=NOW).blocked_until == NOW + timedelta(seconds=seconds)


def test_retry_after_may_be_a_date() -> None:
    """Both forms of the header are read; a date that is past is no wait, nonsense none at all."""
    assert retry_after({"retry-after": "Mon, 02 Mar 2026 09:00:30 GMT"}, now=NOW) == 30.0
    assert retry_after({"retry-after": "Mon, 02 Mar 2026 08:00:00 GMT"}, now=NOW) == 0.0
    assert retry_after({"retry-after": "soon"}, now=NOW) is None
    assert retry_after({}, now=NOW) is None
