"""All tests of a history, the surest flake first. Pure but for reading its lines.

A history is JSON Lines, oldest first: `{"repo", "test", "run", "attempt", "commit", "branch", "outcome", "at"}`;
`outcome` is `passed`, `failed`, `error` (a failure too) or `skipped` (left out). Memory grows with the tests,
not with their results.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic_core import from_json

from services.analytics.flakiness import together
from services.analytics.flakiness.evidence import Evidence, Run
from services.analytics.flakiness.runs import Repository
from services.analytics.flakiness.scorers import flakeguard, fliprate, probability
from services.analytics.flakiness.verdicts import judge

OUTCOMES: Final[Mapping[str, bool | None]] = {
    "passed": False,
    "failed": True,
    "error": True,
    "skipped": None,
}
SHOWN_RUNS: Final = 5
SHOWN_COMPANIONS: Final = 3
_TOLD: Final = 5


@dataclass(slots=True)
class History:
    """What has been read of a history."""

    repositories: dict[str, Repository] = field(default_factory=dict)
    results: int = 0
    unreadable: int = 0
    complaints: list[str] = field(default_factory=list)
    """What is wrong with the first unreadable lines, by number."""

    def read(self, lines: Iterable[bytes]) -> None:
        """Take in lines; those that are no results are counted and left out."""
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                self._result(from_json(line))
            except (ValueError, KeyError, TypeError) as error:
                self.unreadable += 1
                if len(self.complaints) < _TOLD:
                    what = f"has no {error}" if isinstance(error, KeyError) else str(error)
                    self.complaints.append(f"line {number} {what}")
        for repository in self.repositories.values():
            repository.finish()

    def _result(self, row: Any) -> None:
        outcome = row["outcome"]
        if outcome not in OUTCOMES:
            raise ValueError(f"has the outcome {outcome!r}: known are {', '.join(OUTCOMES)}")
        failed = OUTCOMES[outcome]
        if failed is None:
            return
        name, test, commit = row["repo"], row["test"], str(row["commit"])
        if not isinstance(name, str) or not isinstance(test, str):
            raise TypeError("has a repo or test that is no text")
        repository = self.repositories.get(name)
        if repository is None:
            repository = self.repositories[name] = Repository()
        repository.observe(
            test,
            run=Run(str(row["run"]), int(row.get("attempt") or 1), commit),
            branch=str(row.get("branch") or ""),
            failed=failed,
        )
        self.results += 1


def ranked(history: History) -> Iterator[dict[str, Any]]:
    """Every test that ever failed: `{"repo", "test", "score", "verdict", "evidence"}`, the surest flake first.

    `score` is 0 to 1. Those that never failed are healthy with a score of 0, and left out.
    """
    beside = {
        name: together.companions(repository.tests) for name, repository in history.repositories.items()
    }
    found = [
        (odds, name, test)
        for name, repository in history.repositories.items()
        for test, odds in together.odds(repository.tests, beside[name]).items()
    ]
    for odds, name, test in sorted(found, key=lambda entry: (-entry[0], entry[1:])):
        evidence = history.repositories[name].tests[test]
        score = probability(odds)
        judged = judge(evidence, score)
        yield {
            "repo": name,
            "test": test,
            "score": score,
            "verdict": judged.verdict.value,
            "evidence": _shown(evidence, judged.reason, beside[name].get(test, {})),
        }


def _shown(test: Evidence, reason: str, companions: Mapping[str, float]) -> dict[str, Any]:
    closest = sorted(companions.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_COMPANIONS]
    return {
        "reason": reason,
        "runs": test.runs,
        "failures": test.failures,
        "commits": test.commits,
        "disagreements": test.disagreements,
        "episodes": test.episodes,
        "failing_now_for_commits": test.open_length,
        "failing_runs": [run._asdict() for run in test.failing_runs[-SHOWN_RUNS:]],
        "fails_with": [{"test": other, "share": round(share, 3)} for other, share in closest],
        "scores": {"flakeguard": round(flakeguard(test), 4), "fliprate": round(fliprate(test), 4)},
    }
