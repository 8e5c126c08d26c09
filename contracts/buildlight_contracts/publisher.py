"""Publish to Buildlight over RabbitMQ, confirmed. Needs the extra `buildlight-contracts[rabbit]`."""

import asyncio
from datetime import datetime
from typing import Self

import aio_pika
from aio_pika.exceptions import (
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    DeliveryError,
    PublishError,
)

from buildlight_contracts.commands import Command
from buildlight_contracts.envelope import CONTENT_TYPE, Envelope, Fact
from buildlight_contracts.outgoing import Outgoing, outgoing

_RECONNECT_SECONDS = 1.0
_RETRY_SECONDS = 0.1


class UnroutableError(RuntimeError):
    """No queue took the message, so it is lost unless published again."""


class RefusedError(RuntimeError):
    """RabbitMQ would not store the message: the queue is full."""


class NotConfirmedError(TimeoutError):
    """No confirmation in time: the message may be stored or lost."""


class Publisher:
    """`async with Publisher(url) as publisher: await publisher.publish(fact, source="https://ci.acme.example")`.

    `url` is an AMQP URL, its vhost included; `timeout` is in seconds, for connecting and for each `publish`.
    A lost connection is made again by itself, and what was being published then is published again.
    """

    def __init__(self, url: str, *, timeout: float = 10.0) -> None:
        self._url = url
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        self._connection = await aio_pika.connect_robust(
            self._url, timeout=self._timeout, reconnect_interval=_RECONNECT_SECONDS
        )
        self._channel = await self._connection.channel(on_return_raises=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()

    async def publish(
        self,
        message: Fact | Command | Envelope,
        *,
        source: str | None = None,
        expires_at: datetime | None = None,
    ) -> Envelope:
        """Publish and wait until RabbitMQ has stored it; returns the envelope that was sent.

        `source`, a URI naming you, is needed unless `message` is an envelope; `expires_at` is for commands.

        Raises:
            MessageTooLargeError: over 1 MiB.
            UnroutableError, RefusedError, NotConfirmedError: the text says what to do next.
        """
        letter = outgoing(message, source=source, expires_at=expires_at)
        name = f"{letter.envelope.type} {letter.envelope.id}"
        try:
            async with asyncio.timeout(self._timeout):
                await self._until_confirmed(letter)
        except TimeoutError:
            raise NotConfirmedError(
                f"RabbitMQ did not confirm {name} within {self._timeout:g} s: it may or may not be stored. "
                "Publish it again: its id stays the same, and a second copy makes no second event."
            ) from None
        except (PublishError, ChannelNotFoundEntity):
            raise UnroutableError(
                f"no queue takes {name} from the exchange {letter.exchange.name!r}. Check that the URL names "
                "Buildlight's RabbitMQ and vhost, and start Buildlight there once: it declares the queues. "
                "Then publish again."
            ) from None
        except DeliveryError:
            raise RefusedError(
                f"RabbitMQ refused {name}: the queue behind {letter.exchange.name!r} is full. Wait until "
                "Buildlight has caught up; then publish again."
            ) from None
        return letter.envelope

    async def _until_confirmed(self, letter: Outgoing) -> None:
        message = aio_pika.Message(
            letter.body,
            content_type=CONTENT_TYPE,
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=letter.envelope.id,
            type=letter.envelope.type,
        )
        while True:
            try:
                await self._channel.ready()
                exchange = await self._channel.get_exchange(letter.exchange.name, ensure=False)
                await exchange.publish(message, letter.key, mandatory=True)
                return
            except (ConnectionError, ChannelInvalidStateError):
                # A second copy does no harm: both carry one id.
                await asyncio.sleep(_RETRY_SECONDS)
