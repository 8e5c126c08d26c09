"""Whoever may read may ask for logs: no reader may spend a provider's budget, or hold places for long."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, cast
from uuid import uuid4

import pytest
from starlette.requests import HTTPConnection

from chassis.http import HttpError
from services.poller.allowance import Allowance, Allowances, reader_of
from services.poller.collection_store import CollectionStore
from services.poller.full_logs import FullLogs
from services.poller.provider import Provider
from tests.pretend_provider import TARGET, PretendProvider, poured, ref

SCOPE = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "GET", "path": "/", "headers": []}


class Kept:
    async def find(self, _: object) -> object:
        return TARGET, ref()


class Lanes:
    """Remembers by which lane calls were made."""

    def __init__(self) -> None:
        self.express: list[bool] = []

    @contextlib.asynccontextmanager
    async def calling(self, provider: Provider, *, express: bool = False) -> AsyncIterator[None]:
        del provider
        self.express.append(express)
        yield


def full_logs(text: bytes = b"hello\n", **changes: Any) -> FullLogs:
    provider = PretendProvider()
    provider.logs["1"] = poured(text)
    providers = {(provider.name, provider.instance): cast("Provider", provider)}
    return FullLogs(providers, cast("CollectionStore", Kept()), **changes)


async def test_a_log_waits_in_the_usual_lane() -> None:
    """It is not before the looks at builds."""
    lanes = Lanes()
    response = await full_logs(calling=lanes.calling).job(uuid4(), "1", "text", "ada")
    assert lanes.express == [False]
    await cast("AsyncGenerator[bytes, None]", response.body_iterator).aclose()  # type: ignore[union-attr]


async def test_a_reader_has_so_many_in_a_while() -> None:
    """The next is refused, with the time it takes; other readers go on."""
    logs = full_logs(allowance=Allowance(Allowances(per_reader=2, altogether=3)))
    for _ in range(2):
        await logs.job(uuid4(), "1", "steps", "ada")
    with pytest.raises(HttpError) as refused:
        await logs.job(uuid4(), "1", "steps", "ada")
    assert refused.value.status_code == 429
    assert 590 <= int((refused.value.headers or {})["Retry-After"]) <= 600
    await logs.job(uuid4(), "1", "steps", "grace")
    with pytest.raises(HttpError):
        await logs.job(uuid4(), "1", "steps", "linus")


def test_the_while_goes_by() -> None:
    now = 0.0
    allowance = Allowance(Allowances(per_reader=1, within_seconds=60.0), clock=lambda: now)
    assert allowance.take("ada") == 0.0
    now = 20.0
    assert allowance.take("ada") == 40.0
    now = 60.0
    assert allowance.take("ada") == 0.0


async def test_who_does_not_read_is_let_go() -> None:
    """The answer ends, and its place is another's."""
    logs = full_logs(b"line\n" * 100_000, at_once=1, patience_seconds=0.2)
    response = await logs.job(uuid4(), "1", "text", "ada")

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(30):
        await response(SCOPE, cast("Any", never), never)  # type: ignore[operator]
    await logs.job(uuid4(), "1", "steps", "ada")


def test_a_key_counts_where_it_was_checked() -> None:
    """Where anyone may read, a key that was made up makes no other reader."""

    def asked(key: str) -> HTTPConnection:
        return HTTPConnection(SCOPE | {"client": ("10.0.0.1", 1), "headers": [(b"x-api-key", key.encode())]})

    assert reader_of(asked("a"), by_key=False) == reader_of(asked("b"), by_key=False) == "10.0.0.1"
    assert reader_of(asked("a"), by_key=True) != reader_of(asked("b"), by_key=True)
