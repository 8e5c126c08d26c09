"""Faults on order: what a server answers instead of the truth, in the words of the real one."""

import re
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

TARGETS = ("github", "blobs", "gitlab", "jenkins", "slack", "smtp", "control_plane")
KINDS = ("status", "hang", "nonsense", "rate_limit", "secondary_limit", "auth")


class FaultError(ValueError):
    """An order that cannot be carried out; the text says what can."""


@dataclass(slots=True)
class Fault:
    """`times` None is for ever; `after` lets the request have its effect first and loses only the answer."""

    target: str
    kind: str
    status: int = 503
    times: int | None = None
    path: re.Pattern[str] | None = None
    seconds: float = 60.0
    after: bool = False
    hits: int = field(default=0)

    def shown(self) -> dict[str, Any]:
        return {
            "target": self.target,
            "kind": self.kind,
            "status": self.status,
            "times_left": self.times,
            "path": self.path.pattern if self.path else None,
            "seconds": self.seconds,
            "after": self.after,
            "hits": self.hits,
        }


class Faults:
    """The faults on order, first come first served."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def order(self, script: dict[str, Any]) -> Fault:
        """Add a fault; raises FaultError."""
        target, kind = script.get("target"), script.get("kind")
        if target not in TARGETS:
            raise FaultError(f'"target" must be one of {", ".join(TARGETS)}')
        if kind not in KINDS:
            raise FaultError(f'"kind" must be one of {", ".join(KINDS)}')
        unknown = set(script) - {"target", "kind", "status", "times", "path", "seconds", "after"}
        if unknown:
            raise FaultError(f"unknown: {', '.join(sorted(unknown))}")
        try:
            path = re.compile(script["path"]) if script.get("path") else None
        except re.error as error:
            raise FaultError(f'"path" is no regular expression: {error}') from None
        default = 451 if target == "smtp" else 403 if kind == "rate_limit" and target == "github" else 503
        fault = Fault(
            target,
            kind,
            script.get("status", default),
            script.get("times"),
            path,
            script.get("seconds", 60.0),
            script.get("after", False),
        )
        self._faults.append(fault)
        return fault

    def clear(self, target: str | None = None) -> None:
        self._faults = [fault for fault in self._faults if target not in (None, fault.target)]

    def listing(self) -> list[dict[str, Any]]:
        return [fault.shown() for fault in self._faults]

    def take(self, target: str, path: str) -> Fault | None:
        """The fault this request meets, if any; a fault whose times are used up is gone."""
        for fault in self._faults:
            if fault.target == target and (fault.path is None or fault.path.search(path)):
                fault.hits += 1
                if fault.times is not None:
                    fault.times -= 1
                    if fault.times <= 0:
                        self._faults.remove(fault)
                return fault
        return None


def answer(fault: Fault) -> Response:
    """The HTTP answer of a failing provider; `hang` is the caller's business."""
    if fault.kind == "nonsense":
        return Response(b'{"total_count": 3, "workflow_ru', media_type="application/json")
    wait = {"retry-after": str(round(fault.seconds))}
    match fault.target, fault.kind:
        case "github", "auth":
            return _github(401, "Bad credentials", {})
        case "github", "rate_limit":
            reset = {
                "x-ratelimit-limit": "5000",
                "x-ratelimit-remaining": "0",
                "x-ratelimit-used": "5000",
                "x-ratelimit-reset": str(int(time.time() + fault.seconds)),
                "x-ratelimit-resource": "core",
            }
            return _github(fault.status, "API rate limit exceeded for user ID 4101.", reset)
        case "github", "secondary_limit":
            status = fault.status if fault.status in (403, 429) else 403
            text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
            return _github(status, text, wait)
        case "github", _:
            return _github(fault.status, "Server Error", {})
        case "gitlab", "auth":
            return JSONResponse({"message": "401 Unauthorized"}, 401)
        case "gitlab", "rate_limit" | "secondary_limit":
            reset = {"ratelimit-remaining": "0", "ratelimit-reset": str(int(time.time() + fault.seconds))}
            return PlainTextResponse("Retry later\n", 429, headers=wait | reset)
        case "gitlab", _:
            return JSONResponse({"message": f"{fault.status} Sandbox fault"}, fault.status)
        case "jenkins", "auth":
            return HTMLResponse("<html><body>Invalid password/token for user</body></html>", 401)
        case "jenkins", "rate_limit" | "secondary_limit":
            return HTMLResponse("<html><body>429 Too Many Requests</body></html>", 429, headers=wait)
        case "jenkins", _:
            # With status 200 it is the page to log in that a single sign-on puts before everything.
            return HTMLResponse(f"<html><body>{fault.status}</body></html>", fault.status)
        case "slack", "auth":
            return PlainTextResponse("invalid_token", 403)
        case "slack", "rate_limit" | "secondary_limit":
            return PlainTextResponse("rate_limited", 429, headers=wait)
        case "slack", _:
            return PlainTextResponse(
                "rollup_error" if fault.status >= 500 else "invalid_payload", fault.status
            )
        case _, "auth":
            return JSONResponse({"error": "unauthorized"}, 401)
        case _, "rate_limit" | "secondary_limit":
            return JSONResponse({"error": "too many requests"}, 429, headers=wait)
    return JSONResponse({"error": "sandbox fault"}, fault.status)


def _github(status: int, message: str, headers: dict[str, str]) -> Response:
    body = {"message": message, "documentation_url": "https://docs.github.com/rest", "status": str(status)}
    return JSONResponse(body, status, headers=headers)
