"""Asking for deployments, at a gentler pace than for builds."""

from datetime import datetime, timedelta
from uuid import UUID

import structlog

from services.poller.means import Means
from services.poller.metrics import FACTS
from services.poller.provider import PollFailedError, Provider, Reason, Target
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

    async def visit(self, target: Target, provider: Provider, state: State, *, now: datetime) -> None:
        """Publish what changed among a target's deployments, if it is time to ask; then remember how far.

        Raises:
            PollFailedError, MustWaitError: as the provider does, unless the deployments alone are refused.
        """
        if not is_due(state.deployments_asked_at, now, every=self._every):
            return
        through = state.deployments_through
        seen: dict[UUID, datetime] = {}
        try:
            since = since_when(through, now, first=self._first)
            async for deployment in provider.deployments(target, since):
                fact = deployment.identity()
                if fact not in state.deployments_known and fact not in seen:
                    await self._means.outlet.record(deployment)
                    FACTS.labels(deployment.type).inc()
                seen[fact] = deployment.updated_at
                through = max(through or deployment.updated_at, deployment.updated_at)
        except PollFailedError as failure:
            if failure.reason not in _NOT_OURS_TO_READ:
                raise
            log.info("deployments are not shown", target=target.name, detail=failure.detail)
            await self._means.store.deployments_refused(target, at=now, detail=failure.detail)
            return
        near = {fact for fact, at in seen.items() if through is not None and at >= through - OVERLAP}
        await self._means.store.deployments_asked(target, at=now, through=through, known=near)
