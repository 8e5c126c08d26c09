"""From score and evidence to a word, with its reason. Pure."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from services.analytics.flakiness.evidence import Evidence

FLAKY_FROM: Final = 0.8
SUSPECTED_FROM: Final = 0.2
PROVEN_EPISODES: Final = 3
"""Without a disagreement at one commit, so many breaks that mended themselves are proof enough."""
BROKEN_AFTER: Final = 2
"""Commits in a row on which a test only failed."""


class Verdict(StrEnum):
    HEALTHY = "healthy"
    SUSPECTED = "suspected"
    FLAKY = "flaky"
    BROKEN = "broken"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict
    reason: str
    """For a person."""


def judge(test: Evidence, score: float) -> Judged:
    """What to call a test.

    A test that fails now and has not passed since is to be mended: unless it is surely flaky it is broken. Flaky
    takes proof of its own, not only the company of others.
    """
    if not test.failures:
        return Judged(Verdict.HEALTHY, f"passed in all of {test.runs} runs")
    if test.always_failed:
        return Judged(Verdict.BROKEN, f"failed in all of {test.runs} runs")
    if test.open_length >= BROKEN_AFTER and score < FLAKY_FROM:
        return Judged(Verdict.BROKEN, f"has failed on the last {test.open_length} commits")
    if score >= FLAKY_FROM and (test.disagreements or test.episodes >= PROVEN_EPISODES):
        return Judged(Verdict.FLAKY, _why(test))
    if score >= SUSPECTED_FROM:
        return Judged(Verdict.SUSPECTED, _why(test))
    return Judged(Verdict.HEALTHY, f"{_why(test)}: more like breaks that were mended")


def _why(test: Evidence) -> str:
    if test.disagreements:
        times = "once" if test.disagreements == 1 else f"on {test.disagreements} commits"
        return f"passed and failed at the same commit, {times}; failed in {test.failures} of {test.runs} runs"
    episodes = "one episode" if test.episodes == 1 else f"{test.episodes} episodes"
    return f"failed in {test.failures} of {test.runs} runs, in {episodes}"
