"""How one attempt of a pipeline goes: jobs, steps, where it fails.  Pure: same seed, same story."""

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace

from sandbox.catalogue import JobPlan, Workflow

TIMEOUT_SECONDS = 1800.0
SETUP = "Set up job"
COMPLETE = "Complete job"


def dice(*parts: object) -> random.Random:
    """A generator of its own for each thing, so that no draw depends on what was asked before."""
    return random.Random("/".join(map(str, parts)))  # noqa: S311 - a pretend company, not a secret


@dataclass(frozen=True, slots=True)
class Step:
    """A step's lot in pretend seconds; a skipped one begins and ends at once."""

    number: int
    name: str
    started: float
    finished: float
    conclusion: str


@dataclass(frozen=True, slots=True)
class Job:
    """A job's lot in pretend seconds; `released` is when it may queue: at once, or after an approval."""

    index: int
    name: str
    label: str
    created: float
    released: float
    started: float
    finished: float
    conclusion: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Fate:
    """What shall become of an attempt: `outcome` is the run's conclusion, `job` the one that decides it.

    `held` are the seconds an approval takes: of the whole run for a stranger's pull request (`gate` is then
    "run"), else of the jobs that need one.  A `flaky` failure is no fault of the code; of the others `cause` tells
    one breakage from the next: it is the same for every push from the one that broke to the one that mends.
    """

    outcome: str = "success"
    job: str = ""
    held: float = 0.0
    gate: str = ""
    flaky: bool = False
    cause: int = 0


def play(
    workflow: Workflow, fate: Fate, begin: float, *seed: object, kept: tuple[Job, ...] = ()
) -> tuple[Job, ...]:
    """All jobs of an attempt that begins at `begin`, in the order in which they come to be.

    `kept` are jobs that are not run again: they stay as an earlier attempt left them.
    """
    if fate.outcome == "startup_failure":
        return ()
    rng = dice(*seed)
    begin += fate.held if fate.gate == "run" else 0.0
    done: dict[str, Job] = {job.name: job for job in kept}
    for index, plan in enumerate(workflow.jobs):
        if plan.name in done:
            continue
        needs = [done[name] for name in plan.needs]
        created = max((job.finished for job in needs), default=begin)
        created = max(created, begin) + 1.0
        if fate.outcome == "skipped" or any(job.conclusion != "success" for job in needs):
            done[plan.name] = Job(
                index, plan.name, plan.label, created, created, created, created, "skipped", ()
            )
        else:
            done[plan.name] = _work(index, plan, fate, created, rng)
    jobs = sorted(done.values(), key=lambda job: (job.created, job.index))
    if fate.outcome == "cancelled":
        return cut(jobs, begin + rng.uniform(20.0, 0.7 * (max(job.finished for job in jobs) - begin)))
    return tuple(jobs)


def cut(jobs: Iterable[Job], at: float) -> tuple[Job, ...]:
    """The jobs as they end when somebody cancels the run at `at`: those that were still to come never do."""
    return tuple(_cut(job, at) for job in jobs if job.created < at)


def finish(jobs: tuple[Job, ...], begin: float) -> float:
    """When the attempt is over: a moment after its last job."""
    return max((job.finished for job in jobs), default=begin + 2.0) + 1.0


def _work(index: int, plan: JobPlan, fate: Fate, created: float, rng: random.Random) -> Job:
    released = created + (fate.held if plan.approval and fate.gate != "run" else 0.0)
    # Runners are sometimes scarce.
    started = released + (rng.uniform(60, 240) if rng.random() < 0.04 else rng.uniform(2, 25))
    conclusion = fate.outcome if plan.name == fate.job else "success"
    work = plan.seconds * rng.lognormvariate(0, 0.18)
    if conclusion == "failure":
        work *= rng.uniform(0.3, 1.0)
    elif conclusion == "timed_out":
        work = TIMEOUT_SECONDS
    steps: list[Step] = []
    now = started
    lasts = [rng.uniform(1, 4), *(rng.uniform(2, 15) for _ in plan.steps[:-1]), work]
    for name, seconds in zip((SETUP, *plan.steps), lasts, strict=True):
        last = name == plan.steps[-1]
        steps.append(Step(len(steps) + 1, name, now, now + seconds, _step(conclusion) if last else "success"))
        now += seconds
    for name in (f"Post {plan.steps[0]}", COMPLETE):
        steps.append(Step(len(steps) + 1, name, now, now + 1.0, "success"))
        now += 1.0
    return Job(index, plan.name, plan.label, created, released, started, now, conclusion, tuple(steps))


def _step(conclusion: str) -> str:
    return "cancelled" if conclusion == "timed_out" else conclusion


def _cut(job: Job, at: float) -> Job:
    """The job as it ends when somebody cancels the run at `at`."""
    if job.finished <= at:
        return job
    steps = tuple(
        step
        if step.finished <= at
        else replace(step, finished=at, conclusion="cancelled")
        if step.started < at
        else replace(step, started=at, finished=at, conclusion="skipped")
        for step in job.steps
    )
    began = job.started <= at
    return replace(
        job,
        released=min(job.released, at),
        started=min(job.started, at),
        finished=at,
        conclusion="cancelled",
        steps=steps if began else (),
    )
