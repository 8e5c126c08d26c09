"""Runs that a test or a person makes by hand, one state at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from hashlib import sha1
from typing import Any

from sandbox import github_shapes as shapes
from sandbox.catalogue import PEOPLE, Person, Repository, Workflow, stranger
from sandbox.history import JobState, RunState, StepState, job_id
from sandbox.job_logs import log_of
from sandbox.shelves import Artifact, Body, Row, Shelf, render, row

FIRST_ID = 1_000_000_000
FIRST_ARTIFACT = 800_000_000


class ScriptError(ValueError):
    """What the script asks for makes no sense; the text says what would."""


@dataclass(slots=True)
class Take:
    """One attempt: the run as it was, and its jobs by name."""

    state: RunState
    jobs: dict[str, JobState] = field(default_factory=dict)
    logs: dict[str, str] = field(default_factory=dict)
    """By job, where the script gave one."""
    artifacts: list[Artifact] = field(default_factory=list)


class Scripted(Shelf):
    """A shelf of runs under a script's control."""

    def __init__(self, find: Callable[[str], Repository | None]) -> None:
        """`find` gives the living company's repository of a name, to appear beside its own runs."""
        self._find = find
        self._made: dict[str, Repository] = {}
        self._takes: dict[int, list[Take]] = {}
        self._next_id = FIRST_ID
        self._next_artifact = FIRST_ARTIFACT
        self._numbers: Counter[tuple[str, str]] = Counter()

    def create(self, script: dict[str, Any]) -> RunState:
        """Make a run; see sandbox/README.md for the fields."""
        full_name = script.get("repository", "")
        if full_name.count("/") != 1:
            raise ScriptError('"repository" must be "owner/name"')
        repository = self._find(full_name) or self._made.setdefault(full_name, stranger(full_name))
        run_id = script.get("id", self._next_id)
        if run_id in self._takes:
            raise ScriptError(f"run {run_id} exists already: PATCH it")
        self._next_id = max(self._next_id, run_id + 1)
        name = script.get("workflow", "ci")
        workflow = repository.workflow(name) or Workflow(name, f"{name}.yml", repository.number * 10 + 9, ())
        self._numbers[full_name, name] += 1
        created = moment_of(script.get("created_at"), time.time())
        actor = person_of(script.get("actor"))
        message = script.get("title", f"Scripted change {run_id}")
        state = RunState(
            id=run_id,
            repository=repository,
            workflow=workflow,
            number=script.get("run_number", self._numbers[full_name, name]),
            attempt=script.get("run_attempt", 1),
            event=script.get("event", "push"),
            branch=script.get("branch", "main"),
            sha=script.get("head_sha") or sha1(f"{run_id}".encode(), usedforsecurity=False).hexdigest(),
            message=message,
            author=actor,
            actor=actor,
            triggering_actor=actor,
            committed=created,
            pull_request=script.get("pull_request"),
            status=script.get("status", "queued"),
            conclusion=script.get("conclusion"),
            created=created,
            started=moment_of(script.get("run_started_at"), created),
            updated=moment_of(script.get("updated_at"), created),
        )
        take = Take(state)
        self._takes[run_id] = [take]
        self._set_jobs(take, script.get("jobs"))
        self._add_artifacts(take, script.get("artifacts", ()))
        return state

    def advance(self, run_id: int, change: dict[str, Any]) -> RunState:
        """Move a run on; `"new_attempt": true` begins the next attempt first.

        Raises:
            KeyError: there is no scripted run of this id.
        """
        takes = self._takes[run_id]
        now = time.time()
        state = takes[-1].state
        if change.get("new_attempt"):
            state = replace(
                state,
                attempt=state.attempt + 1,
                status="queued",
                conclusion=None,
                started=moment_of(change.get("run_started_at"), now),
            )
            takes.append(Take(state))
        state = replace(
            state,
            status=change.get("status", state.status),
            conclusion=change.get("conclusion", state.conclusion),
            updated=moment_of(change.get("updated_at"), now),
        )
        takes[-1].state = state
        self._set_jobs(takes[-1], change.get("jobs"))
        self._add_artifacts(takes[-1], change.get("artifacts", ()))
        return state

    def repositories(self) -> Iterable[tuple[str, int]]:
        return [(name, repository.number) for name, repository in self._made.items()]

    def repository(self, full_name: str, base: str) -> Body | None:
        found = self._made.get(full_name)
        return shapes.full_repository(found, base) if found else None

    def runs(self, full_name: str) -> Iterator[Row]:
        for takes in self._takes.values():
            if takes[-1].state.repository.full_name == full_name:
                yield row(takes[-1].state)

    def run(self, full_name: str, run_id: int, attempt: int | None = None) -> Row | None:
        take = self._take(full_name, run_id, attempt)
        return row(take.state) if take else None

    def attempts(self, full_name: str, run_id: int) -> list[int]:
        takes = self._takes.get(run_id, [])
        return [take.state.attempt for take in takes if take.state.repository.full_name == full_name]

    def jobs(self, full_name: str, run_id: int, attempt: int, base: str) -> list[Body] | None:
        take = self._take(full_name, run_id, attempt)
        return render(take.state, take.jobs.values(), base) if take else None

    def find(self, full_name: str) -> Repository | None:
        return self._made.get(full_name)

    def state(self, full_name: str, run_id: int, attempt: int | None = None) -> RunState | None:
        take = self._take(full_name, run_id, attempt)
        return take.state if take else None

    def job_states(self, full_name: str, run_id: int, attempt: int) -> list[JobState]:
        take = self._take(full_name, run_id, attempt)
        return list(take.jobs.values()) if take else []

    def log(self, full_name: str, job_id: int) -> str | None:
        found = self.job(full_name, job_id)
        if found is None or found[1].completed is None:
            return None
        take = self._take(full_name, found[0].id, found[0].attempt)
        return take.logs.get(found[1].name, log_of(*found)) if take else None

    def artifacts(self, full_name: str, run_id: int) -> list[Artifact]:
        takes = [take for take in self._takes.get(run_id, []) if take.state.repository.full_name == full_name]
        return [one for take in takes for one in take.artifacts]

    def rerun(self, full_name: str, run_id: int, actor: Person, *, failed_only: bool) -> None:
        """The jobs wait for the script to move them on; those that are not run again stay as they were."""
        del full_name
        take = self._takes[run_id][-1]
        jobs = list(take.jobs.values())
        self.advance(run_id, {"new_attempt": True, "jobs": []})
        again = self._takes[run_id][-1]
        again.state = replace(again.state, triggering_actor=actor)
        for place, job in enumerate(jobs):
            number = job_id(run_id, again.state.attempt, place)
            if failed_only and job.conclusion == "success":
                again.jobs[job.name] = replace(job, id=number)
                continue
            again.jobs[job.name] = replace(
                job,
                id=number,
                status="queued",
                conclusion=None,
                created=again.state.started,
                started=again.state.started,
                completed=None,
                runner=None,
                steps=(),
            )

    def cancel(self, full_name: str, run_id: int) -> None:
        del full_name
        jobs = [
            {"name": job.name, "status": "completed", "conclusion": "cancelled"}
            for job in self._takes[run_id][-1].jobs.values()
            if job.status != "completed"
        ]
        self.advance(run_id, {"status": "completed", "conclusion": "cancelled", "jobs": jobs})

    def delete(self, full_name: str, run_id: int) -> None:
        del full_name
        del self._takes[run_id]

    def artifact(self, full_name: str, artifact_id: int) -> Artifact | None:
        takes = (take for run in self._takes.values() for take in run)
        found = (
            one
            for take in takes
            for one in take.artifacts
            if one.id == artifact_id and one.run.repository.full_name == full_name
        )
        return next(found, None)

    def _add_artifacts(self, take: Take, scripts: Iterable[dict[str, Any]]) -> None:
        """Each has a `name` and `files`, texts by path; a `bare` one is its only file."""
        for script in scripts:
            files = script.get("files")
            if not script.get("name") or not isinstance(files, dict) or not files:
                raise ScriptError('each of "artifacts" needs a "name" and "files", texts by path')
            content = {path: str(text).encode() for path, text in files.items()}
            created = moment_of(script.get("created_at"), time.time())
            self._next_artifact += 1
            take.artifacts.append(
                Artifact(
                    id=self._next_artifact,
                    name=script["name"],
                    run=take.state,
                    created=created,
                    expires=created + 90 * 86_400,
                    files=partial(dict, content),
                    bare=bool(script.get("bare")),
                    expired=bool(script.get("expired")),
                )
            )

    def _take(self, full_name: str, run_id: int, attempt: int | None) -> Take | None:
        takes = [take for take in self._takes.get(run_id, []) if take.state.repository.full_name == full_name]
        if attempt is None:
            return takes[-1] if takes else None
        return next((take for take in takes if take.state.attempt == attempt), None)

    @staticmethod
    def _set_jobs(take: Take, scripts: list[dict[str, Any]] | None) -> None:
        """Merge the jobs named; without any, one job called "test" goes the way of its run."""
        state = take.state
        if scripts is None and set(take.jobs) <= {"test"}:
            scripts = [{"name": "test", "status": state.status, "conclusion": state.conclusion}]
        for script in scripts or ():
            if "name" not in script:
                raise ScriptError('each of "jobs" needs a "name"')
            name = script["name"]
            before = take.jobs.get(name)
            if "log" in script:
                take.logs[name] = script["log"]
            status = script.get("status", before.status if before else "queued")
            began = status in ("in_progress", "completed")
            started = moment_of(
                script.get("started_at"), before.started if before and before.runner else state.updated
            )
            ended = before.completed if before and before.completed else state.updated
            take.jobs[name] = JobState(
                id=before.id if before else job_id(state.id, state.attempt, len(take.jobs)),
                name=name,
                status=status,
                conclusion=script.get("conclusion", before.conclusion if before else None),
                created=moment_of(script.get("created_at"), before.created if before else state.started),
                started=started if began else state.started,
                completed=moment_of(script.get("completed_at"), ended) if status == "completed" else None,
                label=script.get("label", "ubuntu-24.04"),
                runner=1 if began else None,
                steps=tuple(_step(number, step) for number, step in enumerate(script.get("steps", ()), 1))
                or (before.steps if before else ()),
            )


def _step(number: int, script: dict[str, Any]) -> StepState:
    return StepState(
        number=script.get("number", number),
        name=script["name"],
        status=script.get("status", "completed"),
        conclusion=script.get("conclusion"),
        started=moment_of(script["started_at"], 0.0) if script.get("started_at") else None,
        completed=moment_of(script["completed_at"], 0.0) if script.get("completed_at") else None,
    )


def moment_of(text: str | None, default: float) -> float:
    """A script's time in POSIX seconds; ScriptError for what is none."""
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ScriptError(f"{text!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ScriptError(f"{text!r} needs an offset, as in 2026-01-09T15:30:00Z")
    return moment.timestamp()


def person_of(login: str | None) -> Person:
    """Who a script names: one of the company, or a stranger."""
    if login is None:
        return PEOPLE[0]
    known = next((person for person in PEOPLE if person.login == login), None)
    return known or Person(login, login, 20_000 + sum(login.encode()))
