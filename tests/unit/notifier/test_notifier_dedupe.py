"""Whether a delivery that came off its queue is still to be sent."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from services.notifier.dedupe import AlreadySent, Deliver, InHand, Record, dedupe

SENT_AT = datetime(2026, 3, 2, 9, 4, 13, tzinfo=UTC)


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "delivery_id": UUID(int=1),
        "rule": "pipeline-state",
        "channel": "slack",
        "title": "acme/shop: CI broke on main",
        "envelope": "{}",
        "follows": None,
        "status": "pending",
        "attempts": 0,
        "sent_at": None,
        "claimed_seconds": 0.0,
    }
    return Record(**values | changes)


@pytest.mark.parametrize("status", ["pending", "failed"])
def test_what_was_not_sent_is_delivered(status: str) -> None:
    """A pending one because it is new, a failed one because it was replayed."""
    assert dedupe(record(status=status)) == Deliver()


def test_what_was_sent_is_not_sent_again() -> None:
    """The reason says when it was; a claim left over changes nothing."""
    assert dedupe(record(status="sent", sent_at=SENT_AT, claimed_seconds=5.0)) == AlreadySent(SENT_AT)


def test_what_another_copy_has_in_hand_waits() -> None:
    """The reason says for how long at most."""
    assert dedupe(record(claimed_seconds=1.5)) == InHand(1.5)
