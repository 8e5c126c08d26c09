"""The poller's queues."""

from buildlight_contracts.commands import PollTargetV1
from buildlight_contracts.routing import COMMANDS
from chassis.topology import Binding, Queue

POLL = Queue(
    "poller.poll",
    owner="poller",
    purpose="Polls that are due: one target each.",
    bindings=(Binding(COMMANDS, PollTargetV1.type),),
    prefetch=4,
)

QUEUES: tuple[Queue, ...] = (POLL,)
