"""Whose turn it is to call a provider: one call in flight a token, in all replicas together; the urgent ones first.

A turn lasts one call, so that nothing long, a first poll or a backfill, keeps an urgent call waiting for more
than the call in flight, and at most one usual one for each urgent one before it. Usual calls come in the order
they were asked for.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from services.poller.account_store import AccountStore
from services.poller.budget import Budget
from services.poller.metrics import TURN_SECONDS

_is_urgent: ContextVar[bool] = ContextVar("is_urgent", default=False)


@contextmanager
def lane(*, express: bool) -> Iterator[None]:
    """Calls made inside go by the express lane, or not: it is a handler's to say, and not each call's."""
    token = _is_urgent.set(express)
    try:
        yield
    finally:
        _is_urgent.reset(token)


def is_express() -> bool:
    return _is_urgent.get()


@dataclass
class Turn:
    """A turn being taken. `budget` is what all replicas know when it begins, to be replaced by what is learnt."""

    budget: Budget | None = None
    """None: nobody else knows better."""


class Turns(Protocol):
    def take(self) -> AbstractAsyncContextManager[Turn]:
        """Wait for a turn, and have it until the end of the block."""
        ...

    def refused(self, until: datetime) -> None:
        """An answer, read when its turn was over, says that the provider wants no call before `until`."""


TurnsOf = Callable[[str], Turns]
"""Gives the turns of an account, by its name."""


class OwnTurns:
    """The turns of a process that has the token for itself."""

    def __init__(self) -> None:
        self._one = asyncio.Lock()

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        async with self._one:
            yield Turn()

    def refused(self, until: datetime) -> None:
        """Who made the call knows already."""


class SharedTurns:
    """The turns of all replicas, which share what they learn of the account's budget."""

    def __init__(self, account: str, store: AccountStore, *, longest_call_seconds: float) -> None:
        self._account = account
        self._store = store
        self._longest_call_seconds = longest_call_seconds
        # At most one of each lane stands in the database's queue, and so holds a connection.
        self._usual = asyncio.Lock()
        self._express = asyncio.Lock()
        self._refused_until: datetime | None = None

    @asynccontextmanager
    async def take(self) -> AsyncIterator[Turn]:
        express = is_express()
        asked = time.monotonic()
        async with (
            self._express if express else self._usual,
            self._store.turn(
                self._account, express=express, longest_seconds=self._longest_call_seconds
            ) as shared,
        ):
            waited = time.monotonic() - asked
            TURN_SECONDS.labels(self._account, "express" if express else "usual").observe(waited)
            turn = Turn(self._with_refusal(shared.budget))
            try:
                yield turn
            finally:
                shared.budget = turn.budget or shared.budget

    def refused(self, until: datetime) -> None:
        self._refused_until = until

    async def tell(self) -> None:
        """Let the other replicas know of a refusal now, and not with the next turn."""
        until, self._refused_until = self._refused_until, None
        if until is not None:
            await self._store.refused(self._account, until=until)

    def _with_refusal(self, budget: Budget) -> Budget:
        until, self._refused_until = self._refused_until, None
        if until is None or (budget.blocked_until is not None and budget.blocked_until >= until):
            return budget
        return replace(budget, blocked_until=until)


class TurnBook:
    """The turns of every account, made as they are needed."""

    def __init__(self, store: AccountStore, *, longest_call_seconds: float) -> None:
        self._store = store
        self._longest_call_seconds = longest_call_seconds
        self._turns: dict[str, SharedTurns] = {}

    def of(self, account: str) -> SharedTurns:
        if account not in self._turns:
            self._turns[account] = SharedTurns(
                account, self._store, longest_call_seconds=self._longest_call_seconds
            )
        return self._turns[account]

    async def tell(self) -> None:
        """Let the other replicas know of every refusal now."""
        for turns in tuple(self._turns.values()):
            await turns.tell()
