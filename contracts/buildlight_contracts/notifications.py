"""What was told to people, and what could not be."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from buildlight_contracts.envelope import Fact, Moment


class _Notification(Fact):
    delivery_id: UUID
    """Unique for one rule, group, fact and channel."""
    rule: str
    channel: str
    """`slack` or `mail`."""
    fact_id: str
    fact_type: str
    title: str

    def subject(self) -> str:
        return f"notifications/{self.delivery_id}"

    def material(self) -> Mapping[str, Any]:
        return {"delivery_id": str(self.delivery_id)}


class NotificationSentV1(_Notification):
    """Sent when a channel accepted a notification."""

    type: ClassVar[str] = "notification.sent.v1"

    sent_at: Moment

    def occurred_at(self) -> datetime:
        return self.sent_at


class NotificationFailedV1(_Notification):
    """Sent when a notification was given up: refused for good, or every retry used up."""

    type: ClassVar[str] = "notification.failed.v1"

    reason: str
    failed_at: Moment

    def occurred_at(self) -> datetime:
        return self.failed_at
