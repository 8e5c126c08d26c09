"""A WebSocket client that keeps every frame it gets."""

import asyncio
import json
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed


class Watcher:
    """Subscribed to `events` of the live feed from the moment `async with` is entered."""

    def __init__(self, url: str, *events: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.frames: list[dict[str, Any]] = []
        """Events in the order they came; `came` is when, by `clock`."""
        self.position = 0
        """The log's head when the subscription began."""
        self._url = url.replace("http://", "ws://") + "/ws"
        self._events = list(events)
        self._clock = clock
        self._subscribed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._connection: ClientConnection = await connect(self._url, proxy=None, max_queue=None)
        self._reading = asyncio.create_task(self._read())
        await self._connection.send(json.dumps({"type": "subscribe", "events": self._events}))
        async with asyncio.timeout(10):
            await self._subscribed.wait()
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        await self._connection.close()
        await self._reading

    async def _read(self) -> None:
        try:
            async for text in self._connection:
                frame = json.loads(text)
                if frame["type"] == "subscribed":
                    self.position = frame["position"]
                    self._subscribed.set()
                elif "event" in frame and self._subscribed.is_set():
                    self.frames.append(frame | {"came": self._clock()})
        except ConnectionClosed:
            pass

    def told(self) -> list[tuple[int, str]]:
        """Position and type of each event, in the order they came."""
        return [(frame["position"], frame["event"]) for frame in self.frames]
