"""Slack's incoming webhook: takes a message, answers `ok`, and refuses in Slack's own words."""

import json
from typing import Any
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sandbox.ledger import Ledger

TEAM, SERVICE, SECRET = "T000", "B000", "sandbox"
PATH = f"/services/{TEAM}/{SERVICE}/{SECRET}"


class Slack:
    """One workspace with one webhook."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def routes(self) -> list[Route]:
        return [Route("/services/{team}/{service}/{secret}", self.webhook, methods=["POST"])]

    async def webhook(self, request: Request) -> Response:
        where = request.path_params
        if where["team"] != TEAM:
            return PlainTextResponse("no_team", 404)
        if where["service"] != SERVICE:
            return PlainTextResponse("no_service", 404)
        if where["secret"] != SECRET:
            return PlainTextResponse("invalid_token", 403)
        body = await request.body()
        payload = _payload(body, request.headers.get("content-type", ""))
        if payload is None:
            return PlainTextResponse("invalid_payload", 400)
        error = _error(payload)
        if error:
            return PlainTextResponse(error, 400)
        self._ledger.effect("slack", "message", path=request.url.path, body=payload)
        return PlainTextResponse("ok")


def _payload(body: bytes, media: str) -> dict[str, Any] | None:
    """JSON, or a form with JSON in its field `payload`."""
    try:
        text = body.decode()
        if media.startswith("application/x-www-form-urlencoded"):
            text = parse_qs(text).get("payload", [""])[0]
        payload = json.loads(text)
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None


def _error(payload: dict[str, Any]) -> str | None:
    blocks, attachments = payload.get("blocks"), payload.get("attachments")
    if blocks is not None and not _are_blocks(blocks):
        return "invalid_blocks"
    if attachments is not None and not isinstance(attachments, list):
        return "invalid_attachments"
    if isinstance(attachments, list) and len(attachments) > 100:
        return "too_many_attachments"
    return None if payload.get("text") or blocks or attachments else "no_text"


def _are_blocks(blocks: Any) -> bool:
    return (
        isinstance(blocks, list)
        and len(blocks) <= 50
        and all(isinstance(block, dict) and block.get("type") for block in blocks)
    )
