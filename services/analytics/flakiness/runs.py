"""The results of a repository's runs as evidence of its tests: run by run, mass failures set apart. Pure."""

from dataclasses import dataclass, field
from typing import Final

from services.analytics.flakiness.evidence import Evidence, Run

MASS_SHARE: Final = 0.5
"""Of the tests that passed when last executed: when so many fail in one run it says nothing of each of them."""
MASS_LEAST: Final = 10
"""Fewer than so many failures are no mass."""


@dataclass(slots=True)
class Repository:
    """The tests of one repository. Results come run by run, oldest first."""

    tests: dict[str, Evidence] = field(default_factory=dict)
    mass_failures: int = 0
    """Runs whose failures were left out."""
    _run: Run | None = None
    _passed: int = 0
    _failed: list[tuple[Evidence, str]] = field(default_factory=list)

    def observe(self, test: str, *, run: Run, branch: str, failed: bool) -> None:
        """Take in one result. Failures count once their run is over: see `finish`."""
        if run != self._run:
            self.finish()
            self._run = run
        known = self.tests.get(test)
        if known is None:
            known = self.tests[test] = Evidence()
        if failed:
            self._failed.append((known, branch))
        else:
            self._passed += 1
            known.observe(run=run, branch=branch, failed=False)

    def finish(self) -> None:
        """The run is over: count its failures, unless they are a mass failure."""
        run = self._run
        if run is None:
            return
        new = [entry for entry in self._failed if entry[0].runs and not entry[0].recent[-1]]
        is_mass = len(new) >= MASS_LEAST and len(new) >= MASS_SHARE * (len(new) + self._passed)
        self.mass_failures += is_mass
        left_out = {id(entry[0]) for entry in new} if is_mass else set()
        for test, branch in self._failed:
            if id(test) not in left_out:
                test.observe(run=run, branch=branch, failed=True)
        self._failed.clear()
        self._passed = 0
