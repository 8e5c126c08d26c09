"""The live feed over a real WebSocket, a real RabbitMQ and the real log."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
import websockets
from prometheus_client import REGISTRY
from websockets.asyncio.client import ClientConnection, connect

from buildlight_contracts.builds import BuildObservedV1, BuildRef, PipelineBrokeV1
from buildlight_contracts.operations import PollFailedV1
from buildlight_contracts.testing import example
from services.api.live import REPLAY_LIMIT
from tests.api_stage import KEY, Running, Stage, running, staged

Eventually = Callable[..., Awaitable[object]]


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        yield prepared


@pytest_asyncio.fixture
async def api(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[Running]:
    async with running(database_url, amqp_url, live_heartbeat_seconds=60, live_buffer_frames=50) as started:
        yield started


def observed(run: int, **changes: Any) -> BuildObservedV1:
    return example(BuildObservedV1, build=example(BuildRef, run_id=str(run)), **changes)


def socket_of(api: Running) -> str:
    return api.url.replace("http", "ws") + "/ws"


async def happen(api: Running, stage: Stage, fact: Any) -> int:
    """Record and relay a fact, as ingest does."""
    position = await stage.record(fact)
    await api.relay(fact, position)
    return position


async def frame(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        message = json.loads(await socket.recv())
    assert isinstance(message, dict)
    return message


async def ask(socket: ClientConnection, **message: Any) -> None:
    await socket.send(json.dumps(message))


async def positions_until(socket: ClientConnection, last: int) -> list[int]:
    met: list[int] = []
    while not met or met[-1] < last:
        met.append((await frame(socket))["position"])
    return met


async def test_a_client_hears_everything_until_it_narrows(api: Running, stage: Stage) -> None:
    """Frames flow at once; they carry the fact and the ids the API knows it by; a subscription narrows them."""
    async with connect(socket_of(api)) as socket:
        await ask(socket, type="ping")
        assert await frame(socket) == {"type": "pong", "position": 0}
        fact = observed(1)
        await happen(api, stage, fact)
        assert await frame(socket) == {
            "type": "builds",
            "event": "build.observed.v1",
            "position": 1,
            "time": "2026-03-02T09:04:12Z",
            "data": {
                **fact.model_dump(mode="json"),
                "build_id": str(fact.build.build_id),
                "pipeline_id": str(fact.pipeline.pipeline_id),
            },
        }
        await ask(socket, type="subscribe", events=["pipeline"])
        assert await frame(socket) == {"type": "subscribed", "events": ["pipeline"], "position": 1}
        await happen(api, stage, observed(2))
        await happen(api, stage, example(PollFailedV1))
        broke = example(PipelineBrokeV1)
        await happen(api, stage, broke)
        told = await frame(socket)
        assert (told["type"], told["position"]) == ("pipeline", 4)
        assert told["data"]["pipeline_id"] == str(broke.pipeline.pipeline_id)
        assert told["data"]["build_id"] == str(broke.build.build_id)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ('{"type": "subscribe", "events": ["weather"]}', "'weather' is none of"),
        ('{"type": "subscribe", "events": "builds"}', "events: give a list"),
        ('{"type": "subscribe", "from": "yesterday"}', "from: give the position"),
        ('{"type": "subscribe", "from": -1}', "from: give the position"),
        ('{"type": "dance"}', "unknown type 'dance'"),
        ("[]", "send an object"),
        ("nonsense", "not JSON"),
        (b"\x00", "send text, not bytes"),
        ("[" * 4096, "not JSON"),
        ('{"type": ' + "[" * 900 + "]" * 900 + "}", "unknown type"),
        (f'"{"x" * 5000}"', "a message may have 4,096 characters"),
    ],
)
async def test_what_cannot_be_meant_is_answered_in_words(
    api: Running, stage: Stage, message: str | bytes, reason: str
) -> None:
    """The subscription stays as it was, and so does the connection."""
    async with connect(socket_of(api)) as socket:
        await socket.send(message)
        answer = await frame(socket)
        assert answer["type"] == "error"
        assert reason in answer["message"]
        await happen(api, stage, observed(1))
        assert (await frame(socket))["position"] == 1


async def test_resuming_replays_what_was_missed_and_goes_on_without_a_seam(
    api: Running, stage: Stage
) -> None:
    """While events keep coming, a client that resumes gets each one after its position once, in order."""
    for run in range(1, 31):
        await happen(api, stage, observed(run))

    async def go_on() -> None:
        for run in range(31, 121):
            await happen(api, stage, observed(run))

    ongoing = asyncio.create_task(go_on())
    try:
        async with connect(socket_of(api)) as socket:
            await ask(socket, type="subscribe", events=["builds"], **{"from": 12})
            met: list[int] = []
            while len(met) < 108:
                message = await frame(socket)
                if message["type"] == "builds":
                    met.append(message["position"])
            # What came before the subscription was answered is not sent again: it alone may be out of order.
            assert sorted(met) == list(range(13, 121))
            await ask(socket, type="ping")
            assert (await frame(socket))["type"] == "pong"
    finally:
        await ongoing


async def test_a_client_that_missed_too_much_is_told_so(api: Running, stage: Stage) -> None:
    """Past the limit it gets a gap to fetch afresh, then what is live."""
    await stage.connection.execute(
        """
        SELECT log.append(
            array_agg(id ORDER BY id), array_agg(sha256(id::text::bytea) ORDER BY id),
            array_agg('dev.buildlight.build.observed.v1'::text), array_agg('s'::text), array_agg('x'::text),
            array_agg(now()), array_agg(NULL::text), array_agg(NULL::text), array_agg(NULL::text),
            array_agg('{}'::text))
          FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, $1)) AS made
        """.replace("$1", str(REPLAY_LIMIT + 5))
    )
    async with connect(socket_of(api)) as socket:
        await ask(socket, type="ping")
        await frame(socket)
        # Heard of by the event after them only.
        last = await happen(api, stage, observed(1))
        assert last == REPLAY_LIMIT + 6
        assert await frame(socket) == {"type": "gap", "from": 0, "to": last}
        await ask(socket, type="subscribe", events=["builds"], **{"from": 2})
        assert await frame(socket) == {"type": "subscribed", "events": ["builds"], "position": last}
        assert await frame(socket) == {"type": "gap", "from": 2, "to": last}
        await happen(api, stage, observed(2))
        assert (await frame(socket))["position"] == last + 1
        await ask(socket, type="subscribe", events=["builds"], **{"from": last})
        assert await frame(socket) == {"type": "subscribed", "events": ["builds"], "position": last + 1}
        assert (await frame(socket))["position"] == last + 1


async def test_what_rabbitmq_lost_is_read_from_the_log(api: Running, stage: Stage) -> None:
    """Two events are never relayed; the third brings them along; a repeated one is dropped."""
    async with connect(socket_of(api)) as socket:
        await ask(socket, type="ping")
        await frame(socket)
        for run in (1, 2):
            await stage.record(observed(run))
        await happen(api, stage, observed(3))
        await api.relay(observed(2), 2)
        await happen(api, stage, observed(4))
        assert await positions_until(socket, 4) == [1, 2, 3, 4]


async def test_the_heartbeat_finds_what_nobody_relayed(
    stage: Stage, database_url: str, amqp_url: str
) -> None:
    """Even without a relay, clients hear of events, within a heartbeat."""
    async with (
        running(database_url, amqp_url, live_heartbeat_seconds=0.1) as api,
        connect(socket_of(api)) as socket,
    ):
        assert (await frame(socket))["type"] == "heartbeat"
        await stage.record(observed(1))
        while (message := await frame(socket))["type"] == "heartbeat":
            pass
        assert (message["type"], message["position"]) == ("builds", 1)


async def test_a_client_that_does_not_read_is_dropped_and_others_are_not(
    api: Running, stage: Stage, eventually: Eventually
) -> None:
    """It is closed with 1013 once its buffer is full; a client that reads misses nothing."""
    dropped = REGISTRY.get_sample_value("buildlight_api_live_clients_dropped_total") or 0.0

    async with (
        connect(socket_of(api), max_queue=1) as slow,
        connect(socket_of(api)) as quick,
    ):
        await ask(quick, type="ping")
        await frame(quick)
        reading = asyncio.create_task(positions_until(quick, 200))
        for run in range(1, 201):
            await happen(api, stage, observed(run, title="x" * 200_000))
        assert await reading == list(range(1, 201))
        await eventually(
            lambda: REGISTRY.get_sample_value("buildlight_api_live_clients_dropped_total") == dropped + 1
        )
        with pytest.raises(websockets.ConnectionClosed) as ended:
            while True:
                async with asyncio.timeout(30):
                    await slow.recv()
        assert ended.value.rcvd is None or ended.value.rcvd.code == 1013


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True),
        ("http://{host}", True),
        ("https://dash.example", True),
        ("https://evil.example", False),
        ("null", False),
    ],
)
async def test_only_pages_of_this_host_or_of_named_ones_may_connect(
    stage: Stage, database_url: str, amqp_url: str, origin: str | None, allowed: bool
) -> None:
    """A browser tells the page's origin; another site's is refused before the handshake ends."""
    async with running(database_url, amqp_url, allowed_origins=("https://dash.example",)) as api:
        told = origin.format(host=api.url.removeprefix("http://")) if origin else None
        headers = {"Origin": told} if told else {}
        if allowed:
            async with connect(socket_of(api), additional_headers=headers) as socket:
                await ask(socket, type="ping")
                assert (await frame(socket))["type"] == "pong"
        else:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect(socket_of(api), additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 403


async def test_there_is_room_for_so_many_and_a_key_when_reads_need_one(
    stage: Stage, database_url: str, amqp_url: str
) -> None:
    """The client over the limit is closed with 1013; one without a key never gets in."""
    async with running(database_url, amqp_url, live_connections=1, reads_need_key=True) as api:
        with pytest.raises(websockets.InvalidStatus):
            async with connect(socket_of(api)):
                pass
        headers = {"X-API-Key": KEY}
        async with connect(socket_of(api), additional_headers=headers) as first:
            await ask(first, type="ping")
            await frame(first)
            async with connect(socket_of(api), additional_headers=headers) as second:
                with pytest.raises(websockets.ConnectionClosed) as ended:
                    await second.recv()
                assert ended.value.rcvd is not None
                assert ended.value.rcvd.code == 1013
