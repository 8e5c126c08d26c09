"""GitHub's REST API for Actions, as far as a watcher of CI needs it."""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.budget import Budget
from sandbox.catalogue import PEOPLE
from sandbox.github_search import RefusalError, found, link, paging
from sandbox.shelves import Body, Row, Shelf

TOKEN = "sandbox-token"  # noqa: S105 - the one the sandbox accepts
DOCS = "https://docs.github.com/rest"

Answer = tuple[int, Any, dict[str, str]]
"""Status, JSON body, headers."""


class GitHub:
    """The server: shelves of runs, and one budget for each token."""

    def __init__(self, shelves: Sequence[Shelf], *, limit: int = 5000) -> None:
        self.shelves = shelves
        self.budgets = {TOKEN: Budget(limit)}

    def routes(self) -> list[Route]:
        repository = "/repos/{owner}/{repo}"
        endpoints: dict[str, Callable[[Request], Answer]] = {
            "": self.repository,
            "/actions/runs": self.runs,
            "/actions/runs/{run_id:int}": self.run,
            "/actions/runs/{run_id:int}/attempts/{attempt:int}": self.run,
            "/actions/runs/{run_id:int}/attempts/{attempt:int}/jobs": self.jobs,
            "/actions/runs/{run_id:int}/jobs": self.jobs,
        }
        paths = [
            Route(prefix + path, self._endpoint(answer))
            for prefix in (repository, "/repositories/{number:int}")
            for path, answer in endpoints.items()
        ]
        return [
            *paths,
            Route("/user", self._endpoint(self.user)),
            Route("/rate_limit", self._endpoint(self.rate_limit, free=True)),
            Route("/{owner}/{repo}/actions/runs/{run_id:int}", self.page),
            Route("/{owner}/{repo}/actions/runs/{run_id:int}/job/{job:int}", self.page),
            Route(
                "/{rest:path}",
                self._endpoint(self.unknown),
                methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            ),
        ]

    def _endpoint(
        self, answer: Callable[[Request], Answer], *, free: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        """What all endpoints share: the token, the budget, errors, ETags."""

        async def endpoint(request: Request) -> Response:
            token = _token(request)
            budget = self.budgets.get(token) if token else None
            if budget is None:
                message = "Bad credentials" if token else "Requires authentication"
                return _refuse(RefusalError(401, message), {})
            if not free and budget.exhausted:
                message = f"API rate limit exceeded for user ID {PEOPLE[0].number}."
                return _refuse(RefusalError(403, message), budget.headers())
            try:
                status, body, headers = answer(request)
            except RefusalError as refusal:
                budget.spend()
                return _refuse(refusal, budget.headers())
            content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
            etag = f'W/"{hashlib.sha256(token.encode() + content).hexdigest()}"'
            common = {
                **headers,
                "etag": etag,
                "cache-control": "private, max-age=60, s-maxage=60",
                "vary": "Accept, Authorization, Cookie, X-GitHub-OTP",
                "x-github-media-type": "github.v3; format=json",
                "x-github-api-version-selected": "2022-11-28",
            }
            if _matches(request.headers.get("if-none-match"), etag):
                return Response(status_code=304, headers=common | budget.headers())
            if not free:
                budget.spend()
            media = "application/json; charset=utf-8"
            return Response(content, status, headers=common | budget.headers(), media_type=media)

        return endpoint

    def repository(self, request: Request) -> Answer:
        full_name, base = self._full_name(request), base_of(request)
        for shelf in self.shelves:
            body = shelf.repository(full_name, base)
            if body is not None:
                return 200, body, {}
        raise RefusalError(404, "Not Found")

    def runs(self, request: Request) -> Answer:
        full_name, query = self._full_name(request), request.query_params
        chosen, reach = found(self.listing(full_name), query)
        page, per_page = paging(request)
        base = base_of(request)
        bodies = [row.body(base) for row in chosen[(page - 1) * per_page : min(page * per_page, reach)]]
        if query.get("exclude_pull_requests") == "true":
            bodies = [body | {"pull_requests": []} for body in bodies]
        path = f"/repositories/{self._number(full_name)}/actions/runs"
        return 200, {"total_count": len(chosen), "workflow_runs": bodies}, link(request, path, reach)

    def run(self, request: Request) -> Answer:
        row = self._row(self._full_name(request), request.path_params["run_id"], _attempt(request))
        return 200, row.body(base_of(request)), {}

    def jobs(self, request: Request) -> Answer:
        full_name, run_id, asked = self._full_name(request), request.path_params["run_id"], _attempt(request)
        shelf, attempts = self._attempts(full_name, run_id)
        if asked is not None:
            chosen = [number for number in attempts if number == asked]
        elif request.query_params.get("filter") == "all":
            chosen = attempts
        else:
            chosen = attempts[-1:]
        if shelf is None or not chosen:
            raise RefusalError(404, "Not Found")
        base = base_of(request)
        bodies = [body for number in chosen for body in shelf.jobs(full_name, run_id, number, base) or ()]
        page, per_page = paging(request)
        suffix = request.url.path.split("/actions/", 1)[1]
        path = f"/repositories/{self._number(full_name)}/actions/{suffix}"
        some = bodies[(page - 1) * per_page : page * per_page]
        return 200, {"total_count": len(bodies), "jobs": some}, link(request, path, len(bodies))

    def user(self, request: Request) -> Answer:
        return 200, shapes.token_owner(PEOPLE[0], base_of(request)), {}

    def rate_limit(self, request: Request) -> Answer:
        core = self.budgets[_token(request)].figures()
        idle = {"limit": 30, "used": 0, "remaining": 30, "reset": core["reset"]}
        return (
            200,
            {"resources": {"core": core, "search": idle, "graphql": core | {"used": 0}}, "rate": core},
            {},
        )

    def unknown(self, request: Request) -> Answer:
        del request
        raise RefusalError(404, "Not Found")

    async def page(self, request: Request) -> Response:
        """The page a person sees who follows `html_url`."""
        full_name = self._full_name(request)
        try:
            row = self._row(full_name, request.path_params["run_id"], None)
        except RefusalError:
            return PlainTextResponse("There is no such run in the sandbox.\n", 404)
        outcome = row.conclusion or row.status
        return PlainTextResponse(
            f"{full_name}, run {row.id}, attempt {row.attempt}: {outcome}\n"
            f"{row.branch} at {row.sha}, {row.event} by {row.actor}, {row.created_at}\n\n"
            "This is the sandbox, a pretend company; the real GitHub would show this run here.\n"
        )

    def listing(self, full_name: str) -> list[Row]:
        """All runs of a repository, newest first."""
        if not any(name == full_name for shelf in self.shelves for name, _ in shelf.repositories()):
            raise RefusalError(404, "Not Found")
        rows = [row for shelf in self.shelves for row in shelf.runs(full_name)]
        return sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)

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

    def _full_name(self, request: Request) -> str:
        number = request.path_params.get("number")
        if number is None:
            return f"{request.path_params['owner']}/{request.path_params['repo']}"
        for shelf in self.shelves:
            for name, known in shelf.repositories():
                if known == number:
                    return name
        raise RefusalError(404, "Not Found")

    def _number(self, full_name: str) -> int:
        numbers = (
            number for shelf in self.shelves for name, number in shelf.repositories() if name == full_name
        )
        return next(numbers, 0)

    def _row(self, full_name: str, run_id: int, attempt: int | None) -> Row:
        for shelf in self.shelves:
            row = shelf.run(full_name, run_id, attempt)
            if row is not None:
                return row
        raise RefusalError(404, "Not Found")

    def _attempts(self, full_name: str, run_id: int) -> tuple[Shelf | None, list[int]]:
        for shelf in self.shelves:
            attempts = shelf.attempts(full_name, run_id)
            if attempts:
                return shelf, attempts
        return None, []


def _attempt(request: Request) -> int | None:
    attempt: int | None = request.path_params.get("attempt")
    return attempt


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and int(text) > 0 else default


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
