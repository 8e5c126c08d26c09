"""Every recorded report is read as its elements say, or refused with a reason."""

import json
from pathlib import Path
from typing import Any

import pytest

from buildlight_contracts.test_results import TestCase
from reports.errors import UnreadableError
from tests.corpora import corpus
from tests.unit.reports.documents import read

STATUS_COUNTS = {
    "mikepenz+action-junit-report/test_results/issues/testDisabled.xml": 10,
    "jenkinsci+xunit-plugin/src/test/resources/org/jenkinsci/plugins/xunit/types/googletest/testcase4/input.xml": 1,
}
"""How many tests say only by their `status` that they did not run; the manifest counts elements."""

POLICY = {
    "flaky_retries": "tests that were executed several times are merged by name there",
    "junit-web-test/expectedRetries.xml": "tests that were executed several times are merged by name there",
    "TEST-action.surefire.report.calc.CalcUtilsTest.xml": "of equal names only one is counted there",
    "test_multiple_errors.xml": "errors count as failures there",
    "04-bazel-junit.xml": "errors count as failures there",
}
"""Where the project a report comes from counts otherwise than we do, and why; see docs/test-reports.md."""


def manifest() -> tuple[Path, list[dict[str, Any]]]:
    folder = corpus("junit")
    return folder, json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


def differs(file: str) -> bool:
    return any(name in file for name in POLICY)


def test_counts_are_those_of_the_elements() -> None:
    """Tests, failures, errors and skips are as many as the document has; what is no JUnit is refused by name."""
    folder, entries = manifest()
    read_files = refused = 0
    for entry in entries:
        data = (folder / entry["file"]).read_bytes()
        if entry["dialect"] != "junit" and entry["root"] != "testrun":
            with pytest.raises(UnreadableError) as caught:
                read(data)
            assert str(caught.value)
            refused += 1
            continue
        cases, reader = read(data, 1000)
        totals, unrun = reader.totals, STATUS_COUNTS.get(entry["file"], 0)
        assert totals.tests == len(cases) == entry["testcases"], entry["file"]
        assert (totals.passed, totals.skipped) == (entry["pass"] - unrun, entry["skipped"] + unrun), entry[
            "file"
        ]
        assert (totals.failed, totals.errors) == (entry["failure"], entry["error"]), entry["file"]
        assert sum(len(case.attempts) > 0 for case in cases) <= sum((entry["rerun"] or {}).values())
        read_files += 1
    assert (read_files, refused) == (399, 7)


def test_projects_own_expectations() -> None:
    """What the reports' own projects expect of them, wherever that is no matter of policy."""
    folder, entries = manifest()
    checked = 0
    for entry in entries:
        for expected in entry["upstream_expected"] or []:
            if differs(entry["file"]):
                continue
            _, reader = read((folder / entry["file"]).read_bytes())
            told = {
                name: value
                for name, value in expected.items()
                if name in ("tests", "passed", "failed", "skipped", "errors")
            }
            found = reader.totals.model_dump()
            assert {name: found[name] for name in told} == told, entry["file"]
            checked += 1
    assert checked >= 30


def test_cases_are_valid() -> None:
    """Cases are made without validation; validated, they are the same."""
    folder, entries = manifest()
    for entry in entries:
        try:
            cases, _ = read((folder / entry["file"]).read_bytes())
        except UnreadableError:
            continue
        for case in cases:
            assert TestCase.model_validate(case.model_dump()) == case
            assert TestCase.model_validate_json(case.model_dump_json()) == case


def test_any_portions() -> None:
    """How the bytes come in makes no difference to any report."""
    folder, entries = manifest()
    for entry in entries[::5]:
        data = (folder / entry["file"]).read_bytes()
        if len(data) > 20_000:
            continue
        try:
            whole = read(data)[0]
        except UnreadableError:
            continue
        assert read(data, 13)[0] == whole, entry["file"]
