"""Asking for deployments, at a gentler pace than for builds."""

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from services.poller.budget import Budget
from services.poller.means import Means
from services.poller.metrics import FACTS
from services.poller.provider import PollFailedError, Provider, Reason, Target
from services.poller.slices import Slice
from services.poller.spans import RERUN_REACH
from services.poller.store import State

OVERLAP = timedelta(minutes=10)
"""How far behind the newest change that was seen each question goes: changes come in out of order."""
_NOT_OURS_TO_READ: frozenset[Reason] = frozenset({"forbidden", "not_found"})
"""A token that reads builds need not read deployments: no reason to call the polls failed."""

log = structlog.get_logger()


def is_due(asked_at: datetime | None, now: datetime, *, every: timedelta | None) -> bool:
    """Whether deployments are to be asked for now; `every` None is never."""
    return every is not None and (asked_at is None or now - asked_at >= every)


def since_when(through: datetime | None, now: datetime, *, first: datetime | None) -> datetime:
    """From which change on to ask, given the newest that was seen."""
    if through is not None:
        return through - OVERLAP
    return first if first is not None else now - RERUN_REACH


class Deployments:
    def __init__(self, means: Means, *, every: timedelta | None, first: datetime | None) -> None:
        self._means = means
        self._every = every
        self._first = first

    async def visit(
        self, target: Target, provider: Provider, state: State, *, now: datetime, ours: Slice
    ) -> None:
        """Publish what changed among a target's deployments, if it is time to ask; and remember how far.

        When `ours` is over, or the budget half spent, it stops after a deployment, and the next poll goes on there.

        Raises:
            PollFailedError, MustWaitError: as the provider does, unless the deployments alone are refused.
        """
        if not is_due(state.deployments_asked_at, now, every=self._every):
            return
        reached = Reached(state.deployments_through, now=now)
        since = since_when(state.deployments_through, now, first=self._first)
        finished = False
        try:
            finished = await self._take(target, provider, since, reached, state.deployments_known, ours)
        except PollFailedError as failure:
            if failure.reason not in _NOT_OURS_TO_READ:
                raise
            log.info("deployments are not shown", target=target.name, detail=failure.detail)
            await self._means.store.deployments_refused(target, at=now, detail=failure.detail)
            return
        finally:
            if not finished and reached.is_further:
                await self._means.store.deployments_came(
                    target, through=reached.through, known=reached.near()
                )
        if finished:
            await self._means.store.deployments_asked(
                target, at=now, through=reached.through, known=reached.near()
            )

    async def _take(
        self,
        target: Target,
        provider: Provider,
        since: datetime,
        reached: "Reached",
        known: Collection[UUID],
        ours: Slice,
    ) -> bool:
        """Publish what is news, and say whether that was all."""
        current: str | None = None
        async for deployment in provider.deployments(target, since):
            if current is None:
                ours.has_listed()
            elif current != deployment.deployment_id:
                reached.settle()
                if reached.is_further and (ours.is_over() or _is_half_spent(provider.budget)):
                    return False
            current = deployment.deployment_id
            fact = deployment.identity()
            if fact not in known and fact not in reached:
                await self._means.outlet.record(deployment)
                FACTS.labels(deployment.type).inc()
            reached.add(fact, deployment.updated_at)
        reached.settle()
        return True


class Reached:
    """How far a visit has come, of deployments that are shown oldest change first.

    What changed after the visit began says nothing of the deployments that are still to come: they were listed
    before. It is published, and not counted.
    """

    def __init__(self, through: datetime | None, *, now: datetime) -> None:
        self.through = through
        self._now = now
        self._before = self._newest = through
        self._seen: dict[UUID, datetime] = {}

    @property
    def is_further(self) -> bool:
        """Whether stopping here would leave less for the next visit, which sees some of this one's again."""
        return self.through != self._before

    def __contains__(self, fact: UUID) -> bool:
        return fact in self._seen

    def add(self, fact: UUID, changed_at: datetime) -> None:
        self._seen[fact] = changed_at
        if changed_at <= self._now:
            self._newest = max(self._newest or changed_at, changed_at)

    def settle(self) -> None:
        """All of the deployments that were added is published."""
        self.through = self._newest

    def near(self) -> set[UUID]:
        """The facts that the next visit is shown again."""
        from_when = None if self.through is None else self.through - OVERLAP
        return {fact for fact, at in self._seen.items() if from_when is None or at >= from_when}


def _is_half_spent(budget: Budget) -> bool:
    """The rest is for builds: a first visit can cost thousands of calls."""
    return bool(budget.limit) and budget.remaining is not None and budget.remaining * 2 < (budget.limit or 0)
