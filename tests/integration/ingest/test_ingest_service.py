"""The ingest service on real servers: from intake to the log, and from the log to the listeners."""

import asyncio
import json
import os
import sys
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel
from prometheus_client import REGISTRY

from buildlight_contracts.commands import PollTargetV1
from buildlight_contracts.envelope import Envelope, derive_id
from buildlight_contracts.routing import EVENTS
from buildlight_contracts.testing import example_envelope
from chassis.database import Pool
from services.ingest.queues import APPEND
from services.ingest.service import build
from tests.integration.ingest.conftest import (
    Eventually,
    build_observed,
    message_count,
    observe,
    running,
    settings,
)


async def everything_done(channel: AbstractChannel) -> bool:
    return await message_count(channel, APPEND.name) == 0


async def test_what_is_observed_is_recorded_once_and_relayed_in_order(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """300 observations, each sent twice: 300 events, relayed in log order with their positions."""
    listener = await channel.declare_queue("listener", exclusive=True)
    await listener.bind(EVENTS.name, "build.observed.v1")
    sent = [build_observed(number) for number in range(300)]
    await observe(channel, *sent, *sent)
    async with running(amqp_url, database_url):
        relayed = []
        async with asyncio.timeout(20), listener.iterator(no_ack=True) as messages:
            async for message in messages:
                relayed.append((message.headers["buildlight-position"], json.loads(message.body)))
                if len(relayed) == 300:
                    break
        await eventually(lambda: service_pool.fetchval("SELECT position = 300 FROM ingest.checkpoints"))
    assert [position for position, _ in relayed] == list(range(1, 301))
    recorded = await service_pool.fetch("SELECT id::text, data FROM log.events ORDER BY position")
    assert [body["id"] for _, body in relayed] == [row["id"] for row in recorded]
    assert sorted(row["id"] for row in recorded) == sorted(envelope.id for envelope in sent)
    assert [body["data"] for _, body in relayed] == [row["data"] for row in recorded]
    assert Envelope.model_validate(relayed[0][1]) == sent[0]


async def test_two_observers_who_differ_in_what_is_not_material_make_one_event(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """A webhook and a poll that tell the title differently are duplicates, not a conflict."""
    await observe(channel, build_observed(1, title="one"), build_observed(1, title="two"), build_observed(2))
    async with running(amqp_url, database_url):
        await eventually(lambda: service_pool.fetchval("SELECT position = 2 FROM log.head"))
        await eventually(lambda: everything_done(channel))
    titles = await service_pool.fetch("SELECT data->>'title' AS title FROM log.events ORDER BY position")
    assert [row["title"] for row in titles] == ["one", "Take cards with a long number"]
    assert await message_count(channel, APPEND.dead) == 0


async def refused(channel: AbstractChannel, eventually: Eventually) -> dict[str, Any]:
    dead = await channel.get_queue(APPEND.dead)
    message = await eventually(lambda: dead.get(fail=False, no_ack=True))
    return dict(message.headers)


async def test_a_forged_event_is_refused_and_its_neighbours_are_recorded(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """An event under another's id, a command, and a conflict are dead letters with reasons; the rest goes on."""
    forged = build_observed(7).model_copy(update={"id": build_observed(8).id})
    first = Envelope(id="1", source="https://acme.example", type="com.acme.x", data={"a": 1})
    second = first.model_copy(update={"data": {"a": 2}})
    command = example_envelope(PollTargetV1)
    await observe(channel, build_observed(1), forged, first, command, second, build_observed(2))
    service = build(settings(amqp_url, database_url))
    append = service.tasks[0]
    await service.start()
    running_append = asyncio.create_task(append())
    try:
        reasons = [(await refused(channel, eventually))["buildlight-reason"] for _ in range(3)]
    finally:
        running_append.cancel()
        await asyncio.gather(running_append, return_exceptions=True)
        await service.stop()
    assert reasons == [
        f"forged id: {forged.id} is not this event's, its content gives {build_observed(7).id}",
        "target.poll.v1 is a command: publish it to the exchange buildlight.commands",
        "conflict: position 2 of the log has another event with the id "
        f"{derive_id('https://acme.example', '1')}",
    ]
    recorded = await service_pool.fetch("SELECT id::text FROM log.events ORDER BY position")
    assert [row["id"] for row in recorded] == [
        build_observed(1).id,
        str(derive_id("https://acme.example", "1")),
        build_observed(2).id,
    ]


async def test_a_large_event_is_relayed_without_its_data(
    amqp_url: str, database_url: str, channel: AbstractChannel
) -> None:
    """Over the limit, listeners get a reference to the log in place of the data; the routing key stays."""
    listener = await channel.declare_queue("listener", exclusive=True)
    await listener.bind(EVENTS.name, "com.acme.report")
    small = Envelope(id="1", source="https://acme.example", type="com.acme.report", data="x" * 1000)
    large = small.model_copy(update={"id": "2", "data": "x" * 1100})
    await observe(channel, small, large)
    relayed = []
    async with (
        running(amqp_url, database_url, claim_check_bytes=1024),
        asyncio.timeout(20),
        listener.iterator(no_ack=True) as messages,
    ):
        async for message in messages:
            relayed.append(json.loads(message.body))
            if len(relayed) == 2:
                break
    assert relayed[0]["data"] == small.data
    assert "dataref" not in relayed[0]
    assert "data" not in relayed[1]
    assert relayed[1]["dataref"] == "buildlight://log/2"
    assert relayed[1]["id"] == str(derive_id("https://acme.example", "2"))


async def test_what_is_recorded_is_relayed_at_once(
    amqp_url: str, database_url: str, channel: AbstractChannel
) -> None:
    """From publishing an observation to hearing of it takes far less than the relay's poll of a second."""
    listener = await channel.declare_queue("listener", exclusive=True)
    await listener.bind(EVENTS.name, "#")
    loop = asyncio.get_running_loop()
    taken = []
    async with running(amqp_url, database_url), listener.iterator(no_ack=True) as messages:
        for number in range(11):
            started = loop.time()
            await observe(channel, build_observed(number))
            async with asyncio.timeout(10):
                await anext(messages)
            taken.append(loop.time() - started)
    assert sorted(taken)[5] < 0.2


async def test_a_nul_is_recorded_as_visible_text(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """What jsonb and text refuse is kept, shown and flagged, and holds nobody up."""
    await observe(
        channel,
        Envelope(id="1\0", source="https://acme.example/\0", type="com.acme.\0x", data={"a": "\0"}),
        build_observed(1),
    )
    async with running(amqp_url, database_url):
        await eventually(lambda: service_pool.fetchval("SELECT position = 2 FROM log.head"))
    row = await service_pool.fetchrow("SELECT source, type, data FROM log.events WHERE position = 1")
    assert row is not None
    assert row["source"] == "https://acme.example/\\u0000"
    assert row["type"] == "com.acme.\\u0000x"
    assert row["data"] == {"a": "\\u0000", "buildlight:escaped": 1}


async def test_two_replicas_record_and_relay_everything_in_order(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel
) -> None:
    """Two share the queue; one relays at a time: each position once, in order."""
    listener = await channel.declare_queue("listener", exclusive=True)
    await listener.bind(EVENTS.name, "#")
    positions: list[Any] = []
    async with running(amqp_url, database_url), running(amqp_url, database_url):
        await observe(channel, *(build_observed(number) for number in range(400)))
        async with asyncio.timeout(30), listener.iterator(no_ack=True) as messages:
            async for message in messages:
                positions.append(message.headers["buildlight-position"])
                if len(positions) == 400:
                    break
    assert positions == list(range(1, 401))


PROCESS = """
import asyncio, sys
from chassis.service import serve
from services.ingest.service import build
from services.ingest.settings import IngestSettings
async def main():
    await serve([build(IngestSettings.load())], host="127.0.0.1", port=0)
asyncio.run(main())
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    "point",
    [
        "ingest.append.before_commit",
        "ingest.append.after_commit",
        "ingest.append.before_ack",
        "ingest.append.after_ack",
        "ingest.relay.before_publish",
        "ingest.relay.after_publish",
    ],
)
async def test_killed_at_any_point_nothing_is_lost_and_nothing_recorded_twice(
    amqp_url: str,
    database_url: str,
    service_pool: Pool,
    channel: AbstractChannel,
    eventually: Eventually,
    point: str,
) -> None:
    """A process dies at the point, another takes over: all of it is in the log once, and relayed in order."""
    listener = await channel.declare_queue("listener", exclusive=True)
    await listener.bind(EVENTS.name, "#")
    await observe(channel, *(build_observed(number) for number in range(50)))
    environment = os.environ | {
        "BUILDLIGHT_AMQP_URL": amqp_url,
        "BUILDLIGHT_DATABASE_URL": database_url,
        "BUILDLIGHT_CRASH_AT": point,
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", PROCESS, env=environment)
    async with asyncio.timeout(30):
        assert await process.wait() == -9
    positions: list[Any] = []
    async with running(amqp_url, database_url):
        await eventually(lambda: service_pool.fetchval("SELECT position = 50 FROM log.head"), timeout=60)
        async with asyncio.timeout(30), listener.iterator(no_ack=True) as messages:
            async for message in messages:
                positions.append(message.headers["buildlight-position"])
                if positions[-1] == 50:
                    break
        await eventually(lambda: everything_done(channel))
        await eventually(lambda: service_pool.fetchval("SELECT position = 50 FROM ingest.checkpoints"))
    assert set(positions) == set(range(1, 51))
    assert list(dict.fromkeys(positions)) == list(range(1, 51))
    row = await service_pool.fetchrow("SELECT * FROM log.integrity()")
    assert row is not None
    assert row["intact"]


async def test_a_listener_that_is_full_holds_nobody_up(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """One queue takes a single event and refuses the rest: the others go on, and hear nothing twice for it."""
    refused_before = REGISTRY.get_sample_value("buildlight_ingest_relay_refused_total") or 0
    full = await channel.declare_queue(
        "full", exclusive=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
    )
    await full.bind(EVENTS.name, "com.acme.full")
    healthy = await channel.declare_queue("healthy", exclusive=True)
    await healthy.bind(EVENTS.name, "build.#")
    for number in range(20):
        fact = Envelope(id=str(number), source="https://acme.example", type="com.acme.full", data=number)
        await observe(channel, build_observed(number), fact)
    positions: list[Any] = []
    async with running(amqp_url, database_url):
        await eventually(
            lambda: service_pool.fetchval(
                "SELECT position = 40 FROM ingest.checkpoints WHERE follower = 'relay'"
            ),
            timeout=30,
        )
        while message := await healthy.get(fail=False, no_ack=True):
            positions.append(message.headers["buildlight-position"])
        assert await message_count(channel, "full") == 1
    facts = await service_pool.fetch("SELECT position FROM log.events WHERE type LIKE '%.build.%' ORDER BY 1")
    assert positions == [row["position"] for row in facts]
    assert len(positions) == 20
    refused = REGISTRY.get_sample_value("buildlight_ingest_relay_refused_total")
    assert refused == refused_before + 19
