"""Comparing what a provider has of a target with what the log has, when a command asks for it."""

import asyncio
import contextlib
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.collection import CompletenessMeasuredV1, MissingBuild
from buildlight_contracts.commands import ReconcileTargetV1, RefreshBuildV1
from buildlight_contracts.envelope import Envelope
from chassis.delivery import Delivery
from chassis.retry import Permanent
from services.poller import completeness, metrics
from services.poller.completeness import Gap, Key, Logged, Standing, suspects
from services.poller.means import Means
from services.poller.measurements import Measurement, Measurements, Record
from services.poller.provider import (
    Counted,
    MustWaitError,
    PollFailedError,
    Provider,
    Span,
    Target,
)

_MOST_TOLD = 100
_TRY_AGAIN = timedelta(minutes=10)
"""After a provider failed; after a refusal the provider says itself."""
_UNTOLD_EXPIRY = timedelta(hours=1)

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a measurement waits for what is on its way."""

    interval: timedelta
    """Between polls: what is younger than two of them is not judged."""
    look_seconds: float = 2.0
    looks: int = 3
    """After a poll came to a good end: what it published is being recorded meanwhile."""
    most_seconds: float = 180.0

    @property
    def seconds(self) -> float:
        """At most, for a poll to come and what it brings to be recorded."""
        return min(self.most_seconds, 2 * self.interval.total_seconds() + self.look_seconds * self.looks)


class Reconciles:
    """Handles `target.reconcile.v1`.

    A provider that fails is no failure of the message: the measurement is put off, and why is kept.
    """

    def __init__(self, means: Means, measurements: Measurements, record: Record, patience: Patience) -> None:
        self._means = means
        self._measurements = measurements
        self._record = record
        self._patience = patience

    async def reconcile(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, ReconcileTargetV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        target = Target(command.provider, command.instance, command.target)
        admitted = await self._means.admit(target)
        if admitted is None:
            why = "It is not polled."
            return await self._put_off(target, command, "unknown_target", why=why)
        asked = (await self._measurements.asked([target])).get(target.id)
        if asked is not None and asked.request_id == command.request_id:
            return _ended(target, "measured_already")
        now = datetime.now(UTC)
        if envelope.expiresat is not None and envelope.expiresat <= now:
            why = "It waited too long for its turn: pollers were down, or had much to do."
            return await self._put_off(target, command, "expired", why=why)
        span = completeness.span_of(command.since, command.until, now=now, interval=self._patience.interval)
        if span is None:
            why = "Nothing of it is older than two polls: only that is judged."
            return await self._put_off(target, command, "too_young", why=why)
        try:
            counted = await self._count(target, admitted[0], span)
        except MustWaitError as wait:
            pause = timedelta(seconds=wait.seconds)
            return await self._put_off(target, command, "waiting", why=wait.reason, pause=pause)
        except PollFailedError as failure:
            return await self._put_off(target, command, failure.reason, why=failure.detail)
        await self._measure(target, command, span, counted, began=now, cause=envelope)
        return None

    async def _count(self, target: Target, provider: Provider, span: Span) -> list[Counted]:
        """The provider's attempts. Its calls take turns with those of polls, which so go on meanwhile."""
        found: list[Counted] = []
        async with self._means.calling(provider):
            async for one in provider.census(target, span):
                found.append(one)
                self._stop_if_told()
        return completeness.once(found)

    async def _put_off(
        self,
        target: Target,
        command: ReconcileTargetV1,
        outcome: str,
        *,
        why: str,
        pause: timedelta = _TRY_AGAIN,
    ) -> None:
        await self._measurements.postponed(
            target, request_id=command.request_id, until=datetime.now(UTC) + pause, why=why
        )
        log.info("completeness not measured", target=target.name, provider=target.provider, why=why)
        _ended(target, outcome)

    # -- what the log has of it

    async def _measure(
        self,
        target: Target,
        command: ReconcileTargetV1,
        span: Span,
        counted: list[Counted],
        *,
        began: datetime,
        cause: Envelope,
    ) -> None:
        logged = await self._has(target, counted)
        left = suspects(counted, logged)
        if left:
            left, standing = await self._wait_for(target, left, counted_at=datetime.now(UTC))
            now_logged = await self._has(target, left)
            logged |= now_logged
            left = suspects(left, now_logged)
            memory = await self._measurements.memory(target, {one.run_id for one in left})
            gaps = [completeness.explain(one, logged, memory, standing) for one in left]
        else:
            gaps = []
        asked_again = await self._ask_again(target, gaps, began)
        measured_at = datetime.now(UTC)
        found = Measurement(
            request_id=command.request_id,
            span=span,
            measured_at=measured_at,
            took_seconds=(measured_at - began).total_seconds(),
            days=completeness.days(span, counted, logged, gaps),
            gaps=gaps,
            asked_again=asked_again,
        )
        fact = Envelope.of(
            fact_of(target, found),
            source="buildlight://poller",
            correlation_id=cause.correlationid or cause.id,
            causation_id=cause.id,
            traceparent=cause.traceparent,
        )
        await self._measurements.keep(target, found, fact)
        _show(target, found)
        _ended(target, "incomplete" if gaps else "complete")

    async def _wait_for(
        self, target: Target, left: list[Counted], *, counted_at: datetime
    ) -> tuple[list[Counted], Standing]:
        """Wait until `left` came by itself, or a poll after the count went well and still did not bring it."""
        until = time.monotonic() + self._patience.seconds
        looks = 0
        while True:
            standing = await self._measurements.standing(target) or Standing(None, None, None)
            looks += standing.failing_since is not None or standing.polled_well_since(counted_at)
            if not left or looks > self._patience.looks or time.monotonic() > until:
                return left, standing
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience.look_seconds):
                    await self._means.broker.stopping.wait()
            self._stop_if_told()
            left = suspects(left, await self._has(target, left))

    async def _has(self, target: Target, counted: Collection[Counted]) -> dict[Key, Logged]:
        # A census that names them needs no search through all that was ever recorded.
        unnamed = any(one.repository_id is None for one in counted)
        ids = await self._measurements.repository_ids(target) if unnamed else ()
        return await self._record.has(target, counted, repository_ids=ids)

    def _stop_if_told(self) -> None:
        if self._means.broker.stopping.is_set():
            # Unacknowledged on purpose: RabbitMQ gives the command to another replica.
            raise asyncio.CancelledError

    # -- what follows from it

    async def _ask_again(self, target: Target, gaps: Collection[Gap], began: datetime) -> int:
        """Have what is missing collected again, a round's worth; how many runs that is."""
        runs = completeness.again(gaps)
        await self._measurements.disbelieve(target, runs)
        if len(runs) > completeness.MOST_AGAIN:
            # A listing shows a hundred runs at the price of one: the next poll goes through all of them.
            await self._measurements.list_anew(target)
        for run_id in runs[: completeness.MOST_AGAIN]:
            await self._means.broker.command(
                RefreshBuildV1(
                    provider=target.provider,
                    instance=target.instance,
                    target=target.name,
                    run_id=run_id,
                    priority="low",
                    reason="reconcile",
                    due_at=began,
                ),
                expires_at=datetime.now(UTC) + _UNTOLD_EXPIRY,
            )
        return len(runs)


def fact_of(target: Target, found: Measurement) -> CompletenessMeasuredV1:
    """What was found, for everybody."""
    missing = [gap for gap in found.gaps if gap.kind == "missing"]
    return CompletenessMeasuredV1(
        provider=target.provider,
        instance=target.instance,
        target=target.name,
        since=found.span.since,
        until=found.span.until or found.measured_at,
        at_provider=sum(day.at_provider for day in found.days),
        recorded=sum(day.recorded for day in found.days),
        open_but_ended=sum(day.open_but_ended for day in found.days),
        missing=tuple(
            MissingBuild(run_id=gap.attempt.run_id, attempt=gap.attempt.attempt, reason=gap.reason)
            for gap in missing[:_MOST_TOLD]
        ),
        measured_at=found.measured_at,
    )


def _show(target: Target, found: Measurement) -> None:
    log.info(
        "completeness measured",
        target=target.name,
        provider=target.provider,
        at_provider=sum(day.at_provider for day in found.days),
        gaps=len(found.gaps),
        asked_again=found.asked_again,
        seconds=round(found.took_seconds, 1),
    )


def _ended(target: Target, outcome: str) -> None:
    metrics.RECONCILES.labels(target.provider, outcome).inc()
    log.debug("reconciled", target=target.name, outcome=outcome)
