"""Looking at one run now. What a refresh cannot do, the polls do a little later: it never becomes a dead letter."""

from datetime import UTC, datetime, timedelta

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import RefreshBuildV1
from buildlight_contracts.envelope import Envelope
from chassis.delivery import Delivery
from chassis.retry import NotYet, Permanent, Transient
from services.poller.means import Means
from services.poller.metrics import REFRESHES
from services.poller.provider import MustWaitError, PollFailedError, Provider, Reason, Target
from services.poller.taking import Taking

LIFETIME = timedelta(hours=1)
"""How long a refresh is worth trying; before the ladder of retries has an end."""
_PATIENCE_SECONDS = 30.0
_POLLS_TELL: frozenset[Reason] = frozenset({"unauthorized", "forbidden", "not_found"})
"""No try within the hour will mend these, and the target's polls tell of them."""

log = structlog.get_logger()


class Refreshes:
    """Handles `build.refresh.v1`, on two queues."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def usual(self, delivery: Delivery) -> None:
        await self._refresh(delivery, express=False)

    async def express(self, delivery: Delivery) -> None:
        await self._refresh(delivery, express=True)

    async def _refresh(self, delivery: Delivery, *, express: bool) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, RefreshBuildV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        target = Target(command.provider, command.instance, command.target)
        admitted = await self._means.admit(target)
        if admitted is None:
            outcome = "unknown_target"
        elif _expired(envelope, command):
            outcome = "expired"
        else:
            outcome = await self._look(target, admitted[0], command, express=express)
        REFRESHES.labels(target.provider, "express" if express else "usual", outcome).inc()
        log.info(
            "refreshed", target=target.name, run_id=command.run_id, outcome=outcome, asked=command.reason
        )

    async def _look(
        self, target: Target, provider: Provider, command: RefreshBuildV1, *, express: bool
    ) -> str:
        store = self._means.store
        # Webhooks come in bursts, one for each state of a run: the first look may have seen to them all.
        async with store.alone(f"{target.id}/{command.run_id}", patience_seconds=_PATIENCE_SECONDS) as ours:
            if not ours:
                raise NotYet("another replica looks at this run", seconds=_PATIENCE_SECONDS)
            if await store.looked_since(target, command.run_id, command.due_at):
                return "fresh_already"
            taking = Taking(
                target,
                provider,
                store,
                self._means.outlet,
                now=datetime.now(UTC),
                interval=self._means.interval,
            )
            try:
                async with self._means.calling(provider, express=express):
                    found = await taking.refresh(command.run_id, asked_at=command.due_at)
            except MustWaitError as wait:
                raise NotYet(wait.reason, seconds=wait.seconds) from None
            except PollFailedError as failure:
                if failure.reason in _POLLS_TELL:
                    return failure.reason
                raise Transient(failure.detail) from None
        if taking.report.refused:
            log.warning(
                "not all of a run could be read", run_id=command.run_id, why=taking.report.refused[:3]
            )
        return "looked" if found else "gone"


def _expired(envelope: Envelope, command: RefreshBuildV1) -> bool:
    now = datetime.now(UTC)
    return (envelope.expiresat is not None and envelope.expiresat <= now) or now - command.due_at > LIFETIME
