"""Turns: what is told of refusals, and in which lane a call stands."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from services.poller.account_store import SharedBudget
from services.poller.budget import Budget
from services.poller.calls import Calls, longest_call_seconds
from services.poller.provider import MustWaitError
from services.poller.turns import OwnTurns, SharedTurns, TurnBook, is_express, lane

API = "https://ci.test"
NOW = datetime.now(UTC)


class Shelf:
    """The account's row, in memory."""

    def __init__(self) -> None:
        self.budget = Budget()
        self.lanes: list[bool] = []
        self.open = 0
        self.most_open = 0

    @asynccontextmanager
    async def turn(self, account: str, *, express: bool, longest_seconds: float) -> AsyncIterator[Any]:
        self.lanes.append(express)
        self.open += 1
        self.most_open = max(self.open, self.most_open)
        shared = SharedBudget(self.budget)
        try:
            yield shared
        finally:
            self.budget = shared.budget
            self.open -= 1

    async def refused(self, account: str, *, until: datetime) -> None:
        self.budget = Budget(blocked_until=until)


def calls(shelf: Shelf, answers: list[httpx.Response]) -> Calls:
    made = Calls(
        API,
        provider="test",
        headers={},
        limits_prefix="x-ratelimit-",
        reserve_percent=10,
        timeout_seconds=1,
        transport=httpx.MockTransport(lambda _: answers.pop(0)),
    )
    made.turns = SharedTurns("test", shelf, longest_call_seconds=60)  # type: ignore[arg-type]
    return made


def limits(remaining: int) -> dict[str, str]:
    reset = int((NOW + timedelta(hours=1)).timestamp())
    return {
        "x-ratelimit-limit": "100",
        "x-ratelimit-remaining": str(remaining),
        "x-ratelimit-reset": str(reset),
    }


async def test_the_lane_is_the_handler_s_to_say() -> None:
    """Inside the block calls go express, those of tasks begun in it too; after it they do not."""
    shelf = Shelf()
    account = calls(shelf, [httpx.Response(200) for _ in range(4)])
    await account.get(API)
    with lane(express=True):
        assert is_express()
        await account.get(API)
        await asyncio.gather(account.get(API))
    await account.get(API)
    assert shelf.lanes == [False, True, True, False]


async def test_what_one_learns_all_know() -> None:
    """A call goes by the shared budget, and leaves there what its answer says."""
    shelf = Shelf()
    one, other = calls(shelf, [httpx.Response(200, headers=limits(42))]), calls(shelf, [])
    await one.get(API)
    assert shelf.budget.remaining == 42
    shelf.budget = Budget(100, 10, NOW + timedelta(hours=1))
    for account in (one, other):
        with pytest.raises(MustWaitError, match="10 are kept in reserve"):
            await account.get(API)


async def test_a_refusal_is_shared() -> None:
    """Also one that is read from an answer when its turn was over: with the next turn, or when it is told."""
    shelf = Shelf()
    account = calls(shelf, [httpx.Response(429, headers={"retry-after": "300"})])
    account.refused(await account.get(API))
    before = shelf.budget
    assert isinstance(account.turns, SharedTurns)
    await account.turns.tell()
    assert before.blocked_until is None
    assert shelf.budget.blocked_until is not None
    assert shelf.budget.blocked_until > NOW + timedelta(seconds=250)
    # Told once: what is lifted for all is lifted here.
    shelf.budget = Budget()
    async with account.turns.take() as turn:
        assert turn.budget == Budget()


async def test_a_body_is_read_when_the_turn_is_over() -> None:
    """A download holds its turn until the answer begins, and not while its body comes."""
    shelf = Shelf()
    account = calls(shelf, [httpx.Response(200, content=b"a body"), httpx.Response(200)])
    async with account.stream(API) as download:
        assert shelf.open == 0
        await account.get(API)
        assert b"".join([chunk async for chunk in download.chunks]) == b"a body"
    assert shelf.most_open == 1


async def test_an_account_has_one_book_page() -> None:
    """Adapters that ask for the same account stand in one queue."""
    book = TurnBook(Shelf(), longest_call_seconds=60)  # type: ignore[arg-type]
    assert book.of("a") is book.of("a") is not book.of("b")
    await book.tell()


async def test_alone_it_is_one_at_a_time() -> None:
    """Without replicas the calls of a process wait for each other."""
    turns, inside = OwnTurns(), 0

    async def call() -> None:
        nonlocal inside
        async with turns.take() as turn:
            assert turn.budget is None
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(call() for _ in range(5)))


def test_how_long_a_turn_may_last() -> None:
    """Longer than a call can take with all its tries: only a stopped process loses its turn."""
    assert longest_call_seconds(15) == 100
