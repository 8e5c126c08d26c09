"""What the poller does with a message: carry out the poll it asks for, and keep how that went."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import PollTargetV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.operations import PollFailedV1
from chassis.delivery import Delivery
from chassis.retry import Permanent
from chassis.telemetry import traceparent
from services.poller import metrics
from services.poller.deployments import Deployments
from services.poller.episodes import after_failure
from services.poller.means import Means
from services.poller.provider import MustWaitError, PollFailedError, Provider, Target
from services.poller.slices import Slice
from services.poller.spans import reach
from services.poller.store import State
from services.poller.taking import Report
from services.poller.visit import Visit

_TOLD_ROWS = 3

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How often and how far back; `first` None stands for as far as a run may be run again."""

    interval: timedelta
    window: timedelta
    sweep: timedelta
    first: datetime | None
    deployments: timedelta | None
    """How often deployments are asked for; None for never."""

    @property
    def slice_seconds(self) -> float:
        """How long one poll may keep a consumer."""
        return max(5.0, self.interval.total_seconds() / 4)


class Polls:
    """Handles `target.poll.v1`.

    A poll that fails is no failure of the message: it is told once an episode, and the schedule brings the next.
    """

    def __init__(self, means: Means, pace: Pace) -> None:
        self._means = means
        self._store = means.store
        self._pace = pace
        self._deployments = Deployments(means, every=pace.deployments, first=pace.first)

    async def poll(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, PollTargetV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        target = Target(command.provider, command.instance, command.target)
        left = self._pace.interval.total_seconds()
        if envelope.expiresat is not None:
            left = (envelope.expiresat - datetime.now(UTC)).total_seconds()
        if left <= 0:
            return _dropped(target, "expired")
        # Held by the target alone: the polls of others, of the same account too, go on beside it.
        async with self._store.alone(target.id, patience_seconds=left) as ours:
            if not ours:
                return _dropped(target, "expired")
            admitted = await self._means.admit(target)
            if admitted is None:
                return _dropped(target, "unknown_target")
            provider, state = admitted
            if state.polled_for is not None and state.polled_for >= command.due_at:
                return _dropped(target, "polled_already")
            await self._visit(target, provider, state, command.due_at)
        return None

    async def _visit(self, target: Target, provider: Provider, state: State, due: datetime) -> None:
        now = datetime.now(UTC)
        ours = self._slice()
        visit = Visit(
            target,
            provider,
            self._store,
            self._means.outlet,
            now=now,
            interval=self._pace.interval,
            time_is_up=ours.is_over,
            has_listed=ours.has_listed,
        )
        since, sweeps = reach(
            now,
            window=self._pace.window,
            sweep=self._pace.sweep,
            first=self._pace.first,
            listed_through=state.listed_through,
            swept_at=state.swept_at,
        )
        try:
            async with self._means.calling(provider):
                report = await visit.run(since=since, window=self._pace.window)
                await self._deployments.visit(target, provider, state, now=now, ours=self._slice())
            if report.complete and sweeps:
                await self._store.swept(target, at=now)
            _refuse_silence(report)
        except MustWaitError as wait:
            outcome = "waiting"
            until_then = datetime.now(UTC) + timedelta(seconds=wait.seconds)
            await self._store.waits(target, due=due, until=until_then)
            log.info(
                "poll waits",
                target=target.name,
                provider=target.provider,
                until=until_then,
                reason=wait.reason,
            )
        except PollFailedError as failure:
            outcome = failure.reason
            await self._failed(target, provider, state, due, failure)
        else:
            outcome = "complete" if report.complete else "partial"
            finished = datetime.now(UTC)
            if report.complete:
                await self._store.succeeded(target, due=due, now=finished)
                metrics.LAST_SUCCESS.labels(target.provider, target.name).set(finished.timestamp())
            else:
                await self._store.unfinished(target, now=finished)
            if state.episode is not None:
                log.info("polling recovered", target=target.name, since=state.episode.since)
        metrics.POLLS.labels(target.provider, outcome).inc()
        log.debug("polled", target=target.name, outcome=outcome, published=visit.report.published)

    def _slice(self) -> Slice:
        return Slice(self._pace.slice_seconds, stopping=self._means.broker.stopping.is_set)

    async def _failed(
        self, target: Target, provider: Provider, state: State, due: datetime, failure: PollFailedError
    ) -> None:
        now = datetime.now(UTC)
        episode, begun = after_failure(state.episode, failure.reason, now)
        fact = PollFailedV1(
            provider=target.provider,
            instance=target.instance,
            target=target.name,
            reason=failure.reason,
            status=failure.status,
            detail=failure.detail,
            failed_at=episode.since,
        )
        await self._store.failed(
            target,
            due=due,
            now=now,
            episode=episode,
            detail=failure.detail,
            not_before=provider.budget.blocked_until if failure.reason == "rate_limited" else None,
            announcement=Envelope.of(fact, source="buildlight://poller", traceparent=traceparent())
            if begun
            else None,
        )
        if begun:
            log.warning("polling fails", target=target.name, reason=failure.reason, detail=failure.detail)


def _refuse_silence(report: Report) -> None:
    """Rows and runs that could not be read must not go unseen, though everything else has been published.

    Raises:
        PollFailedError: there were some.
    """
    if report.refused:
        told = "; ".join(report.refused[:_TOLD_ROWS])
        raise PollFailedError(
            "nonsense", f"{len(report.refused)} rows or runs could not be read and were left out: {told}."
        )


def _dropped(target: Target, reason: str) -> None:
    metrics.POLLS.labels(target.provider, reason).inc()
    log.info("poll dropped", target=target.name, provider=target.provider, reason=reason)
