"""A message made ready to leave: which exchange, which routing key, which bytes."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from buildlight_contracts.catalogue import COMMANDS
from buildlight_contracts.commands import Command
from buildlight_contracts.envelope import MAX_MESSAGE_BYTES, Envelope, Fact
from buildlight_contracts.routing import COMMANDS as COMMANDS_EXCHANGE
from buildlight_contracts.routing import INTAKE, Exchange, command_key

COMMAND_LIFETIME = timedelta(minutes=5)
"""How long a command may wait for its owner when its sender does not say."""


class MessageTooLargeError(ValueError):
    """The message is larger than any Buildlight queue accepts; publishing it again cannot help."""


@dataclass(frozen=True)
class Outgoing:
    envelope: Envelope
    exchange: Exchange
    key: str
    """The routing key."""
    body: bytes


def outgoing(
    message: Fact | Command | Envelope,
    *,
    source: str | None = None,
    expires_at: datetime | None = None,
) -> Outgoing:
    """Wrap `message` unless it is an envelope already, and address it.

    Facts and foreign events go to intake, commands to their owners. `source` is a URI that names the sender,
    needed unless `message` is an envelope; `expires_at` is for commands, five minutes from now by default.

    Raises:
        MessageTooLargeError: over 1 MiB.
        TypeError: no source.
    """
    if isinstance(message, Envelope):
        envelope = message
    elif not source:
        raise TypeError("say who publishes this: source='https://github.com/acme/release-bot'")
    elif isinstance(message, Command):
        now = datetime.now(UTC)
        envelope = Envelope.wrap(
            message, source=source, time=now, expires_at=expires_at or now + COMMAND_LIFETIME
        )
    else:
        envelope = Envelope.of(message, source=source)
    is_command = envelope.is_ours and envelope.routing_key in COMMANDS
    body = envelope.to_json()
    if len(body) > MAX_MESSAGE_BYTES:
        raise MessageTooLargeError(
            f"{envelope.type} {envelope.id} is {len(body):,} bytes and a message may have at most "
            f"{MAX_MESSAGE_BYTES:,}: split it, or shorten its texts"
        )
    if is_command:
        return Outgoing(envelope, COMMANDS_EXCHANGE, command_key(envelope), body)
    return Outgoing(envelope, INTAKE, envelope.routing_key, body)
