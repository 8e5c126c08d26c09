"""A RabbitMQ that is killed and comes back: publishers wait, consumers return, nothing is lost."""

import asyncio
from collections.abc import Awaitable, Callable

from buildlight.servers import RabbitMQ
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.outage import Outage
from chassis.topology import Queue

QUEUE = Queue("work", owner="test", purpose="what the tests send", prefetch=10)


async def test_a_killed_broker_loses_nothing_that_was_confirmed(
    own_rabbitmq: RabbitMQ, eventually: Callable[..., Awaitable[object]]
) -> None:
    """Killed under flow: every confirmed message is handled; the consumer is back without a restart."""
    handled: set[bytes] = set()
    confirmed: set[bytes] = set()

    async def handler(delivery: Delivery) -> None:
        handled.add(delivery.body)

    broker = Broker(own_rabbitmq.url, service="test", rungs=("100ms",))
    broker.subscribe(QUEUE, handler)
    await broker.start()
    try:
        # A quorum queue whose broker is killed before it is on disk comes back without a leader.
        await eventually(lambda: own_rabbitmq.remembers(QUEUE.name))

        async def publish(number: int) -> None:
            body = str(number).encode()
            while True:
                try:
                    await broker.put(body, key=QUEUE.name, message_id=str(number))
                except Outage:
                    await asyncio.sleep(0.2)
                else:
                    confirmed.add(body)
                    return

        flow = asyncio.gather(*(publish(number) for number in range(200)))
        await eventually(lambda: len(confirmed) > 20)
        await own_rabbitmq.kill()
        await own_rabbitmq.start()
        async with asyncio.timeout(60):
            await flow
        await eventually(lambda: handled == confirmed, timeout=30)
    finally:
        await broker.stop()
    assert len(handled) == 200


async def test_stopping_while_the_broker_is_away_ends(own_rabbitmq: RabbitMQ) -> None:
    """A service can be stopped although RabbitMQ is gone."""
    broker = Broker(own_rabbitmq.url, service="test", rungs=("100ms",))

    async def handler(_: Delivery) -> None:
        pass

    broker.subscribe(QUEUE, handler)
    await broker.start()
    await own_rabbitmq.kill()
    async with asyncio.timeout(20):
        await broker.stop()
