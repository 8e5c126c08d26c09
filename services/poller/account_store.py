"""The SQL of accounts: what is left of their budgets, and whose turn it is to call."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from chassis.database import Connection, Pool
from services.poller.budget import Budget

_LONGEST_QUEUE_SECONDS = 1800.0
"""Of waiting for a turn; after that the database counts as away."""


@dataclass
class SharedBudget:
    budget: Budget


class AccountStore:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def turn(
        self, account: str, *, express: bool, longest_seconds: float
    ) -> AsyncIterator[SharedBudget]:
        """Have the account to oneself for one call. What is in the yielded object at the end is kept.

        Usual calls stand in a queue of their own and its first in that of all, so an express one finds at
        most one of them before it. The locks are a transaction's: one that stands still for longer than a
        call can take, because its process was stopped, is ended by the server, and the next has its turn.
        """
        async with self._pool.acquire() as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await connection.execute(
                    "SELECT set_config('idle_in_transaction_session_timeout', $1, true)",
                    str(round(longest_seconds * 1000)),
                )
                for queue in (f"poller/call/{account}",) if express else _queues(account):
                    await connection.execute(
                        "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
                        queue,
                        timeout=_LONGEST_QUEUE_SECONDS,
                    )
                before = await _budget(connection, account)
            except BaseException:
                await transaction.rollback()
                raise
            shared = SharedBudget(before)
            try:
                yield shared
            finally:
                # Whatever the call came to, what was learnt from it holds.
                if shared.budget != before:
                    await _keep(connection, account, shared.budget)
                await transaction.commit()

    async def budget(self, account: str) -> Budget:
        async with self._pool.acquire() as connection:
            return await _budget(connection, account)

    async def refused(self, account: str, *, until: datetime) -> None:
        """The provider wants no call before `until`: of any replica."""
        await self._pool.execute(
            """
            INSERT INTO poller.budgets (account, blocked_until) VALUES ($1, $2)
            ON CONFLICT (account) DO UPDATE
                SET blocked_until = GREATEST(poller.budgets.blocked_until, excluded.blocked_until)
            """,
            account,
            until,
        )


def _queues(account: str) -> tuple[str, str]:
    return f"poller/usual-call/{account}", f"poller/call/{account}"


async def _budget(connection: Connection, account: str) -> Budget:
    row = await connection.fetchrow(
        "SELECT allowed, remaining, resets_at, blocked_until FROM poller.budgets WHERE account = $1", account
    )
    if row is None:
        return Budget()
    return Budget(row["allowed"], row["remaining"], row["resets_at"], row["blocked_until"])


async def _keep(connection: Connection, account: str, budget: Budget) -> None:
    await connection.execute(
        """
        INSERT INTO poller.budgets (account, allowed, remaining, resets_at, blocked_until)
        VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (account) DO UPDATE SET
            allowed = excluded.allowed, remaining = excluded.remaining, resets_at = excluded.resets_at,
            blocked_until = excluded.blocked_until
        """,
        account,
        budget.limit,
        budget.remaining,
        budget.resets_at,
        budget.blocked_until,
    )
