"""The public exchanges: where to publish and where to listen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from buildlight_contracts.envelope import Envelope


@dataclass(frozen=True)
class Exchange:
    """A durable exchange. `purpose` says who publishes and who listens."""

    name: str
    kind: Literal["topic", "direct", "fanout"]
    purpose: str


INTAKE = Exchange(
    "buildlight.intake",
    "topic",
    "Observations from anyone, possibly twice, in any order. Routing key: the event's type.",
)
EVENTS = Exchange(
    "buildlight.events",
    "topic",
    "Recorded facts in log order, once each but for a crash. Routing key: the event's type.",
)
COMMANDS = Exchange(
    "buildlight.commands",
    "direct",
    "Commands to their owners. Routing key: the command's type, and after it, for some types, "
    "`.express` when it is urgent and `.backlog` when nobody waits for it.",
)
HINTS = Exchange("buildlight.hints", "fanout", "The log's head has moved. Losing one costs at most a second.")

EXCHANGES = (INTAKE, EVENTS, COMMANDS, HINTS)

EXPRESS = ".express"
"""Ends the routing key of an urgent command whose owner has a lane of its own for those."""
BACKLOG = ".backlog"
"""Ends the routing key of a command that nobody waits for, whose owner keeps those from holding up the others."""
_WITH_EXPRESS = ("build.refresh.v1", "reports.collect.v1")
_WITH_BACKLOG = ("reports.collect.v1",)
_URGENT = ("high", "critical")

POSITION_HEADER = "buildlight-position"
"""On `buildlight.events`: the event's position in the log, an integer that only grows."""


def command_key(envelope: Envelope) -> str:
    """The routing key on `buildlight.commands` of the command inside: its type, with its lane.

    `EXPRESS` when it is urgent, `BACKLOG` when it is of low priority; for the types that have such a lane.
    """
    key = envelope.routing_key
    priority = envelope.data.get("priority") if isinstance(envelope.data, Mapping) else None
    if key in _WITH_EXPRESS and priority in _URGENT:
        return key + EXPRESS
    return key + BACKLOG if key in _WITH_BACKLOG and priority == "low" else key
