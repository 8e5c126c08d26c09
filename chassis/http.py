"""The HTTP side every service shares: one application, one shape of error, a limit on what comes in."""

import http
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import asyncpg
import structlog
from aio_pika.exceptions import AMQPError
from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chassis.outage import Outage, outage_of

MAX_BODY_BYTES = 10 * 1_048_576

log = structlog.get_logger()


class HttpError(HTTPException):
    """An error for a client: `message` is for a person, `kind` and `details` for a program."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str | None = None,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(status, message, headers)
        self.kind = kind
        self.details = details


def make_app(title: str = "Buildlight", **options: Any) -> FastAPI:
    """An application whose every error is `{"error": {message, type, details, timestamp, path}}`.

    It has no `/docs`: FastAPI's own loads its scripts from the internet, so whoever wants the page serves it.
    """
    app = FastAPI(title=title, **{"docs_url": None, "redoc_url": None, **options})
    app.add_middleware(BodyLimit, largest=MAX_BODY_BYTES)

    @app.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> JSONResponse:
        kind = getattr(error, "kind", None) or http.HTTPStatus(error.status_code).phrase.title().replace(
            " ", ""
        )
        details = getattr(error, "details", None)
        return _answer(request, error.status_code, str(error.detail), kind, details, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields = [{"field": ".".join(map(str, e["loc"])), "problem": e["msg"]} for e in error.errors()]
        message = "; ".join(f"{f['field']}: {f['problem']}" for f in fields[:5])
        return _answer(request, 422, message, "ValidationError", {"fields": fields})

    async def away(request: Request, error: Exception) -> JSONResponse:
        outage = outage_of(error)
        if outage is None:
            raise error
        log.warning("request refused", path=request.url.path, dependency=outage.dependency)
        message = f"{outage.dependency} is away; try again shortly"
        return _answer(request, 503, message, "Unavailable", None, {"Retry-After": "5"})

    @app.exception_handler(asyncpg.DataError)
    async def unstorable(request: Request, error: asyncpg.DataError) -> JSONResponse:
        # A NUL in a text, a date out of range: what a client sent and no column can hold. Ours would be a bug.
        log.warning("request refused", path=request.url.path, problem=str(error))
        return _answer(request, 422, "A value here cannot be looked up or stored", "ValidationError")

    # Named one by one: what the handler of Exception answers, Starlette raises again to the server's log.
    for kind in (Outage, OSError, asyncpg.PostgresError, asyncpg.InterfaceError, AMQPError):
        app.add_exception_handler(kind, away)

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        log.error("request failed", path=request.url.path, exc_info=error)
        return _answer(request, 500, "An error on our side; it is in the log", "InternalError")

    return app


def _answer(
    request: Request,
    status: int,
    message: str,
    kind: str,
    details: dict[str, Any] | None = None,
    headers: Any = None,
) -> JSONResponse:
    error = {
        "message": message,
        "type": kind,
        "details": details or {},
        "timestamp": datetime.now(UTC).isoformat(),
        "path": request.url.path,
    }
    return JSONResponse(jsonable_encoder({"error": error}), status, headers)


class BodyLimit:
    """Refuses a request body over `largest` bytes with 413, however it is sent.

    Under the paths that `app.state.body_limits` begins with, its own numbers count.
    """

    def __init__(self, app: ASGIApp, *, largest: int) -> None:
        self._app = app
        self._largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        largest = self._of(scope)
        length = dict(scope["headers"]).get(b"content-length", b"")
        declared = int(length) if length.isdigit() else 0
        seen = 0

        async def limited() -> Message:
            nonlocal seen
            # What announces itself as too large is refused before a byte of it is read.
            message = await receive() if declared <= largest else {"type": "http.request"}
            seen += len(message.get("body", b""))
            if max(seen, declared) > largest:
                raise HttpError(413, f"a body may have {largest:,} bytes", kind="TooLarge")
            return message

        await self._app(scope, limited, send)

    def _of(self, scope: Scope) -> int:
        limits: Mapping[str, int] = getattr(scope["app"].state, "body_limits", {}) if "app" in scope else {}
        own = [limit for prefix, limit in limits.items() if scope["path"].startswith(prefix)]
        return max(own, default=self._largest)
