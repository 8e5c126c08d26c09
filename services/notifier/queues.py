"""The notifier's queues."""

from collections.abc import Mapping

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from buildlight_contracts.routing import EVENTS
from chassis.topology import Binding, Queue

EVALUATE = Queue(
    "notifier.evaluate",
    owner="notifier",
    purpose="Facts that rules may want people to be told of",
    bindings=tuple(Binding(EVENTS, fact.type) for fact in (PipelineBrokeV1, PipelineRecoveredV1)),
    prefetch=10,
)
# One queue a channel, so that a slow or absent sink holds up nobody but itself.
CHANNELS: Mapping[str, Queue] = {
    "slack": Queue(
        "notifier.slack",
        owner="notifier",
        purpose="Deliveries to Slack's incoming webhook",
        prefetch=2,
    ),
    "mail": Queue(
        "notifier.mail",
        owner="notifier",
        purpose="Deliveries by mail",
        prefetch=4,
    ),
}
QUEUES: tuple[Queue, ...] = (EVALUATE, *CHANNELS.values())
