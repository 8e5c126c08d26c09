"""Collecting the test reports of a build that has ended, and what matters of its failed jobs' logs.

Part by part: each is published, confirmed, and then remembered. Killed anywhere, another try takes up what is not
remembered; what it publishes twice has the same ids, and the log has it once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Envelope, Fact
from chassis import crash
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.retry import NotYet, Permanent, Transient
from services.poller.acting import Calling, freely
from services.poller.collect import MOST_DOCUMENTS, Keys, Setbacks, job_key, summary
from services.poller.collection_store import MEMORY, CollectionStore
from services.poller.documents import DocumentLimits, Told, read_document, read_results
from services.poller.job_logs import LogLimits, capture, failed
from services.poller.metrics import COLLECTED, FACTS
from services.poller.provider import (
    Document,
    Found,
    Gone,
    Jobs,
    LogGoneError,
    MustWaitError,
    PollFailedError,
    Provider,
    Providers,
    Results,
    Target,
)

_FORGET_EVERY = timedelta(hours=1)

Record = Callable[[Fact], Awaitable[None]]

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Limits:
    """`most_seconds`: of one try, well below the half hour after which RabbitMQ takes a message away."""

    documents: DocumentLimits = field(default_factory=DocumentLimits)
    logs: LogLimits = field(default_factory=LogLimits)
    most_seconds: float = 1200.0


class Collections:
    """Handles `reports.collect.v1`, on three queues."""

    def __init__(
        self,
        providers: Providers,
        store: CollectionStore,
        broker: Broker,
        *,
        calling: Calling = freely,
        limits: Limits | None = None,
    ) -> None:
        self._providers = providers
        self._store = store
        self._broker = broker
        self._calling = calling
        self._limits = limits or Limits()
        self._forgot_at: datetime | None = None

    async def usual(self, delivery: Delivery) -> None:
        await self._collect(delivery, express=False)

    async def express(self, delivery: Delivery) -> None:
        await self._collect(delivery, express=True)

    async def _collect(self, delivery: Delivery, *, express: bool) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, CollectReportsV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        await self._forget()
        provider = self._providers.get((command.build.provider, command.build.instance))
        if provider is None or _is_late(envelope):
            why = "expired" if provider else "unknown_target"
            log.info("collection dropped", target=command.target, reason=why)
            return
        kept = await self._store.begin(command)
        if kept.is_done:
            return

        async def record(fact: Fact) -> None:
            await self._broker.record(fact, cause=envelope)
            FACTS.labels(fact.type).inc()

        trial = _Try(provider, command, self._store, record, self._limits, seen=kept.documents | kept.jobs)
        try:
            async with self._calling(provider, express=express):
                await self._in_time(trial)
        except MustWaitError as wait:
            await self._store.tell(command, f"It waits: {wait.reason}")
            raise NotYet(wait.reason, seconds=wait.seconds) from None
        except PollFailedError as failure:
            await self._store.tell(command, failure.detail)
            blocked = provider.budget.blocked_until
            if failure.reason == "rate_limited" and blocked is not None:
                pause = (blocked - datetime.now(UTC)).total_seconds()
                raise NotYet(failure.detail, seconds=max(0.0, pause)) from None
            raise Transient(failure.detail) from None
        if trial.setbacks.failed:
            detail = summary(trial.setbacks.failed) or ""
            await self._store.tell(command, detail)
            raise Transient(f"Not all could be collected: {detail}")
        await self._store.done(command, summary([*trial.setbacks.gone, *trial.notes]))
        log.info("collected", target=command.target, run_id=command.build.run_id, notes=trial.notes[:3])

    async def _in_time(self, trial: "_Try") -> None:
        try:
            async with asyncio.timeout(self._limits.most_seconds) as patience:
                await trial.run()
        except TimeoutError:
            if not patience.expired():
                raise
            trial.setbacks.failed.append(
                f"it took longer than {self._limits.most_seconds / 60:.0f} min; what is left comes with the next try"
            )

    async def _forget(self) -> None:
        now = datetime.now(UTC)
        if self._forgot_at is None or now - self._forgot_at > _FORGET_EVERY:
            await self._store.forget(before=now - MEMORY)
            self._forgot_at = now


class _Try:
    """One try at one attempt of a build. Raises MustWaitError and PollFailedError when it is no use to go on."""

    def __init__(
        self,
        provider: Provider,
        command: CollectReportsV1,
        store: CollectionStore,
        record: Record,
        limits: Limits,
        *,
        seen: frozenset[UUID],
    ) -> None:
        self._provider = provider
        self._command = command
        self._target = Target(command.build.provider, command.build.instance, command.target)
        self._store = store
        self._record = record
        self._limits = limits
        self._seen = seen
        self.setbacks = Setbacks()
        self.notes: list[str] = []
        """What was left out for good, for a person."""

    async def run(self) -> None:
        try:
            await self._documents()
        except PollFailedError as failure:
            self._bear("the list of reports", failure)
        if self._command.failed:
            await self._logs()

    # -- reports

    async def _documents(self) -> None:
        keys, listed = Keys(), 0
        async for found in self._provider.reports(self._target, self._command.build):
            listed += 1
            if listed > MOST_DOCUMENTS:
                self.notes.append(f"only the first {MOST_DOCUMENTS:,} documents were read")
                return
            key = keys.of(found)
            if key in self._seen:
                continue
            try:
                told = await self._told(found)
            except PollFailedError as failure:
                self._bear(found.source, failure)
                if failure.reason != "not_found":
                    continue
                told = Told()
            else:
                self.setbacks.went_well()
            crash.point("poller.collect.before_remembering")
            await self._store.keep_document(
                self._command, key, reports=told.reports, cases=told.cases, refused=told.refused
            )

    async def _told(self, found: Document | Results) -> Told:
        """Publish what a document holds."""
        if isinstance(found, Results):
            told = await read_results(found, self._command, self._record)
        else:
            told = await read_document(found, self._command, self._record, self._limits.documents)
            if told.note is not None:
                self.notes.append(told.note)
        COLLECTED.labels(self._provider.name, "report").inc(told.reports)
        COLLECTED.labels(self._provider.name, "refused").inc(told.refused)
        return told

    # -- logs

    async def _logs(self) -> None:
        try:
            jobs = await self._failed_jobs()
        except PollFailedError as failure:
            self._bear("the list of jobs", failure)
            return
        for job in failed(jobs.jobs):
            key = job_key(job.job_id)
            if key in self._seen:
                continue
            what = "log"
            try:
                fact = await capture(
                    self._provider.log(self._target, self._command.build, job.job_id),
                    job,
                    self._command.build,
                    repository=self._command.repository,
                    otherwise_at=self._command.ended_at,
                    limits=self._limits.logs,
                )
            except LogGoneError as gone:
                fact, what = None, "log_gone"
                self.notes.append(str(gone))
            except PollFailedError as failure:
                self._bear(f"the log of {job.name}", failure)
                continue
            self.setbacks.went_well()
            if fact is not None:
                await self._record(fact)
            COLLECTED.labels(self._provider.name, what).inc()
            await self._store.keep_log(self._command, key, found=fact is not None)

    async def _failed_jobs(self) -> Jobs:
        build = self._command.build
        found = await self._provider.build(self._target, build.run_id, build.attempt)
        if isinstance(found, Gone):
            self.notes.append("the provider no longer has the build")
            return Jobs(())
        if not isinstance(found, Found):
            raise PollFailedError("nonsense", f"Run {build.run_id} cannot be read.")
        jobs = await self._provider.jobs(self._target, found.build)
        return jobs if isinstance(jobs, Jobs) else Jobs(())

    def _bear(self, what: str, failure: PollFailedError) -> None:
        """Note that a part failed; raise what is no part's own fault."""
        if not self.setbacks.bear(what, failure.reason, failure.detail):
            raise failure


def _is_late(envelope: Envelope) -> bool:
    return envelope.expiresat is not None and envelope.expiresat <= datetime.now(UTC)
