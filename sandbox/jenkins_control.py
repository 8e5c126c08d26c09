"""The remote control of Jenkins, under /_sandbox/jenkins."""

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import jenkins_shapes as shapes
from sandbox.address import base_of
from sandbox.jenkins import Jenkins
from sandbox.jenkins_scripted import Scripted
from sandbox.jenkins_shapes import Build
from sandbox.scripted import ScriptError


class JenkinsControl:
    """For tests and for people; no Jenkins has anything like it."""

    def __init__(self, jenkins: Jenkins, scripted: Scripted) -> None:
        self._jenkins = jenkins
        self._scripted = scripted

    def routes(self) -> list[Route]:
        return [
            Route("/jenkins/jobs", self.make_job, methods=["POST"]),
            Route("/jenkins/jobs", self.delete_job, methods=["DELETE"]),
            Route("/jenkins/builds", self.make_builds, methods=["POST"]),
            Route("/jenkins/builds", self.advance_build, methods=["PATCH"]),
            Route("/jenkins/builds", self.delete_build, methods=["DELETE"]),
            Route("/jenkins/served", self.served),
        ]

    async def make_job(self, request: Request) -> Response:
        try:
            job = self._scripted.make_job(await _object(request))
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(shapes.job(job, [], _base(request)), 201)

    async def delete_job(self, request: Request) -> Response:
        """Every build of it is gone with it."""
        try:
            self._scripted.delete_job(request.query_params.get("name", ""))
        except KeyError:
            return JSONResponse({"error": "no scripted job has this name: POST it first"}, 404)
        return Response(status_code=204)

    async def make_builds(self, request: Request) -> Response:
        """One script or a list of them; answers what Jenkins will."""
        script = await _json(request)
        try:
            if isinstance(script, list):
                made = [self._shown(one, self._scripted.make_build(one), request) for one in script]
                return JSONResponse(made, 201)
            body = _checked(script)
            return JSONResponse(self._shown(body, self._scripted.make_build(body), request), 201)
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def advance_build(self, request: Request) -> Response:
        name, number = _which(request)
        try:
            script = await _object(request)
            return JSONResponse(
                self._shown({"job": name}, self._scripted.advance(name, number, script), request)
            )
        except KeyError:
            return JSONResponse({"error": "no scripted build has this job and number: POST it first"}, 404)
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def delete_build(self, request: Request) -> Response:
        try:
            self._scripted.delete_build(*_which(request))
        except KeyError:
            return JSONResponse({"error": "no scripted build has this job and number: POST it first"}, 404)
        return Response(status_code=204)

    async def served(self, request: Request) -> Response:
        del request
        return JSONResponse(self._jenkins.served())

    def _shown(self, script: dict[str, Any], build: Build, request: Request) -> dict[str, Any]:
        return shapes.build(build, self._jenkins.jobs()[script["job"]], _base(request))


def _base(request: Request) -> str:
    return base_of(request).removesuffix("/_sandbox") + "/jenkins"


def _which(request: Request) -> tuple[str, int]:
    number = request.query_params.get("number", "")
    return request.query_params.get("job", ""), int(number) if number.isdecimal() else 0


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError:
        return None


async def _object(request: Request) -> dict[str, Any]:
    return _checked(await _json(request))


def _checked(script: Any) -> dict[str, Any]:
    if not isinstance(script, dict):
        raise ScriptError("the body must be a JSON object")
    return script
