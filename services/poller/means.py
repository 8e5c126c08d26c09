"""What every lane works with, and what each begins and ends with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

from chassis.broker import Broker
from services.poller import metrics
from services.poller.budget import Budget
from services.poller.provider import Provider, Providers, Target
from services.poller.store import State, Store
from services.poller.taking import Outlet
from services.poller.targets import Watch
from services.poller.turns import TurnBook, lane


@dataclass(frozen=True, slots=True)
class Means:
    watch: Watch
    providers: Providers
    store: Store
    broker: Broker
    outlet: Outlet
    turns: TurnBook
    interval: timedelta
    """Between two polls of a target."""

    async def admit(self, target: Target) -> tuple[Provider, State] | None:
        """The target's provider and where its polling stands; None when it is none of ours."""
        provider = self.providers.get((target.provider, target.instance))
        state = (await self.store.states([target])).get(target.id)
        if provider is None or state is None:
            return None
        wanted = self.watch.wants(
            target, discovered_by=state.discovered_by, vanished=state.vanished_at is not None
        )
        return (provider, state) if wanted else None

    @asynccontextmanager
    async def calling(self, provider: Provider, *, express: bool = False) -> AsyncIterator[None]:
        """Calls of the provider are made inside; what it said of its limits is told at the end."""
        try:
            with lane(express=express):
                yield
        finally:
            await self.turns.tell()
            _show(provider.account, provider.budget)


def _show(account: str, budget: Budget) -> None:
    if budget.limit is None or budget.remaining is None or budget.resets_at is None:
        return
    metrics.BUDGET_LIMIT.labels(account).set(budget.limit)
    metrics.BUDGET_REMAINING.labels(account).set(budget.remaining)
    metrics.BUDGET_RESETS.labels(account).set(budget.resets_at.timestamp())
