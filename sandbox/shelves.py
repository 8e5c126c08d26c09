"""Where GitHub's answers come from: the living history, runs that a script made, rows that were recorded."""

import csv
import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sandbox import github_shapes as shapes
from sandbox.catalogue import Repository
from sandbox.clock import Clock
from sandbox.history import History, JobState, RunState

Body = dict[str, Any]


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


class Shelf(Protocol):
    """A source of runs.  None stands for "no such thing here"."""

    def repositories(self) -> Iterable[tuple[str, int]]:
        """Full names and ids."""

    def repository(self, full_name: str, base: str) -> Body | None: ...

    def runs(self, full_name: str) -> Iterator[Row]:
        """Every run at its latest attempt, in any order."""

    def run(self, full_name: str, run_id: int, attempt: int | None = None) -> Row | None: ...

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        """The attempts that jobs can be asked for, oldest first; empty for an unknown run."""

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None: ...


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


class Living:
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
        state = self._state(full_name, run_id, attempt)
        return row(state) if state else None

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        state = self._state(full_name, run_id, None)
        return list(range(1, state.attempt + 1)) if state else []

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None:
        state = self._state(full_name, run_id, attempt)
        jobs = self._history.jobs(run_id, self._now(), attempt)
        if state is None or jobs is None:
            return None
        return render(state, jobs, base)

    def _state(self, full_name: str, run_id: int, attempt: int | None) -> RunState | None:
        state = self._history.run(run_id, self._now(), attempt)
        return state if state and state.repository.full_name == full_name else None


def render(state: RunState, jobs: Iterable[JobState], base: str) -> list[Body]:
    """Jobs of a run as GitHub gives them."""
    return [shapes.job(state, job, base) for job in jobs]


class Recorded:
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
