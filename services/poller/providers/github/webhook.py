"""What GitHub's webhooks tell. Pure, and total: a body becomes a Seen or a BadRowError, never anything else.

A hook carries a run or job as the API shows it, so the same functions read both and give the same ids.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.catalogue import explain
from buildlight_contracts.deployments import CheckObservedV1, PullRequestObservedV1
from services.poller.providers.github.deployments import deployment_of, run_and_job
from services.poller.providers.github.mapping import (
    PROVIDER,
    BadRowError,
    attempt_of,
    build_of,
    id_of,
    job_under,
    moment_of,
    number_of,
    object_at,
    part_of,
    raw_of,
    state_of,
    text_of,
)
from services.poller.seen import Seen

ACTIONS_APP: Final = "github-actions"
_NAME = re.compile(r"[^/\s]+/[^/\s]+")


def facts_of(event: str, body: Mapping[str, Any], *, instance: str) -> Seen:
    """What a delivery tells; `event` is its `X-GitHub-Event`.

    Raises:
        BadRowError: it is not what GitHub sends for this event.
    """
    read = _READERS.get(event)
    if read is None:
        return Seen(ignored="a ping" if event == "ping" else f"{event} tells nothing of builds")
    return read(object_at(body, "the delivery"), instance)


def _workflow_run(body: Mapping[str, Any], instance: str) -> Seen:
    """A run, whole. At its end its jobs and earlier attempts are asked for: their own hooks may be lost."""
    run = object_at(body.get("workflow_run"), "workflow_run")
    if number_of(part_of(run, "repository").get("id")) is None:
        run = {**run, "repository": part_of(body, "repository")}
    build = build_of(run, instance=instance, repository=_repository(body)[1])
    is_over = build.raw_status == "completed"
    return Seen((build,), refresh=((build.repository, build.build.run_id),) if is_over else ())


def _workflow_job(body: Mapping[str, Any], instance: str) -> Seen:
    job = object_at(body.get("workflow_job"), "workflow_job")
    ref = BuildRef(
        provider=PROVIDER,
        instance=instance,
        repository_id=_repository(body)[0],
        run_id=id_of(job, "run_id"),
        attempt=attempt_of(job),
    )
    return Seen((job_under(job, ref=ref),))


def _check_run(body: Mapping[str, Any], instance: str) -> Seen:
    """A check that another system made. Those of Actions are jobs, which are told better elsewhere."""
    check = object_at(body.get("check_run"), "check_run")
    repository_id, repository = _repository(body)
    app = part_of(check, "app")
    number = id_of(check, "id")
    if app.get("slug") == ACTIONS_APP:
        run_id, _ = run_and_job({"log_url": check.get("details_url"), "target_url": check.get("html_url")})
        if run_id is None:
            return Seen(
                ignored="a check of GitHub Actions that does not say of which run; its job is told too"
            )
        if raw_of(check.get("status")) != "completed":
            return Seen(ignored="a check of GitHub Actions that goes on; its job is told too")
        return Seen(refresh=((repository, run_id),))
    status, conclusion = raw_of(check.get("status")), raw_of(check.get("conclusion"))
    started, finished = moment_of(check.get("started_at")), moment_of(check.get("completed_at"))
    observed_at = finished or started
    commit_sha, name = text_of(check.get("head_sha")), text_of(check.get("name"))
    if observed_at is None or not commit_sha or not name:
        raise BadRowError(f"check {number}: no readable time, commit or name")
    return Seen(
        (
            _made(
                CheckObservedV1,
                f"check {number}",
                instance=instance,
                repository_id=repository_id,
                repository=repository,
                check_id=number,
                name=name,
                app=text_of(app.get("name")) or text_of(app.get("slug")),
                commit_sha=commit_sha,
                branch=text_of(part_of(check, "check_suite").get("head_branch")),
                raw_status=status,
                raw_conclusion=conclusion,
                state=state_of(status, conclusion),
                url=text_of(check.get("html_url")) or text_of(check.get("details_url")),
                started_at=started,
                finished_at=finished,
                observed_at=observed_at,
            ),
        )
    )


def _deployment(body: Mapping[str, Any], instance: str) -> Seen:
    repository_id, repository = _repository(body)
    return Seen(
        (
            deployment_of(
                body.get("deployment"),
                None,
                instance=instance,
                repository_id=repository_id,
                repository=repository,
                build=_build(body, instance, repository_id),
            ),
        )
    )


def _deployment_status(body: Mapping[str, Any], instance: str) -> Seen:
    repository_id, repository = _repository(body)
    return Seen(
        (
            deployment_of(
                body.get("deployment"),
                object_at(body.get("deployment_status"), "deployment_status"),
                instance=instance,
                repository_id=repository_id,
                repository=repository,
                build=_build(body, instance, repository_id),
            ),
        )
    )


def _pull_request(body: Mapping[str, Any], instance: str) -> Seen:
    pull = object_at(body.get("pull_request"), "pull_request")
    repository_id, repository = _repository(body)
    number = number_of(pull.get("number"))
    if number is None or number < 1:
        raise BadRowError("pull_request.number is missing or no number")
    created, updated = moment_of(pull.get("created_at")), moment_of(pull.get("updated_at"))
    merged, closed = moment_of(pull.get("merged_at")), moment_of(pull.get("closed_at"))
    shown_at = updated or closed or created
    if shown_at is None:
        raise BadRowError(f"pull request {number}: no readable time")
    is_merged = merged is not None or pull.get("merged") is True
    head, base = part_of(pull, "head"), part_of(pull, "base")
    return Seen(
        (
            _made(
                PullRequestObservedV1,
                f"pull request {number}",
                instance=instance,
                repository_id=repository_id,
                repository=repository,
                number=number,
                title=text_of(pull.get("title")),
                author=text_of(part_of(pull, "user").get("login")),
                raw_status="merged" if is_merged else raw_of(pull.get("state")),
                is_draft=pull.get("draft") is True,
                head_branch=text_of(head.get("ref")),
                head_sha=text_of(head.get("sha")),
                base_branch=text_of(base.get("ref")),
                # Of an open one this is only a trial.
                merge_commit_sha=text_of(pull.get("merge_commit_sha")) if is_merged else None,
                url=text_of(pull.get("html_url")),
                created_at=created,
                merged_at=merged,
                closed_at=closed,
                updated_at=shown_at,
            ),
        )
    )


_READERS: Final[Mapping[str, Callable[[Mapping[str, Any], str], Seen]]] = {
    "workflow_run": _workflow_run,
    "workflow_job": _workflow_job,
    "check_run": _check_run,
    "deployment": _deployment,
    "deployment_status": _deployment_status,
    "pull_request": _pull_request,
}
EVENTS: Final = frozenset(_READERS)
"""The events to subscribe to; a ping comes by itself."""


def _repository(body: Mapping[str, Any]) -> tuple[str, str]:
    """Id and name of the repository a delivery is about."""
    place = object_at(body.get("repository"), "repository")
    name = text_of(place.get("full_name"))
    if name is None or not _NAME.fullmatch(name):
        raise BadRowError("repository.full_name is missing or no name")
    return id_of(place, "id", "repository.id"), name


def _build(body: Mapping[str, Any], instance: str, repository_id: str) -> BuildRef | None:
    """The attempt that deployed, where a workflow did."""
    run = part_of(body, "workflow_run")
    if number_of(run.get("id")) is None:
        return None
    return BuildRef(
        provider=PROVIDER,
        instance=instance,
        repository_id=repository_id,
        run_id=id_of(run, "id"),
        attempt=attempt_of(run),
    )


_FactT = TypeVar("_FactT", CheckObservedV1, PullRequestObservedV1)


def _made(kind: type[_FactT], what: str, **fields: Any) -> _FactT:
    try:
        return kind(provider=PROVIDER, **fields)
    except ValidationError as error:
        raise BadRowError(f"{what}: {explain(error)}") from None
