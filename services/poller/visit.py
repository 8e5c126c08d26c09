"""One poll of one target: list, fetch what the listing does not show, publish what changed, remember it.

Everything is published, confirmed, before it is remembered, and remembered build by build. Killed anywhere,
the next poll repeats what was not remembered; facts have deterministic ids, so the log has them once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from buildlight_contracts.builds import BuildObservedV1, BuildRef, BuildUnavailableV1
from buildlight_contracts.envelope import Fact
from chassis.retry import Permanent
from services.poller.attempts import Known, due_at, is_settled, missing, version_of
from services.poller.metrics import FACTS
from services.poller.provider import (
    Found,
    Gone,
    Jobs,
    Page,
    PollFailedError,
    Provider,
    Reason,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.spans import halves, spans
from services.poller.store import Store

_CHUNK = 100
_OF_ONE_RUN: frozenset[Reason] = frozenset(
    {"server_error", "nonsense", "forbidden", "unreachable", "not_found"}
)
"""What a provider may answer about one run and not about the others."""
_MOST_IN_A_ROW = 3
"""With so many runs failing one after the other it is the provider that fails."""

Record = Callable[[Fact], Awaitable[None]]


class _OutOfTimeError(Exception):
    pass


@dataclass
class Report:
    """What a visit came to. Not `complete`: its time was up; the next one goes on."""

    complete: bool = True
    published: int = 0
    refused: list[str] = field(default_factory=list)
    """Why rows could not be read, and runs not be asked about."""


class Visit:
    """Carries out one poll. Raises PollFailedError and MustWaitError as the provider's methods do."""

    def __init__(
        self,
        target: Target,
        provider: Provider,
        store: Store,
        record: Record,
        *,
        now: datetime,
        interval: timedelta,
        time_is_up: Callable[[], bool],
    ) -> None:
        self._target = target
        self._provider = provider
        self._store = store
        self._record = record
        self._now = now
        self._interval = interval
        self._time_is_up = time_is_up
        self._listed: set[str] = set()
        self._going: set[str] = set()
        self._kept: Mapping[str, Page] = {}
        self._in_a_row = 0
        self.report = Report()

    async def run(self, *, since: datetime, window: timedelta) -> Report:
        """List from `since` on, and look after what is open."""
        try:
            self._kept = await self._store.pages(self._target)
            stretches = spans(since, self._now, window=window)
            for span in stretches:
                await self._list(span)
            for known in await self._store.open(self._target, now=self._now, since=stretches[0].since):
                if known.run_id not in self._listed and not self._is_waiting(known):
                    try:
                        await self._look(known)
                        self._in_a_row = 0
                    except PollFailedError as failure:
                        await self._bear(failure, known)
                    self._check_time()
        except _OutOfTimeError:
            self.report.complete = False
        return self.report

    # -- what the listing shows

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
        in_order = sorted(builds.values(), key=_age)
        left = await self._take_sketched([b for b in in_order if b.build.run_id in sketches])
        left |= await self._take_all([b for b in in_order if b.build.run_id not in sketches])
        for at, page in pages.items():
            if any(build.build.run_id in left for build in page.builds):
                pages[at] = replace(page, etag=None)
        await self._store.keep_pages(self._target, pages)
        await self._store.listed(self._target, through=min(span.until or self._now, self._now))

    async def _take_all(self, builds: Sequence[BuildObservedV1]) -> set[str]:
        """Publish what is news in a listing; returns the runs that were set aside."""
        left: set[str] = set()
        for start in range(0, len(builds), _CHUNK):
            chunk = builds[start : start + _CHUNK]
            await self._announce(chunk)
        for start in range(0, len(builds), _CHUNK):
            chunk = builds[start : start + _CHUNK]
            known = await self._store.known(self._target, [b.build.run_id for b in chunk])
            for build in chunk:
                attempts = known.get(build.build.run_id, {})
                before = attempts.get(build.build.attempt)
                if before is not None and self._is_waiting(before):
                    left.add(build.build.run_id)
                    continue
                try:
                    news = await self._take(build, attempts)
                    self._in_a_row = 0 if news else self._in_a_row
                except PollFailedError as failure:
                    if before is None:
                        raise
                    await self._bear(failure, before)
                    left.add(build.build.run_id)
                    news = True
                if news:
                    self._check_time()
        return left

    async def _take_sketched(self, sketches: Sequence[BuildObservedV1]) -> set[str]:
        """Ask for what changed in a listing that shows no attempts; returns the runs that were set aside."""
        left: set[str] = set()
        for start in range(0, len(sketches), _CHUNK):
            chunk = sketches[start : start + _CHUNK]
            known = await self._store.known(self._target, [b.build.run_id for b in chunk])
            for sketch in chunk:
                attempts = known.get(sketch.build.run_id, {})
                before = attempts[max(attempts)] if attempts else None
                if before is not None and before.version == version_of(sketch):
                    continue
                if before is not None and self._is_waiting(before):
                    left.add(sketch.build.run_id)
                    continue
                if before is None:
                    # Should it fail by itself there must be something to set aside.
                    before = _placeholder(sketch, self._now)
                    await self._store.keep(
                        self._target, before, created_at=sketch.created_at or sketch.updated_at
                    )
                refused = len(self.report.refused)
                try:
                    # No ETag: what was last seen of it was not this.
                    await self._look(replace(before, version=None))
                    self._in_a_row = 0
                except PollFailedError as failure:
                    await self._bear(failure, before)
                if len(self.report.refused) > refused:
                    left.add(sketch.build.run_id)
                self._check_time()
        return left

    async def _announce(self, builds: Sequence[BuildObservedV1]) -> None:
        """Publish what is news in a listing, before asking for jobs: a first poll has hundreds, and people wait."""
        known = await self._store.known(self._target, [b.build.run_id for b in builds])
        facts = {build.build.run_id: build.identity() for build in builds}
        news = [
            build
            for build in builds
            if (before := known.get(build.build.run_id, {}).get(build.build.attempt)) is None
            or before.fact_id != facts[build.build.run_id]
        ]
        for build in news:
            await self._publish(build)
        if news:
            await self._store.keep_announced(self._target, news, now=self._now)

    async def _take(
        self, build: BuildObservedV1, known: Mapping[int, Known], etag: str | None = None
    ) -> bool:
        """Publish a run and its earlier attempts, as far as they are news. False when nothing was."""
        before = known.get(build.build.attempt)
        same = before is not None and before.version == version_of(build)
        if same and build.build.run_id not in self._going:
            return False
        # The latest attempt last: remembering it says that the earlier ones are seen to.
        failed: PollFailedError | None = None
        for attempt in missing(build, known):
            try:
                await self._take_earlier(build, attempt, known.get(attempt))
            except PollFailedError as failure:
                if failure.reason not in _OF_ONE_RUN:
                    raise
                failed = failure
        await self._observe(build, before, etag)
        if failed is not None:
            raise failed
        return True

    async def _take_earlier(self, build: BuildObservedV1, attempt: int, before: Known | None) -> None:
        got = await self._provider.build(self._target, build.build.run_id, attempt)
        if isinstance(got, Gone):
            ref = build.build.model_copy(update={"attempt": attempt})
            await self._gone(ref, build.repository, got.status, build.created_at or build.updated_at)
        elif isinstance(got, Unreadable):
            self.report.refused.append(got.why)
        elif isinstance(got, Found):
            await self._observe(got.build, before, got.etag)

    async def _observe(self, build: BuildObservedV1, before: Known | None, etag: str | None) -> None:
        """Publish one attempt and its jobs, where they changed; then remember both."""
        fact_id, version = build.identity(), version_of(build)
        if before is None or before.fact_id != fact_id:
            await self._publish(build)
        got = await self._provider.jobs(self._target, build)
        jobs = got if isinstance(got, Jobs) else Jobs(())
        self.report.refused += jobs.refused
        seen = before.job_facts if before else frozenset()
        facts = {job.identity(): job for job in jobs.jobs}
        await asyncio.gather(*(self._publish(job) for number, job in facts.items() if number not in seen))
        ended = build.state.is_terminal
        jobs_ended = isinstance(got, Jobs) and all(job.state.is_terminal for job in jobs.jobs)
        unchanged = before.unchanged + 1 if before and before.version == version else 0
        settled = is_settled(ended=ended, jobs_ended=jobs_ended, unchanged=unchanged)
        await self._store.keep(
            self._target,
            Known(
                build_id=build.build.build_id,
                repository_id=build.build.repository_id,
                run_id=build.build.run_id,
                attempt=build.build.attempt,
                settled=settled,
                ended=ended,
                version=version,
                fact_id=fact_id,
                job_facts=frozenset(facts) if isinstance(got, Jobs) else seen,
                etag=etag,
                unchanged=unchanged,
                due_at=None if settled else due_at(self._now, unchanged, self._interval),
            ),
            created_at=build.created_at or build.updated_at,
        )

    # -- what it does not

    async def _look(self, known: Known) -> None:
        """Ask for an open attempt on its own."""
        got = await self._provider.build(
            self._target,
            known.run_id,
            None if known.latest else known.attempt,
            # Of a build that has ended it is the jobs that are wanted, changed or not.
            etag=None if known.ended or known.version is None else known.etag,
        )
        if isinstance(got, Gone):
            ref = BuildRef(
                provider=self._provider.name,
                instance=self._provider.instance,
                repository_id=known.repository_id,
                run_id=known.run_id,
                attempt=known.attempt,
            )
            await self._gone(ref, self._target.name, got.status, self._now)
        elif isinstance(got, Found):
            all_known = (await self._store.known(self._target, [known.run_id])).get(known.run_id, {})
            same = got.build.build.attempt == known.attempt and version_of(got.build) == known.version
            if same and known.ended:
                await self._observe(got.build, known, got.etag)
            elif same:
                await self._postpone(replace(known, etag=got.etag))
            else:
                await self._take(got.build, all_known, got.etag)
        elif isinstance(got, Unreadable):
            await self._set_aside(known, got.why)
        else:
            await self._postpone(known)

    # -- what cannot be had

    async def _bear(self, failure: PollFailedError, known: Known) -> None:
        """Set aside a run that fails alone, so that the others go on; raise what is no run's own fault."""
        if failure.reason not in _OF_ONE_RUN:
            raise failure
        await self._set_aside(known, f"run {known.run_id}: {failure.detail}")
        self._in_a_row += 1
        if self._in_a_row == _MOST_IN_A_ROW:
            raise failure

    async def _set_aside(self, known: Known, why: str) -> None:
        """Tell why, and ask again after a pause, as for something never seen."""
        self.report.refused.append(why)
        await self._postpone(replace(known, version=None, etag=None))

    async def _postpone(self, known: Known) -> None:
        unchanged = known.unchanged + 1
        later = due_at(self._now, unchanged, self._interval)
        await self._store.postpone(replace(known, unchanged=unchanged, due_at=later))

    def _is_waiting(self, known: Known) -> bool:
        """Whether it is set aside and not yet due. That is told: what fails goes on failing until it is asked."""
        if not known.set_aside or known.due_at is None or known.due_at <= self._now:
            return False
        self.report.refused.append(
            f"run {known.run_id} failed and is asked for again at {known.due_at:%H:%M} UTC"
        )
        return True

    # -- what is kept

    async def _gone(self, ref: BuildRef, repository: str, status: int, created_at: datetime) -> None:
        await self._publish(
            BuildUnavailableV1(build=ref, repository=repository, status=status, noticed_at=self._now)
        )
        await self._store.keep_gone(self._target, ref, created_at=created_at, status=status)

    async def _publish(self, fact: Fact) -> None:
        try:
            await self._record(fact)
        except Permanent as error:
            # Too large for any queue: one build's fault, and no reason to keep back the others.
            self.report.refused.append(str(error))
            return
        FACTS.labels(fact.type).inc()
        self.report.published += 1

    def _check_time(self) -> None:
        if self._time_is_up():
            raise _OutOfTimeError


def _age(build: BuildObservedV1) -> tuple[datetime, int, str]:
    """Oldest first; of those of one second, by their numbers."""
    return build.created_at or build.updated_at, len(build.build.run_id), build.build.run_id


def _placeholder(sketch: BuildObservedV1, now: datetime) -> Known:
    """A build of which nothing is known but that it is there: nothing of it has been published."""
    return Known(
        build_id=sketch.build.build_id,
        repository_id=sketch.build.repository_id,
        run_id=sketch.build.run_id,
        attempt=sketch.build.attempt,
        settled=False,
        due_at=now,
    )
