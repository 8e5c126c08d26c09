"""A control plane that takes status call-backs about provisioning runs."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.ledger import Ledger

KEY = "sandbox-key"


class ControlPlane:
    """Takes any JSON at any path, from whoever has the key."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def routes(self) -> list[Route]:
        return [Route("/{path:path}", self.receive, methods=["POST", "PATCH", "PUT"])]

    async def receive(self, request: Request) -> Response:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if KEY not in (request.headers.get("x-api-key"), bearer):
            return JSONResponse({"error": "unauthorized"}, 401)
        try:
            body = await request.json()
        except ValueError:
            return JSONResponse({"error": "the body must be JSON"}, 400)
        self._ledger.effect(
            "control_plane",
            "call_back",
            method=request.method,
            path="/" + request.path_params["path"],
            idempotency_key=request.headers.get("idempotency-key"),
            body=body,
        )
        return JSONResponse({"accepted": True})
