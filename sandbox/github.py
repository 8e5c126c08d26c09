"""GitHub's REST API for Actions, as far as a watcher of CI needs it."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox.address import base_of
from sandbox.blobs import Blobs
from sandbox.budget import Budget
from sandbox.catalogue import PEOPLE
from sandbox.github_app import Apps
from sandbox.github_changes import Changes
from sandbox.github_deployments import Deployments
from sandbox.github_leavings import Leavings
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_owners import Owners
from sandbox.github_search import RefusalError, found, link, paging
from sandbox.ledger import Ledger
from sandbox.shelves import Body, Shelf

TOKEN = "sandbox-token"  # noqa: S105 - the one the sandbox accepts
DOCS = "https://docs.github.com/rest"

Answer = tuple[int, Any, dict[str, str]]
"""Status, JSON body (None for none), headers."""
Endpoint = Callable[[Request], Answer]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: somebody with the token, or an installation of the App at `owner`."""

    budget: Budget
    owner: str | None = None


class GitHub:
    """The server: shelves of runs, and one budget for each token or installation."""

    def __init__(
        self,
        shelves: Sequence[Shelf],
        *,
        limit: int = 5000,
        blobs: Blobs | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self.lookup = Lookup(shelves)
        self.budgets = {TOKEN: Budget(limit)}
        ledger = ledger or Ledger()
        self.apps = Apps(self.lookup, ledger, limit)
        self.leavings = Leavings(self.lookup, blobs or Blobs())
        self._changes = Changes(self.lookup, ledger)
        self._deployments = Deployments(self.lookup)
        self._owners = Owners(self.lookup)

    @property
    def shelves(self) -> Sequence[Shelf]:
        return self.lookup.shelves

    def routes(self) -> list[Route]:
        paths = [
            Route(prefix + path, self._endpoint(methods), methods=list(methods))
            for prefix in ("/repos/{owner}/{repo}", "/repositories/{number:int}")
            for path, methods in self._of_repository().items()
        ]
        owners = self._owners
        of_owners: dict[str, Endpoint] = {
            "/user": owners.user,
            "/user/repos": owners.of_token,
            "/orgs/{owner}": owners.organization,
            "/orgs/{owner}/repos": owners.of_organization,
            "/users/{owner}/repos": owners.of_user,
            "/installation/repositories": owners.of_installation,
        }
        by_the_app: dict[str, tuple[str, Endpoint]] = {
            "/repos/{owner}/{repo}/installation": ("GET", self.apps.installation),
            "/orgs/{owner}/installation": ("GET", self.apps.installation),
            "/users/{owner}/installation": ("GET", self.apps.installation),
            "/app/installations/{installation:int}/access_tokens": ("POST", self.apps.create_token),
        }
        return [
            *paths,
            *(Route(path, self._endpoint({"GET": answer})) for path, answer in of_owners.items()),
            *(
                Route(path, self._app_endpoint(answer), methods=[method])
                for path, (method, answer) in by_the_app.items()
            ),
            Route("/rate_limit", self._endpoint({"GET": self.rate_limit}, free=True)),
            Route("/{owner}/{repo}/actions/runs/{run_id:int}", self.page),
            Route("/{owner}/{repo}/actions/runs/{run_id:int}/job/{job:int}", self.page),
            Route(
                "/{rest:path}",
                self._endpoint(dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), self.unknown)),
                methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            ),
        ]

    def _of_repository(self) -> dict[str, dict[str, Endpoint]]:
        leavings, changes, deployments = self.leavings, self._changes, self._deployments
        run, job = "/actions/runs/{run_id:int}", "/actions/jobs/{job_id:int}"
        return {
            "": {"GET": self.repository},
            "/actions/runs": {"GET": self.runs},
            run: {"GET": self.run, "DELETE": changes.delete},
            run + "/attempts/{attempt:int}": {"GET": self.run},
            run + "/attempts/{attempt:int}/jobs": {"GET": self.jobs},
            run + "/attempts/{attempt:int}/logs": {"GET": leavings.run_log},
            run + "/jobs": {"GET": self.jobs},
            run + "/logs": {"GET": leavings.run_log},
            run + "/artifacts": {"GET": leavings.artifacts},
            run + "/rerun": {"POST": changes.rerun},
            run + "/rerun-failed-jobs": {"POST": changes.rerun_failed},
            run + "/cancel": {"POST": changes.cancel},
            job: {"GET": leavings.job},
            job + "/logs": {"GET": leavings.job_log},
            "/actions/artifacts/{artifact_id:int}": {"GET": leavings.artifact},
            "/actions/artifacts/{artifact_id:int}/zip": {"GET": leavings.download},
            "/check-runs": {"POST": changes.create_check},
            "/check-runs/{check_id:int}": {"GET": changes.check, "PATCH": changes.update_check},
            "/commits/{sha}/check-runs": {"GET": changes.checks_of_commit},
            "/commits/{sha}/statuses": {"GET": changes.statuses_of_commit},
            "/statuses/{sha}": {"POST": changes.create_status},
            "/deployments": {"GET": deployments.listing},
            "/deployments/{deployment_id:int}": {"GET": deployments.one},
            "/deployments/{deployment_id:int}/statuses": {"GET": deployments.statuses},
        }

    def _caller(self, token: str) -> Caller | None:
        if token in self.budgets:
            return Caller(self.budgets[token])
        given = self.apps.given(token)
        return Caller(given.budget, given.owner) if given else None

    def _endpoint(
        self, methods: dict[str, Endpoint], *, free: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """What all endpoints share: the token, the budget, errors, ETags."""

        async def endpoint(request: Request) -> Response:
            token = _token(request)
            caller = self._caller(token) if token else None
            if caller is None:
                message = "Bad credentials" if token else "Requires authentication"
                return _refuse(RefusalError(401, message), {})
            budget = caller.budget
            if not free and budget.exhausted:
                message = f"API rate limit exceeded for user ID {PEOPLE[0].number}."
                return _refuse(RefusalError(403, message), budget.headers())
            request.state.owner, request.state.body = caller.owner, await request.body()
            try:
                answer = methods["GET" if request.method == "HEAD" else request.method]
                status, body, headers = answer(request)
            except RefusalError as refusal:
                budget.spend()
                return _refuse(refusal, budget.headers())
            content = (
                b"" if body is None else json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            )
            etag = f'W/"{hashlib.sha256(token.encode() + content).hexdigest()}"'
            common = {
                **headers,
                "etag": etag,
                "cache-control": "private, max-age=60, s-maxage=60",
                "vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
                "x-github-media-type": "github.v3; format=json",
                "x-github-api-version-selected": "2022-11-28",
            }
            is_known = request.method == "GET" and _matches(request.headers.get("if-none-match"), etag)
            if is_known and status == 200:
                return Response(status_code=304, headers=common | budget.headers())
            if not free:
                budget.spend()
            media = "application/json; charset=utf-8" if content else None
            return Response(content, status, headers=common | budget.headers(), media_type=media)

        return endpoint

    def _app_endpoint(self, answer: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """An endpoint for the App itself, which signs for every request and has no budget here."""

        async def endpoint(request: Request) -> Response:
            try:
                self.apps.require(_token(request))
                status, body, headers = answer(request)
            except RefusalError as refusal:
                return _refuse(refusal, {})
            return JSONResponse(body, status, headers=headers)

        return endpoint

    def repository(self, request: Request) -> Answer:
        full_name, base = self.lookup.full_name(request), base_of(request)
        for shelf in self.shelves:
            body = shelf.repository(full_name, base)
            if body is not None:
                return 200, body, {}
        raise NOT_FOUND

    def runs(self, request: Request) -> Answer:
        full_name, query = self.lookup.full_name(request), request.query_params
        chosen, reach = found(self.lookup.listing(full_name), query)
        page, per_page = paging(request)
        base = base_of(request)
        bodies = [row.body(base) for row in chosen[(page - 1) * per_page : min(page * per_page, reach)]]
        if query.get("exclude_pull_requests") == "true":
            bodies = [body | {"pull_requests": []} for body in bodies]
        path = f"/repositories/{self.lookup.number(full_name)}/actions/runs"
        return 200, {"total_count": len(chosen), "workflow_runs": bodies}, link(request, path, reach)

    def run(self, request: Request) -> Answer:
        full_name, run_id = self.lookup.full_name(request), request.path_params["run_id"]
        _, row = self.lookup.row(full_name, run_id, _attempt(request))
        return 200, row.body(base_of(request)), {}

    def jobs(self, request: Request) -> Answer:
        full_name, run_id = self.lookup.full_name(request), request.path_params["run_id"]
        asked = _attempt(request)
        shelf, attempts = self.lookup.attempts(full_name, run_id)
        if asked is not None:
            chosen = [number for number in attempts if number == asked]
        elif request.query_params.get("filter") == "all":
            chosen = attempts
        else:
            chosen = attempts[-1:]
        if shelf is None or not chosen:
            raise NOT_FOUND
        base = base_of(request)
        bodies = [body for number in chosen for body in shelf.jobs(full_name, run_id, number, base) or ()]
        page, per_page = paging(request)
        suffix = request.url.path.split("/actions/", 1)[1]
        path = f"/repositories/{self.lookup.number(full_name)}/actions/{suffix}"
        some = bodies[(page - 1) * per_page : page * per_page]
        return 200, {"total_count": len(bodies), "jobs": some}, link(request, path, len(bodies))

    def rate_limit(self, request: Request) -> Answer:
        caller = self._caller(_token(request))
        core = (caller.budget if caller else Budget()).figures()
        idle = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
        return (
            200,
            {"resources": {"core": core, "search": idle, "graphql": core | {"used": 0}}, "rate": core},
            {},
        )

    def unknown(self, request: Request) -> Answer:
        del request
        raise NOT_FOUND

    async def page(self, request: Request) -> Response:
        """The page a person sees who follows `html_url`."""
        full_name = f"{request.path_params['owner']}/{request.path_params['repo']}"
        try:
            _, row = self.lookup.row(full_name, request.path_params["run_id"])
        except RefusalError:
            return PlainTextResponse("There is no such run in the sandbox.\n", 404)
        outcome = row.conclusion or row.status
        return PlainTextResponse(
            f"{full_name}, run {row.id}, attempt {row.attempt}: {outcome}\n"
            f"{row.branch} at {row.sha}, {row.event} by {row.actor}, {row.created_at}\n\n"
            "This is the sandbox, a pretend company; the real GitHub would show this run here.\n"
        )

    def served(self) -> list[tuple[int, int, str | None, str | None]]:
        """Every attempt of every run that can be read: id, attempt, status, conclusion."""
        return [
            (run.id, run.attempt, run.status, run.conclusion)
            for shelf in self.shelves
            for full_name in dict(shelf.repositories())
            for row in shelf.runs(full_name)
            for number in shelf.attempts(full_name, row.id)
            if (run := shelf.run(full_name, row.id, number)) is not None
        ]


def _attempt(request: Request) -> int | None:
    attempt: int | None = request.path_params.get("attempt")
    return attempt


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() in ("bearer", "token") else ""


def _matches(header: str | None, etag: str) -> bool:
    if header is None:
        return False
    return any(tag.strip().removeprefix("W/") == etag.removeprefix("W/") for tag in header.split(","))


def _refuse(refusal: RefusalError, headers: dict[str, str]) -> Response:
    body: Body = {"message": refusal.message, "documentation_url": DOCS, "status": str(refusal.status)}
    return JSONResponse(body, refusal.status, headers=headers)
