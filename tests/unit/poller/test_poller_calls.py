"""Calls that change something, and answers that are read as they come."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from services.poller.budget import Budget
from services.poller.calls import Calls, Headers
from services.poller.provider import MustWaitError, PollFailedError

API = "https://ci.test/api"
Answer = Callable[[httpx.Request], httpx.Response]


def calls(answer: Answer, *, authorization: Headers | None = None) -> Calls:
    return Calls(
        API,
        provider="github",
        headers={"x-version": "1"},
        limits_prefix="x-ratelimit-",
        reserve_percent=10,
        timeout_seconds=5,
        authorization=authorization,
        transport=httpx.MockTransport(answer),
    )


class Pieces(httpx.AsyncByteStream):
    """A body that comes in pieces, and may break off."""

    def __init__(self, *pieces: bytes, breaks_off: bool = False) -> None:
        self._pieces = pieces
        self._breaks_off = breaks_off
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._breaks_off:
            raise httpx.ReadError("reset by peer")

    async def aclose(self) -> None:
        self.closed = True


async def test_a_change_is_tried_once() -> None:
    """A lost answer may hide a change that happened: whether to try again is the caller's to say."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ReadTimeout("slow")

    with pytest.raises(PollFailedError, match="in 1 try") as caught:
        await calls(answer).send("POST", f"{API}/rerun", {"a": 1})
    assert caught.value.reason == "unreachable"
    [request] = asked
    assert (request.method, json.loads(request.content)) == ("POST", {"a": 1})


async def test_a_change_without_a_body() -> None:
    """Nothing is sent where nothing is to be said."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.content == b""
        return httpx.Response(201, json={})

    assert (await calls(answer).send("POST", f"{API}/rerun")).status == 201


@pytest.mark.parametrize(("status", "follows"), [(307, True), (308, True), (301, False), (302, False)])
async def test_a_change_follows_a_move_at_home(status: int, follows: bool) -> None:
    """Only a redirect that keeps the method is followed with a change: a renamed repository's."""
    asked: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        if request.url.path == "/api/old":
            return httpx.Response(status, headers={"location": f"{API}/new"})
        return httpx.Response(201, json={})

    got = await calls(answer).send("POST", f"{API}/old", {})
    assert got.status == (201 if follows else status)
    assert asked == [("POST", "/api/old"), ("POST", "/api/new")][: 2 if follows else 1]


async def test_a_change_is_not_sent_elsewhere() -> None:
    """Not even when the provider says so."""

    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.host == "ci.test"
        return httpx.Response(307, headers={"location": "https://evil.test/"})

    assert (await calls(answer).send("POST", f"{API}/old", {})).status == 307


async def test_a_download_follows_to_another_host_and_says_nothing_there() -> None:
    """Neither who asks nor any header of ours goes along; the body comes in pieces."""
    seen: dict[str, Mapping[str, str]] = {}

    async def me() -> Mapping[str, str]:
        return {"authorization": "Bearer secret"}

    def answer(request: httpx.Request) -> httpx.Response:
        seen[request.url.host] = request.headers
        if request.url.host == "ci.test":
            return httpx.Response(302, headers={"location": "https://blobs.test/7?sig=abc"})
        return httpx.Response(200, stream=Pieces(b"one", b"two"))

    async with calls(answer, authorization=me).stream(f"{API}/log", accept="text/plain") as download:
        assert download.status == 200
        assert [piece async for piece in download.chunks] == [b"one", b"two"]
    assert seen["ci.test"]["authorization"] == "Bearer secret"
    assert not {"authorization", "x-version"} & set(seen["blobs.test"])
    assert seen["blobs.test"]["accept"] == "text/plain"


async def test_a_download_that_breaks_off() -> None:
    """It is told as the provider's failure, wherever the reader was, and the connection is given back."""
    body = Pieces(b"one", breaks_off=True)

    async def read() -> None:
        async with calls(lambda _: httpx.Response(200, stream=body)).stream(f"{API}/log") as download:
            async for _ in download.chunks:
                pass

    with pytest.raises(PollFailedError, match="in the middle of an answer") as caught:
        await read()
    assert caught.value.reason == "unreachable"
    assert body.closed


async def test_a_readers_own_error_stays_its_own() -> None:
    """What goes wrong with the reader is no fault of the provider's."""
    body = Pieces(b"one")
    with pytest.raises(TimeoutError):
        async with calls(lambda _: httpx.Response(200, stream=body)).stream(f"{API}/log"):
            raise TimeoutError
    assert body.closed


async def test_a_download_that_is_not_there() -> None:
    """The status is the caller's to judge, and the body can be read."""
    gone = httpx.Response(410, json={"message": "expired"})
    async with calls(lambda _: gone).stream(f"{API}/log") as download:
        assert download.status == 410
        assert b"expired" in b"".join([piece async for piece in download.chunks])


async def test_a_download_without_an_answer() -> None:
    """It is unreachable, by the name of who did not answer."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "ci.test":
            return httpx.Response(302, headers={"location": "https://blobs.test/7?sig=abc"})
        raise httpx.ConnectError("refused")

    with pytest.raises(PollFailedError, match="blobs.test") as caught:
        async with calls(answer).stream(f"{API}/log"):
            pass
    assert caught.value.reason == "unreachable"
    assert "sig=abc" not in str(caught.value)


async def test_a_download_that_redirects_without_end() -> None:
    """After a few hops it is nonsense."""
    provider = calls(lambda request: httpx.Response(302, headers={"location": str(request.url)}))
    with pytest.raises(PollFailedError, match="redirects without end"):
        async with provider.stream(f"{API}/log"):
            pass


async def test_a_spent_budget_holds_for_all_calls() -> None:
    """Neither a change nor a download is asked for while the provider wants no calls."""

    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("nothing may be asked")

    waiting = calls(answer)
    waiting.budget = Budget(blocked_until=datetime.now(UTC) + timedelta(minutes=1))
    with pytest.raises(MustWaitError):
        await waiting.send("POST", f"{API}/rerun")
    with pytest.raises(MustWaitError):
        async with waiting.stream(f"{API}/log"):
            pass


async def test_downloads_hold_up_no_calls() -> None:
    """While a long body is being read, other calls of the account go on."""
    answers = calls(lambda _: httpx.Response(200, json={}))
    async with answers.stream(f"{API}/log") as download, asyncio.timeout(10):
        assert (await answers.get(f"{API}/runs")).status == 200
        assert [piece async for piece in download.chunks] == [b"{}"]


async def test_a_download_teaches_the_budget() -> None:
    """What the provider says is left counts, not what another host says."""

    def answer(request: httpx.Request) -> httpx.Response:
        left = {"x-ratelimit-limit": "5000", "x-ratelimit-reset": "9999999999"}
        if request.url.host == "ci.test":
            headers = left | {"location": "https://blobs.test/7", "x-ratelimit-remaining": "4000"}
            return httpx.Response(302, headers=headers)
        return httpx.Response(200, headers=left | {"x-ratelimit-remaining": "1"})

    provider = calls(answer)
    async with provider.stream(f"{API}/log"):
        pass
    assert provider.budget.remaining == 4000


async def test_one_call_at_a_time() -> None:
    """Requests, changes and the beginnings of downloads are asked one after the other; providers ask for that."""
    going = 0
    most = 0

    async def answer(_: httpx.Request) -> httpx.Response:
        nonlocal going, most
        going += 1
        most = max(most, going)
        await asyncio.sleep(0)
        going -= 1
        return httpx.Response(200, json={})

    provider = calls(answer)  # type: ignore[arg-type]

    async def download() -> None:
        async with provider.stream(f"{API}/log"):
            pass

    one = [provider.get(f"{API}/runs"), provider.send("POST", f"{API}/rerun"), download()]
    another = [provider.get(f"{API}/runs"), provider.send("POST", f"{API}/rerun"), download()]
    await asyncio.gather(*one, *another)
    assert most == 1
