"""Where GitHub's answers come from: the living history, runs that a script made, rows that were recorded."""

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sandbox import github_shapes as shapes
from sandbox.catalogue import Person, Repository
from sandbox.clock import Clock
from sandbox.history import History, JobState, RunState, run_of_job
from sandbox.job_logs import log_of
from sandbox.junit_dialects import written
from sandbox.suites import Result, has_tests, results_of

Body = dict[str, Any]
ARTIFACTS_OF_A_JOB = 4
"""At most; an artifact's id is its job's times this and a little more."""


@dataclass(frozen=True, slots=True)
class Row:
    """A run as listings filter it; `body` renders it under the server's own address."""

    id: int
    attempt: int
    status: str | None
    conclusion: str | None
    created_at: str
    branch: str | None
    event: str
    actor: str
    sha: str
    body: Callable[[str], Body]


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something a job has left; `files` makes its content, and a `bare` one is its only file, in no ZIP."""

    id: int
    name: str
    run: RunState
    created: float
    expires: float
    files: Callable[[], Mapping[str, bytes]]
    bare: bool = False
    expired: bool = False


class Shelf(Protocol):
    """A source of runs.  None stands for "no such thing here"; what is not said otherwise is not there."""

    def repositories(self) -> Iterable[tuple[str, int]]:
        """Full names and ids."""

    def repository(self, full_name: str, base: str) -> Body | None: ...

    def runs(self, full_name: str) -> Iterator[Row]:
        """Every run at its latest attempt, in any order."""

    def run(self, full_name: str, run_id: int, attempt: int | None = None) -> Row | None: ...

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        """The attempts that jobs can be asked for, oldest first; empty for an unknown run."""

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None: ...

    def find(self, full_name: str) -> Repository | None:
        del full_name
        return None

    def state(self, full_name: str, run_id: int, attempt: int | None = None) -> RunState | None:
        """What is known of a run of which more is known than the row."""
        del full_name, run_id, attempt
        return None

    def job_states(self, full_name: str, run_id: int, attempt: int) -> list[JobState]:
        del full_name, run_id, attempt
        return []

    def job(self, full_name: str, job_id: int) -> tuple[RunState, JobState] | None:
        run_id, attempt = run_of_job(job_id)
        state = self.state(full_name, run_id, attempt)
        found = (job for job in self.job_states(full_name, run_id, attempt) if job.id == job_id)
        job = next(found, None)
        return (state, job) if state and job else None

    def log(self, full_name: str, job_id: int) -> str | None:
        """The log of a job that has ended and did something."""
        del full_name, job_id
        return None

    def artifacts(self, full_name: str, run_id: int) -> list[Artifact]:
        """What all attempts of a run have left, oldest first."""
        del full_name, run_id
        return []

    def artifact(self, full_name: str, artifact_id: int) -> Artifact | None:
        run_id, _ = run_of_job(artifact_id // ARTIFACTS_OF_A_JOB)
        found = (one for one in self.artifacts(full_name, run_id) if one.id == artifact_id)
        return next(found, None)

    def rerun(self, full_name: str, run_id: int, actor: Person, *, failed_only: bool) -> None:
        """Begin another attempt of a run that has ended; only asked of a run that has a `state`."""
        del full_name, run_id, actor, failed_only

    def cancel(self, full_name: str, run_id: int) -> None:
        """End a run that is going on; only asked of a run that has a `state`."""
        del full_name, run_id

    def delete(self, full_name: str, run_id: int) -> None:
        """Forget a run; only asked of a run that has a `state`."""
        del full_name, run_id


def row(state: RunState) -> Row:
    """The listing's view of a run."""
    return Row(
        id=state.id,
        attempt=state.attempt,
        status=state.status,
        conclusion=state.conclusion,
        created_at=shapes.iso(state.created),
        branch=state.branch,
        event=state.event,
        actor=state.actor.login,
        sha=state.sha,
        body=lambda base: shapes.workflow_run(state, base),
    )


class Living(Shelf):
    """The company's history, as far as its clock has come."""

    def __init__(self, history: History, clock: Clock) -> None:
        self._history = history
        self._clock = clock

    def _now(self) -> float:
        return self._clock.pretend(time.time())

    def find(self, full_name: str) -> Repository | None:
        return self._history.repositories.get(full_name)

    def repositories(self) -> Iterable[tuple[str, int]]:
        return [(name, repository.number) for name, repository in self._history.repositories.items()]

    def repository(self, full_name: str, base: str) -> Body | None:
        found = self.find(full_name)
        return shapes.full_repository(found, base) if found else None

    def runs(self, full_name: str) -> Iterator[Row]:
        return map(row, self._history.runs(full_name, self._now()))

    def run(self, full_name: str, run_id: int, attempt: int | None = None) -> Row | None:
        state = self.state(full_name, run_id, attempt)
        return row(state) if state else None

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        state = self.state(full_name, run_id)
        return list(range(1, state.attempt + 1)) if state else []

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None:
        state = self.state(full_name, run_id, attempt)
        jobs = self._history.jobs(run_id, self._now(), attempt)
        if state is None or jobs is None:
            return None
        return render(state, jobs, base)

    def state(self, full_name: str, run_id: int, attempt: int | None = None) -> RunState | None:
        state = self._history.run(run_id, self._now(), attempt)
        return state if state and state.repository.full_name == full_name else None

    def job_states(self, full_name: str, run_id: int, attempt: int) -> list[JobState]:
        if self.state(full_name, run_id, attempt) is None:
            return []
        return self._history.jobs(run_id, self._now(), attempt) or []

    def log(self, full_name: str, job_id: int) -> str | None:
        found = self.job(full_name, job_id)
        if found is None or found[1].completed is None or not found[1].steps:
            return None
        return log_of(*found, self.results(*found))

    def artifacts(self, full_name: str, run_id: int) -> list[Artifact]:
        """The test reports of the jobs that ran tests, and their coverage, which is kept for a day."""
        found: list[Artifact] = []
        for attempt in self.attempts(full_name, run_id):
            state = self.state(full_name, run_id, attempt)
            for job in self.job_states(full_name, run_id, attempt):
                # A job that was not run again has left nothing in this attempt.
                if (
                    state is not None
                    and job.conclusion in ("success", "failure")
                    and has_tests(job.name)
                    and job.started >= state.started
                ):
                    found += self._artifacts(state, job)
        return found

    def rerun(self, full_name: str, run_id: int, actor: Person, *, failed_only: bool) -> None:
        del full_name
        self._history.rerun(run_id, self._now(), actor, failed_only=failed_only)

    def cancel(self, full_name: str, run_id: int) -> None:
        del full_name
        self._history.cancel(run_id, self._now())

    def delete(self, full_name: str, run_id: int) -> None:
        del full_name
        self._history.delete(run_id)

    def _artifacts(self, state: RunState, job: JobState) -> Iterator[Artifact]:
        slug = "".join(sign if sign.isalnum() else "-" for sign in job.name).strip("-").replace("--", "-")
        tests_began, done = job.steps[-3].started or job.started, job.completed or job.started
        made = (
            (
                f"test-results-{slug}",
                90,
                lambda: written(state.repository, self.results(state, job), tests_began),
            ),
            (
                f"coverage-{slug}",
                1,
                lambda: {"coverage.xml": b'<?xml version="1.0" ?>\n<coverage line-rate="0.87"/>\n'},
            ),
        )
        for place, (name, days, files) in enumerate(made):
            yield Artifact(
                id=job.id * ARTIFACTS_OF_A_JOB + place,
                name=name,
                run=state,
                created=done,
                expires=done + days * 86_400,
                files=files,
            )

    def results(self, state: RunState, job: JobState) -> tuple[Result, ...]:
        """How the tests of a job went."""
        found = self._history.fate(state.id, self._now(), state.attempt)
        if found is None or not has_tests(job.name):
            return ()
        sequence, go = found
        return results_of(
            state.repository,
            job.name,
            conclusion=job.conclusion or "",
            fate=go.fate,
            run=sequence,
            attempt=state.attempt,
        )


def render(state: RunState, jobs: Iterable[JobState], base: str) -> list[Body]:
    """Jobs of a run as GitHub gives them."""
    return [shapes.job(state, job, base) for job in jobs]


class Recorded(Shelf):
    """Rows that somebody recorded from GitHub, served as they are: odd states and all."""

    def __init__(self, folder: Path) -> None:
        """Reads DevLake's raw tables of runs and jobs anywhere under `folder`."""
        tables = sorted(folder.glob("**/_raw_github_api_runs.csv"))
        if not tables:
            raise FileNotFoundError(
                f"{folder} holds no _raw_github_api_runs.csv: give a folder of DevLake's raw tables"
            )
        self._runs: dict[tuple[str, int], Body] = {}
        self._jobs: dict[int, list[Body]] = {}
        for table in tables:
            for body in _rows(table):
                self._runs[body["repository"]["full_name"], body["id"]] = body
        for table in sorted(folder.glob("**/_raw_github_api_jobs.csv")):
            for body in _rows(table):
                self._jobs.setdefault(body["run_id"], []).append(body)

    def repositories(self) -> Iterable[tuple[str, int]]:
        return {(name, body["repository"]["id"]) for (name, _), body in self._runs.items()}

    def repository(self, full_name: str, base: str) -> Body | None:
        del base  # recorded rows keep the addresses they were recorded with
        body = next((body for (name, _), body in self._runs.items() if name == full_name), None)
        return {"default_branch": "master", **body["repository"]} if body else None

    def runs(self, full_name: str) -> Iterator[Row]:
        return (self._row(body) for (name, _), body in self._runs.items() if name == full_name)

    def run(self, full_name: str, run_id: int, attempt: int | None = None) -> Row | None:
        body = self._runs.get((full_name, run_id))
        if body is None or attempt not in (None, body["run_attempt"]):
            return None
        return self._row(body)

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        body = self._runs.get((full_name, run_id))
        return [body["run_attempt"]] if body else self._orphaned(full_name, run_id)

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None:
        del base
        if attempt not in self.attempts(full_name, run_id):
            return None
        return [body for body in self._jobs.get(run_id, ()) if body.get("run_attempt", 1) == attempt]

    def _orphaned(self, full_name: str, run_id: int) -> list[int]:
        """Attempts of a run of which only jobs were recorded."""
        jobs = [body for body in self._jobs.get(run_id, ()) if f"/repos/{full_name}/" in body["run_url"]]
        return sorted({body.get("run_attempt", 1) for body in jobs})

    @staticmethod
    def _row(body: Body) -> Row:
        return Row(
            id=body["id"],
            attempt=body["run_attempt"],
            status=body["status"],
            conclusion=body["conclusion"],
            created_at=body["created_at"],
            branch=body["head_branch"],
            event=body["event"],
            actor=body["actor"]["login"],
            sha=body["head_sha"],
            body=lambda _base: body,
        )


def _rows(table: Path) -> Iterator[Body]:
    with table.open(newline="", encoding="utf-8") as lines:
        for line in csv.DictReader(lines):
            body: Body = json.loads(line["data"])
            yield body
