"""The company's tests: what they do from run to run, and how its tools report that."""

from collections import defaultdict
from collections.abc import Mapping

import pytest
from lxml import etree

from sandbox import catalogue
from sandbox.catalogue import Repository
from sandbox.junit_dialects import DIALECTS, dialect_of, written
from sandbox.suites import Result, has_tests, results_of, suite_of
from sandbox.timeline import Fate

REPOSITORIES = [one for one in catalogue.repositories(8) if one.name != "docs"]
FAILED = "failure"


def cases(files: Mapping[str, bytes]) -> dict[str, str]:
    """How each test went, by class and name: `passed`, or the name of the element inside."""
    found = {}
    for path, content in files.items():
        if path.endswith(".xml"):
            for case in etree.fromstring(content).iter("testcase"):
                inside = [element.tag for element in case if isinstance(element.tag, str)]
                found[f"{case.get('classname')}.{case.get('name')}"] = inside[0] if inside else "passed"
    return found


def failing(repository: Repository, job: str, fate: Fate, *, run: int, attempt: int = 1) -> set[str]:
    """The tests that were bad."""
    results = results_of(repository, job, conclusion=fate.outcome, fate=fate, run=run, attempt=attempt)
    return {f"{one.test.group}.{one.test.deed}" for one in results if one.trouble}


def test_a_flaky_test_passes_when_run_again() -> None:
    """On one commit it fails and then passes, and it is one of few."""
    [shop] = catalogue.repositories(1)
    flaked: dict[str, int] = defaultdict(int)
    for run in range(200):
        bad = failing(shop, "unit (1)", Fate(FAILED, "unit (1)", flaky=True), run=run)
        assert len(bad) == 1
        assert not failing(shop, "unit (1)", Fate(), run=run, attempt=2)
        flaked[bad.pop()] += 1
    assert set(flaked) == {f"{t.group}.{t.deed}" for t in suite_of(shop, "unit (1)") if t.kind == "flaky"}


def test_a_broken_test_stays_broken() -> None:
    """It is the same one from the push that broke it to the one that mends it; another breakage is another."""
    [shop] = catalogue.repositories(1)
    fates = [Fate(FAILED, "unit (1)", cause=cause) for cause in range(40)]
    for fate in fates:
        broken = {frozenset(failing(shop, "unit (1)", fate, run=run)) for run in range(20)}
        assert len(broken) == 1
    assert len({frozenset(failing(shop, "unit (1)", fate, run=1)) for fate in fates}) > 10


def test_every_job_has_tests_of_each_kind() -> None:
    """So that there is something to find everywhere."""
    for repository in REPOSITORIES:
        for workflow in repository.workflows:
            for job in workflow.jobs:
                if has_tests(job.name):
                    tests = suite_of(repository, job.name)
                    assert {test.kind for test in tests} == {"steady", "flaky", "skipped"}
                    assert len({(test.group, test.deed) for test in tests}) == len(tests)


def test_every_dialect_is_spoken() -> None:
    """Somewhere in the company."""
    assert {dialect_of(repository) for repository in REPOSITORIES} == set(DIALECTS)


@pytest.mark.parametrize("repository", REPOSITORIES[:5], ids=dialect_of)
def test_a_report_counts_what_it_holds(repository: Repository) -> None:
    """Well-formed, each test once, totals that add up, the failures where they happened, the same each time."""
    job = "unit (1)"
    for fate in (Fate(), Fate(FAILED, job, cause=3), Fate(FAILED, job, flaky=True)):
        results = results_of(repository, job, conclusion=fate.outcome, fate=fate, run=7, attempt=1)
        files = written(repository, results, 1_770_000_000.5)
        assert files == written(repository, results, 1_770_000_000.5)
        found = cases(files)
        assert len(found) == len(results)
        bad = sum(outcome in ("failure", "error") for outcome in found.values())
        assert bad == sum(result.trouble is not None for result in results) == (fate.outcome == FAILED)
        suites = [
            s for f, c in files.items() if f.endswith(".xml") for s in etree.fromstring(c).iter("testsuite")
        ]
        assert sum(int(suite.get("tests", "")) for suite in suites) == len(results)
        told = sum(int(suite.get(kind, "")) for suite in suites for kind in ("failures", "errors"))
        assert told == bad


def test_surefire_tells_of_every_execution() -> None:
    """One that passes in the end is a `flakyFailure`; one that never does has a `rerunFailure` too."""
    search = next(one for one in REPOSITORIES if dialect_of(one) == "surefire")
    seen: set[str] = set()
    for run in range(120):
        for fate in (Fate(), Fate(FAILED, "unit (1)", cause=run)):
            results = results_of(search, "unit (1)", conclusion=fate.outcome, fate=fate, run=run, attempt=1)
            files = written(search, results, 0.0)
            for content in (c for path, c in files.items() if path.endswith(".xml")):
                for case in etree.fromstring(content).iter("testcase"):
                    seen.add("+".join(str(element.tag) for element in case))
    assert seen >= {"", "skipped", "flakyError", "failure+rerunFailure", "error+rerunError"}


def test_only_surefire_remembers() -> None:
    """The others report a test that passed at the second try as one that passed."""
    for repository in REPOSITORIES:
        results = [one for one in _with_retries(repository) if one.before and not one.trouble]
        if dialect_of(repository) != "surefire" and results:
            assert set(cases(written(repository, results, 0.0)).values()) == {"passed"}


def _with_retries(repository: Repository) -> list[Result]:
    return [
        result
        for run in range(60)
        for result in results_of(
            repository, "unit (1)", conclusion="success", fate=Fate(), run=run, attempt=1
        )
    ]
