"""The publisher against a real RabbitMQ: what arrives, and what is said when it cannot."""

import asyncio
import contextlib
import io
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aio_pika
import pytest
import pytest_asyncio
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue

from buildlight.servers import RabbitMQ
from buildlight_contracts.builds import BuildObservedV1, PipelineBrokeV1
from buildlight_contracts.catalogue import command_of, fact_of, parse
from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.outgoing import MessageTooLargeError
from buildlight_contracts.publisher import NotConfirmedError, Publisher, RefusedError, UnroutableError
from buildlight_contracts.routing import COMMANDS, EVENTS, INTAKE, Exchange
from buildlight_contracts.schemas import HERE
from buildlight_contracts.testing import example, example_envelope

Eventually = Callable[..., Awaitable[Any]]
QUORUM = {"x-queue-type": "quorum"}
SOURCE = "https://ci.acme.example"


def readme_program(heading: str) -> str:
    """The program under a heading of the README."""
    section = (HERE / "README.md").read_text().split(f"\n## {heading}\n")[1].split("\n## ")[0]
    (program,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    return str(program)


async def bind(channel: AbstractChannel, exchange: Exchange, key: str, **arguments: Any) -> AbstractQueue:
    """A queue bound to one of the public exchanges, as Buildlight would have declared them."""
    declared = await channel.declare_exchange(exchange.name, exchange.kind, durable=True)
    queue = await channel.declare_queue(f"{exchange.name}.test", durable=True, arguments=QUORUM | arguments)
    await queue.bind(declared, key)
    return queue


async def arrived(queue: AbstractQueue) -> AbstractIncomingMessage:
    message = await queue.get(timeout=30)
    await message.ack()
    return message


@pytest_asyncio.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        yield await connection.channel()


async def test_the_readmes_program_publishes(
    amqp_url: str, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program in the README, run as it stands, brings its build to intake."""
    queue = await bind(channel, INTAKE, "#")
    monkeypatch.setenv("BUILDLIGHT_AMQP_URL", amqp_url)
    await asyncio.to_thread(exec, readme_program("Publish from your own service"), {})

    message = await arrived(queue)
    assert message.routing_key == "build.observed.v1"
    assert message.exchange == "buildlight.intake"
    assert message.content_type == "application/cloudevents+json"
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    envelope = parse(message.body)
    assert message.message_id == envelope.id
    assert message.type == envelope.type == "dev.buildlight.build.observed.v1"
    assert envelope.source == "https://ci.acme.example"
    assert envelope.subject == "acme-ci/ci.acme.example/17/runs/4711"
    fact = fact_of(envelope)
    assert isinstance(fact, BuildObservedV1)
    assert str(fact.identity()) == envelope.id
    assert (fact.repository, fact.workflow, fact.branch) == ("acme/shop", "Nightly", "main")
    assert (fact.raw_status, fact.state.value) == ("PASSED", "success")


async def test_the_readmes_program_listens(
    amqp_url: str, channel: AbstractChannel, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """The listening program prints what broke and acknowledges it."""
    events = await channel.declare_exchange(EVENTS.name, EVENTS.kind, durable=True)
    monkeypatch.setenv("BUILDLIGHT_AMQP_URL", amqp_url)
    program = readme_program("Listen").replace("asyncio.run(main())", "")
    names: dict[str, Any] = {}
    exec(program, names)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        listening = asyncio.create_task(names["main"]())
        try:
            body = example_envelope(PipelineBrokeV1).to_json()

            async def published() -> bool:
                if listening.done():
                    listening.result()
                confirmation = await events.publish(aio_pika.Message(body), "pipeline.broke.v1")
                return type(confirmation).__name__ == "Ack"

            await eventually(published)
            await eventually(said.getvalue)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listening
    assert said.getvalue() == "pipeline.broke.v1 acme/shop main\n"


async def test_commands_go_to_their_owner(amqp_url: str, channel: AbstractChannel) -> None:
    """On the commands exchange, by type, with an expiry."""
    queue = await bind(channel, COMMANDS, "dead_letters.replay.v1")
    async with Publisher(amqp_url) as publisher:
        sent = await publisher.publish(example(ReplayDeadLettersV1), source=SOURCE)
    received = parse((await arrived(queue)).body)
    assert received == sent
    assert received.expiresat is not None
    assert command_of(received) == example(ReplayDeadLettersV1)


async def test_an_envelope_is_published_as_it_is(amqp_url: str, channel: AbstractChannel) -> None:
    """A foreign event keeps its id, type and data."""
    queue = await bind(channel, INTAKE, "com.acme.#")
    foreign = Envelope(id="7", source="urn:acme", type="com.acme.released.v2", data={"version": "1.2"})
    async with Publisher(amqp_url) as publisher:
        await publisher.publish(foreign)
    message = await arrived(queue)
    assert json.loads(message.body) == {
        "specversion": "1.0",
        "id": "7",
        "source": "urn:acme",
        "type": "com.acme.released.v2",
        "datacontenttype": "application/json",
        "data": {"version": "1.2"},
    }


async def test_many_tasks_share_a_publisher(amqp_url: str, channel: AbstractChannel) -> None:
    """Two hundred publishes at once, every one confirmed and there."""
    queue = await bind(channel, INTAKE, "#")
    facts = [example(BuildObservedV1, run_number=n, raw_status=f"s{n}") for n in range(200)]
    async with Publisher(amqp_url) as publisher:
        sent = await asyncio.gather(*(publisher.publish(fact, source=SOURCE) for fact in facts))
    received = [parse((await arrived(queue)).body).id for _ in facts]
    assert sorted(received) == sorted(envelope.id for envelope in sent)
    assert len(set(received)) == 200


async def test_no_queue_is_an_error_that_says_what_to_do(amqp_url: str, channel: AbstractChannel) -> None:
    """Without the exchange, and without a queue on it; the publisher works on once there is one."""
    fact = example(BuildObservedV1)
    text = (
        f"no queue takes dev.buildlight.build.observed.v1 {fact.identity()} from the exchange "
        "'buildlight.intake'. Check that the URL names Buildlight's RabbitMQ and vhost, and start Buildlight "
        "there once: it declares the queues. Then publish again."
    )
    async with Publisher(amqp_url) as publisher:
        with pytest.raises(UnroutableError) as no_exchange:
            await publisher.publish(fact, source=SOURCE)
        assert str(no_exchange.value) == text

        await channel.declare_exchange(INTAKE.name, INTAKE.kind, durable=True)
        with pytest.raises(UnroutableError) as no_queue:
            await publisher.publish(fact, source=SOURCE)
        assert str(no_queue.value) == text

        queue = await bind(channel, INTAKE, "#")
        sent = await publisher.publish(fact, source=SOURCE)
    assert parse((await arrived(queue)).body) == sent


async def test_a_full_queue_refuses(amqp_url: str, channel: AbstractChannel, eventually: Eventually) -> None:
    """With reject-publish the message is not stored, and the caller knows."""
    await bind(channel, INTAKE, "#", **{"x-max-length": 1, "x-overflow": "reject-publish"})
    async with Publisher(amqp_url) as publisher:
        refused: list[RefusedError] = []

        async def full() -> bool:
            try:
                await publisher.publish(example(BuildObservedV1), source=SOURCE)
            except RefusedError as error:
                refused.append(error)
            return bool(refused)

        await eventually(full)
    assert str(refused[0]) == (
        f"RabbitMQ refused dev.buildlight.build.observed.v1 {example(BuildObservedV1).identity()}: the queue "
        "behind 'buildlight.intake' is full. Wait until Buildlight has caught up; then publish again."
    )


async def test_what_is_too_large_is_not_sent(amqp_url: str) -> None:
    """It is refused before it leaves, whether or not there is a queue."""
    async with Publisher(amqp_url) as publisher:
        with pytest.raises(MessageTooLargeError):
            await publisher.publish(example(BuildObservedV1, title="x" * 1_048_576), source=SOURCE)


async def test_a_broker_that_is_away_is_waited_for(own_rabbitmq: RabbitMQ) -> None:
    """Killed under the publisher: within its time-out it says so; back again, the same publisher goes on."""
    fact, later = example(BuildObservedV1), example(BuildObservedV1, raw_status="later")
    async with await aio_pika.connect(own_rabbitmq.url) as connection:
        # A classic queue: RabbitMQ 3.10 finds no leader for a quorum queue made seconds before a kill.
        await bind(await connection.channel(), INTAKE, "#", **{"x-queue-type": "classic"})
    async with (
        Publisher(own_rabbitmq.url, timeout=1) as impatient,
        Publisher(own_rabbitmq.url, timeout=60) as patient,
    ):
        await patient.publish(fact, source=SOURCE)
        await own_rabbitmq.kill()
        with pytest.raises(NotConfirmedError) as late:
            await impatient.publish(fact, source=SOURCE)
        waiting = asyncio.create_task(patient.publish(later, source=SOURCE))
        await own_rabbitmq.start()
        await waiting
    assert str(late.value) == (
        f"RabbitMQ did not confirm dev.buildlight.build.observed.v1 {fact.identity()} within 1 s: it may or "
        "may not be stored. Publish it again: its id stays the same, and a second copy makes no second event."
    )
    async with await aio_pika.connect(own_rabbitmq.url) as connection:
        queue = await (await connection.channel()).get_queue(f"{INTAKE.name}.test")
        ids = [parse((await arrived(queue)).body).id for _ in range(2)]
    assert ids == [str(fact.identity()), str(later.identity())]
