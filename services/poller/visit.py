"""One poll of one target, or one stretch of a backfill: list, take what changed, look after what is open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from buildlight_contracts.builds import BuildObservedV1
from services.poller.attempts import version_of
from services.poller.provider import (
    MustWaitError,
    Page,
    PollFailedError,
    Provider,
    Span,
    Target,
    Unchanged,
)
from services.poller.spans import halves, spans
from services.poller.store import Store
from services.poller.taking import Outlet, Report, Taking

_CHUNK = 100


class _OutOfTimeError(Exception):
    pass


class Visit:
    """Carries out one poll. Raises PollFailedError and MustWaitError as the provider's methods do."""

    def __init__(
        self,
        target: Target,
        provider: Provider,
        store: Store,
        outlet: Outlet,
        *,
        now: datetime,
        interval: timedelta,
        time_is_up: Callable[[], bool],
        has_listed: Callable[[], None] = lambda: None,
    ) -> None:
        """`has_listed` is called before what was listed is taken: see `slices`."""
        self._target = target
        self._provider = provider
        self._store = store
        self._now = now
        self._time_is_up = time_is_up
        self._has_listed = has_listed
        self._taking = Taking(target, provider, store, outlet, now=now, interval=interval)
        self._listed: set[str] = set()
        self._going: set[str] = set()
        self._taken: set[str] = set()
        self._kept: Mapping[str, Page] = {}
        self.report = self._taking.report

    async def run(self, *, since: datetime, window: timedelta) -> Report:
        """List from `since` on, and look after what is open."""
        try:
            self._kept = await self._store.pages(self._target)
            stretches = spans(since, self._now, window=window)
            for span in stretches:
                await self._list(span)
                await self._store.listed(self._target, through=min(span.until or self._now, self._now))
            for known in await self._store.open(self._target, now=self._now, since=stretches[0].since):
                if known.run_id not in self._listed and not self._taking.is_waiting(known):
                    await self._taking.look(known)
                    self._check_time()
        except _OutOfTimeError:
            self.report.complete = False
        return self.report

    async def go_back(self, stretches: Sequence[Span]) -> Report:
        """List past builds, and nothing else; `report.through` tells how far it has come, also when it fails."""
        try:
            self._kept = await self._store.pages(self._target)
            for span in stretches:
                await self._list(span)
                self._check_time()
        except _OutOfTimeError:
            self.report.complete = False
        return self.report

    async def _list(self, span: Span) -> None:
        """List one span, or its halves when it is too full; and take what it shows, oldest first."""
        builds: dict[str, BuildObservedV1] = {}
        sketches: set[str] = set()
        pages: dict[str, Page] = {}
        address: str | None = self._provider.listing(self._target, span)
        while address is not None and address not in pages:
            kept = self._kept.get(address)
            got = await self._provider.builds(self._target, address, etag=kept.etag if kept else None)
            page = (kept or Page(())) if isinstance(got, Unchanged) else got
            narrower = halves(span) if page.capped else None
            if narrower is not None:
                await self._store.keep_pages(self._target, {address: page})
                for half in narrower:
                    await self._list(half)
                return
            if page.capped and address == self._provider.listing(self._target, span):
                self.report.refused.append(f"more builds than are shown from {span.since.isoformat()}")
            self.report.refused += page.refused
            self._going |= page.going
            # With a row that could not be read a page is not done with: it is read again, and told again.
            pages[address] = replace(page, etag=None) if page.refused else page
            builds |= {build.build.run_id: build for build in page.builds}
            sketches |= {build.build.run_id for build in page.builds if page.sketched}
            address = page.following
        self._listed |= builds.keys()
        self._has_listed()
        in_order = sorted(builds.values(), key=_age)
        try:
            await self._take_sketched([b for b in in_order if b.build.run_id in sketches])
            await self._take_all([b for b in in_order if b.build.run_id not in sketches])
        except (_OutOfTimeError, PollFailedError, MustWaitError):
            await self._keep(pages)
            raise
        await self._keep(pages)
        self.report.through = span.until or self._now

    async def _keep(self, pages: Mapping[str, Page]) -> None:
        """Keep the pages that are done with: every run on them has been taken. The others are read again."""
        done = {
            at: page
            for at, page in pages.items()
            if all(build.build.run_id in self._taken for build in page.builds)
        }
        await self._store.keep_pages(self._target, done)

    async def _take_all(self, builds: Sequence[BuildObservedV1]) -> None:
        """Publish what is news in a listing."""
        for start in range(0, len(builds), _CHUNK):
            await self._taking.announce(builds[start : start + _CHUNK])
        for start in range(0, len(builds), _CHUNK):
            chunk = builds[start : start + _CHUNK]
            known = await self._store.known(self._target, [b.build.run_id for b in chunk])
            for build in chunk:
                attempts = known.get(build.build.run_id, {})
                before = attempts.get(build.build.attempt)
                if before is not None and self._taking.is_waiting(before):
                    continue
                try:
                    news = await self._taking.take(build, attempts, going=build.build.run_id in self._going)
                    self._taken.add(build.build.run_id)
                except PollFailedError as failure:
                    if before is None:
                        raise
                    await self._taking.bear(failure, before)
                    news = True
                self.report.through = _created(build)
                if news:
                    self._check_time()

    async def _take_sketched(self, sketches: Sequence[BuildObservedV1]) -> None:
        """Ask for what changed in a listing that shows no attempts."""
        for start in range(0, len(sketches), _CHUNK):
            chunk = sketches[start : start + _CHUNK]
            known = await self._store.known(self._target, [b.build.run_id for b in chunk])
            for sketch in chunk:
                attempts = known.get(sketch.build.run_id, {})
                before = attempts[max(attempts)] if attempts else None
                self.report.through = _created(sketch)
                if before is not None and before.version == version_of(sketch):
                    self._taken.add(sketch.build.run_id)
                    continue
                if before is not None and self._taking.is_waiting(before):
                    continue
                if await self._taking.look_behind(sketch, before):
                    self._taken.add(sketch.build.run_id)
                self._check_time()

    def _check_time(self) -> None:
        if self._time_is_up():
            raise _OutOfTimeError


def _created(build: BuildObservedV1) -> datetime:
    return build.created_at or build.updated_at


def _age(build: BuildObservedV1) -> tuple[datetime, int, str]:
    """Oldest first; of those of one second, by their numbers."""
    return _created(build), len(build.build.run_id), build.build.run_id
