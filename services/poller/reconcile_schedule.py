"""When each target is compared with the log: the leader asks, spread over the whole interval."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from buildlight_contracts.commands import ReconcileTargetV1
from buildlight_contracts.envelope import derive_id
from chassis.broker import Broker
from chassis.lease import Lease
from chassis.outage import outage_of
from services.poller import metrics
from services.poller.completeness import usual_since
from services.poller.measurements import Asked, Measurements
from services.poller.provider import Target
from services.poller.schedule import due_time
from services.poller.spans import RERUN_REACH

LEASE_SECONDS = 30.0
SPAN = RERUN_REACH
"""How far back: as far as an old run may be run again."""
_TICK_SECONDS = 5.0
_SHOW_SECONDS = 30.0

log = structlog.get_logger()


def due(
    targets: Sequence[Target], asked: Mapping[UUID, Asked], now: datetime, *, interval: timedelta
) -> list[tuple[Target, datetime]]:
    """The measurements to ask for now, each with its time on the grid.

    A target never measured is due at once; then each has a place of its own within the interval. One that was
    put off is due again when its pause is over.
    """
    found = []
    for target in targets:
        known = asked.get(target.id, Asked())
        at = due_time(target, now, interval=interval, jitter=interval)
        if known.postponed_until is not None:
            if known.postponed_until <= now:
                found.append((target, known.postponed_until))
        elif known.scheduled_for is None or known.scheduled_for < at:
            found.append((target, at))
    return found


class ReconcileSchedule:
    """Publishes the commands; a task of the service."""

    def __init__(
        self,
        measurements: Measurements,
        broker: Broker,
        lease: Lease,
        *,
        interval: timedelta,
        first: datetime | None,
        asks: bool = True,
    ) -> None:
        """`first`: where collecting begins; `asks`: whether this replica asks at all."""
        self._measurements = measurements
        self._broker = broker
        self._lease = lease
        self._interval = interval
        self._first = first
        self._asks = asks
        self._shown_at: float | None = None

    async def run(self) -> None:
        """Until cancelled, through outages of database and broker."""
        tick = min(_TICK_SECONDS, self._interval.total_seconds() / 4)
        try:
            while True:
                try:
                    await self.turn()
                except Exception as error:
                    log.warning(
                        "schedule interrupted",
                        error=f"{type(error).__name__}: {error}",
                        exc_info=None if outage_of(error) else error,
                    )
                await asyncio.sleep(tick)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._lease.release()

    async def turn(self) -> None:
        """Ask, and tell how much is missing, as the leader; else tell nothing: what was told grows old."""
        if not (self._asks and await self._lease.hold()):
            self._shown_at = None
            metrics.GAPS.clear()
            return
        await self.ask()
        if self._shown_at is None or time.monotonic() - self._shown_at > _SHOW_SECONDS:
            found = await self._measurements.gaps()
            self._shown_at = time.monotonic()
            metrics.GAPS.clear()
            for labels, number in found.items():
                metrics.GAPS.labels(*labels).set(number)

    async def ask(self) -> None:
        """Ask for each measurement that is due, of the targets that have been collected whole once."""
        now = datetime.now(UTC)
        targets = await self._measurements.collected()
        asked = await self._measurements.asked(targets)
        for target, at in due(targets, asked, now, interval=self._interval):
            await self._broker.command(
                ReconcileTargetV1(
                    # The same, whichever replica asks: killed before the next line, it is asked for once more.
                    request_id=derive_id("reconcile", str(target.id), at.isoformat()),
                    provider=target.provider,
                    instance=target.instance,
                    target=target.name,
                    since=usual_since(now, reach=SPAN, first=self._first),
                    until=now,
                ),
                expires_at=now + self._interval,
            )
            grid = due_time(target, now, interval=self._interval, jitter=self._interval)
            await self._measurements.scheduled(target, grid)
