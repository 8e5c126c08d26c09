"""Finding what the patterns of the settings stand for: one replica, the leader, asks now and then."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.envelope import Envelope
from buildlight_contracts.operations import PollFailedV1
from chassis.lease import Lease
from chassis.outage import outage_of
from chassis.telemetry import traceparent
from services.poller.discovery_store import DiscoveryStore, Standing
from services.poller.episodes import after_failure
from services.poller.means import Means
from services.poller.metrics import DISCOVERIES
from services.poller.provider import MustWaitError, PollFailedError, Target
from services.poller.targets import Pattern

LEASE_SECONDS = 600.0
"""Of an organisation with thousands of repositories; a second leader would only ask the same again."""
_LOOK_SECONDS = 5.0
_BATCH = 100
_RETRY = timedelta(minutes=5)
"""After a failure it is tried again sooner than after a success."""

log = structlog.get_logger()


def is_due(standing: Standing, now: datetime, *, every: timedelta) -> bool:
    """Whether a pattern is to be looked up now."""
    if standing.not_before is not None:
        return standing.not_before <= now
    return standing.tried_at is None or now - standing.tried_at >= every


class Discovery:
    """Looks up the patterns; a task of the service."""

    def __init__(self, means: Means, store: DiscoveryStore, lease: Lease, *, every: timedelta) -> None:
        self._means = means
        self._store = store
        self._lease = lease
        self._every = every

    async def run(self) -> None:
        """Until cancelled, through outages of database and broker."""
        try:
            while True:
                try:
                    if self._means.watch.patterns and await self._lease.hold():
                        await self.look()
                except Exception as error:
                    log.warning(
                        "discovery interrupted",
                        error=f"{type(error).__name__}: {error}",
                        exc_info=None if outage_of(error) else error,
                    )
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(1.0):
                    await self._lease.release()

    async def look(self) -> None:
        """Look up each pattern that is due."""
        now = datetime.now(UTC)
        standings = await self._store.standing(self._means.watch.patterns)
        for pattern in self._means.watch.patterns:
            standing = standings.get(pattern, Standing())
            if is_due(standing, now, every=self._every):
                await self._look_up(pattern, standing)

    async def _look_up(self, pattern: Pattern, standing: Standing) -> None:
        try:
            found = await self._find(pattern)
        except MustWaitError as wait:
            outcome = "waiting"
            until = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            await self._store.waits(pattern, until=until)
        except PollFailedError as failure:
            outcome = failure.reason
            await self._failed(pattern, standing, failure)
        else:
            outcome = "complete"
            vanished = await self._store.succeeded(
                pattern, found, named=self._means.watch.targets, now=datetime.now(UTC)
            )
            if vanished:
                log.info("targets vanished", pattern=pattern.text, targets=vanished[:10], count=len(vanished))
        DISCOVERIES.labels(pattern.provider, outcome).inc()

    async def _find(self, pattern: Pattern) -> set[Target]:
        provider = self._means.providers[pattern.provider, pattern.instance]
        found: set[Target] = set()
        batch: list[Target] = []
        async with self._means.calling(provider):
            async for target in provider.discover(pattern.text):
                wanted = pattern.matches(target) and self._means.watch.admits(target)
                if target in found or not wanted:
                    continue
                found.add(target)
                batch.append(target)
                if len(batch) == _BATCH:
                    await self._keep(pattern, batch)
                    batch = []
            await self._keep(pattern, batch)
        return found

    async def _keep(self, pattern: Pattern, batch: list[Target]) -> None:
        if batch and (new := await self._store.add(pattern, batch)):
            log.info("targets found", pattern=pattern.text, new=new)

    async def _failed(self, pattern: Pattern, standing: Standing, failure: PollFailedError) -> None:
        now = datetime.now(UTC)
        episode, begun = after_failure(standing.episode, failure.reason, now)
        fact = PollFailedV1(
            provider=pattern.provider,
            instance=pattern.instance,
            target=pattern.text,
            reason=failure.reason,
            status=failure.status,
            detail=failure.detail,
            failed_at=episode.since,
        )
        await self._store.failed(
            pattern,
            now=now,
            not_before=now + min(_RETRY, self._every),
            episode=episode,
            detail=failure.detail,
            announcement=Envelope.of(fact, source="buildlight://poller", traceparent=traceparent())
            if begun
            else None,
        )
        if begun:
            log.warning("discovery fails", pattern=pattern.text, reason=failure.reason, detail=failure.detail)
