"""What a slow, broken or absent answer means to the provisioner, over real sockets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from chassis.outage import Outage
from chassis.retry import Transient
from services.provisioner import callback
from services.provisioner.gitlab import GitLab

CUT = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
CUT_CHUNK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[str]:
    """A server that says `answer` and hangs up; with None it says nothing at all."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if answer is None:
            await ended.wait()
        else:
            writer.write(answer)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        ended.set()
        server.close()


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    """An address where nobody listens."""
    async with answering(b"") as address:
        pass
    yield address


async def ask_gitlab(address: str) -> None:
    client = GitLab(address, "token", timeout_seconds=0.3)
    await asyncio.to_thread(client.group, "123")


async def call_back(address: str) -> None:
    await callback.send(address, None, {"run_id": "1"}, idempotency_key="1/1")


ASKED = pytest.mark.parametrize("ask", [ask_gitlab, call_back])


@ASKED
@pytest.mark.parametrize("answer", [None, b"", CUT, CUT_CHUNK], ids=["silent", "closed", "cut", "cut chunk"])
async def test_an_answer_that_does_not_come_spends_a_try(
    ask: Callable[[str], Awaitable[None]], answer: bytes | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever accepts a connection is there: the request itself may be what it chokes on."""
    monkeypatch.setattr(callback, "TIMEOUT_SECONDS", 0.3)
    async with answering(answer) as address:
        with pytest.raises(Transient, match="did not answer"):
            await ask(address)


@ASKED
async def test_no_connection_is_an_outage(ask: Callable[[str], Awaitable[None]]) -> None:
    """Nothing about the run is wrong, so it waits and spends no try."""
    async with nobody() as address:
        with pytest.raises(Outage):
            await ask(address)
