"""The living projects of GitLab: the company's stories, told in GitLab's terms.

A run becomes a pipeline. Running it again does not begin it anew: the jobs that failed are run again inside it, and
those that were skipped then run for the first time. A deployment is a child pipeline of the one it deploys, begun by
a trigger job.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

from sandbox.catalogue import Repository, stranger
from sandbox.gitlab_listing import ACME, GROUPS
from sandbox.gitlab_pipelines import FUTURE, Job, Pipeline
from sandbox.gitlab_shapes import Project
from sandbox.history import Run, job_id, replay
from sandbox.story import Story
from sandbox.timeline import Job as Played

KEPT = 3000
FIRST_PROJECT = 501
TRIGGER = "deploy"
_PLACES = (("platform", "billing"), ("", "ledger"), ("platform", "notifications"), ("", "storefront"))
_STAGES = {"lint": "check", "package": "build", "smoke": "verify", "audit": "check"}
_NAMES = {"unit (1)": "unit 1/2", "unit (2)": "unit 2/2"}
_SOURCES = {"push": "push", "pull_request": "merge_request_event", "schedule": "schedule"}
_OUTCOMES = {"failure": "failed", "timed_out": "failed", "cancelled": "canceled", "startup_failure": "failed"}
_REASONS = {"failure": "script_failure", "timed_out": "job_execution_timeout"}

Stamp = Callable[[float], float]


def living(count: int, created: float) -> list[tuple[Repository, Project]]:
    """The first `count` projects that have a story."""
    found = []
    for index in range(count):
        group, path = _PLACES[index] if index < len(_PLACES) else ("", f"service-{index + 1:02d}")
        owner = next((g for g in GROUPS if g.path == group), ACME)
        moment = datetime.fromtimestamp(created, UTC)
        project = Project(
            id=FIRST_PROJECT + index,
            group=owner,
            path=path,
            name=path.capitalize(),
            description="Lives",
            visibility="private",
            default_branch="main",
            topics=[],
            created=moment,
            active=moment,
        )
        story = replace(stranger(project.full_path), push_seconds=500.0 + 150 * index, fragility=0.06)
        found.append((story, project))
    return found


class LivingPipelines:
    """The pipelines of the living projects, as far as the clock has come."""

    def __init__(
        self,
        seed: int,
        projects: list[tuple[Repository, Project]],
        *,
        first_id: int,
        stamp: Stamp,
        kept: int = KEPT,
    ) -> None:
        """`stamp` turns a pretend second into POSIX time."""
        self._seed = seed
        self._stamp = stamp
        self._projects = {repository.full_name: project for repository, project in projects}
        self._next_id = first_id
        self._iids = dict.fromkeys(self._projects, 0)
        stories = [iter(Story(seed, repository)) for repository, _ in projects]
        self._coming: Iterator[Run] = heapq.merge(
            *stories, key=lambda run: (run.created, run.repository.full_name)
        )
        self._ahead = next(self._coming, None)
        self._runs: deque[tuple[Run, int, int]] = deque(maxlen=kept)
        self._parents: dict[str, int] = {}
        self._children: dict[int, int] = {}
        self._over: dict[int, Pipeline] = {}

    def all(self, now: float) -> Iterator[Pipeline]:
        """Every pipeline there is at the pretend second `now`."""
        self._advance(now)
        for run, number, iid in self._runs:
            pipeline = self._over.get(number)
            if pipeline is None:
                pipeline = self._pipeline(run, number, iid, self._until(now))
                if all(self._is_over(at, now) for at in self._ends(run)):
                    self._over[number] = pipeline
            yield pipeline

    def _advance(self, now: float) -> None:
        while self._ahead is not None and self._ahead.created <= now:
            run, self._ahead = self._ahead, next(self._coming, None)
            number, self._next_id = self._next_id, self._next_id + 1
            name = run.repository.full_name
            self._iids[name] += 1
            if len(self._runs) == self._runs.maxlen:
                self._over.pop(self._runs[0][1], None)
            self._runs.append((run, number, self._iids[name]))
            if run.event == "push":
                self._parents[run.commit.sha] = number
            elif run.event == "workflow_run" and run.commit.sha in self._parents:
                parent = self._parents[run.commit.sha]
                self._children[parent] = number
                self._over.pop(parent, None)

    def _until(self, now: float) -> Stamp:
        """Real time of a pretend moment, as long as it has come."""
        return lambda at: self._stamp(at) if at <= now else FUTURE + at

    @staticmethod
    def _is_over(at: float, now: float) -> bool:
        return at + 5.0 < now

    @staticmethod
    def _ends(run: Run) -> list[float]:
        return [go.finish for go in run.attempts]

    def _pipeline(self, run: Run, number: int, iid: int, stamp: Stamp) -> Pipeline:
        child = run.event == "workflow_run"
        request = run.pull_request
        return Pipeline(
            id=number,
            iid=iid,
            project=self._projects[run.repository.full_name],
            source="parent_pipeline" if child else _SOURCES[run.event],
            ref=f"refs/merge-requests/{request}/head" if request else run.branch,
            sha=run.commit.sha,
            message=run.commit.message,
            author=run.commit.author,
            actor=run.attempts[0].actor,
            created=stamp(run.created),
            jobs=self._jobs(run, number, stamp),
            name="Nightly" if run.event == "schedule" else None,
            yaml_errors=(
                "jobs config should contain at least one visible job"
                if run.attempts[0].fate.outcome == "startup_failure"
                else None
            ),
            merge_request=request,
            parent=self._parents.get(run.commit.sha) if child else None,
        )

    def _jobs(self, run: Run, number: int, stamp: Stamp) -> list[Job]:
        jobs: dict[str, Job] = {}
        retried: list[Job] = []
        begun = stamp(run.created)
        for go in run.attempts:
            for played in replay(self._seed, run.repository, run.workflow, run.sequence, go):
                name = _NAMES.get(played.name, played.name)
                known = jobs.get(name)
                if known is None or known.outcome == "skipped":
                    kept_id = known.id if known else job_id(number, go.number, played.index)
                    jobs[name] = _job(kept_id, name, played, begun, stamp)
                    if known is not None:
                        jobs[name].skipped = (known.finished or begun, stamp(go.begin))
                elif known.outcome in ("failed", "canceled"):
                    known.retried_at = stamp(go.begin)
                    retried.append(known)
                    again = job_id(number, go.number, played.index)
                    jobs[name] = _job(again, name, played, known.retried_at, stamp)
        last = run.attempts[-1]
        if run.event == "push" and run.repository.workflow("deploy") and jobs:
            deploys = last.fate.outcome == "success"
            at = stamp(last.finish + 2.0) if deploys else stamp(last.finish)
            first = run.attempts[0]
            jobs[TRIGGER] = Job(
                job_id(number, 1, 19),
                TRIGGER,
                "deploy",
                begun,
                started=at if deploys else None,
                finished=at,
                outcome="success" if deploys else "skipped",
                is_trigger=True,
                downstream=self._children.get(number),
                skipped=(stamp(first.finish), stamp(last.begin)) if last is not first else None,
            )
        return sorted([*retried, *jobs.values()], key=lambda job: job.id)


def _job(number: int, name: str, played: Played, created: float, stamp: Stamp) -> Job:
    ran = bool(played.steps)
    return Job(
        number,
        name,
        _STAGES.get(name, "deploy" if name in ("staging", "production") else "test"),
        created,
        queued=stamp(played.released) if ran else None,
        started=stamp(played.started) if ran else None,
        finished=stamp(played.finished),
        outcome=_OUTCOMES.get(played.conclusion, played.conclusion),
        reason=_REASONS.get(played.conclusion),
        waits_for_person=played.released > played.created,
        has_report=name.startswith(("unit", "end-to-end")),
        has_archive=name in ("integration", "package"),
    )
