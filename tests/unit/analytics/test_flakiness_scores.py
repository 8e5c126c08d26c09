"""Scores and verdicts: broken is not flaky, and each verdict says why."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.analytics.flakiness import together
from services.analytics.flakiness.evidence import Evidence
from services.analytics.flakiness.scorers import evidence, flakeguard, fliprate, log_odds
from services.analytics.flakiness.verdicts import Verdict, judge
from tests.unit.analytics.test_flakiness_evidence import history


def commits(outcomes: str) -> Evidence:
    """One commit a character: `+` passed, `-` failed."""
    return history(*(f"c{place}{outcome}" for place, outcome in enumerate(outcomes)))


def verdict(test: Evidence) -> Verdict:
    return judge(test, evidence(test)).verdict


@pytest.mark.parametrize(
    ("test", "expected"),
    [
        (commits("+" * 50), Verdict.HEALTHY),
        (commits("-" * 50), Verdict.BROKEN),
        (commits("+" * 40 + "-" * 10), Verdict.BROKEN),
        (commits("+" * 20 + "-" * 8 + "+" * 22), Verdict.HEALTHY),
        (history(*(f"a{n}+" for n in range(30)), "b-", "b+", *(f"c{n}+" for n in range(30))), Verdict.FLAKY),
        (commits(("+" * 15 + "-") * 4 + "+" * 10), Verdict.FLAKY),
    ],
    ids=[
        "healthy",
        "always broken",
        "broken now",
        "was broken",
        "passed on retry",
        "breaks that mend themselves",
    ],
)
def test_each_story_has_its_verdict(test: Evidence, expected: Verdict) -> None:
    """By its own history alone."""
    assert verdict(test) is expected


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 60), st.integers(2, 40), st.integers(0, 60))
def test_a_single_break_is_never_flaky(before: int, broken: int, after: int) -> None:
    """However long it lasts, and whether it was mended."""
    assert verdict(commits("+" * before + "-" * broken + "+" * after)) in (Verdict.HEALTHY, Verdict.BROKEN)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 1000), st.integers(20, 200))
def test_a_disagreement_never_makes_a_test_look_sounder(seed: int, runs: int) -> None:
    """The same history with one failure retried successfully scores higher."""
    chance = random.Random(seed)
    outcomes = ["-" if chance.random() < 0.05 else "+" for _ in range(runs)]
    words = [f"c{place}{outcome}" for place, outcome in enumerate(outcomes)]
    if "-" not in outcomes:
        return
    place = outcomes.index("-")
    retried = [*words[: place + 1], f"c{place}+", *words[place + 1 :]]
    assert log_odds(history(*retried)) > log_odds(history(*words))


@pytest.mark.parametrize(
    ("outcomes", "guard", "flips"),
    [
        ("++++++++++", 0.0, 0.0),
        ("----------", 0.4 + 0.2 + 0.1, 0.0),
        ("+-+-+-+-+-", 0.4 * 0.5 + 0.3 + 0.2 * 0.5 + 0.1, 1.0),
        ("+++++-++++", 0.4 * 0.1 + 0.3 * 2 / 9 + 0.2 * 0.1 + 0.1, 2 / 9),
    ],
)
def test_the_older_formulas_to_the_letter(outcomes: str, guard: float, flips: float) -> None:
    """40 % failure rate, 30 % alternation, 20 % recency, 10 % branches; and the flip rate."""
    test = commits(outcomes)
    assert flakeguard(test) == pytest.approx(guard)
    assert fliprate(test) == pytest.approx(flips)


def test_the_older_formula_ranks_broken_above_flaky() -> None:
    """Which is why it does not decide."""
    broken, flaky = commits("-" * 50), history(*(f"a{n}+" for n in range(48)), "b-", "b+")
    assert flakeguard(broken) > flakeguard(flaky)
    assert evidence(broken) < evidence(flaky)


def test_the_company_of_a_flaky_test_is_suspect() -> None:
    """One failure alone is little; in the very run in which a flaky test failed it is more."""
    shared = [f"c{n}+" for n in range(60)]
    flaky = history(*shared[:30], "x-", *shared[30:40], "y-", "y+", *shared[40:])
    companion = history(*shared[:30], "x-", *shared[30:40], "y+", "y+", *shared[40:])
    loner = history(*shared[:20], "x+", *shared[20:30], "y+", "z-", *shared[30:])
    odds = together.odds({"flaky": flaky, "companion": companion, "loner": loner})
    assert odds["flaky"] > odds["companion"] > odds["loner"]
    assert judge(companion, 0.99).verdict is Verdict.SUSPECTED
    assert together.companions({"flaky": flaky, "companion": companion, "loner": loner}) == {
        "flaky": {"companion": 0.5},
        "companion": {"flaky": 0.5},
        "loner": {},
    }


def test_verdicts_say_why() -> None:
    """For a person."""
    test = history("a+", "b-", "b+", "c+")
    assert judge(test, 0.99).reason == "passed and failed at the same commit, once; failed in 1 of 4 runs"
    assert judge(commits("+-+"), 0.01).reason == (
        "failed in 1 of 3 runs, in one episode: more like breaks that were mended"
    )
