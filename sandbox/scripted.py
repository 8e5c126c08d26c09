"""Runs that a test or a person makes by hand, one state at a time."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha1
from typing import Any

from sandbox import github_shapes as shapes
from sandbox.catalogue import PEOPLE, Person, Repository, Workflow, stranger
from sandbox.history import JobState, RunState, StepState, job_id
from sandbox.shelves import Body, Row, render, row

FIRST_ID = 1_000_000_000


class ScriptError(ValueError):
    """What the script asks for makes no sense; the text says what would."""


@dataclass(slots=True)
class Take:
    """One attempt: the run as it was, and its jobs by name."""

    state: RunState
    jobs: dict[str, JobState] = field(default_factory=dict)


class Scripted:
    """A shelf of runs under a script's control."""

    def __init__(self, find: Callable[[str], Repository | None]) -> None:
        """`find` gives the living company's repository of a name, to appear beside its own runs."""
        self._find = find
        self._made: dict[str, Repository] = {}
        self._takes: dict[int, list[Take]] = {}
        self._next_id = FIRST_ID
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
        created = _moment(script.get("created_at"), time.time())
        actor = _person(script.get("actor"))
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
            started=_moment(script.get("run_started_at"), created),
            updated=_moment(script.get("updated_at"), created),
        )
        take = Take(state)
        self._takes[run_id] = [take]
        self._set_jobs(take, script.get("jobs"))
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
                started=_moment(change.get("run_started_at"), now),
            )
            takes.append(Take(state))
        state = replace(
            state,
            status=change.get("status", state.status),
            conclusion=change.get("conclusion", state.conclusion),
            updated=_moment(change.get("updated_at"), now),
        )
        takes[-1].state = state
        self._set_jobs(takes[-1], change.get("jobs"))
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
            status = script.get("status", before.status if before else "queued")
            began = status in ("in_progress", "completed")
            started = _moment(
                script.get("started_at"), before.started if before and before.runner else state.updated
            )
            ended = before.completed if before and before.completed else state.updated
            take.jobs[name] = JobState(
                id=before.id if before else job_id(state.id, state.attempt, len(take.jobs)),
                name=name,
                status=status,
                conclusion=script.get("conclusion", before.conclusion if before else None),
                created=_moment(script.get("created_at"), before.created if before else state.started),
                started=started if began else state.started,
                completed=_moment(script.get("completed_at"), ended) if status == "completed" else None,
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
        started=_moment(script["started_at"], 0.0) if script.get("started_at") else None,
        completed=_moment(script["completed_at"], 0.0) if script.get("completed_at") else None,
    )


def _moment(text: str | None, default: float) -> float:
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ScriptError(f"{text!r} is no ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ScriptError(f"{text!r} needs an offset, as in 2026-01-09T15:30:00Z")
    return moment.timestamp()


def _person(login: str | None) -> Person:
    if login is None:
        return PEOPLE[0]
    known = next((person for person in PEOPLE if person.login == login), None)
    return known or Person(login, login, 20_000 + sum(login.encode()))
