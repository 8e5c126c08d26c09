"""What a channel is. It only says whether trying again helps; the trying again is done elsewhere."""

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from services.notifier.render import Notice

_LONGEST_ANSWER = 200


@dataclass(frozen=True)
class Notification:
    """A notice on its way. `follows`: the delivery of the break that this recovery ends."""

    delivery_id: UUID
    notice: Notice
    follows: UUID | None = None


class Channel(Protocol):
    async def send(self, notification: Notification) -> None:
        """Return when the other side accepted it.

        Raises:
            Permanent: refused, and would be again; the text has the other side's own words.
            Transient: refused for now, or no answer came. It may have been accepted then, so it is tried again
                a few times and not for ever.
            Outage: the other side cannot be reached, so it was surely not accepted.
        """


def words(answer: str) -> str:
    """The other side's answer as one line, bounded: it goes into logs, dead letters and the history."""
    line = " ".join("".join(c if c.isprintable() else " " for c in answer).split())
    return line[:_LONGEST_ANSWER] or "nothing"
