"""The poller's queues."""

from buildlight_contracts.commands import PollTargetV1, ReconcileTargetV1
from buildlight_contracts.routing import COMMANDS
from chassis.topology import Binding, Queue

POLL = Queue(
    "poller.poll",
    owner="poller",
    purpose="Polls that are due: one target each.",
    bindings=(Binding(COMMANDS, PollTargetV1.type),),
    prefetch=4,
)

RECONCILE = Queue(
    "poller.reconcile",
    owner="poller",
    purpose="Comparisons of what a provider has with what the log has: one target each.",
    bindings=(Binding(COMMANDS, ReconcileTargetV1.type),),
    # They mostly wait: for the next poll to bring what seems to be missing.
    prefetch=8,
)

QUEUES: tuple[Queue, ...] = (POLL, RECONCILE)
