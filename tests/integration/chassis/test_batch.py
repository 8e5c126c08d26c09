"""The batch subscriber on a real RabbitMQ: nothing lost, nothing acknowledged early, poison dies alone."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import aio_pika
import aiormq
import httpx
import pytest
from aio_pika.abc import AbstractChannel

from buildlight_contracts.envelope import MAX_MESSAGE_BYTES
from chassis.batch import BATCH_SIZE, BatchHandler, BatchSubscriber
from chassis.broker import Broker
from chassis.delivery import Delivery
from chassis.outage import Outage
from chassis.retry import LONELY, Permanent, Transient
from chassis.service import Service
from chassis.topology import Queue, declare
from tests.conftest import RabbitMQServer
from tests.odd import ODD_MESSAGES, publish_odd

Eventually = Callable[..., Awaitable[Any]]

RUNGS = ("100ms",)
QUEUE = Queue("hot", owner="test", purpose="what the tests send", prefetch=100)
LINGER_SECONDS = 0.2
"""Long enough that what was published together arrives together."""


@asynccontextmanager
async def consuming(
    url: str, handler: BatchHandler, *, linger_seconds: float = LINGER_SECONDS
) -> AsyncIterator[Broker]:
    broker = Broker(url, service="test", rungs=RUNGS)
    subscriber = BatchSubscriber(broker, QUEUE, handler, largest=50, linger_seconds=linger_seconds)
    await broker.start()
    run = asyncio.create_task(subscriber.run())
    try:
        yield broker
    finally:
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        await broker.stop()


@asynccontextmanager
async def publisher(url: str) -> AsyncIterator[AbstractChannel]:
    await declare(url, [QUEUE], RUNGS)
    connection = await aio_pika.connect(url)
    async with connection:
        yield await connection.channel(on_return_raises=True)


async def publish(channel: AbstractChannel, *bodies: bytes, **headers: Any) -> None:
    for body in bodies:
        message = aio_pika.Message(body, headers=headers, message_id=body[:20].decode())
        await channel.default_exchange.publish(message, QUEUE.name)


async def left(url: str) -> int:
    """Messages in the queue once nobody consumes: what was not acknowledged is back in it."""
    connection = await aiormq.connect(url)
    try:
        channel = await connection.channel()
        while True:
            declared = await channel.queue_declare(QUEUE.name, passive=True)
            if declared.consumer_count == 0:
                return declared.message_count or 0
            await asyncio.sleep(0.02)
    finally:
        await connection.close()


async def dead(channel: AbstractChannel, eventually: Eventually) -> aio_pika.abc.AbstractIncomingMessage:
    queue = await channel.get_queue(QUEUE.dead)
    message = await eventually(lambda: queue.get(fail=False, no_ack=True))
    assert isinstance(message, aio_pika.abc.AbstractIncomingMessage)
    return message


async def kill_connections(server: RabbitMQServer, url: str, eventually: Eventually) -> None:
    """Close every connection to the URL's virtual host from RabbitMQ's side."""
    vhost = quote(urlsplit(url).path[1:], safe="")

    async def names() -> list[str]:
        connections = (await server.manage("GET", f"/api/vhosts/{vhost}/connections")).json()
        return [quote(connection["name"], safe="") for connection in connections]

    for name in await eventually(names):  # the management plugin learns of connections a little late
        await server.manage("DELETE", f"/api/connections/{name}")


class Bodies:
    """A handler that remembers the bodies of each batch it was given, and may be made to wait."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.finished = 0

    async def __call__(self, deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        self.batches.append([delivery.body for delivery in deliveries])
        await self.go_on.wait()
        self.finished += 1
        return {}


async def test_told_to_stop_the_batch_in_hand_is_finished_and_acknowledged(
    amqp_url: str, eventually: Eventually
) -> None:
    """The handler is still at work when the consumer is told to stop: it may end, and nothing comes again."""
    handler = Bodies()
    handler.go_on.clear()
    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"2", b"3")
    async with consuming(amqp_url, handler):
        await eventually(lambda: handler.batches)
        asyncio.get_running_loop().call_later(0.3, handler.go_on.set)
    assert handler.batches == [[b"1", b"2", b"3"]]
    assert handler.finished == 1
    assert await left(amqp_url) == 0


async def test_nothing_is_acknowledged_before_the_handler_returned(
    amqp_url: str, eventually: Eventually, monkeypatch: Any
) -> None:
    """Told to stop, a handler that does not end in its time of grace leaves the whole batch to another."""
    monkeypatch.setattr("chassis.batch.GRACE_SECONDS", 0.1)
    handler = Bodies()
    handler.go_on.clear()
    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"2", b"3")
    async with consuming(amqp_url, handler):
        await eventually(lambda: handler.batches)
    assert handler.finished == 0
    assert await left(amqp_url) == 3


async def test_a_connection_lost_mid_batch_loses_nothing(
    amqp_url: str, rabbitmq_server: RabbitMQServer, eventually: Eventually
) -> None:
    """RabbitMQ cuts the connection while a batch is in hand: all of it comes again, each on its own."""
    handler = Bodies()
    handler.go_on.clear()
    async with publisher(amqp_url) as channel:
        await publish(channel, *(b"%d" % number for number in range(20)))
    async with consuming(amqp_url, handler):
        await eventually(lambda: handler.batches)
        await kill_connections(rabbitmq_server, amqp_url, eventually)
        handler.go_on.set()
        await eventually(lambda: len(handler.batches) == 21, timeout=60)
    assert handler.batches[0] == [b"%d" % number for number in range(20)]
    assert sorted(handler.batches[1:], key=lambda batch: int(batch[0])) == [
        [b"%d" % number] for number in range(20)
    ]
    assert await left(amqp_url) == 0


async def test_a_deleted_queue_is_made_again_and_consumed(amqp_url: str, eventually: Eventually) -> None:
    """The queue is deleted under the consumer: it is declared anew, and what comes then is handled."""
    handler = Bodies()
    async with consuming(amqp_url, handler), publisher(amqp_url) as channel:
        await publish(channel, b"before")
        await eventually(lambda: handler.batches == [[b"before"]])
        await channel.queue_delete(QUEUE.name)

        async def published() -> bool:
            try:
                await publish(channel, b"after")
            except aio_pika.exceptions.DeliveryError:
                return False
            return True

        await eventually(published)
        await eventually(lambda: handler.batches[1:] == [[b"after"]])


async def test_poison_in_a_batch_dies_with_its_reason_and_neighbours_are_handled_once(
    amqp_url: str, eventually: Eventually
) -> None:
    """The handler refuses two of six: those are dead letters; the other four were handled, in one batch."""
    batches: list[list[bytes]] = []

    async def handler(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        batches.append([delivery.body for delivery in deliveries])
        return {
            index: Permanent(f"{delivery.body.decode()} is bad")
            for index, delivery in enumerate(deliveries)
            if delivery.body.startswith(b"x")
        }

    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"x1", b"2", b"3", b"x2", b"4")
        async with consuming(amqp_url, handler):
            letters = [await dead(channel, eventually) for _ in range(2)]
    assert batches == [[b"1", b"x1", b"2", b"3", b"x2", b"4"]]
    assert [(letter.message_id, letter.headers["buildlight-reason"]) for letter in letters] == [
        ("x1", "x1 is bad"),
        ("x2", "x2 is bad"),
    ]
    assert await left(amqp_url) == 0


async def test_a_message_that_fails_for_now_is_retried_alone(amqp_url: str, eventually: Eventually) -> None:
    """One of a batch fails for now: it comes again by its rung, by itself, with the attempt counted."""
    batches: list[list[tuple[bytes, object]]] = []

    async def handler(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        batches.append([(d.body, d.headers.get("buildlight-attempt")) for d in deliveries])
        return {1: Transient("not yet")} if len(batches) == 1 else {}

    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"2", b"3")
        async with consuming(amqp_url, handler):
            await eventually(lambda: len(batches) == 2)
    assert batches == [[(b"1", None), (b"2", None), (b"3", None)], [(b"2", 1)]]


async def test_a_handler_that_breaks_is_given_the_batch_one_by_one(
    amqp_url: str, eventually: Eventually
) -> None:
    """An exception nobody foresaw: each message is handled on its own, and only the culprit dies."""
    alone: list[bytes] = []

    async def handler(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        if any(delivery.body == b"bug" for delivery in deliveries):
            raise ZeroDivisionError("a bug")
        alone.extend(delivery.body for delivery in deliveries)
        return {}

    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"bug", b"2")
        async with consuming(amqp_url, handler):
            letter = await dead(channel, eventually)
            await eventually(lambda: len(alone) == 2)
    assert alone == [b"1", b"2"]
    assert letter.body == b"bug"
    assert letter.headers["buildlight-reason"] == "ZeroDivisionError: a bug"
    assert letter.headers["buildlight-kind"] == "exhausted"


async def test_one_too_large_is_buried_and_its_neighbours_are_handled(
    amqp_url: str, eventually: Eventually
) -> None:
    """A message over 1 MiB never reaches the handler; those that came with it do."""
    handler = Bodies()
    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"x" * (MAX_MESSAGE_BYTES + 1), b"2")
        async with consuming(amqp_url, handler):
            letter = await dead(channel, eventually)
            await eventually(lambda: handler.finished == 2)
    assert letter.headers["buildlight-reason"] == "1,048,577 bytes; a message may have 1,048,576"
    assert handler.batches == [[b"1"], [b"2"]]


async def test_an_outage_holds_the_batch_as_a_batch(amqp_url: str, eventually: Eventually) -> None:
    """While a dependency is away the same batch is tried again, whole; no attempt is spent, nothing is parked."""
    batches: list[list[tuple[bytes, object]]] = []

    async def handler(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        batches.append([(d.body, d.headers.get("buildlight-attempt")) for d in deliveries])
        if len(batches) < 4:
            raise Outage("postgres")
        return {}

    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"2", b"3")
        async with consuming(amqp_url, handler):
            await eventually(lambda: len(batches) == 4)
    assert batches == [[(b"1", None), (b"2", None), (b"3", None)]] * 4
    assert await left(amqp_url) == 0


async def test_stopping_during_an_outage_does_not_wait_and_leaves_the_batch(
    amqp_url: str, eventually: Eventually
) -> None:
    """What an outage holds goes back to the queue at once when the consumer is told to stop."""
    tries = 0

    async def handler(_: Sequence[Delivery]) -> Mapping[int, Exception]:
        nonlocal tries
        tries += 1
        raise Outage("postgres")

    async with publisher(amqp_url) as channel:
        await publish(channel, b"1", b"2")
    async with consuming(amqp_url, handler):
        await eventually(lambda: tries >= 2)
        stopped_at = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - stopped_at < 5
    assert await left(amqp_url) == 2


async def test_what_came_back_is_handled_alone(amqp_url: str, eventually: Eventually) -> None:
    """A redelivered message and a lonely retry are no part of a batch; fresh ones around them are."""
    handler = Bodies()
    async with publisher(amqp_url) as channel:
        await publish(channel, b"back")
        queue = await channel.get_queue(QUEUE.name)
        message = await queue.get()
        assert message is not None
        await message.nack(requeue=True)
        await publish(channel, b"1", b"2")
        await publish(channel, b"lonely", **{LONELY: 1})
        await publish(channel, b"3", b"4")
        async with consuming(amqp_url, handler):
            await eventually(lambda: handler.finished == 4)
    assert sorted(handler.batches) == [[b"1", b"2"], [b"3", b"4"], [b"back"], [b"lonely"]]


async def test_a_batch_has_its_limits(amqp_url: str, eventually: Eventually) -> None:
    """120 messages waiting: batches of 50 at most, in the order they were published."""
    handler = Bodies()
    bodies = [b"%d" % number for number in range(120)]
    async with publisher(amqp_url) as channel:
        await publish(channel, *bodies)
    async with consuming(amqp_url, handler):
        await eventually(lambda: sum(map(len, handler.batches)) == 120)
    assert max(map(len, handler.batches)) == 50
    assert [body for batch in handler.batches for body in batch] == bodies


async def test_large_messages_make_small_batches(amqp_url: str, eventually: Eventually) -> None:
    """Twelve messages of 1 MiB are not handled together: a batch ends at 8 MiB."""
    handler = Bodies()
    async with publisher(amqp_url) as channel:
        await publish(channel, *(b"%02d" % number * (MAX_MESSAGE_BYTES // 2) for number in range(12)))
    async with consuming(amqp_url, handler, linger_seconds=1.0):
        await eventually(lambda: sum(map(len, handler.batches)) == 12, timeout=60)
    assert max(map(len, handler.batches)) == 8


async def test_readiness_counts_the_batch_consumer(amqp_url: str, eventually: Eventually) -> None:
    """A service whose batch subscriber does not run says which queue has no consumer."""
    broker = Broker(amqp_url, service="test", rungs=RUNGS)
    subscriber = BatchSubscriber(broker, QUEUE, Bodies())
    service = Service("test", None, broker, prepare=lambda: asyncio.sleep(0))  # type: ignore[arg-type]
    await broker.start()
    run: asyncio.Task[None] | None = None
    try:
        assert (await service.ready())["test.consumers"] == "queue hot has no consumer"
        run = asyncio.create_task(subscriber.run())

        async def is_ready() -> bool:
            return (await service.ready())["test.consumers"] == "ok"

        await eventually(is_ready)
    finally:
        if run:
            run.cancel()
            await asyncio.gather(run, return_exceptions=True)
        await broker.stop()


@pytest.mark.parametrize("odd", ODD_MESSAGES)
async def test_an_odd_message_is_put_aside_as_any_other(
    amqp_url: str, eventually: Eventually, odd: dict[str, Any]
) -> None:
    """Its handling fails: it is buried with its content type, and its neighbours are handled once."""
    seen: list[bytes] = []

    async def handler(deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        seen.extend(delivery.body for delivery in deliveries)
        return {i: ZeroDivisionError("a bug") for i, d in enumerate(deliveries) if d.body == b"odd"}

    async with publisher(amqp_url) as channel:
        await publish(channel, b"before")
        await publish_odd(amqp_url, QUEUE.name, b"odd", **odd)
        await publish(channel, b"after")
        async with consuming(amqp_url, handler):
            letter = await dead(channel, eventually)
            await eventually(lambda: len(seen) == 4)
    assert (letter.body, letter.content_type) == (b"odd", "text/plain")
    assert letter.headers["buildlight-reason"] == "ZeroDivisionError: a bug"
    assert sorted(seen) == [b"after", b"before", b"odd", b"odd"]
    assert await left(amqp_url) == 0


async def test_a_bug_of_our_own_does_not_end_the_subscriber(
    amqp_url: str, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something nobody foresaw, once, outside any handler: it starts over, and the message is handled."""
    handler = Bodies()
    decide_size = BATCH_SIZE.labels(QUEUE.name).observe
    broken = [ValueError("a bug")]

    def observe(size: float) -> None:
        if broken:
            raise broken.pop()
        decide_size(size)

    monkeypatch.setattr(BATCH_SIZE.labels(QUEUE.name), "observe", observe)
    async with publisher(amqp_url) as channel:
        await publish(channel, b"1")
        async with consuming(amqp_url, handler):
            await eventually(lambda: handler.finished == 1)
    assert broken == []
    assert handler.batches == [[b"1"]]


KILLED_BY_POISON = """
import asyncio, os, signal, sys
from chassis.batch import BatchSubscriber
from chassis.broker import Broker
from tests.integration.chassis.test_batch import QUEUE, RUNGS

async def handle(deliveries):
    for delivery in deliveries:
        if delivery.body == b"poison":
            os.kill(os.getpid(), signal.SIGKILL)
        with open(sys.argv[2], "ab") as seen:
            seen.write(delivery.body + b" ")
    return {}

async def main():
    broker = Broker(sys.argv[1], service="test", rungs=RUNGS)
    subscriber = BatchSubscriber(broker, QUEUE, handle, largest=1)
    await broker.start()
    await subscriber.run()

asyncio.run(main())
"""


@pytest.mark.fault
async def test_a_message_that_kills_the_process_dies_alone(
    amqp_url: str, rabbitmq_server: RabbitMQServer, eventually: Eventually, tmp_path: Path
) -> None:
    """A killer with 50 neighbours behind it, few deliveries allowed: each is handled once, only it is dead."""
    vhost = quote(urlsplit(amqp_url).path[1:], safe="")
    async with httpx.AsyncClient(base_url=rabbitmq_server.management_url, trust_env=False) as client:
        policy = {"pattern": "^hot$", "definition": {"delivery-limit": 3}, "apply-to": "queues"}
        (await client.put(f"/api/policies/{vhost}/few-deliveries", json=policy)).raise_for_status()
    neighbours = [b"%d" % number for number in range(50)]
    seen = tmp_path / "seen"
    seen.touch()

    async def dies() -> bool:
        """Run a consumer until it dies, or a letter is dead and all the rest is done."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", KILLED_BY_POISON, amqp_url, str(seen),
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        ended = asyncio.create_task(process.wait())

        async def over() -> bool:
            letters = (await channel.declare_queue(QUEUE.dead, passive=True)).declaration_result.message_count
            return ended.done() or (letters == 1 and len(seen.read_bytes().split()) >= 50)

        try:
            await eventually(over, timeout=30)
            return ended.done()
        finally:
            if not ended.done():
                process.terminate()
            await ended

    async with publisher(amqp_url) as channel:
        await publish(channel, *neighbours[:10], b"poison", *neighbours[10:])
        died = 0
        while await dies():
            died += 1
        letter = await dead(channel, eventually)
        nothing = await (await channel.get_queue(QUEUE.dead)).get(fail=False)
    assert letter.body == b"poison"
    assert letter.headers["x-death"][0]["reason"] == "delivery_limit"  # type: ignore[index,call-overload]
    assert nothing is None
    assert died == 4
    assert sorted(seen.read_bytes().split()) == sorted(neighbours)
