"""Bare aio-pika: take a message, acknowledge it."""

import asyncio
import os

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bench.ingest_peers.protocol import serve


async def main() -> None:
    async def run(count: int) -> None:
        left = count
        finished = asyncio.Event()

        async def handle(message: AbstractIncomingMessage) -> None:
            nonlocal left
            await message.ack()
            left -= 1
            if left == 0:
                finished.set()

        connection = await aio_pika.connect(os.environ["BUILDLIGHT_AMQP_URL"])
        async with connection:
            channel = await connection.channel()
            await channel.set_qos(prefetch_count=200)
            queue = await channel.get_queue("bench.raw")
            await queue.consume(handle)
            await finished.wait()

    await serve(run)


asyncio.run(main())
