"""Concluding: fold a batch of the log and put the facts into the outbox, in one transaction."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact
from chassis.database import Connection
from chassis.follower import Recorded
from chassis.outbox import Outbox
from services.analytics import store
from services.analytics.projection import fact_in

FOLLOWER: Final = "facts"
TYPES: Final = [TYPE_PREFIX + BuildObservedV1.type]
"""Observations alone: its own facts are in the log too, and nothing follows from them."""


class Conclusions:
    """`apply` is what the follower `facts` does with events."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def apply(self, events: Sequence[Recorded], connection: Connection) -> None:
        """Conclude from `events`, in order.

        Raises:
            BadMessage: an event's data does not fit its type.
        """
        observed = [(fact, event) for event in events if isinstance(fact := fact_in(event), BuildObservedV1)]
        fold = await store.load(
            {build.build.build_id for build, _ in observed},
            {build.pipeline.pipeline_id for build, _ in observed},
            connection,
        )
        concluded = [
            _because(event, fact) for build, event in observed for fact in fold.observe(build, UUID(event.id))
        ]
        await store.save(fold, connection)
        await self._outbox.add(concluded, connection)


def _because(event: Recorded, fact: Fact) -> Envelope:
    return Envelope.of(
        fact,
        source="buildlight://analytics",
        correlation_id=event.correlation_id or event.id,
        causation_id=event.id,
        traceparent=event.traceparent,
    )
