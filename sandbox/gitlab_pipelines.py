"""GitLab's pipelines and jobs, and what state they are in at a time. All times are POSIX seconds.

A job either lives by the clock (it has the times at which it will be queued, start and end) or stands where a
script has put it (`forced`). A job that is run again stays, as `retried`, and gets a successor of its name.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from sandbox.catalogue import Person
from sandbox.gitlab_shapes import Project

FUTURE = 4_000_000_000.0
"""What has not come yet lies beyond this."""
GOING = frozenset({"created", "waiting_for_resource", "preparing", "pending", "running", "canceling"})


@dataclass(slots=True)
class Job:
    """A job, or with `downstream` a trigger job. `outcome` is its status at its end."""

    id: int
    name: str
    stage: str
    created: float
    queued: float | None = None
    started: float | None = None
    finished: float | None = None
    outcome: str = "success"
    reason: str | None = None
    forced: str | None = None
    is_allowed_to_fail: bool = False
    waits_for_person: bool = False
    retried_at: float | None = None
    skipped: tuple[float, float] | None = None
    """From when to when it counts as skipped: until what it needs has been run again."""
    is_trigger: bool = False
    downstream: int | None = None
    has_report: bool = False
    has_archive: bool = False

    def status(self, now: float) -> str:
        if self.forced is not None:
            return self.forced
        if self.skipped is not None and self.skipped[0] <= now < self.skipped[1]:
            return "skipped"
        if self.finished is not None and now >= self.finished:
            return self.outcome
        if self.started is not None and now >= self.started:
            return "running"
        if self.queued is not None and now >= self.queued:
            return "pending"
        return "manual" if self.waits_for_person else "created"

    def is_retried(self, now: float) -> bool:
        return self.retried_at is not None and self.retried_at <= now

    def shown(self, name: str, now: float) -> float | None:
        """One of its times, if it has come."""
        value: float | None = getattr(self, name)
        return value if value is not None and (self.forced is not None or value <= now) else None


@dataclass(slots=True)
class Pipeline:
    """A pipeline with all jobs it has had."""

    id: int
    iid: int
    project: Project
    source: str
    ref: str
    sha: str
    message: str
    author: Person
    actor: Person
    created: float
    jobs: list[Job] = field(default_factory=list)
    tag: bool = False
    name: str | None = None
    forced: str | None = None
    updated: float | None = None
    """What a script says it is; None: what follows from the jobs."""
    yaml_errors: str | None = None
    merge_request: int | None = None
    parent: int | None = None

    def known_jobs(self, now: float) -> list[Job]:
        """The jobs there are by now."""
        return [job for job in self.jobs if job.created <= now or job.forced is not None]

    def status(self, now: float) -> str:
        if self.forced is not None:
            return self.forced
        if self.yaml_errors:
            return "failed"
        return combined(latest(self.known_jobs(now), now), now)

    def started_at(self, now: float) -> float | None:
        return min((at for job in self.known_jobs(now) if (at := job.shown("started", now))), default=None)

    def finished_at(self, now: float) -> float | None:
        """The last end it had; it keeps that while it runs again."""
        if self.yaml_errors:
            return self.created
        ends = [at for job in self.known_jobs(now) if (at := job.shown("finished", now))]
        if self.forced is not None or any(job.forced is not None for job in self.jobs):
            return max(ends, default=None) if self.status(now) in ("success", "failed", "canceled") else None
        return next((at for at in sorted(ends, reverse=True) if self.status(at) not in GOING), None)

    def updated_at(self, now: float) -> float:
        """When its own status last changed."""
        if self.updated is not None:
            return self.updated
        again = [job.created for job in self.known_jobs(now) if job.created > self.created + 1]
        moments = [self.created, self.started_at(now), self.finished_at(now), *again]
        return max(at for at in moments if at is not None)


def latest(jobs: Iterable[Job], now: float) -> list[Job]:
    return [job for job in jobs if not job.is_retried(now)]


def combined(jobs: Iterable[Job], now: float) -> str:
    """A pipeline's status, by its jobs' as GitLab combines them."""
    told = {
        "success" if job.is_allowed_to_fail and status in ("failed", "manual") else status
        for job in jobs
        for status in (job.status(now),)
    }
    if not told or told <= {"skipped"}:
        return "skipped" if told else "created"
    if told <= {"success", "skipped"}:
        return "success"
    if told <= {"created", "skipped"}:
        return "created"
    if told <= {"pending", "created", "skipped"}:
        return "pending"
    if told <= {"canceled", "success", "skipped"}:
        return "canceled"
    for status in ("running", "pending", "manual"):
        if status in told:
            return "running" if status == "pending" else status
    return "running" if "created" in told else "failed"


def retry(pipeline: Pipeline, names: Iterable[str], now: float) -> list[Job]:
    """Run jobs again: each gets a successor, and those that were skipped because of it may run, too."""
    made = []
    highest = max((job.id for job in pipeline.jobs), default=pipeline.id * 500)
    for name in names:
        old = next(job for job in pipeline.jobs if job.name == name and not job.is_retried(now))
        old.retried_at = now
        highest += 1
        again = Job(
            highest,
            name,
            old.stage,
            now,
            is_allowed_to_fail=old.is_allowed_to_fail,
            has_report=old.has_report,
            has_archive=old.has_archive,
        )
        if old.forced is not None:
            again.forced = "pending"
        else:
            again.queued, again.started, again.finished = now, now + 0.5, now + 2.0
        pipeline.jobs.append(again)
        made.append(again)
    for job in pipeline.jobs:
        if job.forced is None and job.outcome == "skipped" and made:
            job.outcome, job.skipped = "success", (job.finished or now, now)
            job.queued, job.started, job.finished = now + 2.0, now + 2.5, now + 4.0
    if pipeline.forced is not None and made:
        pipeline.forced, pipeline.updated = "running", now
    return made


def failed(pipeline: Pipeline, now: float) -> list[str]:
    """The names of the jobs that "retry" runs again."""
    return [job.name for job in latest(pipeline.jobs, now) if job.status(now) in ("failed", "canceled")]


def cancel(pipeline: Pipeline, now: float) -> None:
    for job in pipeline.known_jobs(now):
        if job.status(now) in GOING | {"manual"}:
            job.forced = "canceled" if job.forced is not None else None
            job.outcome, job.finished = "canceled", now
    pipeline.jobs = [job for job in pipeline.jobs if job.created <= now or job.forced is not None]
    if pipeline.forced is not None:
        pipeline.forced, pipeline.updated = "canceled", now


def in_order(pipelines: Iterable[Pipeline], key: str, now: float) -> list[Pipeline]:
    """Newest first, by `id` or `updated_at`."""
    if key == "updated_at":
        return sorted(pipelines, key=lambda one: (one.updated_at(now), one.id), reverse=True)
    return sorted(pipelines, key=lambda one: one.id, reverse=True)


def gaps(pipeline: Pipeline, now: float) -> float:
    """Seconds in which some job ran: what GitLab calls a pipeline's duration."""
    spans = sorted(
        (start, job.shown("finished", now) or now)
        for job in pipeline.known_jobs(now)
        if (start := job.shown("started", now))
    )
    if not spans:
        return 0.0
    idle = 0.0
    reach = spans[0][1]
    for (_, end), (start, _) in pairwise(spans):
        reach = max(reach, end)
        idle += max(0.0, start - reach)
    return max(end for _, end in spans) - spans[0][0] - idle
