"""When each target is polled: one replica, the leader, asks for the polls; any replica carries them out."""

import asyncio
import contextlib
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.commands import PollTargetV1
from chassis.broker import Broker
from chassis.lease import Lease
from chassis.outage import outage_of
from services.poller.provider import Target
from services.poller.store import State, Store
from services.poller.targets import Watch

LEASE_SECONDS = 10.0
_TICK_SECONDS = 1.0
_NEVER = datetime.min.replace(tzinfo=UTC)

FORGET_EVERY = timedelta(hours=1)
MEMORY = timedelta(days=35)
"""Longer than `spans.RERUN_REACH`, so that a sweep publishes nothing that is known."""

log = structlog.get_logger()


def due_time(target: Target, now: datetime, *, interval: timedelta, jitter: timedelta) -> datetime:
    """The newest time, on a grid of `interval`, at which a poll of `target` is due by `now`.

    A poll is asked for up to `jitter` late, each target at its own lateness; the time it is due at, and so
    the identity of the command, is the same whichever replica asks.
    """
    epoch = datetime.fromtimestamp(0, UTC)
    slot = epoch + (now - epoch) // interval * interval
    digest = hashlib.sha256(f"{target.id} {slot.isoformat()}".encode()).digest()
    late = min(jitter, interval) * (int.from_bytes(digest[:4], "big") / 2**32)
    return slot if now >= slot + late else slot - interval


def due(
    targets: Sequence[Target],
    states: dict[Target, State],
    now: datetime,
    *,
    interval: timedelta,
    jitter: timedelta,
) -> list[tuple[Target, datetime]]:
    """The polls to ask for now, those first whose last one is longest ago. What was missed is not made up."""
    found = []
    for target in targets:
        state = states.get(target)
        time = due_time(target, now, interval=interval, jitter=jitter)
        if state is not None and state.scheduled_for is not None and state.scheduled_for >= time:
            continue
        if state is not None and state.not_before is not None and state.not_before > now:
            continue
        found.append((state.polled_at or _NEVER if state else _NEVER, target.name, target, time))
    return [(target, time) for _, _, target, time in sorted(found, key=lambda entry: entry[:2])]


class Scheduler:
    """Publishes the commands; a task of the service."""

    def __init__(
        self,
        watch: Watch,
        store: Store,
        broker: Broker,
        lease: Lease,
        *,
        interval: timedelta,
        jitter: timedelta,
        asks: bool = True,
    ) -> None:
        """`asks` False only tidies up, for a replica that is not to ask for polls."""
        self._asks = asks
        self._watch = watch
        self._store = store
        self._broker = broker
        self._lease = lease
        self._interval = interval
        self._jitter = jitter
        self._forgot_at = _NEVER

    async def run(self) -> None:
        """Until cancelled, through outages of database and broker."""
        tick = min(_TICK_SECONDS, self._interval.total_seconds() / 4)
        try:
            while True:
                try:
                    if await self._lease.hold():
                        if self._asks:
                            await self.ask()
                        await self.tidy()
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

    async def tidy(self) -> None:
        """Forget now and then what is old."""
        now = datetime.now(UTC)
        if now - self._forgot_at > FORGET_EVERY:
            await self._store.forget(before=now - MEMORY)
            self._forgot_at = now

    async def ask(self) -> None:
        """Ask for each poll that is due."""
        now = datetime.now(UTC)
        targets = self._watch.found(await self._store.discovered() if self._watch.patterns else ())
        states = await self._store.states(targets)
        for target, time in due(
            targets,
            {t: states[t.id] for t in targets if t.id in states},
            now,
            interval=self._interval,
            jitter=self._jitter,
        ):
            await self._broker.command(
                PollTargetV1(
                    provider=target.provider, instance=target.instance, target=target.name, due_at=time
                ),
                expires_at=now + self._interval,
            )
            # Killed before this, the next leader asks again, with the same identity.
            await self._store.scheduled(target, time)
