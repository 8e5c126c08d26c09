"""Scores of flakiness, side by side. Pure; a higher score is a surer flake.

`evidence` decides. The others are kept to compare with: `flakeguard` is an older system's formula, which cannot
tell a broken test from a flaky one, and `fliprate` is what many tools use.
"""

from math import exp, lgamma, log
from typing import Final

from services.analytics.flakiness.evidence import Evidence

# What is assumed of a test before anything is seen of it. Round numbers; the order of a ranking hardly moves
# when any of them is halved or doubled.
FLAKY_SHARE: Final = 0.005
"""Of all tests."""
BREAKING_SHARE: Final = 0.05
"""Of all tests: really break at some time within a history."""
BREAKS_AGAIN: Final = 0.5
"""Of the tests that really broke once: what was mended once is touched again."""
FAILS: Final = (0.4, 50.0)
"""Beta distribution of how often a flaky test fails after it has passed: under one in a hundred, on average."""
FAILS_ON: Final = (0.7, 1.2)
"""Beta distribution of how often it fails again after it has failed: flakes come in bursts."""
ODD: Final = 1e-4
"""How often a test that is no flake is reported both passed and failed at one commit all the same."""
TOGETHER: Final = (2.0, 4.0)
"""What it adds to fail in the very runs in which another test fails, and in which a flaky one does."""

LEAST: Final = -30.0
"""The log-odds of what cannot be flaky."""


def _beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)


def _marginal(prior: tuple[float, float], hits: int, misses: int) -> float:
    """Log-likelihood of that many hits and misses when their chance is drawn from the Beta distribution."""
    return _beta(prior[0] + hits, prior[1] + misses) - _beta(*prior)


def log_odds(evidence: Evidence) -> float:
    """How much better the history is explained by a flaky test than by one that really broke and was mended.

    In nats. Both explanations are priced for the whole sequence: the flaky one by a chain that fails seldom and
    in bursts, the breaking one by when its episodes began and how long they lasted. A test without a failure,
    or without a pass, is the least flaky there is.
    """
    if not evidence.failures or evidence.always_failed:
        return LEAST
    flaky = (
        log(FLAKY_SHARE)
        + _marginal(FAILS, evidence.pass_to_fail + evidence.began_failing, evidence.pass_to_pass)
        + _marginal(FAILS_ON, evidence.fail_to_fail, evidence.fail_to_pass)
    )
    commits = max(evidence.commits, 1)
    again = max(evidence.episodes - 1, 0)
    breaking = (
        log(BREAKING_SHARE)
        - evidence.episodes * log(commits)
        + again * log(BREAKS_AGAIN)
        + log(1.0 - BREAKS_AGAIN)
        + evidence.closed_log_likelihood
        + evidence.open_log_likelihood
        + evidence.disagreements * log(ODD)
    )
    return flaky - breaking


def probability(odds: float) -> float:
    """The chance behind log-odds, in nats."""
    return 1.0 / (1.0 + exp(-max(odds, -700.0)))


def evidence(test: Evidence) -> float:
    """0 to 1: the chance that the test is flaky rather than broken at times, by its own history alone."""
    return probability(log_odds(test))


def flakeguard(test: Evidence) -> float:
    """0 to 1: failure rate 40 %, alternation 30 %, recency 20 %, diversity of branches 10 %.

    Alternation is the share of outcomes that differ from the one before; recency the failure rate of the newest
    twenty; diversity the share of the branches it ran on that it failed on.
    """
    if not test.runs:
        return 0.0
    flips = test.pass_to_fail + test.fail_to_pass
    return (
        0.4 * test.failures / test.runs
        + 0.3 * flips / max(test.runs - 1, 1)
        + 0.2 * sum(test.recent) / max(len(test.recent), 1)
        + 0.1 * len(test.failing_branches) / max(len(test.branches), 1)
    )


def fliprate(test: Evidence) -> float:
    """0 to 1: the share of outcomes that differ from the one before."""
    return (test.pass_to_fail + test.fail_to_pass) / max(test.runs - 1, 1)
