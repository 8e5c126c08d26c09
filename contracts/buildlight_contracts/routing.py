"""The public exchanges: where to publish and where to listen."""

from dataclasses import dataclass
from typing import Literal


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
    "buildlight.commands", "direct", "Commands to their owners. Routing key: the command's type."
)
HINTS = Exchange("buildlight.hints", "fanout", "The log's head has moved. Losing one costs at most a second.")

EXCHANGES = (INTAKE, EVENTS, COMMANDS, HINTS)

POSITION_HEADER = "buildlight-position"
"""On `buildlight.events`: the event's position in the log, an integer that only grows."""
