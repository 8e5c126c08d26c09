"""The store behind GitHub's downloads: another host, addresses that are good for a minute, and no token wanted."""

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

GOOD_FOR_SECONDS = 60.0
KEPT = 2_000


@dataclass(frozen=True, slots=True)
class Blob:
    """Something to download; `content` makes it when it is asked for."""

    content: Callable[[], bytes]
    media_type: str
    file: str
    until: float


class Blobs:
    """Speaks like Azure's blob storage, which refuses a request that also brings a token."""

    def __init__(self) -> None:
        self.port: int | None = None
        """Where it listens, when that is not where the providers do."""
        self._kept: OrderedDict[str, Blob] = OrderedDict()

    def routes(self) -> list[Route]:
        return [Route("/{key}/{file}", self.read)]

    def offer(self, request: Request, content: Callable[[], bytes], *, media_type: str, file: str) -> str:
        """An address for `content`, on a host of its own as far as there is one."""
        key = secrets.token_hex(12)
        self._kept[key] = Blob(content, media_type, file, time.time() + GOOD_FOR_SECONDS)
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        place = request.url.netloc if self.port is None else f"{request.url.hostname}:{self.port}"
        return f"{request.url.scheme}://{place}/blobs/{key}/{file}?se={int(time.time())}&sig={secrets.token_hex(16)}"

    async def read(self, request: Request) -> Response:
        if "authorization" in request.headers:
            return _refuse(400, "InvalidAuthenticationInfo")
        blob = self._kept.get(request.path_params["key"])
        if blob is None or not request.query_params.get("sig"):
            return _refuse(404, "BlobNotFound")
        if time.time() > blob.until:
            return _refuse(403, "AuthenticationFailed")
        headers = {"content-disposition": f'attachment; filename="{blob.file}"'}
        return Response(blob.content(), headers=headers, media_type=blob.media_type)


def _refuse(status: int, code: str) -> Response:
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code></Error>'
    return Response(text, status, headers={"x-ms-error-code": code}, media_type="application/xml")
