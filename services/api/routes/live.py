"""`WS /ws`: the protocol spoken with one client."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.requests import HTTPConnection

from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import check, key_of
from services.api.live import DROPPED, NAMES, Client, Hub, control

_LARGEST_MESSAGE = 4096
_CLOSE_SECONDS = 2.0
TRY_AGAIN_LATER = 1013
POLICY_VIOLATION = 1008


def router(
    hub: Hub,
    reader: Pool,
    keys: Pool,
    *,
    connections: int,
    buffer_frames: int,
    allowed_origins: Sequence[str],
    reads_need_key: bool,
) -> APIRouter:
    routes = APIRouter()

    @routes.websocket("/ws")
    async def live(socket: WebSocket) -> None:
        if not origin_allowed(socket, allowed_origins):
            await socket.close(POLICY_VIOLATION, "this origin is not allowed; see BUILDLIGHT_ALLOWED_ORIGINS")
            return
        if reads_need_key:
            try:
                await check(key_of(socket, cookie=True), "read", keys)
            except HttpError as refusal:
                await socket.close(POLICY_VIOLATION, refusal.detail)
                return
        await socket.accept()
        if len(hub.clients) >= connections:
            await socket.close(TRY_AGAIN_LATER, "too many clients; try again later")
            return
        client = Client(buffer_frames=buffer_frames)
        hub.join(client)
        tasks = {
            asyncio.create_task(_send(socket, client)),
            asyncio.create_task(_receive(socket, client, hub, reader)),
            asyncio.create_task(client.too_slow.wait()),
        }
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hub.leave(client)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        if client.too_slow.is_set():
            DROPPED.inc()
            # It does not read, so it may never read this either.
            with contextlib.suppress(TimeoutError, RuntimeError, WebSocketDisconnect):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await socket.close(TRY_AGAIN_LATER, "too slow; resume from your last position")
            return
        for error in ended:
            if isinstance(error, Exception) and not isinstance(error, WebSocketDisconnect | RuntimeError):
                raise error

    return routes


async def _send(socket: WebSocket, client: Client) -> None:
    while True:
        await socket.send_text(await client.outbox.get())


async def _receive(socket: WebSocket, client: Client, hub: Hub, reader: Pool) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        try:
            await _answer(_read(message.get("text")), client, hub, reader)
        except (ValueError, RecursionError) as error:
            client.put(control("error", message=str(error)))


def _read(text: str | None) -> dict[str, Any]:
    if text is None:
        raise ValueError("send text, not bytes")
    if len(text) > _LARGEST_MESSAGE:
        raise ValueError(f"a message may have {_LARGEST_MESSAGE:,} characters")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(message, dict):
        raise ValueError('send an object such as {"type": "subscribe", "events": ["builds"]}')  # noqa: TRY004
    return message


async def _answer(message: dict[str, Any], client: Client, hub: Hub, reader: Pool) -> None:
    kind = message.get("type")
    if kind == "ping":
        client.put(control("pong", position=hub.position))
        return
    if kind != "subscribe":
        raise ValueError(f"unknown type {kind!r}; there are subscribe and ping")
    names = message.get("events", list(NAMES))
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"events: give a list of {', '.join(NAMES)}")
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(
            f"events: {unknown[0]!r} is none of {', '.join(NAMES)}; your subscription stays as it was"
        )
    after = message.get("from")
    if after is None:
        client.subscribe(names, hub.position)
    elif isinstance(after, int) and not isinstance(after, bool) and after >= 0:
        await client.resume(names, after=after, position=hub.position, pool=reader)
    else:
        raise ValueError("from: give the position of the last event you have, an integer")


def origin_allowed(connection: HTTPConnection, allowed: Sequence[str]) -> bool:
    """Whether a page may connect: its own host's, or one of the allowed. What is no browser sends no Origin."""
    origin = connection.headers.get("origin")
    if origin is None or origin.rstrip("/") in allowed or "*" in allowed:
        return True
    return urlsplit(origin).netloc.lower() == connection.headers.get("host", "").lower()
