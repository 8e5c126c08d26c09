"""The envelope every message travels in: a CloudEvent 1.0 in structured JSON.

Three ids are three things: `id` names the fact itself (two observers of one fact compute the same id),
`correlationid` names the story it belongs to, `causationid` the message that led to it.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self
from uuid import UUID, uuid5

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

TYPE_PREFIX = "dev.buildlight."
CONTENT_TYPE = "application/cloudevents+json"
MAX_MESSAGE_BYTES = 1_048_576
"""The largest message any Buildlight queue accepts."""

NAMESPACE = UUID("6f1dd2f0-5d0b-5c7e-9d7b-0a4b8f6f2c11")
"""The UUIDv5 namespace of every id Buildlight derives."""


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("outside the years 1 to 9999 in UTC") from None


Moment = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A point in time, held in UTC: an instant is written, and hashed, in one way whatever zone it came in."""

Id = Annotated[str, Field(min_length=1, max_length=255)]
"""A provider's or Buildlight's own immutable id, or a name that is part of one."""


# Made once: json.dumps makes an encoder a call, and ids are computed for every message.
_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode


def derive_id(*parts: str) -> UUID:
    """The UUIDv5 of `parts`, unambiguous whatever characters they hold."""
    return uuid5(NAMESPACE, _canonical(parts))


def material_digest(material: Mapping[str, Any]) -> str:
    """SHA-256, as hex, of `material` in canonical JSON (sorted keys, no spaces)."""
    return hashlib.sha256(_canonical(material).encode()).hexdigest()


class Payload(BaseModel):
    """Base of everything inside an envelope's `data`.

    Immutable once made. Unknown fields are ignored: a newer publisher may have added some.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False, use_attribute_docstrings=True)


class Message(Payload):
    """A fact or a command: a payload that knows its own type."""

    type: ClassVar[str]
    """`<noun>.<verb>.v<N>`, the envelope's type without its prefix; also the routing key."""

    def subject(self) -> str:
        """What the message is about: the provider's instance and its own immutable ids, never a name."""
        raise NotImplementedError

    def material(self) -> Mapping[str, Any]:
        """The fields that tell this message from others about its subject, as JSON values.

        Of a fact: those every observer of it sees alike. Of a command: those that make it the same request.
        """
        raise NotImplementedError

    def identity(self) -> UUID:
        """The id of the envelope that carries this message: its type, its subject and what is material."""
        return derive_id(self.type, self.subject(), material_digest(self.material()))


class Fact(Message):
    """Something that happened. The class docstring begins "Sent when"."""

    def occurred_at(self) -> datetime:
        """When it happened, by the clock of whoever it happened to."""
        raise NotImplementedError


class Envelope(BaseModel):
    """A CloudEvent 1.0. Foreign types pass through with their `data` kept as received."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(min_length=1, max_length=256)
    source: str = Field(min_length=1, max_length=1024)
    type: str = Field(min_length=1, max_length=256)
    subject: str | None = Field(default=None, max_length=2048)
    time: Moment | None = None
    datacontenttype: str = "application/json"
    correlationid: str | None = Field(default=None, max_length=256)
    causationid: str | None = Field(default=None, max_length=256)
    traceparent: str | None = Field(default=None, max_length=128)
    expiresat: Moment | None = None
    """Commands only: past this time the command is refused, not executed."""
    data: Any = None

    @classmethod
    def wrap(
        cls,
        message: Message,
        *,
        source: str,
        time: datetime,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        traceparent: str | None = None,
        expires_at: datetime | None = None,
    ) -> Self:
        """Put `message` into an envelope. `source` is a URI such as `buildlight://poller`."""
        identity = str(message.identity())
        return cls(
            id=identity,
            source=source,
            type=TYPE_PREFIX + message.type,
            subject=message.subject(),
            time=time,
            correlationid=correlation_id or identity,
            causationid=causation_id,
            traceparent=traceparent,
            expiresat=expires_at,
            data=message.model_dump(mode="json"),
        )

    @classmethod
    def of(
        cls,
        fact: Fact,
        *,
        source: str,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        traceparent: str | None = None,
    ) -> Self:
        """Put a fact into an envelope, at the time it occurred."""
        return cls.wrap(
            fact,
            source=source,
            time=fact.occurred_at(),
            correlation_id=correlation_id,
            causation_id=causation_id,
            traceparent=traceparent,
        )

    @property
    def is_ours(self) -> bool:
        """True for types Buildlight itself defines (or would, had it that version)."""
        return self.type.startswith(TYPE_PREFIX)

    @property
    def routing_key(self) -> str:
        """The type without Buildlight's prefix; a foreign type unchanged; at most AMQP's 255 bytes."""
        return self.type.removeprefix(TYPE_PREFIX).encode()[:255].decode(errors="ignore")

    def to_json(self) -> bytes:
        """The message body: structured CloudEvents JSON, absent attributes left out."""
        return self.model_dump_json(exclude_none=True).encode()
