"""GitHub's deployments, from the API and from webhooks alike."""

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import ValidationError

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.catalogue import explain
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState
from services.poller.metrics import REFUSED
from services.poller.provider import PollFailedError, Target
from services.poller.providers.github.api import PAGE_SIZE, Api, object_of
from services.poller.providers.github.mapping import (
    PROVIDER,
    BadRowError,
    attempt_of,
    id_of,
    moment_of,
    number_of,
    object_at,
    part_of,
    raw_of,
    text_of,
)

LONGEST = timedelta(days=30)
"""How long after it was made a deployment may still change: a job waits no longer for its approval."""
_MOST_PAGES = 100
_MOST_STATUS_PAGES = 10
_USED = ("id", "created_at", "updated_at", "environment", "production_environment", "ref", "sha", "creator")

STATES: Final[Mapping[str, DeploymentState]] = {
    "pending": DeploymentState.PENDING,
    "queued": DeploymentState.PENDING,
    "waiting": DeploymentState.PENDING,
    "in_progress": DeploymentState.RUNNING,
    "success": DeploymentState.SUCCESS,
    "failure": DeploymentState.FAILURE,
    "error": DeploymentState.FAILURE,
    "inactive": DeploymentState.INACTIVE,
}
_ENDS = (DeploymentState.SUCCESS, DeploymentState.FAILURE)
_RUN_PAGE = re.compile(r"/actions/runs/(?P<run>\d{1,19})(?:/attempts/\d+)?(?:/job/(?P<job>\d{1,19}))?")
_JOB_PAGE = re.compile(r"/[^/]+/[^/]+/runs/(?P<job>\d{1,19})(?:[?#]|$)")
"""As GitHub wrote it until 2022."""


def deployment_of(
    deployment: Any,
    status: Any | None,
    *,
    instance: str,
    repository_id: str,
    repository: str,
    build: BuildRef | None = None,
) -> DeploymentObservedV1:
    """A deployment in the state that one of its statuses gave it; without any it is pending.

    Raises:
        BadRowError: without an id, an environment, or any time.
    """
    made = object_at(deployment, "the deployment")
    said = {} if status is None else object_at(status, "the deployment's status")
    number = id_of(made, "id", "the deployment's id")
    created, changed = moment_of(made.get("created_at")), moment_of(said.get("created_at"))
    # Without a status its own last change would say nothing of this state: that is when it was made.
    shown_at = changed or created or moment_of(made.get("updated_at"))
    environment = text_of(said.get("environment")) or text_of(made.get("environment"))
    if shown_at is None or not environment:
        raise BadRowError(f"deployment {number}: no {'readable time' if environment else 'environment'}")
    raw = raw_of(said.get("state"))
    state = DeploymentState.PENDING if status is None else STATES.get(raw or "", DeploymentState.UNKNOWN)
    production = made.get("production_environment")
    try:
        return DeploymentObservedV1(
            provider=PROVIDER,
            instance=instance,
            repository_id=repository_id,
            repository=repository,
            deployment_id=number,
            environment=environment,
            is_production=production if isinstance(production, bool) else None,
            raw_status=raw,
            state=state,
            ref=text_of(made.get("ref")),
            commit_sha=text_of(made.get("sha")),
            actor=text_of(part_of(made, "creator").get("login")),
            build=build,
            url=_page(said),
            created_at=created,
            finished_at=shown_at if state in _ENDS else None,
            updated_at=shown_at,
        )
    except ValidationError as error:
        raise BadRowError(f"deployment {number}: {explain(error)}") from None


def run_and_job(status: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The ids of the run and the job whose page a status links to, as far as it does."""
    for key in ("log_url", "target_url"):
        page = text_of(status.get(key)) or ""
        if found := _RUN_PAGE.search(page):
            return found["run"], found["job"]
        if found := _JOB_PAGE.search(page):
            return None, found["job"]
    return None, None


async def deployments(
    api: Api, target: Target, since: datetime, *, instance: str
) -> AsyncIterator[DeploymentObservedV1]:
    """Each state of the deployments that changed from `since` on, of one after the other, oldest change first.

    GitHub lists them by creation, and has no filter by time: the listing is read back to `LONGEST` before. It is
    read whole first, at a hundred a call: a deployment costs two calls, so who stops must be able to go on there.
    """
    base = f"{api.repository(target.name)}/deployments"
    rows = await _changed(api, target, f"{base}?per_page={PAGE_SIZE}", since)
    repository_id = await _repository_id(api, target) if rows else ""
    for row in rows:
        try:
            number = id_of(object_at(row, "the deployment"), "id", "the deployment's id")
            statuses = await _statuses(api, target, f"{base}/{number}/statuses?per_page={PAGE_SIZE}")
            build = await _build(api, target, statuses, instance=instance, repository_id=repository_id)
            facts = [
                deployment_of(
                    row,
                    status,
                    instance=instance,
                    repository_id=repository_id,
                    repository=target.name,
                    build=build,
                )
                for status in statuses or [None]
            ]
        except BadRowError:
            REFUSED.labels(PROVIDER).inc()
            continue
        for fact in facts:
            yield fact


async def _changed(api: Api, target: Target, address: str, since: datetime) -> list[Any]:
    """The rows of the deployments that changed from `since` on, oldest change first; without a time first of all."""
    found: list[Any] = []
    async for _, rows in api.pages(address, target.name, key=None, most=_MOST_PAGES):
        for row in rows:
            created, updated = _times(row)
            if created is not None and created < since - LONGEST:
                return sorted(found, key=_changed_at)
            if updated is None or updated >= since:
                found.append(_slim(row))
    return sorted(found, key=_changed_at)


def _slim(row: Any) -> Any:
    """What is used of a row: its `payload` may be anything, and thousands of rows are held."""
    return {key: row[key] for key in _USED if key in row} if isinstance(row, dict) else row


def _changed_at(row: Any) -> datetime:
    return _times(row)[1] or datetime.min.replace(tzinfo=UTC)


async def _statuses(api: Api, target: Target, address: str) -> list[Any]:
    """Oldest first."""
    found: list[Any] = []
    async for _, rows in api.pages(address, target.name, key=None, most=_MOST_STATUS_PAGES):
        found += rows
    return found[::-1]


async def _build(
    api: Api, target: Target, statuses: list[Any], *, instance: str, repository_id: str
) -> BuildRef | None:
    """The attempt of the run that deployed, which only its job tells; None where nothing leads there."""
    for status in reversed(statuses):
        _, job_id = run_and_job(status) if isinstance(status, dict) else (None, None)
        if job_id is None:
            continue
        answer = await api.get(f"{api.repository(target.name)}/actions/jobs/{job_id}", target.name)
        if answer.status != 200:
            return None
        job = object_of(answer)
        return BuildRef(
            provider=PROVIDER,
            instance=instance,
            repository_id=repository_id,
            run_id=id_of(job, "run_id"),
            attempt=attempt_of(job),
        )
    return None


async def _repository_id(api: Api, target: Target) -> str:
    answer = await api.need(api.repository(target.name), target.name)
    number = number_of(object_of(answer).get("id"))
    if number is None:
        raise PollFailedError("nonsense", f"GitHub tells no id of {target.name}.", status=answer.status)
    return str(number)


def _times(row: Any) -> tuple[datetime | None, datetime | None]:
    if not isinstance(row, dict):
        return None, None
    return moment_of(row.get("created_at")), moment_of(row.get("updated_at"))


def _page(status: Mapping[str, Any]) -> str | None:
    pages = (text_of(status.get(key)) for key in ("log_url", "target_url", "environment_url"))
    return next((page for page in pages if page), None)
