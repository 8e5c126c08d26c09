"""A message as a handler gets it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildlight_contracts.envelope import MAX_MESSAGE_BYTES
from chassis.retry import Permanent


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message from a queue. A handler is a plain function of it, callable in a test without a broker."""

    body: bytes
    message_id: str | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)
    redelivered: bool = False
    content_type: str | None = None

    def check_size(self) -> None:
        """Refuse what is over the size every queue accepts.

        Raises:
            Permanent: it is too large.
        """
        if len(self.body) > MAX_MESSAGE_BYTES:
            raise Permanent(f"{len(self.body):,} bytes; a message may have {MAX_MESSAGE_BYTES:,}")
