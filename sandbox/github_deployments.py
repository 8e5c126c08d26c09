"""GitHub's deployments: each job that deploys to an environment makes one, and its steps give it its statuses."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_search import link, paging
from sandbox.history import JobState, RunState

Answer = tuple[int, Any, dict[str, str]]
ENVIRONMENTS = ("staging", "production")


@dataclass(frozen=True, slots=True)
class Deployment:
    """What one job deployed; `states` are its statuses in order, with POSIX times."""

    run: RunState
    job: JobState
    states: tuple[tuple[str, float], ...]

    @property
    def id(self) -> int:
        return self.job.id


class Deployments:
    """Endpoints of deployments."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def listing(self, request: Request) -> Answer:
        full_name, query = self._lookup.known(request), request.query_params
        found = [
            one
            for one in self._all(full_name)
            if query.get("environment") in (None, one.job.name)
            and query.get("sha") in (None, one.run.sha)
            and query.get("ref") in (None, one.run.branch)
        ]
        page, per_page = paging(request)
        some = found[(page - 1) * per_page : page * per_page]
        path = f"/repositories/{self._lookup.number(full_name)}/deployments"
        return 200, [_body(one, base_of(request)) for one in some], link(request, path, len(found))

    def one(self, request: Request) -> Answer:
        return 200, _body(self._find(request), base_of(request)), {}

    def statuses(self, request: Request) -> Answer:
        """Newest first."""
        found, base = self._find(request), base_of(request)
        page, per_page = paging(request)
        bodies = [_status(found, place, base) for place in range(len(found.states))][::-1]
        path = f"/repositories/{found.run.repository.number}/deployments/{found.id}/statuses"
        some = bodies[(page - 1) * per_page : page * per_page]
        return 200, some, link(request, path, len(bodies))

    def _find(self, request: Request) -> Deployment:
        full_name, number = self._lookup.known(request), request.path_params["deployment_id"]
        for one in self._all(full_name):
            if one.id == number:
                return one
        raise NOT_FOUND

    def _all(self, full_name: str) -> list[Deployment]:
        """Newest first; a deployment that went well takes the place of the one before it."""
        made = sorted(self._made(full_name), key=lambda one: (one.job.created, one.id))
        standing: dict[str, int] = {}
        for place in sorted(range(len(made)), key=lambda place: made[place].states[-1][1]):
            one = made[place]
            state, at = one.states[-1]
            if state != "success":
                continue
            before = standing.get(one.job.name)
            if before is not None:
                made[before] = Deployment(
                    made[before].run, made[before].job, (*made[before].states, ("inactive", at))
                )
            standing[one.job.name] = place
        return made[::-1]

    def _made(self, full_name: str) -> Iterator[Deployment]:
        for shelf in self._lookup.shelves:
            for row in shelf.runs(full_name):
                for attempt in shelf.attempts(full_name, row.id):
                    run = shelf.state(full_name, row.id, attempt)
                    if run is None or run.workflow.name != "deploy":
                        break
                    for job in shelf.job_states(full_name, row.id, attempt):
                        carried_over = job.completed is not None and job.completed <= run.started
                        if job.name in ENVIRONMENTS and job.conclusion != "skipped" and not carried_over:
                            yield Deployment(run, job, tuple(_states(job)))


def _states(job: JobState) -> Iterator[tuple[str, float]]:
    if job.released is None or job.released > job.created:
        yield "pending", job.created
    if job.released is not None and job.runner is None and job.completed is None:
        yield "queued", job.released
    if job.runner is not None:
        yield "in_progress", job.started
    if job.completed is not None:
        yield "success" if job.conclusion == "success" else "failure", job.completed


def _body(one: Deployment, base: str) -> shapes.Body:
    """A `deployment`."""
    api = f"{base}/repos/{one.run.repository.full_name}"
    url = f"{api}/deployments/{one.id}"
    return {
        "url": url,
        "id": one.id,
        "node_id": shapes.node_id("DE", one.id),
        "task": "deploy",
        "original_environment": one.job.name,
        "environment": one.job.name,
        "description": None,
        "created_at": shapes.iso(one.job.created),
        "updated_at": shapes.iso(one.states[-1][1] if one.states else one.job.created),
        "statuses_url": f"{url}/statuses",
        "repository_url": api,
        "creator": shapes.user(one.run.triggering_actor, base),
        "sha": one.run.sha,
        "ref": one.run.branch,
        "payload": {},
        "transient_environment": False,
        "production_environment": one.job.name == "production",
        "performed_via_github_app": None,
    }


def _status(one: Deployment, place: int, base: str) -> shapes.Body:
    """A `deployment-status`."""
    state, at = one.states[place]
    api = f"{base}/repos/{one.run.repository.full_name}"
    url, number = f"{api}/deployments/{one.id}", one.id * 8 + place
    page = f"{base}/{one.run.repository.full_name}/actions/runs/{one.run.id}/job/{one.job.id}"
    return {
        "url": f"{url}/statuses/{number}",
        "id": number,
        "node_id": shapes.node_id("DES", number),
        "state": state,
        "creator": shapes.user(one.run.triggering_actor, base),
        "description": "",
        "environment": one.job.name,
        "target_url": page,
        "created_at": shapes.iso(at),
        "updated_at": shapes.iso(at),
        "deployment_url": url,
        "repository_url": api,
        "environment_url": "",
        "log_url": page,
        "performed_via_github_app": None,
    }
