"""The remote control's part for GitLab: scripted pipelines, and its rate limit."""

import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import gitlab_ci_shapes as shapes
from sandbox.address import base_of
from sandbox.gitlab import GitLab
from sandbox.gitlab_ci import CI
from sandbox.scripted import ScriptError


class GitLabControl:
    """For tests and for people; GitLab has nothing like it."""

    def __init__(self, gitlab: GitLab, ci: CI) -> None:
        self._gitlab = gitlab
        self._ci = ci

    def routes(self) -> list[Route]:
        return [
            Route("/gitlab/projects", self.projects),
            Route("/gitlab/pipelines", self.create, methods=["POST"]),
            Route("/gitlab/pipelines/{pipeline:int}", self.advance, methods=["PATCH"]),
            Route("/gitlab/served", self.served),
            Route("/gitlab/limit", self.limit, methods=["POST"]),
        ]

    async def projects(self, request: Request) -> Response:
        del request
        return JSONResponse(sorted(project.full_path for project in self._ci.projects.values()))

    async def create(self, request: Request) -> Response:
        """Make a pipeline; answers what GitLab will."""
        return await self._answer(request, self._ci.scripted.create, 201)

    async def advance(self, request: Request) -> Response:
        number = request.path_params["pipeline"]
        return await self._answer(request, lambda script: self._ci.scripted.advance(number, script), 200)

    async def _answer(self, request: Request, change: Any, status: int) -> Response:
        base = base_of(request).removesuffix("/_sandbox") + "/gitlab"
        try:
            script = json.loads(await request.body() or b"{}")
            if not isinstance(script, dict):
                return JSONResponse({"error": "the body must be a JSON object"}, 400)
            pipeline = change(script)
        except KeyError:
            return JSONResponse({"error": "no scripted pipeline has this id: POST it first"}, 404)
        except (ScriptError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(shapes.pipeline(pipeline, base, time.time()), status)

    async def served(self, request: Request) -> Response:
        del request
        return JSONResponse(self._ci.served())

    async def limit(self, request: Request) -> Response:
        """Set how many requests a minute are answered."""
        self._gitlab.limit = int(json.loads(await request.body())["limit"])
        return JSONResponse({"limit": self._gitlab.limit})
