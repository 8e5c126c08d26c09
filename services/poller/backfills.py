"""Collecting past builds: slice by slice, so that what happens now is seen now."""

from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import BackfillTargetV1
from buildlight_contracts.routing import COMMANDS
from chassis import crash
from chassis.delivery import Delivery
from chassis.retry import NotYet, Permanent
from services.poller.backfill_store import Backfill, BackfillStore
from services.poller.means import Means
from services.poller.metrics import SLICES
from services.poller.provider import MustWaitError, PollFailedError, Provider, Reason, Target
from services.poller.slices import Slice
from services.poller.spans import stretches
from services.poller.visit import Visit

SLICE_SECONDS = 5.0
"""How long a backfill keeps its target from being polled, and its queue from the next."""
GIVE_UP = timedelta(hours=24)
"""After failing for so long it has failed."""
_PATIENCE_SECONDS = 30.0
_FAILING_PAUSE_SECONDS = 300.0
_FOR_GOOD: frozenset[Reason] = frozenset({"unauthorized", "forbidden", "not_found"})
"""Someone has to do something, and then to ask again."""

log = structlog.get_logger()


class Backfills:
    """Handles `target.backfill.v1`.

    One message does one slice and puts itself at the end of its queue. What was done is in the database, so
    killed anywhere it goes on where it was, with the runs known already costing a listing and no more.
    """

    def __init__(self, means: Means, store: BackfillStore, *, slice_seconds: float = SLICE_SECONDS) -> None:
        self._means = means
        self._store = store
        self._slice_seconds = slice_seconds

    async def backfill(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, BackfillTargetV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        target = Target(command.provider, command.instance, command.target)
        backfill = await self._store.find(command.request_id, target)
        if backfill is None:
            # Once begun it goes on, however long it takes.
            if envelope.expiresat is not None and envelope.expiresat <= datetime.now(UTC):
                SLICES.labels(target.provider, "expired").inc()
                return
            backfill = await self._store.begin(command, target)
        if backfill.status != "running":
            return
        admitted = await self._means.admit(target)
        if admitted is None:
            detail = (
                f"{target.name} is not polled. Check the settings and `is_polled` in the list of targets."
            )
            await self._fail(backfill, "unknown_target", detail)
            SLICES.labels(target.provider, "unknown_target").inc()
            return
        async with self._means.store.alone(target.id, patience_seconds=_PATIENCE_SECONDS) as ours:
            if not ours:
                raise NotYet(f"{target.name} is being polled", seconds=1.0)
            # Read again: a copy of this message may have gone on in the meantime.
            backfill = await self._store.begin(command, target)
            outcome = await self._slice(backfill, target, admitted[0])
        SLICES.labels(target.provider, outcome).inc()
        if outcome == "partial":
            crash.point("poller.backfill.before_next_slice")
            await self._means.broker.publish(envelope, COMMANDS)

    async def _slice(self, backfill: Backfill, target: Target, provider: Provider) -> str:
        began = datetime.now(UTC)
        ours = Slice(self._slice_seconds, stopping=self._means.broker.stopping.is_set)
        visit = Visit(
            target,
            provider,
            self._means.store,
            self._means.outlet,
            now=began,
            interval=self._means.interval,
            time_is_up=ours.is_over,
            has_listed=ours.has_listed,
        )
        try:
            async with self._means.calling(provider):
                report = await visit.go_back(stretches(backfill.through, backfill.until))
        except MustWaitError as wait:
            await self._stop(backfill, visit, "waiting", wait.reason, seconds=wait.seconds)
            raise NotYet(wait.reason, seconds=wait.seconds) from None
        except PollFailedError as failure:
            failing_since = backfill.failing_since or began
            if failure.reason in _FOR_GOOD or began - failing_since >= GIVE_UP:
                await self._fail(backfill, failure.reason, failure.detail, visit)
                return failure.reason
            pause = _FAILING_PAUSE_SECONDS
            await self._stop(
                backfill, visit, failure.reason, failure.detail, seconds=pause, failing_since=failing_since
            )
            raise NotYet(failure.detail, seconds=pause) from None
        await self._store.advanced(
            backfill,
            through=backfill.until if report.complete else report.through or backfill.through,
            builds=report.builds,
            facts=report.published,
            unreadable=len(report.refused),
            done=report.complete,
        )
        return "complete" if report.complete else "partial"

    async def _stop(
        self,
        backfill: Backfill,
        visit: Visit,
        reason: str,
        detail: str,
        *,
        seconds: float,
        failing_since: datetime | None = None,
    ) -> None:
        report = visit.report
        await self._store.stopped(
            backfill,
            through=report.through or backfill.through,
            builds=report.builds,
            facts=report.published,
            reason=reason,
            detail=detail,
            failing_since=failing_since,
            waits_until=datetime.now(UTC) + timedelta(seconds=seconds),
        )

    async def _fail(self, backfill: Backfill, reason: str, detail: str, visit: Visit | None = None) -> None:
        log.warning("a backfill failed", request_id=str(backfill.request_id), reason=reason, detail=detail)
        await self._store.stopped(
            backfill,
            through=(visit.report.through if visit else None) or backfill.through,
            builds=visit.report.builds if visit else 0,
            facts=visit.report.published if visit else 0,
            reason=reason,
            detail=detail,
            failing_since=backfill.failing_since,
            waits_until=None,
        )
