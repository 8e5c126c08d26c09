"""What a history comes to: disagreements, episodes, and what neither a broken branch nor a mass failure is."""

import pytest

from services.analytics.flakiness.evidence import (
    FAILING_RUNS,
    RECENT_COMMITS,
    Evidence,
    Run,
    length_likelihood,
)
from services.analytics.flakiness.runs import Repository


def history(*outcomes: str) -> Evidence:
    """From words like `a+` or `a-` (commit, passed or failed), with `/branch` where it is not main."""
    test = Evidence()
    for number, word in enumerate(outcomes):
        what, _, branch = word.partition("/")
        run = Run(str(number), 1, what[:-1])
        test.observe(run=run, branch=branch or "main", failed=what[-1] == "-")
    return test


def test_passing_after_failing_at_one_commit_is_a_disagreement() -> None:
    """In either order, once a commit however often it is repeated."""
    assert history("a+", "b-", "b+", "c+").disagreements == 1
    assert history("a+", "b+", "b-", "b+", "b-").disagreements == 1
    assert history("a-", "b+", "a+").disagreements == 1
    assert history("a+", "b-", "c+").disagreements == 0


def test_failing_again_at_one_commit_stands() -> None:
    """A rerun that fails as well speaks against a flake."""
    assert history("a+", "b-", "b-", "b-").stood == 2
    assert history("a+", "b-", "b+").stood == 0


def test_episodes_are_breaks_that_were_mended() -> None:
    """Failing commits in a row are one; the open one is as long as it has lasted."""
    test = history("a+", "b-", "c-", "d+", "e-", "f+", "g-", "h-", "i-")
    assert (test.episodes, test.open_length, test.failing_commits) == (3, 3, 6)


def test_a_branch_that_stays_broken_is_one_episode() -> None:
    """Though the others pass in between."""
    test = history("a+", "b-/topic", "c+", "d-/topic", "e+", "f-/topic", "g+", "h+/topic")
    assert test.episodes == 1
    assert history("a+", "b-/one", "c+", "d-/two", "e+").episodes == 2


def test_the_lengths_of_breaks_are_a_distribution() -> None:
    """Closed lengths sum to one; the chance of lasting at least so long is what is left of it."""
    closed = [length_likelihood(n, closed=True) for n in range(1, 100_000)]
    assert sum(closed) == pytest.approx(1, abs=1e-4)
    for n in (2, 5, 30):
        assert length_likelihood(n, closed=False) == pytest.approx(1 - sum(closed[: n - 1]), rel=1e-9)


def test_memory_does_not_grow_with_the_history() -> None:
    """Ten thousand runs on ten thousand commits leave what a hundred leave."""
    test = Evidence()
    for number in range(10_000):
        run = Run(str(number), 1, str(number))
        test.observe(run=run, branch=f"branch-{number}", failed=number % 2 == 0)
    assert len(test._commits) == RECENT_COMMITS
    assert len(test.failing_runs) == FAILING_RUNS
    assert len(test.branches) <= 32
    assert len(test._failing_on) <= 32


def repository(*runs: dict[str, bool]) -> Repository:
    """Runs of {test: failed}, each on a commit of its own."""
    found = Repository()
    for number, results in enumerate(runs):
        for test, failed in results.items():
            found.observe(test, run=Run(str(number), 1, str(number)), branch="main", failed=failed)
    found.finish()
    return found


def test_a_mass_failure_says_nothing_of_its_tests() -> None:
    """All that passed before fail together: none of them is counted as failed, and the run is told."""
    names = [f"t{number}" for number in range(12)]
    fine = dict.fromkeys(names, False)
    found = repository(fine, dict.fromkeys(names, True), fine)
    assert found.mass_failures == 1
    assert {test.failures for test in found.tests.values()} == {0}


def test_what_was_broken_before_a_mass_failure_stays_so() -> None:
    """Tests that fail always are no mass failure, and are counted in one."""
    names = [f"t{number}" for number in range(12)]
    always = repository(*(dict.fromkeys(names, True) for _ in range(5)))
    assert always.mass_failures == 0
    assert {test.failures for test in always.tests.values()} == {5}
    fine = dict.fromkeys(names, False) | {"broken": True}
    mixed = repository(fine, dict.fromkeys(names, True) | {"broken": True}, fine)
    assert (mixed.mass_failures, mixed.tests["broken"].failures) == (1, 3)


def test_a_few_failures_are_no_mass() -> None:
    """Nine of nine may be one suite's own trouble."""
    names = [f"t{number}" for number in range(9)]
    found = repository(dict.fromkeys(names, False), dict.fromkeys(names, True))
    assert found.mass_failures == 0
