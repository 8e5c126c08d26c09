# ruff: noqa: E501 -- a document and names of variables as they are
"""`buildlight report` without servers."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from buildlight.ci import build_from, parse_build
from buildlight.cli import app
from buildlight.client import Client
from tests.unit.reports.zips import REPORT, zipped

FAILED = b'<testsuite><testcase name="a" time="1.5"><failure/></testcase><testcase name="b"><skipped/></testcase></testsuite>'

GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_API_URL": "https://api.github.com",
    "GITHUB_REPOSITORY_ID": "815",
    "GITHUB_REPOSITORY": "acme/shop",
    "GITHUB_RUN_ID": "42",
    "GITHUB_RUN_ATTEMPT": "3",
    "GITHUB_REF_NAME": "12/merge",
    "GITHUB_HEAD_REF": "feature",
    "GITHUB_SHA": "c" * 40,
    "GITHUB_JOB": "test",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_SERVER_URL": "https://gitlab.acme.example:8443",
    "CI_PROJECT_ID": "7",
    "CI_PROJECT_PATH": "acme/shop",
    "CI_PIPELINE_ID": "99",
    "CI_COMMIT_REF_NAME": "main",
    "CI_COMMIT_SHA": "d" * 40,
    "CI_JOB_NAME": "rspec 1/2",
}


@pytest.fixture(autouse=True)
def _no_ci_around(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own CI must not be taken for the build."""
    for name in ("GITHUB_ACTIONS", "GITLAB_CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as a build leaves it."""
    (tmp_path / "target").mkdir()
    (tmp_path / "target/TEST-b.xml").write_bytes(FAILED)
    (tmp_path / "target/artifact.zip").write_bytes(zipped({"r/a.xml": REPORT, "logo.png": b"\x89PNG"}))
    (tmp_path / "pom.xml").write_bytes(b"<project/>")
    (tmp_path / "notes.txt").write_bytes(b"1 < 2")
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["report", *arguments])


def test_json_lines(folder: Path) -> None:
    """One line a report, in the order of their paths, archives' among them; what is no report is left out."""
    result = run(str(folder), "--json")
    assert result.exit_code == 0, result.output
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {
            "file": "target/TEST-b.xml",
            "tests": 2,
            "passed": 0,
            "failed": 1,
            "errors": 0,
            "skipped": 1,
            "flaky": 0,
            "duration_seconds": 1.5,
            "error": None,
        },
        {
            "file": "target/artifact.zip/r/a.xml",
            "tests": 1,
            "passed": 1,
            "failed": 0,
            "errors": 0,
            "skipped": 0,
            "flaky": 0,
            "duration_seconds": 1.0,
            "error": None,
        },
    ]


def test_a_table_for_people(folder: Path) -> None:
    """Piped, it is quiet: tabs, no headings."""
    result = run(str(folder))
    assert result.stdout.splitlines()[0] == "2\t0\t1\t0\t1\t0\t1.500\ttarget/TEST-b.xml\t"


def test_what_should_be_a_report(folder: Path) -> None:
    """Exit code 1, the reason in its line, the others read all the same."""
    (folder / "TEST-cut.xml").write_bytes(b"")
    (folder / "bad.zip").write_bytes(zipped({"a.xml": REPORT})[:60])
    result = run(str(folder), "--json")
    lines = {line["file"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert "empty" in lines["TEST-cut.xml"]["error"]
    assert "cut off" in lines["bad.zip"]["error"]
    assert lines["target/artifact.zip/r/a.xml"]["error"] is None


def test_one_file(folder: Path) -> None:
    """A file may be given; one that is no report is an error then."""
    assert json.loads(run(str(folder / "target/TEST-b.xml"), "--json").stdout)["file"] == "TEST-b.xml"
    result = run(str(folder / "pom.xml"), "--json")
    assert result.exit_code == 1
    assert "no test report" in json.loads(result.stdout)["error"]


def test_nothing_there(tmp_path: Path) -> None:
    """No reports are no failure, but said; a folder that is not there is wrong usage."""
    result = run(str(tmp_path), "--json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "no test reports" in result.stderr
    assert run(str(tmp_path / "absent")).exit_code == 2


def test_upload_needs_a_build(folder: Path) -> None:
    """Outside of a CI system the build must be named."""
    result = run(str(folder), "--upload")
    assert result.exit_code == 2
    assert "--build" in result.stderr


def test_upload(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file with a report in it is sent once, as it is, with what is known of the build."""
    sent: list[tuple[str, bytes, dict[str, Any]]] = []

    def upload(_: Client, path: str, file: Path, query: dict[str, Any]) -> Any:
        sent.append((path, file.read_bytes(), query))
        return {"reports": [{"source": query["source"], "report_id": "r"}], "refused": []}

    monkeypatch.setattr(Client, "upload", upload)
    result = run(
        str(folder), "--upload", "--build", "github/api.github.com/815/runs/42/3", "--repository", "acme/shop"
    )
    assert result.exit_code == 0, result.output
    assert [path for path, _, _ in sent] == ["/api/v1/test-reports"] * 2
    assert [query["source"] for _, _, query in sent] == ["target/TEST-b.xml", "target/artifact.zip"]
    assert sent[0][1] == FAILED
    assert sent[0][2] == {
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "815",
        "run_id": "42",
        "attempt": 3,
        "repository": "acme/shop",
        "source": "target/TEST-b.xml",
    }


def test_the_build_around() -> None:
    """GitHub Actions and GitLab CI tell which build it is; what is given wins."""
    github = build_from(None, GITHUB)
    assert github.ref.subject == "github/api.github.com/815/runs/42"
    assert (github.ref.attempt, github.branch, github.job) == (3, "feature", "test")
    gitlab = build_from(None, GITLAB, job="mine")
    assert gitlab.ref.subject == "gitlab/gitlab.acme.example:8443/7/runs/99"
    assert (gitlab.repository, gitlab.branch, gitlab.job) == ("acme/shop", "main", "mine")
    with pytest.raises(ValueError, match="give --build"):
        build_from(None, {"GITHUB_ACTIONS": "true"})


@pytest.mark.parametrize(
    "name",
    ["", "github", "github/x/1/runs", "github/x/runs/1", "github/x/1/runs/1/zero", "github/x/1/runs/1/0"],
)
def test_what_names_no_build(name: str) -> None:
    """A wrong name is refused with the right form."""
    with pytest.raises(ValueError, match="names no build"):
        parse_build(name)
