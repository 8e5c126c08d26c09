"""Taking in builds as a provider shows them: publish what is news, ask for the reports of what ended, remember.

Everything is published, confirmed, before it is remembered, and remembered build by build. Killed anywhere,
the next look repeats what was not remembered; facts and commands have deterministic ids, so it happens once.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from buildlight_contracts.builds import BuildObservedV1, BuildRef, BuildUnavailableV1
from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from chassis.retry import Permanent
from services.poller.attempts import Known, due_at, is_settled, missing, onward, priority_of, version_of
from services.poller.metrics import COLLECTIONS, FACTS
from services.poller.provider import (
    Found,
    Gone,
    Jobs,
    PollFailedError,
    Provider,
    Reason,
    Target,
    Unreadable,
)
from services.poller.store import Store
from services.poller.turns import is_express

OF_ONE_RUN: frozenset[Reason] = frozenset(
    {"server_error", "nonsense", "forbidden", "unreachable", "not_found"}
)
"""What a provider may answer about one run and not about the others."""
_MOST_IN_A_ROW = 3
"""With so many runs failing one after the other it is the provider that fails."""

Record = Callable[[Fact], Awaitable[None]]
Collect = Callable[[CollectReportsV1], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where what was seen goes: facts to the log, and requests for the reports of builds that ended, if wanted."""

    record: Record
    collect: Collect | None = None


@dataclass
class Report:
    """What looking came to. Not `complete`: its time was up; the next one goes on."""

    complete: bool = True
    builds: int = 0
    """Attempts that were news, and so looked at with their jobs."""
    published: int = 0
    refused: list[str] = field(default_factory=list)
    """Why rows could not be read, and runs not be asked about."""
    through: datetime | None = None
    """Of a listing that was not finished: the builds created before this have been taken."""


class Taking:
    """Takes in builds of one target. Raises PollFailedError and MustWaitError as the provider's methods do."""

    def __init__(
        self,
        target: Target,
        provider: Provider,
        store: Store,
        outlet: Outlet,
        *,
        now: datetime,
        interval: timedelta,
    ) -> None:
        self._target = target
        self._provider = provider
        self._store = store
        self._outlet = outlet
        self._now = now
        self._interval = interval
        self._in_a_row = 0
        self.report = Report()

    async def announce(self, builds: Sequence[BuildObservedV1]) -> None:
        """Publish what is news in a listing, before asking for jobs: a first poll has hundreds, and people wait."""
        known = await self._store.known(self._target, [b.build.run_id for b in builds])
        builds = [onward(b, known.get(b.build.run_id, {}).get(b.build.attempt)) for b in builds]
        facts = {build.build.run_id: build.identity() for build in builds}
        news = [
            build
            for build in builds
            if (before := known.get(build.build.run_id, {}).get(build.build.attempt)) is None
            or before.fact_id != facts[build.build.run_id]
        ]
        await asyncio.gather(*map(self.publish, news))
        if news:
            await self._store.keep_announced(self._target, news, now=self._now)

    async def take(
        self,
        build: BuildObservedV1,
        known: Mapping[int, Known],
        etag: str | None = None,
        *,
        going: bool = False,
    ) -> bool:
        """Publish a run and its earlier attempts, as far as they are news. False when nothing was.

        `going`: its jobs may have changed though it looks the same.
        """
        before = known.get(build.build.attempt)
        if before is not None and before.version == version_of(build) and not going:
            return False
        # The latest attempt last: remembering it says that the earlier ones are seen to.
        failed: PollFailedError | None = None
        for attempt in missing(build, known):
            try:
                await self._take_earlier(build, attempt, known.get(attempt))
            except PollFailedError as failure:
                if failure.reason not in OF_ONE_RUN:
                    raise
                failed = failure
        await self._observe(build, before, etag)
        if failed is not None:
            raise failed
        self._in_a_row = 0
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
        build = onward(build, before)
        fact_id, version = build.identity(), version_of(build)
        if before is None or before.fact_id != fact_id:
            await self.publish(build)
        got = await self._provider.jobs(self._target, build)
        jobs = got if isinstance(got, Jobs) else Jobs(())
        self.report.refused += jobs.refused
        seen = before.job_facts if before else frozenset()
        facts = {job.identity(): job for job in jobs.jobs}
        await asyncio.gather(*(self.publish(job) for number, job in facts.items() if number not in seen))
        ended = build.state.is_terminal
        jobs_ended = isinstance(got, Jobs) and all(job.state.is_terminal for job in jobs.jobs)
        unchanged = before.unchanged + 1 if before and before.version == version else 0
        settled = is_settled(ended=ended, jobs_ended=jobs_ended, unchanged=unchanged)
        collected_for = before.collected_for if before else None
        if ended and self._outlet.collect is not None and collected_for != fact_id:
            await self._collect(build, self._outlet.collect)
            collected_for = fact_id
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
                collected_for=collected_for,
                state=build.state,
                resumed_at=build.resumed_at,
            ),
            created_at=build.created_at or build.updated_at,
            shown_at=build.updated_at,
            looked_at=self._now,
        )
        self.report.builds += 1

    async def _collect(self, build: BuildObservedV1, collect: Collect) -> None:
        """Ask for the reports of an attempt that has ended; once for each end, whoever sees it first."""
        ended_at = build.finished_at or build.updated_at
        priority = priority_of(ended_at, now=self._now, urgent=is_express())
        await collect(
            CollectReportsV1(
                build=build.build,
                target=self._target.name,
                repository=build.repository,
                workflow_id=build.workflow_id,
                branch=build.branch,
                commit_sha=build.commit_sha,
                ended_at=ended_at,
                failed=build.state.is_bad,
                priority=priority,
            )
        )
        COLLECTIONS.labels(self._target.provider, priority).inc()

    # -- one at a time

    async def look(self, known: Known) -> None:
        """Ask for an open attempt on its own; one that fails alone is set aside."""
        try:
            await self._ask_for(known)
            self._in_a_row = 0
        except PollFailedError as failure:
            await self.bear(failure, known)

    async def look_behind(self, sketch: BuildObservedV1, before: Known | None) -> bool:
        """Ask for a build that a listing only sketches, and that has changed. False when it was set aside."""
        if before is None:
            # Should it fail by itself there must be something to set aside.
            before = Known(
                build_id=sketch.build.build_id,
                repository_id=sketch.build.repository_id,
                run_id=sketch.build.run_id,
                attempt=sketch.build.attempt,
                settled=False,
                due_at=self._now,
            )
            await self._store.keep(
                self._target,
                before,
                created_at=sketch.created_at or sketch.updated_at,
                shown_at=sketch.updated_at,
                looked_at=self._now,
            )
        refused = len(self.report.refused)
        # No ETag: what was last seen of it was not this.
        await self.look(replace(before, version=None))
        return len(self.report.refused) == refused

    async def _ask_for(self, known: Known) -> None:
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
            if same and known.settled:
                return
            if same and known.ended:
                await self._observe(got.build, known, got.etag)
            elif same:
                await self._postpone(replace(known, etag=got.etag))
            else:
                await self.take(got.build, all_known, got.etag)
        elif isinstance(got, Unreadable):
            await self._set_aside(known, got.why)
        else:
            await self._postpone(known)

    async def refresh(self, run_id: str, *, asked_at: datetime | None = None) -> bool:
        """Look at one run now, known or not. False when the provider does not have it and it is new to us.

        `run_id` may be a name of it that webhooks have, and the provider's answer another: Jenkins' bare number.
        Then what was looked at since `asked_at` is left as it is.
        """
        attempts = (await self._store.known(self._target, [run_id])).get(run_id, {})
        if attempts:
            await self._ask_for(replace(attempts[max(attempts)], latest=True))
            return True
        got = await self._provider.build(self._target, run_id)
        if isinstance(got, Found):
            await self._take_named(run_id, got, asked_at)
        elif isinstance(got, Unreadable):
            self.report.refused.append(got.why)
        return not isinstance(got, Gone)

    async def _take_named(self, asked_for: str, got: Found, asked_at: datetime | None) -> None:
        """Take what came of `asked_for`, with what is known of it under its own name."""
        name = got.build.build.run_id
        attempts: Mapping[int, Known] = {}
        if name != asked_for:
            if asked_at is not None and await self._store.looked_since(self._target, name, asked_at):
                return
            attempts = (await self._store.known(self._target, [name])).get(name, {})
        before = attempts.get(got.build.build.attempt)
        late = before is not None and before.ended and not before.settled
        await self.take(got.build, attempts, got.etag, going=late)

    # -- what cannot be had

    async def bear(self, failure: PollFailedError, known: Known) -> None:
        """Set aside a run that fails alone, so that the others go on; raise what is no run's own fault."""
        if failure.reason not in OF_ONE_RUN:
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
        # What is set aside fails its target's polls, and what has ended lacks but its jobs: neither waits so long.
        standing = not known.ended and known.version is not None
        since = known.created_at if standing else None
        later = due_at(self._now, unchanged, self._interval, open_since=since)
        await self._store.postpone(replace(known, unchanged=unchanged, due_at=later), looked_at=self._now)

    def is_waiting(self, known: Known) -> bool:
        """Whether it is set aside and not yet due. That is told: what fails goes on failing until it is asked."""
        if not known.set_aside or known.due_at is None or known.due_at <= self._now:
            return False
        self.report.refused.append(
            f"run {known.run_id} failed and is asked for again at {known.due_at:%H:%M} UTC"
        )
        return True

    # -- what is kept

    async def _gone(self, ref: BuildRef, repository: str, status: int, created_at: datetime) -> None:
        await self.publish(
            BuildUnavailableV1(build=ref, repository=repository, status=status, noticed_at=self._now)
        )
        await self._store.keep_gone(self._target, ref, created_at=created_at, status=status)

    async def publish(self, fact: Fact) -> None:
        try:
            await self._outlet.record(fact)
        except Permanent as error:
            # Too large for any queue: one build's fault, and no reason to keep back the others.
            self.report.refused.append(str(error))
            return
        FACTS.labels(fact.type).inc()
        self.report.published += 1
