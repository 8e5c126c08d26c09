"""What stands before every HTTP server of the sandbox: counting, and faults on order."""

import asyncio
from urllib.parse import unquote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.faults import Fault, Faults, answer
from sandbox.ledger import Ledger

PREFIXES = {
    "/github": "github",
    "/blobs": "blobs",
    "/gitlab": "gitlab",
    "/jenkins": "jenkins",
    "/slack": "slack",
    "/control-plane": "control_plane",
    "/_sandbox": "sandbox",
}


class Gate:
    """ASGI middleware that knows which provider a path belongs to."""

    def __init__(self, app: ASGIApp, *, faults: Faults, ledger: Ledger) -> None:
        self._app = app
        self._faults = faults
        self._ledger = ledger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        prefix, target = _target(scope["path"])
        if target == "gitlab":
            scope = {**scope, "path": _kept_escapes(scope["raw_path"])}
        inner = scope["path"].removeprefix(prefix) or "/"
        status = 0

        async def counting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        fault = self._faults.take(target, inner)
        try:
            if fault is None:
                await self._app(scope, receive, counting)
            else:
                await self._fail(fault, scope, receive, counting)
        finally:
            if target != "sandbox":
                self._ledger.request(target, scope["method"], inner, status)

    async def _fail(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        if fault.after:
            await self._app(scope, receive, _swallow)
        if fault.kind == "hang":
            await _until_gone(receive, fault.seconds)
            if not fault.after:
                return
        await answer(fault)(scope, receive, send)


async def _swallow(message: Message) -> None:
    """The answer that gets lost on its way."""
    del message


async def _until_gone(receive: Receive, seconds: float) -> None:
    """Wait until the client gives up, or for so many seconds."""

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    try:
        async with asyncio.timeout(seconds):
            await gone()
    except TimeoutError:
        return


def _target(path: str) -> tuple[str, str]:
    for prefix, target in PREFIXES.items():
        if path == prefix or path.startswith(f"{prefix}/"):
            return prefix, target
    return "", "sandbox"


def _kept_escapes(raw: bytes) -> str:
    """The path with escaped slashes left so: in GitLab's `projects/group%2Fname` they belong to a name."""
    return unquote(raw.decode().split("?")[0].replace("%2F", "%252F").replace("%2f", "%252F"))
