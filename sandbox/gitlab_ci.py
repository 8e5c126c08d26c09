"""GitLab's REST API for CI: pipelines, jobs, test reports, deployments, and what can be asked of them."""

import time
from collections.abc import Callable, Iterable
from datetime import datetime
from hashlib import sha1
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from sandbox import gitlab_ci_shapes as shapes
from sandbox import gitlab_tests
from sandbox.address import base_of
from sandbox.clock import Clock
from sandbox.gitlab_listing import GROUPS, RefusalError, missing, page_of
from sandbox.gitlab_pipelines import Job, Pipeline, cancel, failed, in_order, latest, retry
from sandbox.gitlab_scripts import ScriptedPipelines
from sandbox.gitlab_shapes import Body, Group, Project
from sandbox.gitlab_shapes import project as project_shape
from sandbox.gitlab_story import LivingPipelines
from sandbox.ledger import Ledger

Endpoint = Callable[[Request, Body], Response]
_STATES = ("pending", "running", "success", "failed", "canceled", "skipped")


class CI:
    """The pipelines of all projects: those that live, and those that a script or a call has made."""

    def __init__(
        self, living: LivingPipelines, clock: Clock, ledger: Ledger, projects: Iterable[Project]
    ) -> None:
        self.projects: dict[int, Project] = {project.id: project for project in projects}
        self.scripted = ScriptedPipelines(self.projects)
        self._living = living
        self._clock = clock
        self._ledger = ledger
        self._statuses: dict[tuple[str, str], str] = {}

    def endpoints(self) -> list[tuple[str, str, Endpoint]]:
        project = "/api/v4/projects/{id}"
        one = f"{project}/pipelines/{{pipeline}}"
        job = f"{project}/jobs/{{job}}"
        return [
            ("GET", "/api/v4/groups/{id}/projects", self.group_projects),
            ("GET", f"{project}/pipelines", self.pipelines),
            ("POST", f"{project}/pipeline", self.create_pipeline),
            ("GET", one, self.pipeline),
            ("GET", f"{one}/jobs", self.jobs),
            ("GET", f"{one}/bridges", self.bridges),
            ("GET", f"{one}/test_report", self.test_report),
            ("POST", f"{one}/retry", self.retry_pipeline),
            ("POST", f"{one}/cancel", self.cancel_pipeline),
            ("GET", job, self.job),
            ("GET", f"{job}/artifacts", self.artifacts),
            ("GET", f"{job}/trace", self.trace),
            ("GET", f"{project}/deployments", self.deployments),
            ("POST", f"{project}/merge_requests/{{iid}}/pipelines", self.merge_request_pipeline),
            ("POST", f"{project}/statuses/{{sha}}", self.commit_status),
        ]

    def all(self) -> list[Pipeline]:
        """Every pipeline there is now."""
        ours = self.scripted.made
        living = self._living.all(self._clock.pretend(time.time()))
        return [*(one for one in living if one.id not in ours), *self.scripted.all()]

    def served(self) -> list[list[Any]]:
        """What can be read: project, id, status, and how often its most often executed job ran."""
        now = time.time()
        found = []
        for pipeline in self.all():
            runs: dict[str, int] = {}
            for job in pipeline.known_jobs(now):
                runs[job.name] = runs.get(job.name, 0) + (not job.is_trigger)
            most = max(runs.values(), default=1)
            found.append([pipeline.project.full_path, pipeline.id, pipeline.status(now), max(1, most)])
        return found

    # -- reading

    def group_projects(self, request: Request, body: Body) -> Response:
        del body
        wanted = unquote(request.path_params["id"])
        group = next((one for one in GROUPS if wanted in (str(one.id), one.full_path)), None)
        if group is None:
            raise missing("Group")
        deep = request.query_params.get("include_subgroups") == "true"
        found = [
            project
            for project in sorted(self.projects.values(), key=lambda project: project.id)
            if project.group == group or (deep and _is_below(project.group, group))
        ]
        return page_of(request, [project_shape(project, base_of(request)) for project in found])

    def pipelines(self, request: Request, body: Body) -> Response:
        del body
        project, query, now = self._project(request), request.query_params, time.time()
        source = query.get("source")
        since, until = _moment(query.get("updated_after"), 0.0), _moment(query.get("updated_before"), 1e12)
        found = [
            one
            for one in self.all()
            if one.project is project
            # Child pipelines are shown to nobody who does not ask for them.
            and (one.source == source if source else one.source != "parent_pipeline")
            and query.get("sha") in (None, one.sha)
            and query.get("ref") in (None, one.ref)
            and query.get("status") in (None, one.status(now))
            and since < _shown(one.updated_at(now)) < until
        ]
        ordered = in_order(found, query.get("order_by", "id"), now)
        if query.get("sort") == "asc":
            ordered.reverse()
        return page_of(request, [shapes.pipeline_basic(one, base_of(request), now) for one in ordered])

    def pipeline(self, request: Request, body: Body) -> Response:
        del body
        return JSONResponse(shapes.pipeline_named(self._pipeline(request), base_of(request), time.time()))

    def jobs(self, request: Request, body: Body) -> Response:
        del body
        pipeline, now = self._pipeline(request), time.time()
        jobs = [job for job in pipeline.known_jobs(now) if not job.is_trigger]
        if request.query_params.get("include_retried") != "true":
            jobs = latest(jobs, now)
        jobs.sort(key=lambda job: -job.id)
        return page_of(request, [shapes.shown(pipeline, job, base_of(request), now) for job in jobs])

    def bridges(self, request: Request, body: Body) -> Response:
        del body
        pipeline, now = self._pipeline(request), time.time()
        children = {one.id: one for one in self.all()}
        bodies = [
            shapes.bridge(pipeline, job, children.get(job.downstream or 0), base_of(request), now)
            for job in latest(pipeline.known_jobs(now), now)
            if job.is_trigger
        ]
        return page_of(request, bodies)

    def test_report(self, request: Request, body: Body) -> Response:
        del body
        return JSONResponse(gitlab_tests.report(self._pipeline(request), time.time()))

    def job(self, request: Request, body: Body) -> Response:
        del body
        pipeline, job = self._job(request)
        return JSONResponse(shapes.shown(pipeline, job, base_of(request), time.time()))

    def artifacts(self, request: Request, body: Body) -> Response:
        del body
        pipeline, job = self._job(request)
        now = time.time()
        if not job.has_archive or job.status(now) not in ("success", "failed"):
            raise missing("Artifacts")
        return Response(gitlab_tests.archive(pipeline, job, now), media_type="application/zip")

    def trace(self, request: Request, body: Body) -> Response:
        del body
        pipeline, job = self._job(request)
        return PlainTextResponse(gitlab_tests.trace(pipeline, job, time.time()))

    def deployments(self, request: Request, body: Body) -> Response:
        del body
        project, now, query = self._project(request), time.time(), request.query_params
        if query.get("updated_after") and query.get("order_by") != "updated_at":
            raise RefusalError(
                400, {"message": "400 Bad request - `updated_at` filter requires `updated_at` sort"}
            )
        bodies = [
            shapes.deployment(one, job, base_of(request), now)
            for one in self.all()
            if one.project is project
            for job in one.known_jobs(now)
            if job.stage == "deploy" and not job.is_trigger
        ]
        since = _moment(query.get("updated_after"), 0.0)
        bodies = [one for one in bodies if datetime.fromisoformat(one["updated_at"]).timestamp() > since]
        bodies.sort(key=lambda one: (one["updated_at"], one["id"]), reverse=query.get("sort") == "desc")
        return page_of(request, bodies)

    # -- changing

    def retry_pipeline(self, request: Request, body: Body) -> Response:
        del body
        now = time.time()
        pipeline = self.scripted.adopt(self._pipeline(request), now)
        names = failed(pipeline, now)
        retry(pipeline, names, now)
        self._ledger.effect("gitlab", "pipeline_retried", id=pipeline.id, jobs=names)
        return JSONResponse(shapes.pipeline(pipeline, base_of(request), now), 201)

    def cancel_pipeline(self, request: Request, body: Body) -> Response:
        del body
        now = time.time()
        pipeline = self.scripted.adopt(self._pipeline(request), now)
        cancel(pipeline, now)
        self._ledger.effect("gitlab", "pipeline_canceled", id=pipeline.id)
        return JSONResponse(shapes.pipeline(pipeline, base_of(request), now), 201)

    def create_pipeline(self, request: Request, body: Body) -> Response:
        if not body.get("ref"):
            raise RefusalError(400, {"error": "ref is missing"})
        return self._start(request, str(body["ref"]), "api")

    def merge_request_pipeline(self, request: Request, body: Body) -> Response:
        del body
        return self._start(
            request, f"refs/merge-requests/{request.path_params['iid']}/head", "merge_request_event"
        )

    def _start(self, request: Request, ref: str, source: str) -> Response:
        project, now = self._project(request), time.time()
        found = [one for one in self.all() if one.project is project and one.ref == ref]
        if not found:
            raise RefusalError(400, {"message": {"base": ["Reference not found"]}})
        newest = in_order((one for one in found if one.source != "parent_pipeline"), "id", now)[0]
        new = self.scripted.begin_anew(newest, source, newest.sha, now)
        self._ledger.effect("gitlab", "pipeline_created", id=new.id, ref=ref)
        return JSONResponse(shapes.pipeline(new, base_of(request), now), 201)

    def commit_status(self, request: Request, body: Body) -> Response:
        project, sha = self._project(request), request.path_params["sha"]
        state, name = body.get("state"), str(body.get("name") or body.get("context") or "default")
        if state not in _STATES:
            raise RefusalError(400, {"error": "state does not have a valid value"})
        if not any(one.sha == sha and one.project is project for one in self.all()):
            raise missing("Commit")
        if self._statuses.get((sha, name)) == state:
            said = (
                f"Cannot transition status via :enqueue from :{state} (Reason(s): Status cannot transition)"
            )
            raise RefusalError(400, {"message": said})
        self._statuses[sha, name] = state
        self._ledger.effect(
            "gitlab", "commit_status", sha=sha, name=name, state=state, description=body.get("description")
        )
        number = int(sha1(f"{sha}{name}".encode(), usedforsecurity=False).hexdigest()[:7], 16)
        return JSONResponse(shapes.commit_status(project, sha, body, number, base_of(request)), 201)

    # -- finding

    def _project(self, request: Request) -> Project:
        wanted = unquote(request.path_params["id"])
        for project in self.projects.values():
            if wanted in (str(project.id), project.full_path):
                return project
        raise missing("Project")

    def _pipeline(self, request: Request) -> Pipeline:
        project, wanted = self._project(request), request.path_params["pipeline"]
        for one in self.all():
            if one.project is project and str(one.id) == wanted:
                return one
        raise missing("Pipeline")

    def _job(self, request: Request) -> tuple[Pipeline, Job]:
        project, wanted, now = self._project(request), request.path_params["job"], time.time()
        for one in self.all():
            if one.project is project:
                for job in one.known_jobs(now):
                    if str(job.id) == wanted:
                        return one, job
        raise missing("Job")


def _is_below(group: Group | None, other: Group) -> bool:
    while group is not None:
        if group == other:
            return True
        group = group.parent
    return False


def _shown(moment: float) -> float:
    """A time as GitLab shows it, to the millisecond."""
    return datetime.fromisoformat(str(shapes.stamp(moment))).timestamp()


def _moment(text: str | None, default: float) -> float:
    if not text:
        return default
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise RefusalError(400, {"error": "updated_after is invalid"}) from None
