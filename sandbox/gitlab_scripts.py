"""Pipelines that a test or a person makes by hand, or that GitLab was asked to start or change."""

import copy
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from hashlib import sha1
from typing import Any

from sandbox.gitlab_listing import ACME, GROUPS
from sandbox.gitlab_pipelines import FUTURE, Job, Pipeline, latest, retry
from sandbox.gitlab_shapes import Project
from sandbox.scripted import ScriptError, moment_of, person_of

FIRST_ID = 900_000_000
"""Below 2**31, as GitLab's own description has ids."""
FIRST_PROJECT = 5001
_TIMES = ("created_at", "queued_at", "started_at", "finished_at")


class ScriptedPipelines:
    """Pipelines under a script's control, by id."""

    def __init__(self, projects: dict[int, Project]) -> None:
        """`projects` are GitLab's, to which a script may add."""
        self._projects = projects
        self.made: dict[int, Pipeline] = {}
        self._next_id = FIRST_ID
        self._next_job = FIRST_ID

    def all(self) -> Iterator[Pipeline]:
        yield from tuple(self.made.values())

    def create(self, script: dict[str, Any]) -> Pipeline:
        """Make a pipeline; see sandbox/README.md for the fields."""
        number = script.get("id", self._next_id)
        if number in self.made:
            raise ScriptError(f"pipeline {number} exists already: PATCH it")
        self._next_id = max(self._next_id, number + 1)
        created = moment_of(script.get("created_at"), time.time())
        request = script.get("merge_request")
        status = script.get("status", "running")
        pipeline = Pipeline(
            id=number,
            iid=script.get("iid", number % 100_000),
            project=self._project(script.get("project", "")),
            source=script.get("source", "merge_request_event" if request else "push"),
            ref=f"refs/merge-requests/{request}/head" if request else script.get("ref", "main"),
            sha=script.get("sha") or sha1(f"{number}".encode(), usedforsecurity=False).hexdigest(),
            message=script.get("title", f"Scripted change {number}"),
            author=person_of(script.get("author")),
            actor=person_of(script.get("author")),
            created=created,
            tag=script.get("tag", False),
            name=script.get("name"),
            forced=status,
            updated=moment_of(script.get("updated_at"), created),
            yaml_errors=script.get("yaml_errors"),
            merge_request=request,
            parent=script.get("parent"),
        )
        self.made[number] = pipeline
        jobs = script.get("jobs", [{"name": "test", "status": status}])
        for one in jobs:
            self._add(pipeline, one, created)
        self._start_by(pipeline, script)
        return pipeline

    def advance(self, number: int, change: dict[str, Any]) -> Pipeline:
        """Move a pipeline on: `retry` names jobs to run again first.

        Raises:
            KeyError: there is no scripted pipeline of this id.
        """
        pipeline = self.made[number]
        now = time.time()
        updated = moment_of(change.get("updated_at"), now)
        if change.get("retry"):
            for job in retry(pipeline, change["retry"], moment_of(change.get("retried_at"), now)):
                # A later job has a higher id than any there is, in its own pipeline and in others.
                job.id = self._next_job = max(job.id, self._next_job + 1)
        pipeline.forced = change.get("status", pipeline.forced)
        pipeline.updated = updated
        for one in change.get("jobs", ()):
            current = [job for job in latest(pipeline.jobs, now + 1) if job.name == one.get("name")]
            if current:
                _change(current[-1], one, updated)
            else:
                self._add(pipeline, one, updated)
        return pipeline

    def adopt(self, pipeline: Pipeline, now: float) -> Pipeline:
        """Take over a pipeline that lived so far, so that it can be changed; what was to come, comes soon."""
        if pipeline.id in self.made:
            return self.made[pipeline.id]
        ours = copy.copy(pipeline)
        ours.jobs = [copy.copy(job) for job in pipeline.jobs if job.created < FUTURE]
        for job in ours.jobs:
            if job.retried_at is not None and job.retried_at >= FUTURE:
                job.retried_at = None
            if job.skipped is not None and job.skipped[1] >= FUTURE:
                job.outcome, job.finished, job.skipped = "skipped", job.skipped[0], None
                job.queued = job.started = None
            for name, seconds in (("queued", 0.5), ("started", 1.0), ("finished", 3.0)):
                at = getattr(job, name)
                if at is not None and at >= FUTURE:
                    setattr(job, name, now + seconds)
        self.made[ours.id] = ours
        return ours

    def begin_anew(self, like: Pipeline, source: str, sha: str, now: float) -> Pipeline:
        """A new pipeline with the jobs of another, which will pass within seconds."""
        number = self._next_id
        self._next_id += 1
        new = copy.copy(like)
        new.id, new.iid, new.created, new.source, new.sha = number, number % 100_000, now, source, sha
        new.forced = new.updated = new.yaml_errors = new.parent = None
        new.jobs = []
        for old in like.jobs:
            if old.is_trigger or any(job.name == old.name for job in new.jobs):
                continue
            job = Job(self._job_id(), old.name, old.stage, now, now, now + 0.5, now + 2.0)
            job.has_report, job.has_archive = old.has_report, old.has_archive
            new.jobs.append(job)
        self.made[number] = new
        return new

    def _project(self, path: str) -> Project:
        if "/" not in path:
            raise ScriptError('"project" must be a whole path, such as "acme/shop"')
        known = next((one for one in self._projects.values() if one.full_path == path), None)
        if known is not None:
            return known
        place, _, name = path.rpartition("/")
        group = next((one for one in GROUPS if one.full_path == place), None)
        if group is None:
            raise ScriptError(f'there is no group "{place}": take {ACME.full_path}')
        number = max(FIRST_PROJECT - 1, *self._projects) + 1 if self._projects else FIRST_PROJECT
        now = datetime.now(UTC)
        made = Project(number, group, name, name, "Scripted", "private", "main", [], now, now)
        self._projects[number] = made
        return made

    def _add(self, pipeline: Pipeline, script: dict[str, Any], moment: float) -> None:
        if "name" not in script:
            raise ScriptError('each of "jobs" needs a "name"')
        job = Job(
            script.get("id") or self._job_id(),
            script["name"],
            script.get("stage", "test"),
            moment_of(script.get("created_at"), moment),
            forced="created",
            is_allowed_to_fail=script.get("allow_failure", False),
            is_trigger=script.get("trigger", False),
            has_report=script.get("report", False),
            has_archive=script.get("archive", False),
        )
        pipeline.jobs.append(job)
        _change(job, {"status": "created"} | script, moment)

    def _start_by(self, child: Pipeline, script: dict[str, Any]) -> None:
        """Show the child at the trigger job of its parent."""
        if child.parent is None:
            return
        parent = self.made.get(child.parent)
        if parent is None:
            raise ScriptError(f"there is no scripted pipeline {child.parent} to be the parent")
        child.source, child.sha = "parent_pipeline", parent.sha
        name = script.get("trigger", "child")
        self._add(parent, {"name": name, "trigger": True, "status": "success"}, child.created)
        parent.jobs[-1].downstream = child.id

    def _job_id(self) -> int:
        self._next_job += 1
        return self._next_job


def _change(job: Job, script: dict[str, Any], moment: float) -> None:
    """Bring a job to the status and times that a script names; what it does not name follows from the status."""
    status = str(script.get("status", job.forced))
    job.forced = job.outcome = status
    if status in ("running", "success", "failed") and job.started is None:
        job.queued, job.started = moment, moment
    if status in ("success", "failed", "canceled") and job.finished is None:
        job.finished = moment
    for name in _TIMES:
        if name in script:
            setattr(job, name.removesuffix("_at"), moment_of(script[name], moment))
    job.reason = script.get("failure_reason", job.reason)
    for name, attribute in (("report", "has_report"), ("archive", "has_archive")):
        setattr(job, attribute, script.get(name, getattr(job, attribute)))
