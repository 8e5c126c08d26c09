"""Messages that RabbitMQ carries and no client library of ours would make."""

import struct
from typing import Any

import aiormq
from pamqp import encode
from pamqp.commands import Basic


class _Raw(Basic.Properties):
    """Properties with bytes of our own choice."""

    raw = b""

    def marshal(self) -> bytes:
        return self.raw


def table(**values: bytes) -> bytes:
    """An AMQP table of values already encoded, each with its type's letter."""
    fields = b"".join(struct.pack("B", len(name)) + name.encode() + value for name, value in values.items())
    return struct.pack(">I", len(fields)) + fields


def nested(levels: int) -> bytes:
    """A table in a table in a table."""
    inner = table()
    for _ in range(levels):
        inner = table(a=b"F" + inner)
    return inner


ODD_HEADERS: dict[str, bytes] = {
    "buildlight-attempt": b"S" + encode.long_string("abc"),
    "buildlight-first-failure": b"T" + struct.pack(">Q", 2**64 - 1),
    "buildlight-not-before": b"S" + encode.long_string("tomorrow"),
    "latin": b"S" + struct.pack(">I", 3) + b"\xff\xfea",
    "huge": b"d" + struct.pack(">d", 1e300),
    "decimal": b"D" + struct.pack(">BI", 2, 2**32 - 1),
    "list": b"A" + struct.pack(">I", 9) + b"d" + struct.pack(">d", -1e300),
    "traceparent": b"I" + struct.pack(">i", 5),
    "tracestate": b"A" + struct.pack(">I", 0),
    "baggage": b"t\x01",
    "correlation_id": b"V",
}
"""What is wrong with a header, by its name: types that were not expected, and values that our encoder refuses."""


async def publish_odd(
    url: str, queue: str, body: bytes, *, headers: bytes, message_id: bytes = b"odd", seconds: int = 1
) -> None:
    """Publish with these headers (a whole AMQP table), message id and timestamp, as they are."""
    properties = _Raw()
    properties.raw = b"".join(
        (
            struct.pack(">H", 0x8000 | 0x2000 | 0x1000 | 0x0080 | 0x0040),
            b"\x0atext/plain",
            headers,
            b"\x02",
            struct.pack("B", len(message_id)) + message_id,
            struct.pack(">Q", seconds),
        )
    )
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        await channel.basic_publish(body, routing_key=queue, properties=properties, mandatory=True)
    finally:
        await connection.close()


ODD_MESSAGES: list[dict[str, Any]] = [
    {"headers": table(), "seconds": 10**15},
    {"headers": table(), "seconds": 2**64 - 1},
    {"headers": table(), "message_id": b"\xff" * 255},
    {"headers": table(**ODD_HEADERS)},
    {"headers": struct.pack(">I", 4) + b"\x02\xff\xfeV"},
    {"headers": nested(100)},
    {"headers": nested(3000)},
]
"""Each was the end of a connection or of a process."""
