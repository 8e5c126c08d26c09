"""What the jobs of GitLab's pipelines write: test cases, JUnit files, archives, logs."""

import io
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from xml.sax.saxutils import quoteattr

from sandbox.gitlab_pipelines import Job, Pipeline, latest
from sandbox.timeline import dice

_SUBJECTS = ("Checkout", "Refund", "Basket", "Search", "Invoice", "Stock")
_CLAIMS = ("rounds totals", "keeps the order", "rejects an empty list", "closes the session", "is idempotent")


@dataclass(frozen=True, slots=True)
class Case:
    classname: str
    name: str
    seconds: float
    status: str


def cases(pipeline: Pipeline, job: Job, now: float) -> list[Case]:
    """The tests of a job: always the same ones, of which some fail when it does."""
    project = pipeline.project.full_path
    plan = dice(project, job.name)
    names = [(f"{job.stage}.{s}", c) for s in _SUBJECTS for c in _CLAIMS if plan.random() < 0.6]
    chance = dice(project, job.name, job.id)
    bad = set(chance.sample(range(len(names)), min(len(names), chance.randint(1, 2))))
    failed = job.status(now) == "failed"
    return [
        Case(
            classname,
            name,
            round(chance.uniform(0.01, 2.0), 3),
            "failed" if failed and index in bad else "skipped" if index % 11 == 10 else "success",
        )
        for index, (classname, name) in enumerate(names)
    ]


def report(pipeline: Pipeline, now: float) -> dict[str, Any]:
    """The pipeline's test report: of the jobs not retried since, parallel ones together."""
    suites: dict[str, list[Case]] = {}
    for job in latest(pipeline.known_jobs(now), now):
        if job.has_report and job.status(now) in ("success", "failed"):
            suites.setdefault(job.name.split(" ")[0], []).extend(cases(pipeline, job, now))
    bodies = [_suite(name, found) for name, found in suites.items()]
    totals = ("total_count", "success_count", "failed_count", "skipped_count", "error_count")
    return {
        "total_time": sum(body["total_time"] for body in bodies),
        **{name: sum(body[name] for body in bodies) for name in totals},
        "test_suites": bodies,
    }


def _suite(name: str, found: list[Case]) -> dict[str, Any]:
    count = {
        status: sum(case.status == status for case in found) for status in ("success", "failed", "skipped")
    }
    return {
        "name": name,
        "total_time": int(sum(case.seconds for case in found)),
        "total_count": len(found),
        "success_count": count["success"],
        "failed_count": count["failed"],
        "skipped_count": count["skipped"],
        "error_count": 0,
        "suite_error": None,
        "test_cases": [
            {
                "status": case.status,
                "name": case.name,
                "classname": case.classname,
                "file": f"tests/{case.classname.split('.')[-1].lower()}_test.py",
                "execution_time": int(case.seconds),
                "system_output": f"AssertionError: {case.name}" if case.status == "failed" else None,
                "stack_trace": None,
                "recent_failures": None,
                "attachment_url": None,
            }
            for case in found
        ],
    }


def junit(pipeline: Pipeline, job: Job, now: float) -> str:
    """A JUnit file of a job's tests."""
    lines = []
    for case in cases(pipeline, job, now):
        inner = {
            "failed": f"<failure message={quoteattr('AssertionError: ' + case.name)}>trace</failure>",
            "skipped": "<skipped/>",
        }.get(case.status, "")
        names = f"classname={quoteattr(case.classname)} name={quoteattr(case.name)}"
        lines.append(f'  <testcase {names} time="{case.seconds}">{inner}</testcase>')
    return f'<?xml version="1.0"?>\n<testsuite name="{job.stage}">\n' + "\n".join(lines) + "\n</testsuite>\n"


def archive(pipeline: Pipeline, job: Job, now: float) -> bytes:
    """A job's archive, a ZIP: its JUnit file where it is about tests, and something that is none."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo("build/version.txt"), f"{pipeline.sha}\n")
        if job.stage == "test":
            file.writestr(zipfile.ZipInfo("reports/junit.xml"), junit(pipeline, job, now))
    return packed.getvalue()


def trace(pipeline: Pipeline, job: Job, now: float) -> str:
    """A job's log as far as it has come, with the marks that GitLab's runner writes."""
    started = job.shown("started", now)
    if started is None:
        return ""
    second = int(started)
    lines = [
        "\x1b[0KRunning with gitlab-runner 17.11.0\x1b[0;m",
        f"section_start:{second}:step_script\r\x1b[0K\x1b[36;1mExecuting step_script\x1b[0;m",
        f"$ make {job.name}",
        f"commit {pipeline.sha[:12]} at {datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M:%S}",
    ]
    if job.has_report or job.has_archive:
        lines += [f"{case.classname}: {case.name} ... {case.status}" for case in cases(pipeline, job, now)]
    if job.status(now) == "failed":
        lines.append("\x1b[31;1mERROR: Job failed: exit code 1\x1b[0;m")
    return "\n".join([*lines, f"section_end:{second + 1}:step_script\r\x1b[0K", ""])
