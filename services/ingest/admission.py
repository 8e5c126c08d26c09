"""What becomes of one message on intake: an entry for the log, or a refusal with its reason.

An event of our own must be of a known type and version, with data that fits, under the id and subject that
its data yields: nobody can record a fact under another's id. A foreign event is kept as it was received,
of whatever type, under an id derived from its source and its own id.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

from pydantic_core import from_json, to_json

from buildlight_contracts import cdevents
from buildlight_contracts.catalogue import COMMANDS, BadMessage, fact_of, parse
from buildlight_contracts.envelope import TYPE_PREFIX, Envelope, Fact, derive_id, material_digest
from services.ingest.log import Entry

MAPPED = "buildlight://ingest/cdevents"
"""The source of facts made of CDEvents."""
ESCAPED = "buildlight:escaped"
"""Put into `data` that held characters Postgres cannot keep: how many now stand in it as visible text."""

# Every escape is matched, so that the second half of an escaped backslash is never taken for the start of one.
_LONE_SURROGATE = re.compile(
    rb"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<bad>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_NUL = re.compile(rb"\\(?:(?P<bad>u0000)|.)")


@dataclass(frozen=True, slots=True)
class Refused:
    """The message is no event for the log; `reason` says why, for a person."""

    reason: str


def admit(body: bytes, *, now: datetime) -> Entry | Refused:
    """Decide on one message, a structured CloudEvent. `now` is the time of a foreign event that tells none."""
    lone = 0
    if b"\\ud" in body or b"\\uD" in body:
        body, lone = _madevisible(_LONE_SURROGATE, body)
    try:
        envelope = parse(body)
        if envelope.is_ours:
            return _own(envelope, lone)
        return _foreign(envelope, _received_data(envelope, body), lone, now)
    except BadMessage as error:
        return Refused(str(error))


def beside(entry: Entry) -> Entry | None:
    """The fact of our own that a CDEvent tells, to be recorded beside the CDEvent, which caused it.

    None for every other event, and for a CDEvent of which no fact is made.
    """
    if not entry.type.startswith(cdevents.TYPE_PREFIX):
        return None
    try:
        # The JSON is our own: it was read before, so that it is neither too deep nor broken.
        fact = cdevents.fact_of(from_json(entry.data))
    except cdevents.UnmappedError:
        return None
    return _told_by(fact, entry)


def _told_by(fact: Fact, entry: Entry) -> Entry:
    identity = fact.identity()
    return Entry(
        id=identity,
        digest=identity.bytes,
        type=TYPE_PREFIX + fact.type,
        subject=visible(fact.subject()),
        source=MAPPED,
        occurred_at=fact.occurred_at(),
        correlation_id=entry.correlation_id,
        causation_id=str(entry.id),
        traceparent=entry.traceparent,
        data=_json_text(fact.model_dump(mode="json"), 0),
    )


def _own(envelope: Envelope, escaped: int) -> Entry | Refused:
    if envelope.routing_key in COMMANDS:
        return Refused(f"{envelope.routing_key} is a command: publish it to the exchange buildlight.commands")
    fact = fact_of(envelope)
    identity = fact.identity()
    if envelope.id != str(identity):
        return Refused(f"forged id: {envelope.id} is not this event's, its content gives {identity}")
    subject = fact.subject()
    if envelope.subject != subject:
        return Refused(f"wrong subject: {envelope.subject!r}; the data says {subject!r}")
    return Entry(
        id=identity,
        # What two observers tell differently is not part of the identity, so neither makes a conflict.
        digest=identity.bytes,
        type=envelope.type,
        subject=visible(subject),
        source=visible(envelope.source),
        occurred_at=fact.occurred_at(),
        correlation_id=visible(envelope.correlationid or envelope.id),
        causation_id=visible(envelope.causationid),
        traceparent=visible(envelope.traceparent),
        data=_json_text(envelope.data, escaped),
    )


def _foreign(envelope: Envelope, data: Any, escaped: int, now: datetime) -> Entry:
    identity = derive_id(envelope.source, envelope.id)
    digest = material_digest(
        {
            "type": envelope.type,
            "subject": envelope.subject,
            "time": envelope.time.isoformat() if envelope.time else None,
            "data": data,
        }
    )
    return Entry(
        id=identity,
        digest=bytes.fromhex(digest),
        type=visible(envelope.type),
        subject=visible(envelope.subject or envelope.source),
        source=visible(envelope.source),
        occurred_at=envelope.time or now,
        correlation_id=visible(envelope.correlationid or str(identity)),
        causation_id=visible(envelope.causationid),
        traceparent=visible(envelope.traceparent),
        data=_json_text(data, escaped),
    )


def _received_data(envelope: Envelope, body: bytes) -> Any:
    """The `data` of a foreign event; bytes stay in base64, beside the name of their format."""
    if envelope.data is None and b"data_base64" in body:
        encoded = from_json(body).get("data_base64")
        if isinstance(encoded, str):
            return {"datacontenttype": envelope.datacontenttype, "data_base64": encoded}
    return envelope.data


def _json_text(data: Any, escaped: int) -> str:
    text = to_json(data)
    if (b"NaN" in text or b"Infinity" in text) and not all(map(math.isfinite, _floats(data))):
        raise BadMessage("data: NaN and Infinity are no JSON numbers")
    if b"\\u0000" in text:
        text, nuls = _madevisible(_NUL, text)
        escaped += nuls
    if escaped and isinstance(data, dict):
        comma = b"," if data else b""
        text = text[:-1] + comma + to_json({ESCAPED: escaped})[1:]
    return text.decode()


def _madevisible(pattern: re.Pattern[bytes], text: bytes) -> tuple[bytes, int]:
    """JSON `text` with its bad characters as the six characters that escape them, and how many there were."""
    count = 0

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal count
        bad = match["bad"] is not None
        count += bad
        return b"\\" + match[0] if bad else match[0]

    return pattern.sub(replace, text), count


def _floats(data: Any) -> Iterator[float]:
    if isinstance(data, float):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from _floats(value)


@overload
def visible(text: str) -> str: ...
@overload
def visible(text: None) -> None: ...
def visible(text: str | None) -> str | None:
    """`text` fit for Postgres: a NUL stands in it as the six characters that escape it."""
    return text if text is None or "\0" not in text else text.replace("\0", "\\u0000")
