"""The remote control under /_sandbox: scripted runs, the clock, faults, and what was counted."""

import json
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.clock import Clock
from sandbox.faults import FaultError, Faults
from sandbox.github import TOKEN, GitHub
from sandbox.ledger import Ledger
from sandbox.scripted import Scripted, ScriptError
from sandbox.webhooks import PROVIDERS, HookError, Hooks


class Control:
    """For tests and for people; no provider has anything like it."""

    def __init__(
        self,
        *,
        clock: Clock,
        github: GitHub,
        scripted: Scripted,
        faults: Faults,
        ledger: Ledger,
        hooks: Hooks,
    ) -> None:
        self._clock = clock
        self._github = github
        self._scripted = scripted
        self._faults = faults
        self._ledger = ledger
        self._hooks = hooks

    def routes(self) -> list[Route]:
        return [
            Route("/", self.state),
            Route("/freeze", self.freeze, methods=["POST"]),
            Route("/unfreeze", self.unfreeze, methods=["POST"]),
            Route("/github/runs", self.create_runs, methods=["POST"]),
            Route("/github/runs/{run_id:int}", self.advance_run, methods=["PATCH"]),
            Route("/github/runs/{run_id:int}/expire", self.expire, methods=["POST"]),
            Route("/github/app", self.app, methods=["POST"]),
            Route("/github/served", self.served),
            Route("/github/budget", self.budget, methods=["GET", "POST"]),
            Route("/faults", self.list_faults, methods=["GET"]),
            Route("/faults", self.order_fault, methods=["POST"]),
            Route("/faults", self.clear_faults, methods=["DELETE"]),
            Route("/effects", self.effects, methods=["GET", "DELETE"]),
            Route("/requests", self.requests, methods=["GET", "DELETE"]),
            Route("/webhooks", self.webhooks, methods=["GET", "POST", "DELETE"]),
            Route("/webhooks/redeliver", self.redeliver, methods=["POST"]),
        ]

    async def state(self, request: Request) -> Response:
        del request
        repositories = sorted({name for shelf in self._github.shelves for name, _ in shelf.repositories()})
        return JSONResponse(
            {
                "frozen": self._clock.frozen,
                "speed": self._clock.speed,
                "started_at": shapes.iso(self._clock.start),
                "repositories": repositories,
            }
        )

    async def freeze(self, request: Request) -> Response:
        self._clock.freeze(time.time())
        return await self.state(request)

    async def unfreeze(self, request: Request) -> Response:
        self._clock.unfreeze(time.time())
        return await self.state(request)

    async def create_runs(self, request: Request) -> Response:
        """One script or a list of them; answers what GitHub will."""
        script = await _json(request)
        base = base_of(request).removesuffix("/_sandbox") + "/github"
        try:
            if isinstance(script, list):
                states = [self._scripted.create(_object(one)) for one in script]
                return JSONResponse([shapes.workflow_run(state, base) for state in states], 201)
            return JSONResponse(shapes.workflow_run(self._scripted.create(_object(script)), base), 201)
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def advance_run(self, request: Request) -> Response:
        base = base_of(request).removesuffix("/_sandbox") + "/github"
        try:
            state = self._scripted.advance(request.path_params["run_id"], _object(await _json(request)))
        except KeyError:
            return JSONResponse({"error": "no scripted run has this id: POST it first"}, 404)
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(shapes.workflow_run(state, base))

    async def expire(self, request: Request) -> Response:
        """Let a run's artifacts and logs expire now."""
        self._github.leavings.expire(request.path_params["run_id"])
        return Response(status_code=204)

    async def app(self, request: Request) -> Response:
        """Set the App's `public_key` or the `token_seconds` its tokens last; `revoke` those it has."""
        try:
            script = _object(await _json(request))
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)
        apps = self._github.apps
        apps.public_key = script.get("public_key", apps.public_key)
        apps.token_seconds = script.get("token_seconds", apps.token_seconds)
        if script.get("revoke"):
            apps.revoke()
        return JSONResponse({"tokens": len(apps.tokens), "token_seconds": apps.token_seconds})

    async def served(self, request: Request) -> Response:
        del request
        return JSONResponse(self._github.served())

    async def budget(self, request: Request) -> Response:
        """See or set what is left of the accepted token's hour."""
        budget = self._github.budgets[TOKEN]
        if request.method == "POST":
            script = _object(await _json(request))
            budget.roll()
            budget.limit = script.get("limit", budget.limit)
            budget.used = budget.limit - script.get("remaining", budget.limit - budget.used)
            if "reset_seconds" in script:
                budget.reset = time.time() + script["reset_seconds"]
        return JSONResponse(budget.figures())

    async def list_faults(self, request: Request) -> Response:
        del request
        return JSONResponse(self._faults.listing())

    async def order_fault(self, request: Request) -> Response:
        try:
            return JSONResponse(self._faults.order(_object(await _json(request))).shown(), 201)
        except (FaultError, ScriptError) as error:
            return JSONResponse({"error": str(error)}, 400)

    async def clear_faults(self, request: Request) -> Response:
        self._faults.clear(request.query_params.get("target"))
        return Response(status_code=204)

    async def effects(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._ledger.forget_effects()
            return Response(status_code=204)
        after = request.query_params.get("after", "0")
        return JSONResponse(
            self._ledger.effects(request.query_params.get("target"), int(after) if after.isdecimal() else 0)
        )

    async def requests(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._ledger.forget_requests()
            return Response(status_code=204)
        return JSONResponse(self._ledger.requests(request.query_params.get("target")))

    async def webhooks(self, request: Request) -> Response:
        if request.method == "DELETE":
            self._hooks.clear()
            return Response(status_code=204)
        if request.method == "GET":
            return JSONResponse(self._hooks.listing())
        root = base_of(request).removesuffix("/_sandbox")
        try:
            script = _object(await _json(request))
            hook = self._hooks.order(script, {name: f"{root}/{name}" for name in PROVIDERS})
        except (HookError, ScriptError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse(hook.shown(), 201)

    async def redeliver(self, request: Request) -> Response:
        """One of the newest deliveries again, by its id."""
        try:
            known = self._hooks.redeliver(str(_object(await _json(request)).get("id")))
        except ScriptError as error:
            return JSONResponse({"error": str(error)}, 400)
        return Response(status_code=202 if known else 404)


async def _json(request: Request) -> Any:
    try:
        return json.loads(await request.body() or b"{}")
    except ValueError:
        return None


def _object(script: Any) -> dict[str, Any]:
    if not isinstance(script, dict):
        raise ScriptError("the body must be a JSON object")
    return script
