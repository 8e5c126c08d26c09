"""GitLab's hooks as facts, or as builds to look at. Pure.

A hook's times are those of the API, cut to the second; its ids and statuses are the same. What it lacks are the
jobs that were retried, and with them the attempt (see `executions.py`). What it can tell nevertheless:

- **Pipeline hook.** Jobs are made with their pipeline, and a job that is run again is made later. So a pipeline
  none of whose jobs is younger than itself has had no retry: it is in attempt 1, and so are its jobs; facts are made
  of it and of the jobs that have ended. Of every other pipeline it is only told that it should be looked at. So
  it is of child pipelines, whose workflow hangs on the trigger job; and of one that failed without any job,
  whose configuration may be at fault.
- **Job hook.** `retries_count` is the number of retried jobs of that name. Zero: this is the first. More: it may
  be the next, or GitLab may have retried this very one before it wrote the hook; the pipeline is looked at.

Pipeline hooks give no start. It is their creation and the time they waited, of which GitLab tells whole seconds.
"""

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from pydantic import ValidationError

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.catalogue import explain
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState, PullRequestObservedV1
from services.poller.providers.gitlab.fields import (
    BadRowError,
    an_id,
    first_line,
    moment,
    number,
    part,
    raw,
    rows,
    seconds,
    shifted,
    text,
)
from services.poller.providers.gitlab.mapping import (
    DEPLOYMENT_STATUSES,
    PROVIDER,
    job_of,
    merge_request_branch,
    merge_request_of,
    queued_at,
    state_of,
    workflow_of,
)
from services.poller.seen import Seen

_MADE_TOGETHER = timedelta(seconds=1)
"""A job may be made a moment after its pipeline, past the turn of a second."""
_FULL_SHA = re.compile(r"/commit/([0-9a-f]{40,64})$")
_KINDS = {
    "Pipeline Hook": "pipeline",
    "Job Hook": "build",
    "Deployment Hook": "deployment",
    "Merge Request Hook": "merge_request",
}


def facts_of(event: str, body: Mapping[str, Any], *, instance: str) -> Seen:
    """What a hook tells.

    Args:
        event: the header `X-Gitlab-Event`, such as `Pipeline Hook`; a `System Hook` says in its body what it is.
        body: the hook's JSON.
        instance: of the facts' subjects.
    """
    named = body.get("object_kind")
    kind = named if isinstance(named, str) else _KINDS.get(event, "")
    try:
        if kind == "pipeline":
            return _pipeline(body, instance)
        if kind == "build":
            return _job(body, instance)
        if kind == "deployment":
            return Seen(facts=(_deployment(body, instance),))
        if kind == "merge_request":
            return Seen(facts=(_merge_request(body, instance),))
    except (BadRowError, ValidationError) as error:
        why = explain(error) if isinstance(error, ValidationError) else str(error)
        return Seen(ignored=f"the {kind} hook cannot be read: {why}")
    return Seen(ignored=f"hooks of this kind are not used: {text(kind, 50) or text(event, 50) or 'unnamed'}")


# -- pipelines


def _pipeline(body: Mapping[str, Any], instance: str) -> Seen:
    attributes = part(body, "object_attributes")
    run_id = an_id(attributes, "id", "object_attributes.id")
    look = Seen(refresh=((_path(body), run_id),))
    source, builds = text(attributes.get("source")), rows(body.get("builds"))
    if source in ("parent_pipeline", "pipeline") or part(body, "source_pipeline").get("pipeline_id"):
        return look
    if not builds and attributes.get("status") == "failed":
        return look
    created = moment(attributes.get("created_at"))
    if created is None or not _is_first_attempt(created, builds):
        return look
    build = _build(body, attributes, created, instance=instance)
    return Seen(facts=(build, *_ended_jobs(builds, build, part(body, "project"))))


def _is_first_attempt(created: datetime, builds: list[Mapping[str, Any]]) -> bool:
    made = [moment(build.get("created_at")) for build in builds]
    return all(at is not None and at - created <= _MADE_TOGETHER for at in made)


def _build(
    body: Mapping[str, Any], attributes: Mapping[str, Any], created: datetime, *, instance: str
) -> BuildObservedV1:
    project, commit, builds = part(body, "project"), part(body, "commit"), rows(body.get("builds"))
    run_id = an_id(attributes, "id")
    ref, is_tag = text(attributes.get("ref")), attributes.get("tag") is True
    # A hook names the source branch of a merge request, and the merge request beside it.
    request = number(part(body, "merge_request").get("iid"))
    if attributes.get("source") != "merge_request_event":
        request = merge_request_of(ref)
    status, source = raw(attributes.get("status")), text(attributes.get("source"))
    ended = moment(attributes.get("finished_at"))
    finished = ended if state_of(status).is_terminal else None
    started = _started(created, attributes, builds)
    times = [created, started, ended, *_times(builds)]
    subject = first_line(commit.get("message"))
    workflow_id, workflow = workflow_of(source)
    page = text(project.get("web_url"))
    return BuildObservedV1(
        build=BuildRef(
            provider=PROVIDER,
            instance=instance,
            repository_id=an_id(project, "id", "project.id"),
            run_id=run_id,
        ),
        repository=_path(body),
        workflow_id=workflow_id,
        workflow=workflow,
        run_number=number(attributes.get("iid")),
        title=text(attributes.get("name")) or subject,
        event=source,
        branch=None if is_tag else merge_request_branch(request) or ref,
        tag=ref if is_tag else None,
        commit_sha=text(attributes.get("sha")),
        commit_message=subject,
        author=text(part(commit, "author").get("name")),
        actor=text(part(body, "user").get("username")),
        pull_request=request,
        url=text(attributes.get("url")) or (f"{page}/-/pipelines/{run_id}" if page else None),
        raw_status=status,
        state=state_of(status),
        created_at=created,
        queued_at=queued_at(started, attributes.get("queued_duration")),
        started_at=started,
        finished_at=finished,
        updated_at=finished or max(at for at in times if at is not None),
    )


def _started(
    created: datetime, attributes: Mapping[str, Any], builds: list[Mapping[str, Any]]
) -> datetime | None:
    waited = seconds(attributes.get("queued_duration"))
    if waited is not None:
        return shifted(created, int(waited))
    return min((at for b in builds if (at := moment(b.get("started_at")))), default=None)


def _times(builds: list[Mapping[str, Any]]) -> list[datetime | None]:
    return [moment(build.get(key)) for build in builds for key in ("started_at", "finished_at")]


def _ended_jobs(
    builds: list[Mapping[str, Any]], build: BuildObservedV1, project: Mapping[str, Any]
) -> list[JobObservedV1]:
    """The jobs that have ended; one that cannot be read is left to the poll."""
    page, found = text(project.get("web_url")), []
    for row in builds:
        address = {"web_url": f"{page}/-/jobs/{number(row.get('id'))}"} if page else {}
        try:
            job = job_of(dict(row) | address, build=build.build, otherwise=build.updated_at)
        except BadRowError:
            continue
        if job.state.is_terminal:
            found.append(job)
    return found


# -- jobs


def _job(body: Mapping[str, Any], instance: str) -> Seen:
    # Before GitLab named it so, the pipeline's id was the commit's.
    named = "pipeline_id" if body.get("pipeline_id") is not None else "commit.id"
    run_id = an_id({named: body.get("pipeline_id") or part(body, "commit").get("id")}, named)
    if number(body.get("retries_count")) != 0:
        return Seen(refresh=((_path(body), run_id),))
    page = text(part(body, "project").get("web_url")) or text(part(body, "repository").get("homepage"))
    row = {
        "id": body.get("build_id"),
        "name": body.get("build_name"),
        "stage": body.get("build_stage"),
        "status": body.get("build_status"),
        "created_at": body.get("build_created_at"),
        "started_at": body.get("build_started_at"),
        "finished_at": body.get("build_finished_at"),
        "queued_duration": body.get("build_queued_duration"),
        "allow_failure": body.get("build_allow_failure"),
        "failure_reason": body.get("build_failure_reason"),
        "runner": body.get("runner"),
        "web_url": f"{page}/-/jobs/{number(body.get('build_id'))}" if page else None,
    }
    when = moment(body.get("build_created_at")) or moment(part(body, "commit").get("started_at"))
    if when is None:
        return Seen(refresh=((_path(body), run_id),))
    build = BuildRef(
        provider=PROVIDER, instance=instance, repository_id=an_id(body, "project_id"), run_id=run_id
    )
    return Seen(facts=(job_of(row, build=build, otherwise=when),))


# -- what else


def _deployment(body: Mapping[str, Any], instance: str) -> DeploymentObservedV1:
    status, environment = raw(body.get("status")), text(body.get("environment"))
    changed = moment(body.get("status_changed_at"))
    if environment is None or changed is None:
        raise BadRowError("it has no environment" if environment is None else "status_changed_at is no time")
    sha = _FULL_SHA.search(text(body.get("commit_url")) or "")
    tier = text(body.get("environment_tier"))
    state = DEPLOYMENT_STATUSES.get(status or "", DeploymentState.UNKNOWN)
    over = state not in (DeploymentState.PENDING, DeploymentState.RUNNING, DeploymentState.UNKNOWN)
    return DeploymentObservedV1(
        provider=PROVIDER,
        instance=instance,
        repository_id=an_id(part(body, "project"), "id", "project.id"),
        repository=_path(body),
        deployment_id=an_id(body, "deployment_id"),
        environment=environment,
        is_production=None if tier is None else tier == "production",
        raw_status=status,
        state=state,
        ref=text(body.get("ref")),
        commit_sha=sha.group(1) if sha else None,
        actor=text(part(body, "user").get("username")),
        url=text(body.get("environment_external_url")) or text(body.get("deployable_url")),
        finished_at=changed if over else None,
        updated_at=changed,
    )


def _merge_request(body: Mapping[str, Any], instance: str) -> PullRequestObservedV1:
    attributes = part(body, "object_attributes")
    updated, action = moment(attributes.get("updated_at")), attributes.get("action")
    created = moment(attributes.get("created_at"))
    shown_at = updated or created
    if shown_at is None:
        raise BadRowError("it has no readable time")
    project_id = part(body, "project").get("id") or attributes.get("target_project_id")
    draft = attributes.get("draft", attributes.get("work_in_progress"))
    state = raw(attributes.get("state"))
    return PullRequestObservedV1(
        provider=PROVIDER,
        instance=instance,
        # Older GitLabs leave out the project's id; the merge request is in its target.
        repository_id=an_id({"id": project_id}, "id", "project.id"),
        repository=_path(body),
        number=int(an_id(attributes, "iid")),
        title=text(attributes.get("title")),
        # Who opens it is its author; of whoever does something else, it is only known that they did.
        author=text(part(body, "user").get("username")) if action == "open" else None,
        raw_status=state,
        is_draft=draft is True,
        head_branch=text(attributes.get("source_branch")),
        head_sha=text(part(attributes, "last_commit").get("id")),
        base_branch=text(attributes.get("target_branch")),
        merge_commit_sha=text(attributes.get("merge_commit_sha")),
        url=text(attributes.get("url")),
        created_at=created,
        # The hook that tells of the merge is written at its time; later ones do not say when it was.
        merged_at=updated if action == "merge" else None,
        closed_at=updated if action == "close" else None,
        updated_at=shown_at,
    )


def _path(body: Mapping[str, Any]) -> str:
    """The project's whole path; job hooks of older GitLabs have it in the addresses of the repository alone.

    Raises:
        BadRowError: it is nowhere.
    """
    path = text(part(body, "project").get("path_with_namespace"))
    if path:
        return path
    repository = part(body, "repository")
    for key in ("git_ssh_url", "url", "git_http_url", "homepage"):
        address = text(repository.get(key))
        if address and (path := _path_in(address)):
            return path
    raise BadRowError("the project's path is missing")


def _path_in(address: str) -> str | None:
    """`acme/shop` of `git@gitlab.acme.example:acme/shop.git`, or of a URL."""
    try:
        path = urlsplit(address).path if "://" in address else address.partition(":")[2]
    except ValueError:
        return None
    return path.strip("/").removesuffix(".git") or None
