"""`ETag` and `If-None-Match`: an answer that did not change is not sent again."""

import hashlib
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute


class Conditional(APIRoute):
    """A route whose successful GETs carry an ETag of their body, and answer 304 to who has it already."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def conditional(request: Request) -> Response:
            response = await handle(request)
            if request.method not in {"GET", "HEAD"} or response.status_code != 200:
                return response
            if not isinstance(body := getattr(response, "body", None), bytes):
                return response
            # Weak: what comes of it on the way, compressed perhaps, means the same.
            tag = f'W/"{hashlib.sha256(body).hexdigest()[:32]}"'
            response.headers["ETag"] = tag
            response.headers.setdefault("Cache-Control", "no-cache")
            if not _matches(request.headers.get("if-none-match", ""), tag):
                return response
            kept = {k: v for k, v in response.headers.items() if k in {"etag", "cache-control", "vary"}}
            return Response(status_code=304, headers=kept)

        return conditional


def _matches(if_none_match: str, tag: str) -> bool:
    given = {one.strip().removeprefix("W/") for one in if_none_match.split(",")}
    return "*" in given or tag.removeprefix("W/") in given
