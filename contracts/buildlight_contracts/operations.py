"""What befell Buildlight itself: polls that failed, messages that died and came back."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from buildlight_contracts.envelope import Fact, Id, Moment


class PollFailedV1(Fact):
    """Sent when polling a target began to fail, or began to fail for another reason; once an episode."""

    type: ClassVar[str] = "poll.failed.v1"

    provider: Id
    instance: Id
    target: Id
    """What was polled, in the provider's words: `acme/shop`."""
    reason: str
    """For machines: `unauthorized`, `forbidden`, `not_found`, `rate_limited`, `server_error`, `nonsense`
    or `unreachable`."""
    status: int | None = None
    detail: str
    """What happened and what to do next, for a person."""
    failed_at: Moment

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}"

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", include={"reason", "failed_at"})

    def occurred_at(self) -> datetime:
        return self.failed_at


class MessageDeadLetteredV1(Fact):
    """Sent when a message that could not be handled was archived."""

    type: ClassVar[str] = "message.dead_lettered.v1"

    dead_letter_id: UUID
    queue: str
    message_id: str
    message_type: str | None = None
    kind: str
    """`permanent`, `exhausted` (every retry used up) or `delivery_limit`."""
    reason: str
    fingerprint: str
    attempts: int
    died_at: Moment

    def subject(self) -> str:
        return f"dead-letters/{self.dead_letter_id}"

    def material(self) -> Mapping[str, Any]:
        return {}

    def occurred_at(self) -> datetime:
        return self.died_at


class MessageReplayedV1(Fact):
    """Sent when a dead letter was put back on the queue it died on."""

    type: ClassVar[str] = "message.replayed.v1"

    dead_letter_id: UUID
    queue: str
    message_id: str
    replay: int
    """1 for the first replay of this dead letter."""
    by: str
    replayed_at: Moment

    def subject(self) -> str:
        return f"dead-letters/{self.dead_letter_id}"

    def material(self) -> Mapping[str, Any]:
        return {"replay": self.replay}

    def occurred_at(self) -> datetime:
        return self.replayed_at
