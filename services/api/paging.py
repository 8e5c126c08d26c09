"""Cursors: where in a list, newest first, the next page begins. Opaque to clients, and no secret."""

import base64
import binascii
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.http import HttpError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def cursor_of(at: datetime, row_id: UUID) -> str:
    """The cursor of the page after the row with this time and id."""
    micros = (at - _EPOCH) // timedelta(microseconds=1)
    return base64.urlsafe_b64encode(f"{micros}:{row_id}".encode()).decode().rstrip("=")


def parse_cursor(cursor: str) -> tuple[datetime, UUID]:
    """The time and id that `cursor_of` was given.

    Raises:
        HttpError: 422, not a cursor of ours.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        micros, _, row_id = text.partition(":")
        return _EPOCH + timedelta(microseconds=int(micros)), UUID(row_id)
    except (ValueError, OverflowError, binascii.Error):
        raise HttpError(
            422,
            "cursor: not one that this API gave; take `next_cursor` from an answer, unchanged",
            kind="ValidationError",
        ) from None
