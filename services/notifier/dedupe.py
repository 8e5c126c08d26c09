"""Whether a delivery that came off its queue is still to be sent: a pure decision with a named reason."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

Status = Literal["pending", "sent", "failed"]


@dataclass(frozen=True)
class Record:
    """A delivery as the table has it."""

    delivery_id: UUID
    rule: str
    channel: str
    title: str
    envelope: str
    """The fact, as the JSON it arrived in."""
    follows: UUID | None
    status: Status
    attempts: int
    """How often the channel answered, whatever it said."""
    sent_at: datetime | None
    claimed_seconds: float
    """For how long yet another copy of the message has it in hand; 0 when none has."""


@dataclass(frozen=True)
class Deliver:
    """It was not sent, and nobody else is at it. One that failed is sent too: someone replayed it."""


@dataclass(frozen=True)
class AlreadySent:
    """Its channel took it before."""

    sent_at: datetime | None


@dataclass(frozen=True)
class InHand:
    """Another copy of the message is being sent at this moment, or its process died while at it."""

    seconds_left: float


def dedupe(record: Record) -> Deliver | AlreadySent | InHand:
    """Whether to send `record` now."""
    if record.status == "sent":
        return AlreadySent(record.sent_at)
    if record.claimed_seconds > 0:
        return InHand(record.claimed_seconds)
    return Deliver()
