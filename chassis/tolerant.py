"""Decoding AMQP without letting one message take the connection down.

RabbitMQ hands on what any client published, and what pamqp cannot decode (a timestamp of the year 50,000, a
message id that is not UTF-8, tables nested a thousand deep) fails in the connection's reader: the connection
dies, RabbitMQ delivers the message again, and so for ever, with all its neighbours. pamqp has no setting for it,
but looks its decoders up in two dictionaries; here the few that fail are replaced by ones that do not.
"""

from datetime import datetime
from typing import Any

from pamqp import decode

_DEEPEST = 32
"""Tables in tables: what is nested deeper could not be encoded again, nor be written as JSON."""


def decode_tolerantly() -> None:
    """From now on, in the whole process, a message with odd properties or headers is decoded as far as it goes.

    A timestamp out of range becomes None, what is not UTF-8 in a short string or a header's name becomes `?`,
    and headers that make no sense at all are left out. May be called again.
    """
    decode.METHODS.update(shortstr=_short_string, timestamp=_timestamp, table=_outer_table)
    decode.TABLE_MAPPING.update({b"T": _timestamp, b"F": _table})


def _short_string(value: bytes) -> tuple[int, str]:
    end = 1 + value[0]
    text = value[1:end]
    try:
        return end, text.decode()
    except UnicodeDecodeError:
        # Not U+FFFD, of three bytes: the string has to fit in 255 when it is published again.
        return end, text.decode(errors="replace").replace("\ufffd", "?")


def _timestamp(value: bytes) -> tuple[int, datetime | None]:
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(value: bytes) -> tuple[int, dict[str, Any]]:
    offset, end = 4, 4 + int.from_bytes(value[:4])
    table = {}
    while offset < end:
        consumed, name = _short_string(value[offset:end])
        offset += consumed
        consumed, table[name] = decode.embedded_value(value[offset:end])
        offset += consumed
    return end, table


def _outer_table(value: bytes) -> tuple[int, dict[str, Any]]:
    try:
        end, table = _table(value)
    except (ValueError, ArithmeticError, LookupError, RecursionError):
        return 4 + int.from_bytes(value[:4]), {}
    return end, {} if _deeper_than(_DEEPEST, table) else table


def _deeper_than(levels: int, value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper_than(levels - 1, part) for part in parts)
