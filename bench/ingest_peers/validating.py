"""A FastStream consumer that validates each message by its type, and does nothing more."""

import asyncio
import os

from faststream import AckPolicy
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue
from pydantic import AwareDatetime, BaseModel

from bench.ingest_peers.protocol import serve
from buildlight_contracts.builds import BuildObservedV1


class Event(BaseModel):
    specversion: str
    id: str
    source: str
    type: str
    subject: str
    time: AwareDatetime
    datacontenttype: str
    correlationid: str
    data: BuildObservedV1


async def main() -> None:
    async def run(count: int) -> None:
        left = count
        finished = asyncio.Event()
        broker = RabbitBroker(os.environ["BUILDLIGHT_AMQP_URL"], logger=None, graceful_timeout=10)

        @broker.subscriber(
            RabbitQueue("bench.validating", queue_type=QueueType.QUORUM, durable=True),
            channel=Channel(prefetch_count=200),
            ack_policy=AckPolicy.NACK_ON_ERROR,
        )
        async def handle(_: Event) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                finished.set()

        await broker.start()
        await finished.wait()
        await broker.stop()  # which waits for the last acknowledgement

    await serve(run)


asyncio.run(main())
