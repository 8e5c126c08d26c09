"""Queues as data, and how each is declared: one quorum queue a handler, its retry rungs, its dead letters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from buildlight_contracts.routing import EXCHANGES, Exchange
from chassis.settings import seconds_of

DELIVERY_LIMIT = 20
"""Redeliveries after which RabbitMQ itself gives a message up: only a crash loop gets here."""


@dataclass(frozen=True)
class Binding:
    exchange: Exchange
    key: str


@dataclass(frozen=True)
class Queue:
    """A durable queue with one handler. Its name is a permanent identity: renaming it is a migration."""

    name: str
    owner: str
    """The service that declares and consumes it."""
    purpose: str
    bindings: tuple[Binding, ...] = ()
    prefetch: int = 20
    """Messages in hand at once, and so the handler's concurrency."""
    foreign: bool = False
    """Others publish to it and may have declared it their own way: it is used as found."""

    @property
    def dead(self) -> str:
        return f"{self.name}.dead"

    def rung(self, duration: str) -> str:
        return f"{self.name}.retry.{duration}"

    @property
    def arguments(self) -> dict[str, Any]:
        """Limits and TTLs that may change are policies: changing an argument here is PRECONDITION_FAILED."""
        if self.foreign:
            return {}
        return {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.dead,
            "x-delivery-limit": DELIVERY_LIMIT,
        }

    def rung_arguments(self, duration: str) -> dict[str, Any]:
        return {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-dead-letter-strategy": "at-least-once",
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self.name,
            "x-message-ttl": round(seconds_of(duration) * 1000),
        }


# RabbitMQ 4 limits deliveries by itself, and drops what exceeds the limit where there is nowhere to go.
DEAD_ARGUMENTS: dict[str, Any] = {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000_000}


async def declare(url: str, queues: Iterable[Queue], rungs: Sequence[str]) -> None:
    """Declare the public exchanges, `queues` with their bindings, retry rungs and dead-letter queues.

    Idempotent.

    Raises:
        aio_pika.exceptions.ChannelPreconditionFailed: one exists with other arguments.
    """
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        for exchange in EXCHANGES:
            await channel.declare_exchange(exchange.name, aio_pika.ExchangeType(exchange.kind), durable=True)
        for queue in queues:
            if queue.foreign:
                await _declare_foreign(await connection.channel(), queue)
            else:
                await _declare_own(channel, queue)
            for rung in rungs:
                await channel.declare_queue(
                    queue.rung(rung), durable=True, arguments=queue.rung_arguments(rung)
                )
            await channel.declare_queue(queue.dead, durable=True, arguments=DEAD_ARGUMENTS)


async def _declare_own(channel: AbstractChannel, queue: Queue) -> None:
    declared = await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
    for binding in queue.bindings:
        await declared.bind(binding.exchange.name, binding.key)


async def _declare_foreign(channel: AbstractChannel, queue: Queue) -> None:
    try:
        await channel.declare_queue(queue.name, passive=True)
    except ChannelNotFoundEntity:
        # Nobody made it yet: make it the way a plain client would, so that theirs finds it as expected.
        await channel.reopen()
        await channel.declare_queue(queue.name, durable=True)
