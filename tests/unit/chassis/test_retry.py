"""What becomes of a failed message: every verdict, and the words on a dead letter."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from pamqp import encode

from buildlight_contracts.catalogue import BadMessage
from chassis.outage import Outage
from chassis.retry import (
    Bury,
    Hold,
    NotYet,
    Park,
    Permanent,
    Transient,
    decide,
    fingerprint,
    still_early,
    strip_broker_headers,
    strip_retry_headers,
)
from chassis.settings import seconds_of

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
RUNGS = ("5s", "30s", "5m", "1h")


@pytest.mark.parametrize(
    ("error", "dependency"),
    [
        (Outage("slack"), "slack"),
        (ConnectionRefusedError(111, "refused"), "postgres"),
        (asyncpg.CannotConnectNowError("starting up"), "postgres"),
    ],
)
def test_an_outage_holds(error: Exception, dependency: str) -> None:
    """A dependency that is down keeps the message in hand, whatever its history."""
    assert decide(error, {"buildlight-attempt": 99}, rungs=RUNGS, now=NOW) == Hold(dependency)


@pytest.mark.parametrize(("failed_before", "rung"), [(0, "5s"), (1, "30s"), (2, "5m"), (3, "1h")])
def test_each_failure_waits_on_the_next_rung(failed_before: int, rung: str) -> None:
    """The n-th failure parks on the n-th rung and counts itself."""
    verdict = decide(ValueError("x"), {"buildlight-attempt": failed_before}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    assert verdict.rung == rung
    assert verdict.headers["buildlight-attempt"] == failed_before + 1


def test_with_every_rung_used_up_it_is_buried() -> None:
    """The fifth failure on four rungs is the end, with the first failure remembered."""
    headers = {"buildlight-attempt": 4, "buildlight-first-failure": "2026-01-01T00:00:00+00:00"}
    verdict = decide(Transient("still no"), headers, rungs=RUNGS, now=NOW)
    assert verdict == Bury(
        "exhausted",
        {
            "buildlight-attempt": 5,
            "buildlight-first-failure": "2026-01-01T00:00:00+00:00",
            "buildlight-reason": "still no",
            "buildlight-error-class": "Transient",
            "buildlight-fingerprint": fingerprint(Transient("still no")),
            "buildlight-kind": "exhausted",
            "buildlight-died-at": "2026-01-02T03:04:05+00:00",
        },
    )


@pytest.mark.parametrize("error", [Permanent("no such rule"), BadMessage("unknown event type 'x'")])
def test_what_can_never_succeed_is_buried_at_once(error: Exception) -> None:
    """No rung is spent on a message that no later try will make readable."""
    verdict = decide(error, {}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Bury)
    assert verdict.kind == "permanent"
    assert verdict.headers["buildlight-reason"] == str(error)


@pytest.mark.parametrize(
    ("asked_seconds", "rung"),
    [(0.5, "5s"), (6, "5s"), (31, "30s"), (310, "5m"), (3600, "1h"), (86_400, "1h")],
)
def test_retry_after_picks_the_rung(asked_seconds: float, rung: str) -> None:
    """The longest rung that is over by then; what is left is waited for after it."""
    verdict = decide(Transient("slow", retry_after_seconds=asked_seconds), {}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    assert verdict.rung == rung
    assert verdict.headers["buildlight-not-before"] == (NOW + timedelta(seconds=asked_seconds)).isoformat()


@pytest.mark.parametrize("asked_seconds", [1, 6, 31, 299, 310, 360, 3601, 5000])
@pytest.mark.parametrize("error", [NotYet, Transient])
def test_a_wait_is_as_long_as_was_asked(error: type[Exception], asked_seconds: float) -> None:
    """Over all rungs it waits in: never shorter, and too long by one shortest rung at most."""
    asked = (
        NotYet("later", seconds=asked_seconds)
        if error is NotYet
        else Transient("slow", retry_after_seconds=asked_seconds)
    )
    verdict = decide(asked, {}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    now, headers, parked = NOW, verdict.headers, 0
    step: Park | None = verdict
    while step is not None:
        now, parked = now + timedelta(seconds=seconds_of(step.rung)), parked + 1
        step = still_early(headers, rungs=RUNGS, now=now)
    assert asked_seconds - 0.25 <= (now - NOW).total_seconds() <= asked_seconds + 5
    assert parked <= 30


@pytest.mark.parametrize(
    ("left_seconds", "rung"), [(-1, None), (0.2, None), (3, "5s"), (20, "5s"), (31, "30s"), (7200, "1h")]
)
def test_what_comes_back_early_is_parked_again(left_seconds: float, rung: str | None) -> None:
    """Within a twentieth of the shortest rung of its time it is handled; else it waits on, at no attempt's cost."""
    headers = {"buildlight-not-before": (NOW + timedelta(seconds=left_seconds)).isoformat()}
    assert still_early(headers, rungs=RUNGS, now=NOW) == (Park(rung, {}) if rung else None)


def test_like_errors_have_one_fingerprint() -> None:
    """Ids, numbers and quoted names do not tell causes apart; the words and the class do."""
    one = fingerprint(ValueError("run 123 of 'acme/shop' failed: 6f1dd2f0-5d0b-5c7e-9d7b-0a4b8f6f2c11"))
    assert one == fingerprint(ValueError("run 9 of 'acme/docs' failed: 0a4b8f6f-5d0b-5c7e-9d7b-6f1dd2f05c7e"))
    assert one != fingerprint(ValueError("run 9 of 'acme/docs' stalled: 0a4b8f6f"))
    assert one != fingerprint(
        TypeError("run 123 of 'acme/shop' failed: 6f1dd2f0-5d0b-5c7e-9d7b-0a4b8f6f2c11")
    )


def test_headers_fit_to_publish_again() -> None:
    """RabbitMQ's death records never travel on; a replay forgets the failures but not the count of replays."""
    headers = {
        "x-death": [{}],
        "x-first-death-queue": "q",
        "x-delivery-count": 3,
        "x-mine": 1,
        "buildlight-attempt": 5,
        "buildlight-replay": 2,
        "traceparent": "00-…",
    }
    assert set(strip_broker_headers(headers)) == {
        "x-mine",
        "buildlight-attempt",
        "buildlight-replay",
        "traceparent",
    }
    assert set(strip_retry_headers(headers)) == {"x-mine", "buildlight-replay", "traceparent"}


@pytest.mark.parametrize("told", ["abc", "7", -1, 1000, 2.0, True, None, b"\xff", [1], {"a": 1}])
def test_a_count_of_attempts_that_is_not_ours_counts_as_none(told: Any) -> None:
    """Anyone may publish a header of that name: what is no number from 0 to 999 is not believed."""
    verdict = decide(ValueError("no"), {"buildlight-attempt": told}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    assert (verdict.rung, verdict.headers["buildlight-attempt"]) == ("5s", 1)


@pytest.mark.parametrize("told", ["tomorrow", "", 5, b"\xff", NOW, "2026-01-02T03:04:05", ["a"]])
def test_times_that_are_not_ours_are_not_believed(told: Any) -> None:
    """Not an ISO time with its zone: it does not have to wait, and its first failure is this one."""
    headers = {"buildlight-not-before": told, "buildlight-first-failure": told}
    assert still_early(headers, rungs=RUNGS, now=NOW) is None
    verdict = decide(ValueError("no"), headers, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    assert verdict.headers["buildlight-first-failure"] == NOW.isoformat()


@pytest.mark.parametrize(
    ("asked_seconds", "believed"),
    [(1e300, timedelta(days=30)), (float("nan"), timedelta(0)), (-5, timedelta(0))],
)
def test_a_wait_without_sense_is_cut(asked_seconds: float, believed: timedelta) -> None:
    """The other side may ask for any wait; it gets thirty days at most."""
    verdict = decide(Transient("slow", retry_after_seconds=asked_seconds), {}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Park)
    assert verdict.headers["buildlight-not-before"] == (NOW + believed).isoformat()


def test_headers_that_our_encoder_refuses_are_carried_as_bytes_or_text() -> None:
    """What another client's encoder let through does not stop a message from being put aside."""
    headers = {
        "latin": b"\xff",
        "in": {"a": [b"\xfe", 1e300], "b": 1.5},
        "decimal": Decimal(2**32 - 1),
        "early": datetime(1, 1, 1, tzinfo=UTC),
        "large": 2**63,
        "fine": [1, "a", None, True, NOW],
    }
    fit = strip_broker_headers(headers)
    assert fit == {
        "latin": bytearray(b"\xff"),
        "in": {"a": [bytearray(b"\xfe"), "1e+300"], "b": 1.5},
        "decimal": "4294967295",
        "early": "0001-01-01 00:00:00+00:00",
        "large": "9223372036854775808",
        "fine": [1, "a", None, True, NOW],
    }
    assert encode.field_table(fit)


def test_more_headers_than_fit_beside_ours_are_left_out() -> None:
    """A frame holds 128 KiB of headers; a message that has them already can still be given a reason."""
    headers = {"x": "x" * 70_000, "buildlight-attempt": 1}
    assert strip_broker_headers(headers) == {"buildlight-attempt": 1}


def test_a_reason_is_text_that_can_be_sent() -> None:
    """A lone surrogate out of somebody's JSON does not make the reason unsendable."""
    verdict = decide(Permanent("bad: \ud800"), {}, rungs=RUNGS, now=NOW)
    assert isinstance(verdict, Bury)
    assert verdict.headers["buildlight-reason"] == "bad: \\ud800"
