"""Publishing and consuming on a real RabbitMQ: retries, dead letters, and neighbours that flow on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from chassis.broker import Broker, Handler
from chassis.delivery import Delivery
from chassis.outage import Outage
from chassis.retry import Permanent, Transient
from chassis.topology import Queue
from tests.odd import ODD_MESSAGES, publish_odd

RUNGS = ("100ms", "200ms")
QUEUE = Queue("work", owner="test", purpose="what the tests send", prefetch=10)


@asynccontextmanager
async def consuming(url: str, handler: Handler, queue: Queue = QUEUE) -> AsyncIterator[Broker]:
    broker = Broker(url, service="test", rungs=RUNGS)
    broker.subscribe(queue, handler)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def dead_letter(url: str, queue: Queue = QUEUE, *, wait_seconds: float = 10) -> AbstractIncomingMessage:
    connection = await aio_pika.connect(url)
    async with connection:
        channel = await connection.channel()
        dead = await channel.get_queue(queue.dead)
        async with asyncio.timeout(wait_seconds):
            while True:
                message = await dead.get(fail=False, no_ack=True)
                if message:
                    return message
                await asyncio.sleep(0.02)


async def test_a_permanent_failure_is_buried_at_once_and_its_neighbours_flow_on(
    amqp_url: str, eventually: Callable[..., Awaitable[object]]
) -> None:
    """The bad message is in the dead-letter queue with its reason; both good ones were handled."""
    handled: list[bytes] = []

    async def handler(delivery: Delivery) -> None:
        if delivery.body == b"bad":
            raise Permanent("it is bad")
        handled.append(delivery.body)

    async with consuming(amqp_url, handler) as broker:
        for body in (b"one", b"bad", b"two"):
            await broker.put(body, key=QUEUE.name, message_id=body.decode())
        dead = await dead_letter(amqp_url)
        await eventually(lambda: sorted(handled) == [b"one", b"two"])
    assert dead.body == b"bad"
    assert dead.message_id == "bad"
    assert dead.headers["buildlight-reason"] == "it is bad"
    assert dead.headers["buildlight-kind"] == "permanent"
    assert dead.headers["buildlight-attempt"] == 1


async def test_a_passing_fault_is_retried_up_the_rungs(
    amqp_url: str, eventually: Callable[..., Awaitable[object]]
) -> None:
    """Two failures, then success: handled three times, each try knowing how many failed before."""
    attempts: list[object] = []

    async def handler(delivery: Delivery) -> None:
        attempts.append(delivery.headers.get("buildlight-attempt", 0))
        if len(attempts) < 3:
            raise Transient("not yet")

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"x", key=QUEUE.name)
        await eventually(lambda: len(attempts) == 3)
    assert attempts == [0, 1, 2]


async def test_a_message_that_used_up_its_rungs_is_buried_with_its_history(amqp_url: str) -> None:
    """Three failures with two rungs: dead, saying so, with the class of the error and its first failure."""

    async def handler(_: Delivery) -> None:
        raise ValueError("always")

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"x", key=QUEUE.name)
        dead = await dead_letter(amqp_url)
    assert dead.headers["buildlight-kind"] == "exhausted"
    assert dead.headers["buildlight-attempt"] == 3
    assert dead.headers["buildlight-reason"] == "ValueError: always"
    assert str(dead.headers["buildlight-first-failure"]) < str(dead.headers["buildlight-died-at"])
    assert not [name for name in dead.headers if name.startswith("x-death")]


async def test_an_outage_spends_no_attempt(
    amqp_url: str, eventually: Callable[..., Awaitable[object]]
) -> None:
    """While a dependency is down the message is kept and tried again in process, with no attempt counted."""
    seen: list[object] = []

    async def handler(delivery: Delivery) -> None:
        seen.append(delivery.headers.get("buildlight-attempt"))
        if len(seen) < 5:
            raise Outage("postgres")

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"x", key=QUEUE.name)
        await eventually(lambda: len(seen) == 5)
    assert seen == [None] * 5


async def test_retry_after_parks_long_enough(
    amqp_url: str, eventually: Callable[..., Awaitable[object]]
) -> None:
    """Asked to wait 0.5 s with rungs of 0.1 and 0.2 s, the next try comes no sooner than 0.4 s later."""
    loop = asyncio.get_running_loop()
    times: list[float] = []

    async def handler(_: Delivery) -> None:
        times.append(loop.time())
        if len(times) == 1:
            raise Transient("slow down", retry_after_seconds=0.5)

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"x", key=QUEUE.name)
        await eventually(lambda: len(times) == 2)
    assert times[1] - times[0] >= 0.4


async def test_too_large_is_buried_with_both_sizes(amqp_url: str) -> None:
    """A message over 1 MiB never reaches the handler; the reason names its size and the limit."""

    async def handler(_: Delivery) -> None:
        pytest.fail("the handler must not see it")

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"x" * 1_048_577, key=QUEUE.name)
        dead = await dead_letter(amqp_url)
    assert dead.headers["buildlight-reason"] == "1,048,577 bytes; a message may have 1,048,576"


async def test_publishing_where_nobody_listens_is_an_error(amqp_url: str) -> None:
    """An unroutable message raises and says what to do."""
    async with consuming(amqp_url, _ignore) as broker:
        with pytest.raises(
            LookupError, match=r"took no message for queue 'nowhere'; run `buildlight migrate`"
        ):
            await broker.put(b"x", key="nowhere")


async def test_a_queue_of_others_is_used_as_found(
    amqp_url: str, eventually: Callable[..., Awaitable[object]]
) -> None:
    """A classic queue that someone else declared is consumed, with our own rungs and dead letters beside it."""
    queue = Queue("theirs", owner="test", purpose="made by others", foreign=True)
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        await (await connection.channel()).declare_queue(
            "theirs", durable=True, arguments={"x-max-length": 99}
        )
    calls: list[bytes] = []

    async def handler(delivery: Delivery) -> None:
        calls.append(delivery.body)
        raise Permanent("no") if len(calls) > 1 else Transient("once")

    async with consuming(amqp_url, handler, queue) as broker:
        await broker.put(b"job", key="theirs")
        dead = await dead_letter(amqp_url, queue)
    assert calls == [b"job", b"job"]
    assert dead.headers["buildlight-reason"] == "no"


async def _ignore(_: Delivery) -> None:
    pass


@pytest.mark.parametrize("odd", ODD_MESSAGES)
async def test_an_odd_message_is_handled_and_put_aside_as_any_other(
    amqp_url: str, odd: dict[str, Any]
) -> None:
    """Its handling fails: it is retried, buried with its content type, and its neighbours flow on."""
    seen: list[bytes] = []

    async def handler(delivery: Delivery) -> None:
        seen.append(delivery.body)
        if delivery.body == b"odd":
            raise ZeroDivisionError("a bug")

    async with consuming(amqp_url, handler) as broker:
        await broker.put(b"before", key=QUEUE.name)
        await publish_odd(amqp_url, QUEUE.name, b"odd", **odd)
        await broker.put(b"after", key=QUEUE.name)
        letter = await dead_letter(amqp_url)
    assert (letter.body, letter.content_type) == (b"odd", "text/plain")
    assert letter.headers["buildlight-reason"] == "ZeroDivisionError: a bug"
    assert letter.headers["buildlight-attempt"] == 3
    assert sorted(seen) == [b"after", b"before", b"odd", b"odd", b"odd"]
