"""What a pipeline has left behind: test results, artifacts, and the logs of its jobs.

GitLab reads the reports that jobs declare (`artifacts:reports:junit`), and its API gives nothing but what it read:
`test_report`, a suite for each job. The files themselves cannot be had by the API. So:

- of a job that has a suite, the results are taken from there, and its archive is left alone: the same files are
  often in both, and would be counted twice;
- of a job without one, its archive may hold reports that were not declared. Most archives are builds of hundreds of
  megabytes, so those are taken whose job, stage or file is called as tests and reports are, as with GitHub's artifacts;
- `test_report` shows nothing of a job that was retried since. Of such a one, too, its archive is what there is.

A suite is named after its job, without the `2/3` of a parallel one: the results of parallel jobs are one suite.
Should only some of them have been retried, the whole suite counts for the later attempt, with a note.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.test_results import Outcome, TestCase
from services.poller.promising import is_promising
from services.poller.provider import (
    Document,
    Gone,
    LogGoneError,
    PollFailedError,
    Results,
    Target,
    TooLargeError,
    Unchanged,
)
from services.poller.providers.gitlab.api import Api, an_answer
from services.poller.providers.gitlab.executions import Execution, work_of
from services.poller.providers.gitlab.fields import number, part, rows, seconds, text
from services.poller.providers.gitlab.pipelines import Pipelines

FORMAT: Final = "gitlab"
_OUTCOMES: Final[Mapping[str, Outcome]] = {
    "success": Outcome.PASSED,
    "failed": Outcome.FAILED,
    "error": Outcome.ERROR,
    "skipped": Outcome.SKIPPED,
}
_PARALLEL = re.compile(r"(?:[\s:]+(?:\[.*\]|\d+[\s:/\\]+\d+)){1,3}\s*$")
_LONGEST_MESSAGE = 2000
_LONGEST_DETAIL = 8000


async def found_in(
    api: Api, pipelines: Pipelines, target: Target, build: BuildRef
) -> AsyncIterator[Document | Results]:
    """The results of the work of one attempt: as GitLab read them, and the archives it has not read."""
    whole = await pipelines.look(target, build.run_id)
    if isinstance(whole, Gone | Unchanged):
        return
    work = work_of(whole.executions, build.attempt)
    if not work:
        return
    current = {e.name: e for e in whole.executions}
    hidden = frozenset(e.job_id for e in whole.executions) - {e.job_id for e in current.values()}
    covered: set[str] = set()
    try:
        read = await _read(api, target, build.run_id)
    except TooLargeError as failure:
        read = ()
        yield Results("test_report", FORMAT, (), problem=failure.detail)
    for results in read:
        covered.add(results.job or "")
        ours = _belonging(results.job or "", work, hidden)
        if ours:
            others = _belonging(results.job or "", current.values(), hidden) - ours
            note = (
                (f"also the results of {', '.join(sorted(others))}, run in another attempt",)
                if others
                else ()
            )
            yield Results(results.source, results.format, results.cases, results.job, results.notes + note)
    for one in work:
        if not may_hold_reports(one.row):
            continue
        size = number(part(one.row, "artifacts_file").get("size"))
        if not part(one.row, "artifacts_file") or (
            suite_of(one.name) in covered and one.job_id not in hidden
        ):
            continue
        yield Document(
            source=f"{one.name}/{text(part(one.row, 'artifacts_file').get('filename')) or 'artifacts.zip'}"[
                :1000
            ],
            open=partial(_archive, api, target, one.job_id),
            size_bytes=number(size),
            job=one.name,
        )


def may_hold_reports(job: Mapping[str, Any]) -> bool:
    """Whether a job's archive is worth its download: it declared reports, or the job or archive is called so."""
    if any(text(file.get("file_type")) == "junit" for file in rows(job.get("artifacts"))):
        return True
    names = (job.get("name"), job.get("stage"), part(job, "artifacts_file").get("filename"))
    return is_promising(told for name in names if (told := text(name)) is not None)


def suite_of(job: str) -> str:
    """The name of the suite that holds a job's results: `unit 2/3` is part of `unit`."""
    return _PARALLEL.sub("", job)


def _belonging(suite: str, executions: Iterable[Execution], hidden: frozenset[str]) -> set[str]:
    """The jobs whose results are in a suite."""
    return {e.name for e in executions if e.job_id not in hidden and suite in (e.name, suite_of(e.name))}


async def _read(api: Api, target: Target, run_id: str) -> Sequence[Results]:
    address = api.project(target.name, f"/pipelines/{run_id}/test_report")
    answer = await api.get(address, f"test report of {target.name}")
    # It may have a hundred thousand cases: that is seconds of reading.
    return await asyncio.to_thread(lambda: results_of(an_answer(answer)) if answer.status == 200 else ())


def results_of(report: Mapping[str, Any]) -> tuple[Results, ...]:
    """The suites of a `test_report` that have cases. What is no case is counted in a note."""
    found = []
    for suite in rows(report.get("test_suites")):
        told = suite.get("test_cases")
        told = told if isinstance(told, list) else []
        cases = tuple(case for row in told if (case := case_of(row)) is not None)
        error = text(suite.get("suite_error"), _LONGEST_MESSAGE)
        notes: tuple[str, ...] = (f"GitLab could not read a report of this job: {error}",) if error else ()
        if len(cases) < len(told):
            notes += (f"{len(told) - len(cases)} cases have no name or no known status",)
        if cases:
            name = text(suite.get("name")) or ""
            found.append(Results(f"test_report/{name}"[:1000], FORMAT, cases, name or None, notes))
    return tuple(found)


def case_of(row: Any) -> TestCase | None:
    """A case of a `test_report`; None without a name or a known status."""
    if not isinstance(row, dict):
        return None
    name, outcome = (
        text(row.get("name")),
        _OUTCOMES.get(row.get("status") or "") if isinstance(row.get("status"), str) else None,
    )
    if name is None or outcome is None:
        return None
    output = _told(row.get("system_output"))
    trace = _told(row.get("stack_trace"))
    bad = outcome.is_bad or outcome is Outcome.SKIPPED
    detail = "\n".join(t for t in (output, trace) if t) if bad else None
    return TestCase(
        classname=text(row.get("classname")),
        name=name,
        file=text(row.get("file")),
        outcome=outcome,
        duration_seconds=seconds(row.get("execution_time")),
        message=text(output.strip().splitlines()[0], _LONGEST_MESSAGE) if bad and output.strip() else None,
        detail=_both_ends(detail) if detail else None,
    )


def _told(value: Any) -> str:
    """What a test wrote: a text, or (from a report with several failures) a list or an object of texts."""
    if isinstance(value, str):
        return text(value, 10 * _LONGEST_DETAIL) or ""
    if isinstance(value, dict):
        value = list(value.values())
    return "\n".join(_told(one) for one in value if isinstance(one, str)) if isinstance(value, list) else ""


def _both_ends(detail: str) -> str:
    if len(detail) <= _LONGEST_DETAIL:
        return detail
    half = _LONGEST_DETAIL // 2 - 10
    return f"{detail[:half]}\n[...]\n{detail[-half:]}"


@asynccontextmanager
async def _archive(api: Api, target: Target, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """A job's archive, a ZIP.

    Raises:
        PollFailedError: also `not_found` when it has expired since it was listed.
    """
    address = api.project(target.name, f"/jobs/{job_id}/artifacts")
    async with api.stream(address, f"artifacts of job {job_id} of {target.name}") as download:
        if download.status != 200:
            raise PollFailedError(
                "not_found",
                f"The artifacts of job {job_id} of {target.name} are no longer there: they have expired or were "
                "erased. A longer artifacts:expire_in keeps them.",
                status=download.status,
            )
        yield download.chunks


@asynccontextmanager
async def job_log(api: Api, target: Target, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """The log of one job, with GitLab's colours and section marks; of one that wrote none, empty.

    Raises:
        LogGoneError: GitLab does not have it (any more).
    """
    address = api.project(target.name, f"/jobs/{job_id}/trace")
    async with api.stream(address, f"log of job {job_id} of {target.name}") as download:
        if download.status != 200:
            raise LogGoneError(f"GitLab has no log of job {job_id} of {target.name}: it was erased.")
        yield download.chunks
