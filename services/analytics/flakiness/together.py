"""Tests that fail together: what is known of one says something of the others. Pure.

Flaky tests often fail in clusters, for a cause they share: a port, a clock, an order of execution. A test with a
single failure is raised when it failed in the very runs in which another one did, the more so when that one is
surely flaky. Cost: the sum over runs of the square of the tests that failed in each; runs in which more than
`LARGEST_CLUSTER` tests failed are left out.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from services.analytics.flakiness.evidence import Evidence, Run
from services.analytics.flakiness.scorers import TOGETHER, log_odds, probability

LARGEST_CLUSTER: Final = 40
_ROUNDS: Final = 2


def companions(tests: Mapping[str, Evidence]) -> dict[str, dict[str, float]]:
    """For each test those of the same repository that failed in some of its failing runs, and their share.

    The share is that of the runs in which both failed among those in which either did, 0 to 1.
    """
    failing = {
        name: frozenset(test.failing_runs)
        for name, test in tests.items()
        if test.failures and not test.always_failed
    }
    by_run: defaultdict[Run, list[str]] = defaultdict(list)
    for name, runs in failing.items():
        for run in runs:
            by_run[run].append(name)
    found: dict[str, dict[str, float]] = {}
    for name, runs in failing.items():
        others = {
            other
            for run in runs
            if len(by_run[run]) <= LARGEST_CLUSTER
            for other in by_run[run]
            if other != name
        }
        found[name] = {
            other: len(runs & failing[other]) / len(runs | failing[other]) for other in sorted(others)
        }
    return found


def odds(
    tests: Mapping[str, Evidence], beside: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, float]:
    """The log-odds of each test that ever failed, raised by its companions'. The tests are one repository's.

    `beside`: what `companions` gives of them, for whoever has it already.
    """
    own = {name: log_odds(test) for name, test in tests.items() if test.failures}
    beside = companions(tests) if beside is None else beside
    now = dict(own)
    anyway, when_flaky = TOGETHER
    for _ in range(_ROUNDS):
        now = {
            name: alone
            + max(
                (
                    share * (anyway + when_flaky * probability(now[other]))
                    for other, share in beside.get(name, {}).items()
                ),
                default=0.0,
            )
            for name, alone in own.items()
        }
    return now
