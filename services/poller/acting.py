"""Carrying out what is asked of a provider: run a build again, cancel it, show a verdict on its commit."""

import contextlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.collection import BuildActionTakenV1
from buildlight_contracts.commands import CancelBuildV1, PublishCheckV1, RefreshBuildV1, RerunBuildV1
from buildlight_contracts.envelope import Envelope
from chassis import crash
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.retry import ATTEMPT, NotYet, Permanent, Transient
from chassis.settings import seconds_of
from services.poller.action_store import MEMORY, ActionStore, Alone, Kept
from services.poller.actions import (
    FINAL,
    NOTHING_DONE,
    ActionCommand,
    Settled,
    action_of,
    after_unclear_end,
    is_late,
    look_in,
)
from services.poller.collection_store import CollectionStore
from services.poller.metrics import ACTIONS
from services.poller.provider import (
    Done,
    Found,
    Gone,
    MustWaitError,
    PollFailedError,
    Provider,
    Providers,
    Refused,
    Target,
)

_FORGET_EVERY = timedelta(hours=1)
_LONGEST_DETAIL = 2000

log = structlog.get_logger()


class Calling(Protocol):
    """Calls of a provider are made inside."""

    def __call__(self, provider: Provider, *, express: bool = False) -> AbstractAsyncContextManager[None]: ...


def freely(provider: Provider, *, express: bool = False) -> AbstractAsyncContextManager[None]:
    """As a provider's calls come."""
    del provider, express
    return contextlib.nullcontext()


def _now() -> datetime:
    return datetime.now(UTC)


class Actions:
    """Handles `build.rerun.v1`, `build.cancel.v1` and `check.publish.v1`.

    Whoever asks waits for the answer: it is settled, well or not, before the command's expiry, and what is late
    is refused. A dead letter it becomes only when it is no such command.
    """

    def __init__(
        self,
        providers: Providers,
        builds: CollectionStore,
        store: ActionStore,
        broker: Broker,
        *,
        calling: Calling = freely,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._providers = providers
        self._builds = builds
        self._store = store
        self._broker = broker
        self._calling = calling
        self._clock = clock
        self._forgot_at: datetime | None = None

    async def act(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, RerunBuildV1 | CancelBuildV1 | PublishCheckV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        await self._forget()
        async with self._store.alone(command.build.build_id) as alone:
            action = action_of(command)
            kept = await alone.admit(command, action, expires_at=envelope.expiresat)
            if kept.action != action or kept.build_id != command.build.build_id:
                raise Permanent(
                    f"request {command.request_id} was used for another action: ask with an id of its own"
                )
            if kept.status == "queued":
                await _Act(self, alone, command, kept, envelope, delivery).carry_out()

    async def _forget(self) -> None:
        now = self._clock()
        if self._forgot_at is None or now - self._forgot_at > _FORGET_EVERY:
            await self._store.forget(before=now - MEMORY)
            self._forgot_at = now

    # -- what one act needs

    def now(self) -> datetime:
        return self._clock()

    def next_rung(self, delivery: Delivery) -> timedelta | None:
        """How long the next pause is; None when every rung is used up."""
        tries, rungs = delivery.headers.get(ATTEMPT, 0), self._broker.rungs
        if not isinstance(tries, int) or not 0 <= tries < len(rungs):
            return None
        return timedelta(seconds=seconds_of(rungs[tries]))

    async def target(self, command: ActionCommand) -> tuple[Target, Provider] | None:
        found = await self._builds.find(command.build.build_id)
        provider = self._providers.get((command.build.provider, command.build.instance))
        return (found[0], provider) if found is not None and provider is not None else None

    def calling(self, provider: Provider) -> AbstractAsyncContextManager[None]:
        return self._calling(provider, express=True)

    async def look_again(self, target: Target, command: ActionCommand) -> None:
        """Have the build looked at, so that what the provider did shows at once. The polls see it in any case."""
        now = self._clock()
        with contextlib.suppress(LookupError):
            await self._broker.command(
                RefreshBuildV1(
                    provider=target.provider,
                    instance=target.instance,
                    target=target.name,
                    run_id=command.build.run_id,
                    priority="high",
                    reason="asked",
                    due_at=now,
                ),
                expires_at=now + timedelta(minutes=5),
            )


class _Act:
    """One try at one action, which nobody else is at."""

    def __init__(
        self,
        actions: Actions,
        alone: Alone,
        command: ActionCommand,
        kept: Kept,
        envelope: Envelope,
        delivery: Delivery,
    ) -> None:
        self._actions = actions
        self._alone = alone
        self._command = command
        self._kept = kept
        self._envelope = envelope
        self._delivery = delivery
        self._unclear = kept.begun_at is not None
        """The provider was asked, and it is not known whether it did it."""

    async def carry_out(self) -> None:
        now = self._actions.now()
        if is_late(now, self._envelope.expiresat) and not self._unclear:
            waited = "it waited longer than it may, and was not carried out: ask again"
            return await self._settle(Settled("refused", f"Too late: {waited}."), answered=False)
        found = await self._actions.target(self._command)
        if found is None:
            gone = "This build is not watched (any more), so nobody can be asked. Is its target still polled?"
            return await self._settle(Settled("refused", gone), answered=False)
        target, provider = found
        try:
            async with self._actions.calling(provider):
                settled = await (self._after if self._unclear else self._ask)(target, provider)
        except MustWaitError as wait:
            return await self._wait(timedelta(seconds=wait.seconds), wait.reason)
        except PollFailedError as failure:
            return await self._failed(failure, provider)
        await self._settle(settled, answered=settled.status != "failed")
        if settled.status == "done" and not isinstance(self._command, PublishCheckV1):
            await self._actions.look_again(target, self._command)
        return None

    async def _after(self, target: Target, provider: Provider) -> Settled:
        """The provider was asked before, and what came of it is not known."""
        assert self._kept.begun_at is not None
        early = look_in(self._actions.now(), self._kept.begun_at)
        if early > timedelta():
            raise NotYet("what the provider did may not show yet", seconds=early.total_seconds())
        latest = await provider.build(target, self._command.build.run_id)
        if not isinstance(latest, Found | Gone):
            raise PollFailedError("nonsense", "The build cannot be read.")
        decision = after_unclear_end(self._command, latest.build if isinstance(latest, Found) else None)
        if isinstance(decision, Settled):
            return decision
        if is_late(self._actions.now(), self._envelope.expiresat):
            return Settled("refused", "Too late: the provider had not done it, and is not asked again.")
        return await self._ask(target, provider)

    async def _ask(self, target: Target, provider: Provider) -> Settled:
        request, command = self._command.request_id, self._command
        await self._alone.begin(request, at=self._actions.now())
        self._unclear = True
        crash.point("poller.actions.before_asking")
        try:
            answer = await _asked(provider, target, command)
        except (MustWaitError, PollFailedError) as failure:
            if isinstance(failure, MustWaitError) or failure.reason in NOTHING_DONE:
                await self._alone.take_back(request)
                self._unclear = False
            raise
        crash.point("poller.actions.after_asking")
        if isinstance(answer, Done):
            return Settled("done", answer.detail, answer.url)
        return Settled("refused", answer.detail)

    async def _failed(self, failure: PollFailedError, provider: Provider) -> None:
        if failure.reason in FINAL and not self._unclear:
            return await self._settle(Settled("refused", failure.detail), answered=True)
        if failure.reason == "rate_limited":
            until = provider.budget.blocked_until
            pause = until - self._actions.now() if until else timedelta(minutes=1)
            return await self._wait(pause, failure.detail)
        next_pause = self._actions.next_rung(self._delivery)
        if failure.reason in FINAL or next_pause is None or self._is_late(next_pause):
            # The next try would be too late, and whoever asked would wait for it in vain.
            return await self._give_up(failure.detail)
        await self._alone.tell(self._command.request_id, failure.detail)
        raise Transient(failure.detail)

    async def _wait(self, pause: timedelta, reason: str) -> None:
        if self._is_late(pause):
            minutes = max(1, round(pause.total_seconds() / 60))
            return await self._give_up(f"The provider may not be asked for another {minutes} min ({reason}).")
        await self._alone.tell(self._command.request_id, f"It waits: {reason}")
        raise NotYet(reason, seconds=max(0.0, pause.total_seconds()))

    async def _give_up(self, why: str) -> None:
        unknown = " It is not known whether it was done: look at the provider before asking again."
        detail = f"Given up: {why}{unknown if self._unclear else ' Nothing was done: ask again later.'}"
        await self._settle(Settled("failed", detail), answered=False)

    def _is_late(self, pause: timedelta) -> bool:
        return is_late(self._actions.now(), self._envelope.expiresat, wait=pause)

    async def _settle(self, settled: Settled, *, answered: bool) -> None:
        """Keep the result; `answered`: it is the provider's, and a fact."""
        now, command = self._actions.now(), self._command
        action = action_of(command)
        detail = settled.detail.replace("\0", "")[:_LONGEST_DETAIL]
        fact = (
            BuildActionTakenV1(
                request_id=command.request_id,
                action=action,
                build=command.build,
                repository=command.repository,
                by=command.by,
                outcome="done" if settled.status == "done" else "refused",
                detail=detail,
                url=settled.url,
                taken_at=now,
            )
            if answered
            else None
        )
        await self._alone.settle(
            command.request_id,
            settled.status,
            detail,
            url=settled.url,
            fact=fact,
            cause=self._envelope,
            at=now,
        )
        ACTIONS.labels(command.build.provider, action, settled.status).inc()
        log.info("action settled", action=action, status=settled.status, request_id=str(command.request_id))


async def _asked(provider: Provider, target: Target, command: ActionCommand) -> Done | Refused:
    match command:
        case RerunBuildV1():
            return await provider.rerun(target, command.build, failed_only=command.failed_only)
        case CancelBuildV1():
            return await provider.cancel(target, command.build)
        case PublishCheckV1():
            return await provider.publish_check(target, command)
