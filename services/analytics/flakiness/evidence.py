"""What a test's history says, kept in constant space: counts, and what was seen at one commit. Pure.

Observations come in the order of their runs. Three things are told apart:

- a *disagreement*: passed and failed at one commit. No change of the code explains it.
- an *episode*: commits after one another on which the test only failed, closed by one that passes. A branch on
  which it failed last, and fails again while others pass, is still broken: that is no new episode.
- a *mass failure*: a run in which so much failed that it says something of the machine or the whole build, and
  nothing of a single test. The caller leaves those out (`runs.py`).
"""

from dataclasses import dataclass, field
from math import log
from typing import NamedTuple

RECENT_COMMITS = 16
"""Of so many commits it is known what a test did: a rerun that comes later than that is a new commit."""
FAILING_RUNS = 64
"""So many of the newest failing runs are remembered, to see which tests fail together."""
RECENT_BRANCHES = 32
RECENT_OUTCOMES = 20

_PASSED, _FAILED, _BOTH = 1, 2, 3

ONE_COMMIT = 0.4
"""How often a real break is mended by the very next commit."""


class Run(NamedTuple):
    """One execution of a suite."""

    run: str
    attempt: int
    commit: str


def length_likelihood(commits: int, *, closed: bool) -> float:
    """The chance that a real break lasts so many commits, or at least so many while it is open.

    Heavy-tailed: most breaks are mended soon, and some stand for long.
    """
    if commits == 1:
        return ONE_COMMIT if closed else 1.0
    rest = 1.0 - ONE_COMMIT
    return rest / (commits * (commits - 1)) if closed else rest / (commits - 1)


@dataclass(slots=True)
class Evidence:
    """What is known of one test."""

    runs: int = 0
    failures: int = 0
    commits: int = 0
    failing_commits: int = 0
    """Commits on which it failed at first sight."""
    disagreements: int = 0
    """Commits on which it both passed and failed."""
    stood: int = 0
    """Times that it failed again at a commit where it had only failed."""
    episodes: int = 0
    open_length: int = 0
    """Commits of the episode that is still open; 0 when none is."""
    closed_log_likelihood: float = 0.0
    """Sum of the logarithms of `length_likelihood` over the closed episodes."""
    began_failing: bool = False
    """Its first outcome was a failure."""
    pass_to_pass: int = 0
    pass_to_fail: int = 0
    fail_to_pass: int = 0
    fail_to_fail: int = 0
    failing_branches: set[str] = field(default_factory=set)
    branches: set[str] = field(default_factory=set)
    recent: list[bool] = field(default_factory=list)
    """The newest outcomes, oldest first; True is a failure."""
    failing_runs: list[Run] = field(default_factory=list)
    _commits: dict[str, int] = field(default_factory=dict)
    """By commit, oldest first, what it did there: `_PASSED`, `_FAILED` or both."""
    _failing_on: dict[str, None] = field(default_factory=dict)
    """The branches on whose newest commit it failed, oldest first."""
    _last_failed: bool | None = None
    """The outcome before this one; None at first."""

    def observe(self, *, run: Run, branch: str, failed: bool) -> None:
        """Take in one execution; retries inside a run are executions at the same commit."""
        self._count(run, branch, failed=failed)
        commit = run.commit
        did = _FAILED if failed else _PASSED
        seen = self._commits.get(commit)
        if seen is not None:
            self._again(commit, seen, did)
            return
        self._commits[commit] = did
        if len(self._commits) > RECENT_COMMITS:
            del self._commits[next(iter(self._commits))]
        self.commits += 1
        if failed:
            self.failing_commits += 1
            if self.open_length:
                self.open_length += 1
            elif branch not in self._failing_on:
                self.episodes += 1
                self.open_length = 1
            self._failing_on[branch] = None
            if len(self._failing_on) > RECENT_BRANCHES:
                del self._failing_on[next(iter(self._failing_on))]
        else:
            self._close()
            self._failing_on.pop(branch, None)

    @property
    def open_log_likelihood(self) -> float:
        """The logarithm of the open episode's `length_likelihood`; 0 when none is open."""
        return log(length_likelihood(self.open_length, closed=False)) if self.open_length else 0.0

    @property
    def always_failed(self) -> bool:
        return self.failures == self.runs

    def _count(self, run: Run, branch: str, *, failed: bool) -> None:
        self.runs += 1
        if self._last_failed is None:
            self.began_failing = failed
        elif self._last_failed:
            if failed:
                self.fail_to_fail += 1
            else:
                self.fail_to_pass += 1
        elif failed:
            self.pass_to_fail += 1
        else:
            self.pass_to_pass += 1
        self._last_failed = failed
        self.recent.append(failed)
        del self.recent[:-RECENT_OUTCOMES]
        if len(self.branches) < RECENT_BRANCHES:
            self.branches.add(branch)
        if failed:
            self.failures += 1
            self.failing_runs.append(run)
            del self.failing_runs[:-FAILING_RUNS]
            if len(self.failing_branches) < RECENT_BRANCHES:
                self.failing_branches.add(branch)

    def _again(self, commit: str, seen: int, did: int) -> None:
        """Another execution at a commit that was seen before."""
        now = self._commits[commit] = seen | did
        if now == _BOTH and seen != _BOTH:
            self.disagreements += 1
        elif now == _FAILED:
            self.stood += 1

    def _close(self) -> None:
        if self.open_length:
            self.closed_log_likelihood += log(length_likelihood(self.open_length, closed=True))
            self.open_length = 0
