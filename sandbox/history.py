"""The company's CI history: a pure function of seed, start and clock.

What exists at a pretend second is decided by the seed alone; asking earlier or more often changes nothing.
Runs are planned whole when they begin, kept small (jobs and steps are played again when asked for) and
shown as far as they have come.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from sandbox.catalogue import Person, Repository, Workflow
from sandbox.timeline import Fate, Job, Step, cut, finish, play

KEPT_RUNS = 10_000
"""The horizon: past this many runs the oldest are forgotten, so that memory stays bounded."""

Stamp = Callable[[float], float]


@dataclass(frozen=True, slots=True)
class Commit:
    """What was pushed; `at` in pretend seconds."""

    sha: str
    message: str
    author: Person
    at: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """One go at a run, in pretend seconds.

    `kept` are the jobs that are not run again; `cut` is when somebody cancelled it.
    """

    number: int
    begin: float
    finish: float
    fate: Fate
    actor: Person
    kept: tuple[Job, ...] = ()
    cut: float | None = None

    @property
    def outcome(self) -> str:
        return self.fate.outcome if self.cut is None else "cancelled"


@dataclass(slots=True)
class Run:
    """A run as it will have been; `sequence` counts within its repository, `id` across the company."""

    repository: Repository
    workflow: Workflow
    sequence: int
    number: int
    event: str
    branch: str
    commit: Commit
    pull_request: int | None
    attempts: tuple[Attempt, ...]
    id: int = 0

    @property
    def created(self) -> float:
        return self.attempts[0].begin


@dataclass(frozen=True, slots=True)
class StepState:
    """A step as it is seen now; times in POSIX seconds."""

    number: int
    name: str
    status: str
    conclusion: str | None
    started: float | None
    completed: float | None


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as it is seen now; times in POSIX seconds, `started` is the creation time until it has begun."""

    id: int
    name: str
    status: str
    conclusion: str | None
    created: float
    started: float
    completed: float | None
    label: str
    runner: int | None
    steps: tuple[StepState, ...]
    released: float | None = None
    """When it was approved, if it had to be; None before that."""


@dataclass(frozen=True, slots=True)
class RunState:
    """A run at one of its attempts, as it is seen now; times in POSIX seconds."""

    id: int
    repository: Repository
    workflow: Workflow
    number: int
    attempt: int
    event: str
    branch: str
    sha: str
    message: str
    author: Person
    actor: Person
    triggering_actor: Person
    committed: float
    pull_request: int | None
    status: str
    conclusion: str | None
    created: float
    started: float
    updated: float


class History:
    """All runs of the living company, as far as the clock has come."""

    def __init__(
        self,
        seed: int,
        repositories: Sequence[Repository],
        *,
        first_id: int,
        stamp: Stamp,
        stories: Sequence[Iterator[Run]],
        kept: int = KEPT_RUNS,
    ) -> None:
        """`stamp` turns a pretend second into POSIX time; `stories` are endless, in order of creation."""
        self.repositories = {repository.full_name: repository for repository in repositories}
        self._seed = seed
        self._stamp = stamp
        self._kept = kept
        self._next_id = first_id
        self._order: deque[Run] = deque()
        self._shelves: dict[str, deque[Run]] = {name: deque() for name in self.repositories}
        self._ids: dict[int, Run] = {}
        self._coming = heapq.merge(*stories, key=lambda run: (run.created, run.repository.full_name))
        self._ahead = next(self._coming, None)

    def advance(self, now: float) -> None:
        """Let everything begin that has begun by the pretend second `now`."""
        while self._ahead is not None and self._ahead.created <= now:
            run, self._ahead = self._ahead, next(self._coming, None)
            run.id, self._next_id = self._next_id, self._next_id + 1
            self._order.append(run)
            self._shelves[run.repository.full_name].append(run)
            self._ids[run.id] = run
            if len(self._order) > self._kept:
                oldest = self._order.popleft()
                self._shelves[oldest.repository.full_name].popleft()
                del self._ids[oldest.id]

    def runs(self, full_name: str, now: float) -> Iterator[RunState]:
        """The repository's runs, newest first, each at its latest attempt."""
        self.advance(now)
        # A copy: whoever reads on lazily may meanwhile ask for something else, and so let time go on.
        for run in tuple(reversed(self._shelves.get(full_name, ()))):
            yield self._state(run, self._latest(run, now), now)

    def attempted(self, full_name: str, now: float) -> Iterator[tuple[int, int]]:
        """Id and number of attempts of each of the repository's runs, newest first; cheaper than their states."""
        self.advance(now)
        for run in tuple(reversed(self._shelves.get(full_name, ()))):
            yield run.id, self._latest(run, now).number

    def run(self, run_id: int, now: float, attempt: int | None = None) -> RunState | None:
        """One run at its latest or a given attempt; None if there is none yet, or no more."""
        found = self._attempt(run_id, now, attempt)
        return self._state(*found, now) if found else None

    def jobs(self, run_id: int, now: float, attempt: int | None = None) -> list[JobState] | None:
        """The jobs an attempt has by now; None for an unknown run or attempt."""
        found = self._attempt(run_id, now, attempt)
        if not found:
            return None
        run, go = found
        return [self._job(run, go, job, now) for job in self._play(run, go) if job.created <= now]

    def attempts(self, run_id: int, now: float) -> int:
        """How many attempts the run has had; 0 for an unknown run."""
        found = self._attempt(run_id, now, None)
        return found[1].number if found else 0

    def fate(self, run_id: int, now: float, attempt: int) -> tuple[int, Attempt] | None:
        """What lies behind an attempt: the run's place in its repository's story, and the attempt."""
        found = self._attempt(run_id, now, attempt)
        return (found[0].sequence, found[1]) if found else None

    def rerun(self, run_id: int, now: float, actor: Person, *, failed_only: bool) -> None:
        """Begin another attempt of a run that has ended. What was flaky passes now, what is broken fails again.

        Raises:
            KeyError: there is no such run.
        """
        found = self._attempt(run_id, now, None)
        if found is None:
            raise KeyError(run_id)
        run, last = found
        is_broken = last.outcome == "failure" and not last.fate.flaky
        kept = (
            tuple(job for job in self._play(run, last) if job.conclusion == "success") if failed_only else ()
        )
        go = Attempt(last.number + 1, now, now, last.fate if is_broken else Fate(), actor, kept)
        go = planned(self._seed, run.repository, run.workflow, run.sequence, go)
        # What the story had in store for it does not happen any more.
        run.attempts = (*run.attempts[: last.number], go)

    def cancel(self, run_id: int, now: float) -> None:
        """End a run's latest attempt now.

        Raises:
            KeyError: there is no such run.
        """
        found = self._attempt(run_id, now, None)
        if found is None:
            raise KeyError(run_id)
        run, last = found
        run.attempts = (*run.attempts[: last.number - 1], replace(last, cut=now, finish=now))

    def delete(self, run_id: int) -> None:
        """Forget a run.

        Raises:
            KeyError: there is no such run.
        """
        run = self._ids.pop(run_id)
        self._order.remove(run)
        self._shelves[run.repository.full_name].remove(run)

    def _attempt(self, run_id: int, now: float, number: int | None) -> tuple[Run, Attempt] | None:
        self.advance(now)
        run = self._ids.get(run_id)
        if run is None:
            return None
        latest = self._latest(run, now)
        if number is None:
            return run, latest
        return (run, run.attempts[number - 1]) if 1 <= number <= latest.number else None

    @staticmethod
    def _latest(run: Run, now: float) -> Attempt:
        return next(go for go in reversed(run.attempts) if go.begin <= now or go.number == 1)

    def _play(self, run: Run, go: Attempt) -> tuple[Job, ...]:
        return replay(self._seed, run.repository, run.workflow, run.sequence, go)

    def _state(self, run: Run, go: Attempt, now: float) -> RunState:
        status, conclusion, updated = self._progress(run, go, now)
        return RunState(
            id=run.id,
            repository=run.repository,
            workflow=run.workflow,
            number=run.number,
            attempt=go.number,
            event=run.event,
            branch=run.branch,
            sha=run.commit.sha,
            message=run.commit.message,
            author=run.commit.author,
            actor=run.attempts[0].actor,
            triggering_actor=go.actor,
            committed=self._stamp(run.commit.at),
            pull_request=run.pull_request,
            status=status,
            conclusion=conclusion,
            created=self._stamp(run.created),
            started=self._stamp(go.begin),
            updated=self._stamp(updated),
        )

    def _progress(self, run: Run, go: Attempt, now: float) -> tuple[str, str | None, float]:
        """Status, conclusion and the moment of the last change."""
        if now >= go.finish:
            return "completed", go.outcome, go.finish
        if go.fate.gate == "run" and now < go.begin + go.fate.held:
            return "completed", "action_required", go.begin
        moments = [go.begin + (go.fate.held if go.fate.gate == "run" else 0.0)]
        status = "queued"
        for job in self._play(run, go):
            moments += [job.created, job.released, job.started, job.finished]
            if job.conclusion != "skipped" and job.created <= now < job.finished:
                seen = _status(job, now)
                status = seen if seen != "queued" or status == "queued" else status
            elif job.finished <= now and status == "queued":
                status = "in_progress"
        return status, None, max(moment for moment in moments if moment <= now)

    def _job(self, run: Run, go: Attempt, job: Job, now: float) -> JobState:
        stamp = self._stamp
        began = job.started <= now and bool(job.steps)
        over = job.finished <= now
        return JobState(
            id=job_id(run.id, go.number, job.index),
            name=job.name,
            status=_status(job, now),
            conclusion=job.conclusion if over else None,
            created=stamp(job.created),
            started=stamp(job.started if job.started <= now else job.created),
            completed=stamp(job.finished) if over else None,
            label=job.label,
            runner=1 + (run.id + job.index) % 24 if began else None,
            steps=tuple(self._step(step, now) for step in job.steps) if began else (),
            released=stamp(job.released) if job.released <= now else None,
        )

    def _step(self, step: Step, now: float) -> StepState:
        over, began = step.finished <= now, step.started <= now
        return StepState(
            number=step.number,
            name=step.name,
            status="completed" if over else "in_progress" if began else "queued",
            conclusion=step.conclusion if over else None,
            started=self._stamp(step.started) if began else None,
            completed=self._stamp(step.finished) if over else None,
        )


def replay(
    seed: int, repository: Repository, workflow: Workflow, sequence: int, go: Attempt
) -> tuple[Job, ...]:
    """The jobs of an attempt, the same however often it is asked."""
    jobs = play(workflow, go.fate, go.begin, seed, repository.full_name, sequence, go.number, kept=go.kept)
    return jobs if go.cut is None else cut(jobs, go.cut)


def planned(seed: int, repository: Repository, workflow: Workflow, sequence: int, go: Attempt) -> Attempt:
    """The attempt with its end filled in: it is played once to learn when that will be."""
    held = go.fate.held if go.fate.gate == "run" else 0.0
    jobs = replay(seed, repository, workflow, sequence, go)
    return replace(go, finish=finish(jobs, go.begin + held))


def job_id(run_id: int, number: int, index: int) -> int:
    """Unique across runs and attempts, and below 2**53 so that JavaScript reads it exactly."""
    return run_id * 500 + number * 20 + index


def run_of_job(number: int) -> tuple[int, int]:
    """The run and the attempt whose job has this id."""
    run_id, rest = divmod(number, 500)
    return run_id, rest // 20


def _status(job: Job, now: float) -> str:
    if now >= job.finished:
        return "completed"
    if now >= job.started:
        return "in_progress"
    return "queued" if now >= job.released else "waiting"
