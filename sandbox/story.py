"""What happens in a repository, push after push: pipelines break, are fixed, flake, wait for people."""

import heapq
import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from hashlib import sha1

from sandbox.catalogue import BOT, BUMPS, PEOPLE, SUBJECTS, Person, Repository, Workflow
from sandbox.history import Attempt, Commit, Run, planned
from sandbox.timeline import Fate, dice

DAY = 86_400.0
SMALLEST_GAP = 4.0
FORGOTTEN = 1150.0


@dataclass(slots=True)
class PullRequest:
    """An open branch; `broken` names the job that fails on it, if one does."""

    number: int
    branch: str
    subject: str
    author: Person
    broken: str = ""
    pushes: int = 0
    cause: int = 0


@dataclass(order=True, slots=True)
class Due:
    """Something that will happen; `commit` is what a deployment deploys."""

    at: float
    turn: int
    kind: str
    commit: Commit | None = field(default=None, compare=False)


class Story:
    """The endless story of one repository, told in order of creation, from pretend second 0."""

    def __init__(self, seed: int, repository: Repository) -> None:
        self._seed = seed
        self._repository = repository
        self._rng: random.Random = dice(seed, repository.full_name)
        self._agenda: list[Due] = []
        self._turn = 0
        self._sequence = 0
        self._numbers = {workflow.name: 120 + repository.number % 97 for workflow in repository.workflows}
        self._open: list[PullRequest] = []
        self._next_pull_request = 40 + repository.number % 300
        self._broken = ""
        self._cause = 0
        self._failures_left = 0
        self._head = self._commit("Initial import", PEOPLE[0], 0.0)

    def __iter__(self) -> Iterator[Run]:
        rng, repository = self._rng, self._repository
        self._plan(rng.uniform(SMALLEST_GAP, repository.push_seconds), "push")
        if repository.workflow("nightly"):
            self._plan(rng.uniform(0.0, DAY / 4), "nightly")
        while True:
            due = heapq.heappop(self._agenda)
            if due.kind == "push":
                self._plan(due.at + max(SMALLEST_GAP, rng.expovariate(1 / repository.push_seconds)), "push")
                yield self._push(due.at)
            elif due.kind == "nightly":
                self._plan(due.at + DAY, "nightly")
                yield self._nightly(due.at)
            elif due.commit is not None:
                yield self._deploy(due.at, due.commit)

    def _plan(self, at: float, kind: str, commit: Commit | None = None) -> None:
        self._turn += 1
        heapq.heappush(self._agenda, Due(at, self._turn, kind, commit))

    def _commit(self, message: str, author: Person, at: float) -> Commit:
        text = f"{self._seed}/{self._repository.full_name}/{message}/{at}"
        return Commit(sha1(text.encode(), usedforsecurity=False).hexdigest(), message, author, at)

    def _push(self, at: float) -> Run:
        ready = [pull for pull in self._open if not pull.broken and pull.pushes]
        if self._broken and self._failures_left <= 0:
            return self._push_to_main(at, f"Fix {self._broken} on main", self._rng.choice(PEOPLE))
        if ready and self._rng.random() < 0.45:
            pull = self._rng.choice(ready)
            self._open.remove(pull)
            return self._push_to_main(at, f"{pull.subject} (#{pull.number})", pull.author)
        return self._push_to_branch(at)

    def _push_to_main(self, at: float, message: str, author: Person) -> Run:
        rng = self._rng
        if self._broken and self._failures_left <= 0:
            self._broken = ""
        elif self._broken:
            self._failures_left -= 1
        elif rng.random() < self._repository.fragility:
            self._broken, self._cause = self._some_job(), self._sequence
            self._failures_left = rng.randint(1, 4)
        self._head = self._commit(message, author, at - 3.0)
        fate = Fate("failure", self._broken, cause=self._cause) if self._broken else self._chance()
        goes = self._attempts("ci", at, fate, author)
        last = goes[-1]
        if last.fate.outcome == "success" and self._repository.workflow("deploy"):
            self._plan(last.finish + 2.0, "deploy", self._head)
        return self._run("ci", "push", branch="main", commit=self._head, goes=goes)

    def _push_to_branch(self, at: float) -> Run:
        rng = self._rng
        if not self._open or (len(self._open) < 6 and rng.random() < 0.4):
            self._open.append(self._pull_request())
        pull = rng.choice(self._open)
        pull.pushes += 1
        if pull.broken:
            pull.broken = pull.broken if rng.random() < 0.35 else ""
        elif rng.random() < 0.2:
            pull.broken, pull.cause = self._some_job(), self._sequence
        commit = self._commit(
            pull.subject
            if pull.pushes == 1
            else rng.choice(("Address review", "Fix the build", "Add a test")),
            pull.author,
            at - 5.0,
        )
        fate = Fate("failure", pull.broken, cause=pull.cause) if pull.broken else self._chance()
        if pull.author is BOT and pull.pushes == 1 and rng.random() < 0.4:
            fate = replace(fate, held=rng.uniform(120.0, 2400.0), gate="run")
        goes = self._attempts("ci", at, fate, pull.author)
        return self._run(
            "ci", "pull_request", branch=pull.branch, commit=commit, goes=goes, pull_request=pull.number
        )

    def _pull_request(self) -> PullRequest:
        rng = self._rng
        self._next_pull_request += rng.randint(1, 3)
        number = self._next_pull_request
        if rng.random() < 0.15:
            subject = rng.choice(BUMPS)
            return PullRequest(number, f"dependabot/{subject.split()[1]}-{number}", subject, BOT)
        subject = rng.choice(SUBJECTS)
        slug = "-".join(subject.lower().split()[:4])
        return PullRequest(number, f"feature/{slug}-{number}", subject, rng.choice(PEOPLE))

    def _nightly(self, at: float) -> Run:
        rng = self._rng
        flaky = rng.random() < 0.25
        fate = Fate("failure", "end-to-end (firefox)", flaky=True) if flaky else self._chance("nightly")
        goes = self._attempts("nightly", at, fate, self._head.author)
        return self._run("nightly", "schedule", branch="main", commit=self._head, goes=goes)

    def _deploy(self, at: float, commit: Commit) -> Run:
        rng = self._rng
        held = rng.uniform(90.0, 1200.0) if rng.random() < 0.5 else 0.0
        # Now and then nobody approves it for days.
        fate = Fate(held=held if held < FORGOTTEN else 2.5 * DAY)
        if rng.random() < 0.05:
            fate = Fate("failure", rng.choice(("staging", "smoke")))
        goes = self._attempts("deploy", at, fate, commit.author)
        return self._run("deploy", "workflow_run", branch="main", commit=commit, goes=goes)

    def _chance(self, workflow: str = "ci") -> Fate:
        """What becomes of good code: mostly success, and what else befalls a pipeline now and then."""
        roll = self._rng.random()
        if roll < 0.06:
            return Fate("failure", self._some_job(workflow), flaky=True)
        if roll < 0.09:
            return Fate("cancelled")
        if roll < 0.10:
            return Fate("timed_out", self._some_job(workflow))
        if roll < 0.105:
            return Fate("startup_failure")
        if roll < 0.12:
            return Fate("skipped")
        return Fate()

    def _some_job(self, workflow: str = "ci") -> str:
        plan = self._repository.workflow(workflow)
        return self._rng.choice(plan.jobs).name if plan else ""

    def _attempts(self, name: str, at: float, fate: Fate, actor: Person) -> tuple[Attempt, ...]:
        """The attempts a run gets: a flake is run again until it passes, a real failure now and then once."""
        rng = self._rng
        self._sequence += 1
        goes = [self._attempt(name, Attempt(1, at, at, fate, actor))]
        tries = int(fate.outcome == "failure" and rng.random() < 0.2)
        if fate.flaky:
            tries = 1 if rng.random() < 0.8 else 2
        for left in range(tries - 1, -1, -1):
            begin = goes[-1].finish + rng.uniform(60.0, 900.0)
            again = Fate() if fate.flaky and left == 0 else replace(fate, held=0.0, gate="")
            go = Attempt(len(goes) + 1, begin, begin, again, rng.choice(PEOPLE))
            goes.append(self._attempt(name, go))
        return tuple(goes)

    def _attempt(self, name: str, go: Attempt) -> Attempt:
        return planned(self._seed, self._repository, self._workflow(name), self._sequence, go)

    def _run(
        self,
        name: str,
        event: str,
        *,
        branch: str,
        commit: Commit,
        goes: tuple[Attempt, ...],
        pull_request: int | None = None,
    ) -> Run:
        self._numbers[name] += 1
        return Run(
            repository=self._repository,
            workflow=self._workflow(name),
            sequence=self._sequence,
            number=self._numbers[name],
            event=event,
            branch=branch,
            commit=commit,
            pull_request=pull_request,
            attempts=goes,
        )

    def _workflow(self, name: str) -> Workflow:
        workflow = self._repository.workflow(name)
        if workflow is None:
            raise LookupError(f"{self._repository.full_name} has no workflow {name}")
        return workflow
