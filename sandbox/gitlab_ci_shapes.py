"""GitLab's JSON of CI: pipelines, jobs, trigger jobs, deployments, statuses, test reports."""

from datetime import UTC, datetime
from typing import Any

from sandbox.catalogue import Person
from sandbox.gitlab_pipelines import GOING, Job, Pipeline, gaps
from sandbox.gitlab_shapes import Body, Project, iso

_LABELS = {"success": "passed", "pending": "pending", "manual": "blocked"}


def stamp(moment: float | None) -> str | None:
    return None if moment is None else iso(datetime.fromtimestamp(moment, UTC))


def person(who: Person, base: str) -> Body:
    """A `UserBasic`."""
    return {
        "id": who.number,
        "username": who.login.removesuffix("[bot]"),
        "name": who.name,
        "state": "active",
        "locked": False,
        "avatar_url": None,
        "web_url": f"{base}/{who.login.removesuffix('[bot]')}",
    }


def pipeline_basic(pipeline: Pipeline, base: str, now: float) -> Body:
    """A pipeline in a listing."""
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": pipeline.project.id,
        "sha": pipeline.sha,
        "ref": pipeline.ref,
        "status": pipeline.status(now),
        "source": pipeline.source,
        "created_at": stamp(pipeline.created),
        "updated_at": stamp(pipeline.updated_at(now)),
        "web_url": f"{base}/{pipeline.project.full_path}/-/pipelines/{pipeline.id}",
    }


def pipeline_named(one: Pipeline, base: str, now: float) -> Body:
    """A pipeline asked for by itself."""
    return {**pipeline(one, base, now), "name": one.name}


def pipeline(pipeline: Pipeline, base: str, now: float) -> Body:
    """A pipeline that was made or changed."""
    started, finished = pipeline.started_at(now), pipeline.finished_at(now)
    status = pipeline.status(now)
    label = _LABELS.get(status, status)
    return {
        **pipeline_basic(pipeline, base, now),
        "before_sha": "0" * 40,
        "tag": pipeline.tag,
        "yaml_errors": pipeline.yaml_errors,
        "user": person(pipeline.actor, base),
        "started_at": stamp(started),
        "finished_at": stamp(finished),
        "committed_at": None,
        "duration": int(gaps(pipeline, now)) if started and status not in GOING else None,
        "queued_duration": (int(started - pipeline.created) or None) if started else None,
        "coverage": None,
        "detailed_status": {
            "icon": f"status_{status}",
            "text": label,
            "label": label,
            "group": status,
            "tooltip": label,
            "has_details": True,
            "details_path": f"/{pipeline.project.full_path}/-/pipelines/{pipeline.id}",
            "illustration": None,
            "favicon": f"/assets/ci_favicons/favicon_status_{status}.png",
        },
    }


def commit(pipeline: Pipeline, base: str) -> Body:
    """The commit of a job's pipeline."""
    moment = stamp(pipeline.created - 5)
    author = {"author_name": pipeline.author.name, "author_email": pipeline.author.email}
    return {
        "id": pipeline.sha,
        "short_id": pipeline.sha[:8],
        "created_at": moment,
        "parent_ids": [pipeline.sha[::-1]],
        "title": pipeline.message.splitlines()[0] if pipeline.message else "",
        "message": pipeline.message,
        **author,
        "authored_date": moment,
        "committer_name": pipeline.author.name,
        "committer_email": pipeline.author.email,
        "committed_date": moment,
        "trailers": {},
        "extended_trailers": {},
        "web_url": f"{base}/{pipeline.project.full_path}/-/commit/{pipeline.sha}",
    }


def job_basic(pipeline_of: Pipeline, job: Job, base: str, now: float) -> Body:
    """What jobs and trigger jobs have in common."""
    started, finished = job.shown("started", now), job.shown("finished", now)
    queued = job.shown("queued", now)
    status = job.status(now)
    over = finished if finished is not None and status not in GOING else None
    return {
        "id": job.id,
        "status": status,
        "stage": job.stage,
        "name": job.name,
        "ref": pipeline_of.ref,
        "tag": pipeline_of.tag,
        "coverage": None,
        "allow_failure": job.is_allowed_to_fail,
        "created_at": stamp(job.created),
        "started_at": stamp(started),
        "finished_at": stamp(over) if status != "skipped" else None,
        "erased_at": None,
        "duration": round((over or now) - started, 3) if started else None,
        "queued_duration": round(started - queued, 3) if started and queued else None,
        "user": person(pipeline_of.actor, base),
        "commit": commit(pipeline_of, base),
        "pipeline": pipeline_basic(pipeline_of, base, now),
        "web_url": f"{base}/{pipeline_of.project.full_path}/-/jobs/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
        **({"failure_reason": job.reason or "script_failure"} if status == "failed" else {}),
    }


def shown(pipeline_of: Pipeline, job: Job, base: str, now: float) -> Body:
    """A job."""
    ended = job.status(now) in ("success", "failed")
    files = artifacts(job) if ended else []
    archive = next((one for one in files if one["file_type"] == "archive"), None)
    began = job.shown("started", now) is not None
    return {
        **job_basic(pipeline_of, job, base, now),
        **({"artifacts_file": {k: archive[k] for k in ("filename", "size")}} if archive else {}),
        "artifacts": files,
        "runner": _runner(job) if began else None,
        "runner_manager": None,
        "artifacts_expire_at": None,
        "archived": False,
        "tag_list": ["docker"],
    }


def bridge(pipeline_of: Pipeline, job: Job, child: Pipeline | None, base: str, now: float) -> Body:
    """A trigger job, with the pipeline it has started."""
    started = pipeline_basic(child, base, now) if child is not None else None
    return {**job_basic(pipeline_of, job, base, now), "downstream_pipeline": started}


def artifacts(job: Job) -> list[Body]:
    """The files a job that has ended left, as the job shows them."""
    found = [{"file_type": "trace", "size": 1500, "filename": "job.log", "file_format": None}]
    if job.has_report:
        found.append({"file_type": "junit", "size": 900, "filename": "junit.xml.gz", "file_format": "gzip"})
    if job.has_archive:
        found.append(
            {"file_type": "archive", "size": 4000, "filename": "artifacts.zip", "file_format": "zip"}
        )
    return found


def _runner(job: Job) -> Body:
    number = 1 + job.id % 7
    return {
        "id": number,
        "description": f"blue-{number}.runners.acme.example",
        "ip_address": None,
        "active": True,
        "paused": False,
        "is_shared": True,
        "runner_type": "instance_type",
        "name": "gitlab-runner",
        "online": True,
        "status": "online",
    }


def deployment(pipeline_of: Pipeline, job: Job, base: str, now: float) -> Body:
    """A deployment: each job in a stage `deploy` makes one."""
    status = job.status(now)
    moments = [job.created, *(job.shown(name, now) for name in ("queued", "started", "finished"))]
    return {
        "id": job.id,
        "iid": job.id % 100_000,
        "ref": pipeline_of.ref,
        "sha": pipeline_of.sha,
        "created_at": stamp(job.created),
        "updated_at": stamp(max(at for at in moments if at is not None)),
        "user": person(pipeline_of.actor, base),
        "environment": {
            "id": sum(job.name.encode()),
            "name": job.name,
            "slug": job.name,
            "external_url": f"https://{job.name}.{pipeline_of.project.path}.acme.example",
            "created_at": stamp(pipeline_of.created),
            "updated_at": stamp(pipeline_of.created),
        },
        "deployable": shown(pipeline_of, job, base, now),
        "status": {"manual": "blocked", "pending": "created"}.get(status, status),
    }


def commit_status(project: Project, sha: str, given: dict[str, Any], number: int, base: str) -> Body:
    """A status that somebody has put on a commit."""
    now = iso(datetime.now(UTC))
    return {
        "id": number,
        "sha": sha,
        "ref": given.get("ref") or project.default_branch,
        "status": given["state"],
        "name": given.get("name") or given.get("context") or "default",
        "target_url": given.get("target_url"),
        "description": given.get("description"),
        "created_at": now,
        "started_at": None,
        "finished_at": now if given["state"] in ("success", "failed", "canceled") else None,
        "allow_failure": False,
        "coverage": None,
        "pipeline_id": given.get("pipeline_id"),
        "author": person(Person("sandbox", "Sandbox Robot", 1), base),
    }
