"""Jenkins' JSON API, with the Pipeline REST API, JUnit and notification plugins' parts of it."""

import base64
import binascii
import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from sandbox import jenkins_shapes as shapes
from sandbox.address import base_of
from sandbox.jenkins_scripted import Scripted
from sandbox.jenkins_shapes import Body, Build, Job
from sandbox.jenkins_tree import TreeError, parse, pruned
from sandbox.ledger import Ledger

USER = "sandbox"
TOKEN = "sandbox-token"  # noqa: S105 - the one the sandbox accepts
PASSWORD = "sandbox-password"  # noqa: S105 - accepted, too; but whoever comes with it needs a crumb
CRUMB = "sandbox-crumb"
SESSION = "JSESSIONID.sandbox"
VERSION = "2.492.3"


class Shelf(Protocol):
    """A source of jobs."""

    def jobs(self) -> Sequence[Job] | Any: ...

    def builds(self, full_name: str) -> list[Build]: ...

    def stop(self, full_name: str, number: int) -> bool: ...

    def take(self, full_name: str, number: int) -> None: ...


class _NotFoundError(Exception):
    pass


class Jenkins:
    """The server: shelves of jobs, of which a script's come first."""

    def __init__(self, scripted: Scripted, others: Sequence[Shelf], ledger: Ledger) -> None:
        self._scripted = scripted
        self._shelves: tuple[Shelf, ...] = (scripted, *others)
        self._ledger = ledger
        self._queued = 100

    def routes(self) -> list[Route]:
        return [Route("/{path:path}", self.answer, methods=["GET", "POST"])]

    def served(self) -> list[tuple[str, int, int, bool, str | None]]:
        """Every build there is: job, number, timestamp, whether it goes on, result."""
        return [
            (name, build.number, build.timestamp, build.building, build.result)
            for name in self.jobs()
            for build in self.builds(name)
        ]

    def jobs(self) -> dict[str, Job]:
        return {job.full_name: job for shelf in reversed(self._shelves) for job in shelf.jobs()}

    def builds(self, full_name: str) -> list[Build]:
        """Newest first; what a script made stands beside what lives."""
        by_number = {b.number: b for shelf in reversed(self._shelves) for b in shelf.builds(full_name)}
        return [by_number[number] for number in sorted(by_number, reverse=True)]

    async def answer(self, request: Request) -> Response:
        response = await self._answer(request)
        response.headers["x-jenkins"] = VERSION
        return response

    async def _answer(self, request: Request) -> Response:
        user, secret = _credentials(request)
        if user is None:
            headers = {"x-you-are-authenticated-as": "anonymous"}
            return HTMLResponse(
                "<html><head><meta http-equiv='refresh' content='1;url=login'/></head></html>",
                403,
                headers=headers,
            )
        if user != USER or secret not in (TOKEN, PASSWORD):
            return HTMLResponse("<html><body>Invalid password/token for user</body></html>", 401)
        parts = [part for part in request.path_params["path"].split("/") if part]
        if request.method == "POST" and secret == PASSWORD and not _has_crumb(request):
            page = "<html><body>No valid crumb was included in the request</body></html>"
            return HTMLResponse(page, 403)
        try:
            return await self._object(request, parts)
        except _NotFoundError:
            return HTMLResponse("<html><body>Not Found</body></html>", 404)
        except TreeError as error:
            return HTMLResponse(f"<html><body>tree: {error}</body></html>", 400)

    async def _object(self, request: Request, parts: list[str]) -> Response:
        if parts == ["crumbIssuer", "api", "json"]:
            body = {"_class": "hudson.security.csrf.DefaultCrumbIssuer", "crumb": CRUMB}
            response = JSONResponse(body | {"crumbRequestField": "Jenkins-Crumb"})
            response.set_cookie(SESSION, "1", httponly=True)
            return response
        names = []
        while len(parts) > 1 and parts[0] == "job":
            names.append(parts[1])
            parts = parts[2:]
        full_name = "/".join(names)
        jobs = self.jobs()
        job = jobs.get(full_name)
        if job is None:
            if full_name and not any(name.startswith(f"{full_name}/") for name in jobs):
                raise _NotFoundError
            return _json(request, parts, self._folder(full_name, jobs, base_of(request)))
        if parts and parts[0] in ("build", "buildWithParameters"):
            return await self._start(request, job, parts[0])
        if len(parts) > 2 and "=" in parts[0] and parts[2:] == ["consoleText"]:
            return self._cell_log(job, parts[0], parts[1])
        if parts and parts[0].isdecimal():
            build = next((one for one in self.builds(full_name) if one.number == int(parts[0])), None)
            if build is None:
                raise _NotFoundError
            return await self._build(request, job, build, parts[1:])
        return _json(request, parts, shapes.job(job, self.builds(full_name), base_of(request)))

    async def _build(self, request: Request, job: Job, build: Build, parts: list[str]) -> Response:
        match parts:
            case ["wfapi", "describe"] | ["wfapi"] if build.stages is not None:
                return JSONResponse(shapes.describe(build, job))
            case ["execution", "node", number, "wfapi", "describe"] if number.isdecimal():
                node = shapes.node(build, job, int(number))
                if node is None:
                    raise _NotFoundError
                return JSONResponse(node)
            case ["execution", "node", number, "log", "logText", "progressiveText"]:
                steps = (step for stage in build.stages or () for step in stage.steps)
                log = next((step.log for step in steps if str(step.id) == number), None)
                if log is None:
                    raise _NotFoundError
                return PlainTextResponse(log, headers={"x-text-size": str(len(log.encode()))})
            case ["testReport", *rest] if build.report is not None:
                return _json(request, rest, build.report)
            case ["consoleText"] | ["logText", "progressiveText"]:
                return PlainTextResponse(build.console)
            case ["artifact", *rest] if "/".join(rest) in build.artifacts:
                return Response(build.artifacts["/".join(rest)], media_type="application/xml")
            case ["stop"]:
                return self._stop(request, job, build)
            case ["api", "json"] | []:
                return _json(request, parts, shapes.build(build, job, base_of(request)))
        raise _NotFoundError

    async def _start(self, request: Request, job: Job, way: str) -> Response:
        if request.method != "POST":
            return HTMLResponse("<html><body>Method Not Allowed: POST required</body></html>", 405)
        if not job.buildable:
            return HTMLResponse("<html><body>is not buildable</body></html>", 409)
        if (way == "buildWithParameters") != bool(job.parameters):
            return HTMLResponse(
                "<html><body>Nothing is submitted, or no parameters are defined</body></html>", 400
            )
        given = dict(parse_qsl((await request.body()).decode())) | dict(request.query_params)
        parameters: list[Body] = [
            {"_class": "hudson.model.StringParameterValue", "name": name, "value": given.get(name, "")}
            for name in job.parameters
        ]
        newest = next(iter(self.builds(job.full_name)), None)
        build = self._scripted.start(job, parameters, USER, at_least=newest.number + 1 if newest else 1)
        for shelf in self._shelves:
            shelf.take(job.full_name, build.number)
        self._queued += 1
        self._ledger.effect(
            "jenkins",
            "build_started",
            job=job.full_name,
            number=build.number,
            parameters={one["name"]: one["value"] for one in parameters},
        )
        address = f"{base_of(request)}/queue/item/{self._queued}/"
        return Response(status_code=201, headers={"location": address})

    def _stop(self, request: Request, job: Job, build: Build) -> Response:
        if request.method != "POST":
            return HTMLResponse("<html><body>Method Not Allowed: POST required</body></html>", 405)
        if build.building and any(shelf.stop(job.full_name, build.number) for shelf in self._shelves):
            self._ledger.effect("jenkins", "build_stopped", job=job.full_name, number=build.number)
        address = f"{base_of(request)}{shapes.path(job.full_name)}/{build.number}/"
        return RedirectResponse(address, 302)

    def _cell_log(self, job: Job, name: str, number: str) -> Response:
        for build in self.builds(job.full_name):
            if any(cell.name == name and str(cell.number) == number for cell in build.cells):
                return PlainTextResponse(f"{name}\n{build.console}")
        raise _NotFoundError

    def _folder(self, full_name: str, jobs: dict[str, Job], base: str) -> Body:
        """A folder with everything below it, as far as `tree` will ask."""
        children, inside = [], f"{full_name}/" if full_name else ""
        for name in sorted({_child(name, inside) for name in jobs if name.startswith(inside)}):
            child = f"{inside}{name}"
            if child in jobs:
                children.append(shapes.job(jobs[child], [], base))
            else:
                children.append(self._folder(child, jobs, base))
        of_branches = any(job.kind == "branch" for job in self._directly(inside, jobs))
        return shapes.folder(full_name, "multibranch" if of_branches else "folder", children, base)

    @staticmethod
    def _directly(inside: str, jobs: dict[str, Job]) -> Iterator[Job]:
        return (job for name, job in jobs.items() if inside and name == f"{inside}{job.name}")


def _child(name: str, inside: str) -> str:
    return name.removeprefix(inside).split("/", 1)[0]


def _json(request: Request, parts: list[str], body: Body) -> Response:
    """An object by its API, as far as `tree` asks for it; without that, a page for people."""
    if parts == []:
        return HTMLResponse(f"<html><body>{body.get('fullName', 'Jenkins')}</body></html>")
    if parts != ["api", "json"]:
        raise _NotFoundError
    tree = request.query_params.get("tree")
    if tree is None:
        # By default Jenkins leaves out what only deeper levels have.
        body = {
            key: value for key, value in body.items() if key not in ("allBuilds", "suites", "childReports")
        }
    else:
        body = pruned(body, parse(tree))
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return Response(content, media_type="application/json;charset=utf-8")


def _credentials(request: Request) -> tuple[str | None, str]:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None, ""
    try:
        user, _, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None, ""
    return user, secret


def _has_crumb(request: Request) -> bool:
    return request.headers.get("jenkins-crumb") == CRUMB and SESSION in request.cookies
