"""GitLab's webhooks `Pipeline Hook` and `Job Hook`, made of what changes in its pipelines.

As GitLab has it: a hook per change of a pipeline's or job's status; times cut to the second; a pipeline hook shows
the latest job of each name alone, and no trigger jobs; which attempt a job is, only `retries_count` hints at.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import nlargest
from time import time
from typing import Any

from sandbox import gitlab_ci_shapes as shapes
from sandbox.gitlab_ci import CI
from sandbox.gitlab_pipelines import GOING, Job, Pipeline, latest
from sandbox.gitlab_shapes import Body, Project
from sandbox.webhooks import Delivery, delivery_id

WATCHED_PIPELINES = 40
"""Of each project, newest first; what changes in older ones is not told."""
_KEPT_PIPELINES = 5000
_VISIBILITY = {"private": 0, "internal": 10, "public": 20}
_JOB_TIMES = ("created_at", "started_at", "finished_at")


@dataclass
class _Known:
    """A pipeline as it was last told of: its status with the number of its jobs that were retried, and its jobs'."""

    pipeline: tuple[str, int] | None = None
    jobs: dict[int, str] = field(default_factory=dict)


class GitLabHooks:
    """A `Source`."""

    def __init__(self, ci: CI) -> None:
        self._ci = ci
        self._known: dict[int, _Known] = {}

    def __call__(self, base: str) -> Iterable[Delivery]:
        now = time()
        for pipeline in self._newest():
            yield from self._changes(pipeline, base, now)
        for number in list(self._known)[: max(0, len(self._known) - _KEPT_PIPELINES)]:
            del self._known[number]

    def _newest(self) -> Iterator[Pipeline]:
        """Oldest first, as things happened."""
        of: dict[int, list[Pipeline]] = defaultdict(list)
        for pipeline in self._ci.all():
            of[pipeline.project.id].append(pipeline)
        for pipelines in of.values():
            yield from reversed(nlargest(WATCHED_PIPELINES, pipelines, key=lambda one: one.id))

    def _changes(self, pipeline: Pipeline, base: str, now: float) -> Iterator[Delivery]:
        known = self._known.setdefault(pipeline.id, _Known())
        jobs = [job for job in pipeline.known_jobs(now) if not job.is_trigger]
        for job in jobs:
            status = job.status(now)
            if known.jobs.get(job.id) != status:
                known.jobs[job.id] = status
                yield _delivery("Job Hook", _job_body(pipeline, job, base, now), base)
        state = (pipeline.status(now), sum(job.is_retried(now) for job in jobs))
        if state != known.pipeline:
            known.pipeline = state
            yield _delivery("Pipeline Hook", _pipeline_body(pipeline, base, now), base)


def _delivery(event: str, body: Body, base: str) -> Delivery:
    raw = json.dumps(body, separators=(",", ":")).encode()
    number = delivery_id(event, raw)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitLab/17.9.1",
        "X-Gitlab-Event": event,
        "X-Gitlab-Instance": base,
        "X-Gitlab-Webhook-UUID": delivery_id("hook"),
        "X-Gitlab-Event-UUID": delivery_id("event", raw),
        "Idempotency-Key": number,
    }
    return Delivery(event, raw, headers, number)


# -- bodies


def _pipeline_body(pipeline: Pipeline, base: str, now: float) -> Body:
    shown = shapes.pipeline_named(pipeline, base, now)
    jobs = [job for job in latest(pipeline.known_jobs(now), now) if not job.is_trigger]
    body: Body = {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "name": pipeline.name,
            "ref": _source_ref(pipeline),
            "tag": pipeline.tag,
            "sha": pipeline.sha,
            "before_sha": shown["before_sha"],
            "source": pipeline.source,
            "status": shown["status"],
            "detailed_status": shown["detailed_status"]["label"],
            "stages": list(dict.fromkeys(job.stage for job in pipeline.known_jobs(now))),
            "created_at": _cut(shown["created_at"]),
            "finished_at": _cut(shown["finished_at"]),
            "duration": shown["duration"],
            "queued_duration": shown["queued_duration"],
            "protected_ref": pipeline.ref == pipeline.project.default_branch,
            "variables": [],
            "url": shown["web_url"],
        },
        "merge_request": _merge_request(pipeline, base),
        "user": _user(pipeline, base),
        "project": _project(pipeline.project, base),
        "commit": _commit(pipeline, base),
        "builds": [_build(pipeline, job, base, now) for job in jobs],
    }
    return body | _source(pipeline, base)


def _build(pipeline: Pipeline, job: Job, base: str, now: float) -> Body:
    """A job in a pipeline's hook."""
    shown = shapes.shown(pipeline, job, base, now)
    file = shown.get("artifacts_file") or {"filename": None, "size": None}
    return {
        **{name: shown[name] for name in ("id", "stage", "name", "status")},
        **{name: _cut(shown[name]) for name in _JOB_TIMES},
        "duration": shown["duration"],
        "queued_duration": shown["queued_duration"],
        "failure_reason": shown.get("failure_reason"),
        "when": "manual" if job.waits_for_person else "on_success",
        "manual": job.waits_for_person,
        "allow_failure": job.is_allowed_to_fail,
        "user": _user(pipeline, base),
        "runner": _runner(shown["runner"]),
        "artifacts_file": file,
        "environment": _environment(job),
    }


def _job_body(pipeline: Pipeline, job: Job, base: str, now: float) -> Body:
    shown, project = shapes.shown(pipeline, job, base, now), pipeline.project
    whole = shapes.pipeline(pipeline, base, now)
    about = _project(project, base)
    retried = [one for one in pipeline.known_jobs(now) if one.name == job.name and one.is_retried(now)]
    body: Body = {
        "object_kind": "build",
        "ref": pipeline.ref,
        "tag": pipeline.tag,
        "before_sha": whole["before_sha"],
        "sha": pipeline.sha,
        "retries_count": len(retried),
        **{f"build_{name}": shown[name] for name in ("id", "name", "stage", "status")},
        **{f"build_{name}": _cut(shown[name]) for name in _JOB_TIMES},
        "build_duration": shown["duration"],
        "build_queued_duration": shown["queued_duration"],
        "build_allow_failure": job.is_allowed_to_fail,
        # GitLab gives one to jobs that did not fail, too.
        "build_failure_reason": shown.get("failure_reason", "unknown_failure"),
        "pipeline_id": pipeline.id,
        "runner": _runner(shown["runner"]),
        "project_id": project.id,
        "project_name": f"{project.group.name} / {project.name}",
        "user": _user(pipeline, base),
        "commit": {
            # The pipeline's, by GitLab's tradition.
            "id": pipeline.id,
            "name": pipeline.name,
            "sha": pipeline.sha,
            "message": pipeline.message,
            "author_name": pipeline.author.name,
            "author_email": pipeline.author.email,
            "author_url": f"mailto:{pipeline.author.email}",
            "status": whole["status"],
            "duration": whole["duration"],
            "started_at": _cut(whole["started_at"]),
            "finished_at": _cut(whole["finished_at"]),
        },
        "repository": {
            "name": project.name,
            "url": about["git_ssh_url"],
            "description": project.description,
            "homepage": about["web_url"],
            "git_http_url": about["git_http_url"],
            "git_ssh_url": about["git_ssh_url"],
            "visibility_level": about["visibility_level"],
        },
        "project": about,
        "environment": _environment(job),
    }
    return body | _source(pipeline, base)


# -- their parts


def _cut(moment: str | None) -> str | None:
    """A time of the API as hooks have it: `2026-03-02 09:00:00 UTC`."""
    return None if moment is None else f"{moment[:10]} {moment[11:19]} UTC"


def _source_ref(pipeline: Pipeline) -> str:
    """The branch; that of a merge request's pipeline is the source branch, and not the ref the API shows."""
    return f"change-{pipeline.merge_request}" if pipeline.merge_request else pipeline.ref


def _source(pipeline: Pipeline, base: str) -> Body:
    """What started it, where another pipeline did."""
    if pipeline.parent is None:
        return {}
    about = _project(pipeline.project, base)
    named = {key: about[key] for key in ("id", "web_url", "path_with_namespace")}
    return {"source_pipeline": {"project": named, "pipeline_id": pipeline.parent, "job_id": None}}


def _merge_request(pipeline: Pipeline, base: str) -> Body | None:
    number, project = pipeline.merge_request, pipeline.project
    if number is None:
        return None
    return {
        "id": project.id * 10_000 + number,
        "iid": number,
        "title": pipeline.message.partition("\n")[0],
        "source_branch": _source_ref(pipeline),
        "source_project_id": project.id,
        "target_branch": project.default_branch,
        "target_project_id": project.id,
        "state": "opened",
        "merge_status": "can_be_merged",
        "detailed_merge_status": "ci_still_running" if pipeline.status(time()) in GOING else "mergeable",
        "url": f"{base}/{project.full_path}/-/merge_requests/{number}",
    }


def _user(pipeline: Pipeline, base: str) -> Body:
    shown = shapes.person(pipeline.actor, base)
    return {key: shown[key] for key in ("id", "name", "username", "avatar_url")} | {"email": "[REDACTED]"}


def _project(project: Project, base: str) -> Body:
    page = f"{base}/{project.full_path}"
    return {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "web_url": page,
        "avatar_url": None,
        "git_ssh_url": f"git@localhost:{project.full_path}.git",
        "git_http_url": f"{page}.git",
        "namespace": project.group.name,
        "visibility_level": _VISIBILITY.get(project.visibility, 0),
        "path_with_namespace": project.full_path,
        "default_branch": project.default_branch,
        "ci_config_path": None,
    }


def _commit(pipeline: Pipeline, base: str) -> Body:
    shown = shapes.commit(pipeline, base)
    return {
        "id": pipeline.sha,
        "message": pipeline.message,
        "title": shown["title"],
        "timestamp": f"{shown['created_at'][:19]}+00:00",
        "url": shown["web_url"],
        "author": {"name": pipeline.author.name, "email": "[REDACTED]"},
    }


def _runner(shown: dict[str, Any] | None) -> Body | None:
    if shown is None:
        return None
    kept = {key: shown[key] for key in ("id", "description", "runner_type", "active", "is_shared")}
    return kept | {"tags": ["docker"]}


def _environment(job: Job) -> Body | None:
    """Each job in a stage `deploy` has one."""
    if job.stage != "deploy":
        return None
    tier = job.name if job.name in ("production", "staging") else "other"
    return {"name": job.name, "action": "start", "deployment_tier": tier}
