"""Jobs of a Jenkins that lives: the company's history as builds, in the order in which they began."""

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote

from sandbox.clock import Clock
from sandbox.history import History, JobState, RunState
from sandbox.jenkins_hooks import WATCHED_BUILDS, Named
from sandbox.jenkins_shapes import Body, Build, Cell, Job, Stage, Step
from sandbox.timeline import dice

_KINDS = {"ci": "branch", "deploy": "pipeline", "nightly": "matrix"}
_STATUSES = {
    "success": "SUCCESS",
    "failure": "FAILED",
    "timed_out": "ABORTED",
    "cancelled": "ABORTED",
    "skipped": "NOT_EXECUTED",
}
_RESULTS = {
    "success": "SUCCESS",
    "failure": "FAILURE",
    "timed_out": "ABORTED",
    "cancelled": "ABORTED",
    "skipped": "NOT_BUILT",
    "startup_failure": "FAILURE",
}
_TESTED = ("unit", "integration", "end-to-end")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A build: the attempt of a run that it is."""

    number: int
    timestamp: int
    run_id: int
    attempt: int


class Living:
    """What the history's repositories are in Jenkins.

    `acme/ledger` is a multibranch project with a job for each branch and pull request; `acme/ledger-deploy` is a
    pipeline with parameters; `acme/ledger-nightly` is a matrix. An attempt is a build of its own, as in Jenkins.
    """

    def __init__(self, history: History, clock: Clock, seed: int) -> None:
        self._history = history
        self._clock = clock
        self._seed = seed
        self._seen: dict[tuple[int, int], None] = {}
        self._jobs: dict[str, Job] = {}
        self._begun: dict[str, list[_Begun]] = {}
        self._stopped: dict[tuple[str, int], int] = {}
        self._taken: dict[str, int] = {}
        self._latest: deque[tuple[str, _Begun]] = deque(maxlen=WATCHED_BUILDS)

    def jobs(self) -> Iterable[Job]:
        self._advance()
        return list(self._jobs.values())

    def builds(self, full_name: str) -> list[Build]:
        """Newest first; those of runs that the history has forgotten are gone, as a discarder would have it."""
        self._advance()
        begun = self._begun.get(full_name, [])
        found = [(one, self._build(full_name, one)) for one in reversed(begun)]
        for one, build in found:
            if build is None:
                begun.remove(one)
                self._seen.pop((one.run_id, one.attempt), None)
        return [build for _, build in found if build is not None]

    def newest(self, most: int) -> list[Named]:
        self._advance()
        found = [Named(name, one.number, one.timestamp) for name, one in reversed(self._latest)]
        return found[:most]

    def find(self, which: Named) -> tuple[Job, Build] | None:
        """One of the newest."""
        for name, begun in self._latest:
            if which == (name, begun.number, begun.timestamp):
                build = self._build(name, begun)
                return (self._jobs[name], build) if build is not None else None
        return None

    def stop(self, full_name: str, number: int) -> bool:
        if full_name not in self._jobs:
            return False
        self._stopped.setdefault((full_name, number), int(time.time() * 1000))
        return True

    def take(self, full_name: str, number: int) -> None:
        """Give no build of the job this number, nor a lower one, any more."""
        self._taken[full_name] = number

    def _advance(self) -> None:
        """Give every attempt that has begun since the last time its number, in the order in which they began."""
        now = self._clock.pretend(time.time())
        fresh = []
        for name in self._history.repositories:
            for run_id, attempts in self._history.attempted(name, now):
                for attempt in range(1, attempts + 1):
                    if (run_id, attempt) in self._seen:
                        continue
                    state = self._history.run(run_id, now, attempt)
                    if state is not None:
                        fresh.append(state)
        for state in sorted(fresh, key=lambda state: (state.started, state.id, state.attempt)):
            self._seen[state.id, state.attempt] = None
            job = _job_of(state)
            self._jobs.setdefault(job.full_name, job)
            begun = self._begun.setdefault(job.full_name, [])
            number = max(begun[-1].number if begun else 0, self._taken.get(job.full_name, 0)) + 1
            begun.append(_Begun(number, round(state.started * 1000), state.id, state.attempt))
            self._latest.append((job.full_name, begun[-1]))

    def _build(self, full_name: str, begun: _Begun) -> Build | None:
        now = self._clock.pretend(time.time())
        state = self._history.run(begun.run_id, now, begun.attempt)
        jobs = self._history.jobs(begun.run_id, now, begun.attempt)
        if state is None or jobs is None:
            return None
        job = self._jobs[full_name]
        building = state.status != "completed" or state.conclusion == "action_required"
        failing = next((one for one in jobs if one.conclusion == "failure"), None)
        result = None if building else _RESULTS.get(str(state.conclusion), "FAILURE")
        if result == "FAILURE" and failing is not None and failing.name.startswith(_TESTED):
            result = "UNSTABLE"
        build = Build(
            number=begun.number,
            timestamp=begun.timestamp,
            building=building,
            result=result,
            duration=0 if building else round(state.updated * 1000) - begun.timestamp,
            built_on="agent-1",
            queue_id=begun.run_id % 1_000_000,
            causes=(_cause(state),),
            interruptions=_interruptions(state),
            parameters=(
                {"_class": "hudson.model.StringParameterValue", "name": "REVISION", "value": state.sha},
            )
            if job.kind == "pipeline"
            else (),
            branch=f"refs/remotes/origin/{state.branch}" if job.kind == "pipeline" else state.branch,
            sha=state.sha,
            message=state.message,
            author=state.author.name,
            stages=tuple(_stage(one, index) for index, one in enumerate(jobs) if _has_begun(one))
            if job.kind != "matrix"
            else None,
            report=None if building or result in ("NOT_BUILT", "ABORTED") else self._report(state, jobs),
            console=f"Started by {state.actor.name}\nChecking out {state.sha}\nFinished: {result}\n",
            cells=tuple(_cell(one, begun.number) for one in jobs if _has_begun(one))
            if job.kind == "matrix"
            else (),
        )
        return self._as_stopped(full_name, build)

    def _as_stopped(self, full_name: str, build: Build) -> Build:
        at = self._stopped.get((full_name, build.number))
        if at is None or not (build.building or build.timestamp + build.duration > at):
            return build
        return replace(
            build, building=False, result="ABORTED", duration=max(0, at - build.timestamp), report=None
        )

    def _report(self, state: RunState, jobs: list[JobState]) -> Body | None:
        """What the tests of a build said; the same however often it is asked."""
        suites = []
        for one in jobs:
            if not one.name.startswith(_TESTED) or one.completed is None:
                continue
            rng = dice(self._seed, "report", state.id, state.attempt, one.name)
            failing = rng.sample(range(12), 2) if one.conclusion == "failure" else []
            cases = [_case(one.name, test, test in failing, rng.uniform(0.01, 2.0)) for test in range(12)]
            suites.append(
                {"name": one.name, "duration": sum(case["duration"] for case in cases), "cases": cases}
            )
        if not suites:
            return None
        bad = sum(case["status"] == "FAILED" for suite in suites for case in suite["cases"])
        return {
            "_class": "hudson.tasks.junit.TestResult",
            "failCount": bad,
            "passCount": 12 * len(suites) - bad,
            "skipCount": 0,
            "suites": suites,
        }


def _job_of(state: RunState) -> Job:
    kind = _KINDS.get(state.workflow.name, "branch")
    name = state.repository.full_name
    if kind == "branch":
        branch = f"PR-{state.pull_request}" if state.pull_request else quote(state.branch, safe="")
        return Job(f"{name}/{branch}", "branch")
    parameters = ("REVISION",) if kind == "pipeline" else ()
    return Job(f"{name}-{state.workflow.name}", kind, parameters)


def _cause(state: RunState) -> Body:
    if state.attempt > 1 or state.event == "workflow_dispatch":
        person = state.triggering_actor
        return {
            "_class": "hudson.model.Cause$UserIdCause",
            "shortDescription": f"Started by user {person.name}",
            "userId": person.login,
            "userName": person.name,
        }
    if state.event == "schedule":
        return {
            "_class": "hudson.triggers.TimerTrigger$TimerTriggerCause",
            "shortDescription": "Started by timer",
        }
    return {"_class": "jenkins.branch.BranchEventCause", "shortDescription": "Push event to branch"}


def _interruptions(state: RunState) -> tuple[Body, ...]:
    if state.conclusion == "timed_out":
        name = "org.jenkinsci.plugins.workflow.steps.TimeoutStepExecution$ExceededTimeout"
        return ({"_class": name, "shortDescription": "Timeout has been exceeded"},)
    if state.conclusion == "cancelled":
        name = "jenkins.model.CauseOfInterruption$UserInterruption"
        return ({"_class": name, "shortDescription": f"Aborted by {state.actor.name}"},)
    return ()


def _has_begun(job: JobState) -> bool:
    return job.status in ("in_progress", "completed", "waiting")


def _stage(job: JobState, index: int) -> Stage:
    started = round(job.started * 1000)
    over = job.completed is not None
    status = _STATUSES.get(str(job.conclusion), "FAILED") if over else "IN_PROGRESS"
    if job.status == "waiting":
        status = "PAUSED_PENDING_INPUT"
    skipped = status == "NOT_EXECUTED"
    number = 10 + index * 50
    return Stage(
        id=number,
        name=job.name,
        status=status,
        started=0 if skipped else started,
        duration=0 if skipped or job.completed is None else round(job.completed * 1000) - started,
        error="script returned exit code 1" if status == "FAILED" else None,
        steps=tuple(
            Step(
                id=number + step.number,
                name="Shell Script" if step.name.startswith("Run ") else step.name,
                status=_STATUSES.get(str(step.conclusion), "IN_PROGRESS"),
                started=round((step.started or 0) * 1000),
                duration=round(((step.completed or 0) - (step.started or 0)) * 1000) if step.completed else 0,
                log=f"+ {step.name}\n",
            )
            for step in job.steps
            if step.started is not None
        ),
    )


def _cell(job: JobState, number: int) -> Cell:
    name = job.name.rsplit("(", 1)[-1].rstrip(")")
    started = round(job.started * 1000)
    over = job.completed is not None
    return Cell(
        name=f"BROWSER={name}" if "(" in job.name else f"TASK={name}",
        number=number,
        building=not over,
        result=_RESULTS.get(str(job.conclusion), "FAILURE") if over else None,
        timestamp=started,
        duration=0 if job.completed is None else round(job.completed * 1000) - started,
    )


def _case(suite: str, test: int, fails: bool, seconds: float) -> Body:
    return {
        "className": f"acme.{suite.split(' ', 1)[0]}.Case{test // 4}",
        "name": f"test_{test}",
        "status": "FAILED" if fails else "PASSED",
        "duration": round(seconds, 3),
        "age": 1 if fails else 0,
        "failedSince": 0,
        "skipped": False,
        "skippedMessage": None,
        "errorDetails": "expected 200 but was 500" if fails else None,
        "errorStackTrace": "AssertionError: expected 200 but was 500\n  at line 12" if fails else None,
        "stdout": "much output\n" * 20,
        "stderr": "",
        "flakyFailures": [],
        "rerunFailures": [],
    }
