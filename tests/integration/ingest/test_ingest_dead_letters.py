"""Dead letters on real servers: archived once, tried alone once, replayed once a request."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import asyncpg
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage

from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import COMMANDS
from chassis.database import READER_ROLE, Pool, make_pool
from chassis.topology import Queue, declare
from services.ingest.queues import QUEUES
from tests.integration.ingest.conftest import Eventually, message_count, running
from tests.odd import ODD_MESSAGES, publish_odd

WORK = Queue("work", owner="someone", purpose="a queue of another service")
ARCHIVED = (*QUEUES, WORK)
BURIED = {
    "buildlight-kind": "permanent",
    "buildlight-reason": "it is bad",
    "buildlight-fingerprint": "0123456789ab",
    "buildlight-attempt": 2,
    "buildlight-died-at": "2026-03-02T10:00:00+00:00",
    "traceparent": "00-1",
}


async def bury(channel: AbstractChannel, body: bytes, headers: dict[str, Any], message_id: str = "m") -> None:
    message = aio_pika.Message(body, headers=headers, message_id=message_id, content_type="text/plain")
    await channel.default_exchange.publish(message, WORK.dead)


async def taken(channel: AbstractChannel, eventually: Eventually, queue: str) -> AbstractIncomingMessage:
    found = await channel.get_queue(queue)
    message = await eventually(lambda: found.get(fail=False, no_ack=True))
    assert isinstance(message, AbstractIncomingMessage)
    return message


def own_headers(message: AbstractIncomingMessage) -> dict[str, Any]:
    """The headers without the count that RabbitMQ puts on whatever a quorum queue delivers."""
    return {name: value for name, value in message.headers.items() if name != "x-delivery-count"}


async def ask(
    channel: AbstractChannel, ids: list[UUID], request_id: UUID, *, lifetime: timedelta = timedelta(minutes=5)
) -> None:
    now = datetime.now(UTC)
    envelope = Envelope.wrap(
        ReplayDeadLettersV1(request_id=request_id, dead_letter_ids=tuple(ids), by="octocat"),
        source="https://test.example",
        time=now,
        expires_at=now + lifetime,
    )
    exchange = await channel.get_exchange(COMMANDS.name, ensure=False)
    await exchange.publish(aio_pika.Message(envelope.to_json()), envelope.routing_key)


async def recorded(pool: Pool, type_: str) -> list[dict[str, Any]]:
    rows = await pool.fetch(
        "SELECT data FROM log.events WHERE type = $1 ORDER BY position", f"dev.buildlight.{type_}"
    )
    return [row["data"] for row in rows]


async def test_a_dead_letter_is_archived_once_and_recorded(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """It comes twice: one row, published to readers without its body, and one fact in the log."""
    await declare(amqp_url, [WORK], ["100ms"])
    for _ in range(2):
        await bury(channel, b"body\0\xff", BURIED)
    async with running(amqp_url, database_url, ARCHIVED):
        await eventually(lambda: recorded(service_pool, "message.dead_lettered.v1"))
        assert await eventually(lambda: empty(channel, WORK.dead))
    async with make_pool(database_url, application="reader", role=READER_ROLE) as reader:
        rows = [dict(row) for row in await reader.fetch("SELECT * FROM ingest.published_dead_letters")]
    [fact] = await recorded(service_pool, "message.dead_lettered.v1")
    assert rows == [
        {
            "dead_letter_id": UUID(fact["dead_letter_id"]),
            "queue": "work",
            "message_id": "m",
            "message_type": None,
            "kind": "permanent",
            "reason": "it is bad",
            "error_class": None,
            "fingerprint": "0123456789ab",
            "attempts": 2,
            "died_at": datetime(2026, 3, 2, 10, tzinfo=UTC),
            "status": "dead",
            "replays": 0,
            "replayed_at": None,
        }
    ]
    assert await service_pool.fetchval("SELECT body FROM ingest.dead_letters") == b"body\0\xff"


async def empty(channel: AbstractChannel, queue: str) -> bool:
    return await message_count(channel, queue) == 0


async def kill_by_delivery_limit(amqp_url: str, queue: Queue) -> None:
    """Take the message and vanish, again and again, as a consumer that it kills would."""
    for _ in range(30):
        connection = await aio_pika.connect(amqp_url)
        channel = await connection.channel()
        message = await (await channel.get_queue(queue.name)).get(fail=False)
        if message is None:
            await connection.close()
            return
        await message.nack(requeue=True)
        await connection.close()
    raise AssertionError("RabbitMQ never gave it up")


async def test_given_up_by_rabbitmq_it_is_tried_alone_then_archived(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """After the delivery limit it is back on its queue, marked; after the limit again it is archived."""
    await declare(amqp_url, [WORK], ["100ms"])
    await channel.default_exchange.publish(aio_pika.Message(b"killer", message_id="k"), WORK.name)
    await kill_by_delivery_limit(amqp_url, WORK)
    async with running(amqp_url, database_url, ARCHIVED):
        back = await taken(channel, eventually, WORK.name)
        assert back.body == b"killer"
        assert own_headers(back) == {"buildlight-lonely": 1}
        await channel.default_exchange.publish(
            aio_pika.Message(b"killer", message_id="k", headers=back.headers), WORK.name
        )
        await kill_by_delivery_limit(amqp_url, WORK)
        await eventually(lambda: recorded(service_pool, "message.dead_lettered.v1"))
    row = await service_pool.fetchrow("SELECT kind, message_id, body FROM ingest.dead_letters")
    assert row is not None
    assert tuple(row) == ("delivery_limit", "k", b"killer")


async def test_a_dead_letter_is_replayed_once_a_request(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """The same request twice: back on its queue once, as new; another request counts on."""
    await declare(amqp_url, [WORK], ["100ms"])
    await bury(channel, b"body", BURIED)
    async with running(amqp_url, database_url, ARCHIVED):
        dead_letter_id = await eventually(
            lambda: service_pool.fetchval("SELECT dead_letter_id FROM ingest.dead_letters")
        )
        first, second = uuid4(), uuid4()
        for request in (first, first, second):
            await ask(channel, [dead_letter_id], request)
        messages = [await taken(channel, eventually, WORK.name) for _ in range(2)]
        replayed = await eventually(lambda: two(recorded(service_pool, "message.replayed.v1")))
        assert await message_count(channel, WORK.name) == 0
    assert [message.body for message in messages] == [b"body", b"body"]
    assert [message.message_id for message in messages] == ["m", "m"]
    assert [message.content_type for message in messages] == ["text/plain", "text/plain"]
    assert [own_headers(message) for message in messages] == [
        {"traceparent": "00-1", "buildlight-replay": 1},
        {"traceparent": "00-1", "buildlight-replay": 2},
    ]
    assert [(fact["replay"], fact["by"], fact["queue"]) for fact in replayed] == [
        (1, "octocat", "work"),
        (2, "octocat", "work"),
    ]
    row = await service_pool.fetchrow("SELECT status, replays FROM ingest.published_dead_letters")
    assert row is not None
    assert tuple(row) == ("replayed", 2)


async def two(awaitable: Any) -> Any:
    found = await awaitable
    return found if len(found) == 2 else None


async def test_requests_that_came_too_late_or_name_nothing_are_dead_letters_themselves(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Past its expiry a request is refused and nothing is replayed; an unknown id is named."""
    await declare(amqp_url, [WORK], ["100ms"])
    await bury(channel, b"body", BURIED)
    nobody = uuid4()
    async with running(amqp_url, database_url, ARCHIVED):
        dead_letter_id = await eventually(
            lambda: service_pool.fetchval("SELECT dead_letter_id FROM ingest.dead_letters")
        )
        await ask(channel, [dead_letter_id], uuid4(), lifetime=timedelta(seconds=-1))
        await ask(channel, [nobody], uuid4())
        reasons = await eventually(lambda: two(refusals(service_pool)))
    assert reasons[0].startswith("the request expired at ")
    assert reasons[1] == f"no such dead letters: {nobody}"
    assert await message_count(channel, WORK.name) == 0


async def refusals(pool: Pool) -> list[str]:
    rows = await pool.fetch(
        "SELECT reason FROM ingest.dead_letters WHERE queue = 'ingest.replay' ORDER BY reason DESC"
    )
    return [row["reason"] for row in rows]


async def test_dead_letters_wait_while_postgres_refuses(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Whatever the archive suffers, the letter stays in the queue, unacknowledged; then it is archived."""
    await declare(amqp_url, [WORK], ["100ms"])
    superuser = await asyncpg.connect(database_url)
    try:
        await superuser.execute("REVOKE INSERT ON ingest.dead_letters FROM buildlight_app")
        await bury(channel, b"body", BURIED)
        async with running(amqp_url, database_url, ARCHIVED):
            await eventually(lambda: empty(channel, WORK.dead))  # in hand
            await asyncio.sleep(0.5)
        assert await message_count(channel, WORK.dead) == 1
        await superuser.execute("GRANT INSERT ON ingest.dead_letters TO buildlight_app")
    finally:
        await superuser.close()
    async with running(amqp_url, database_url, ARCHIVED):
        await eventually(lambda: service_pool.fetchval("SELECT true FROM ingest.dead_letters"))


async def test_odd_letters_are_archived_and_hold_up_nobody(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Letters with properties that our client cannot decode: each is archived, and the one after them."""
    await declare(amqp_url, [WORK], ["100ms"])
    for number, odd in enumerate(ODD_MESSAGES):
        await publish_odd(amqp_url, WORK.dead, b"odd %d" % number, **{"message_id": b"%d" % number, **odd})
    await bury(channel, b"after", BURIED)
    bodies = [b"after", *(b"odd %d" % number for number in range(len(ODD_MESSAGES)))]

    async def archived() -> bool:
        rows = await service_pool.fetch("SELECT body FROM ingest.dead_letters ORDER BY body")
        return [row["body"] for row in rows] == bodies

    async with running(amqp_url, database_url, ARCHIVED):
        await eventually(archived, timeout=60)
        await eventually(lambda: empty(channel, WORK.dead))
    messages = await service_pool.fetch("SELECT message_id FROM ingest.dead_letters ORDER BY body")
    assert messages[3]["message_id"] == "?" * 255
