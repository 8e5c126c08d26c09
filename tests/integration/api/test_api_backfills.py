"""`/api/v1/backfills`: what a request asks for, and how far it is."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import BackfillTargetV1
from buildlight_contracts.envelope import derive_id
from buildlight_contracts.routing import COMMANDS
from chassis.topology import declare
from tests.api_stage import KEY, Stage, running, staged

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=10)
HEADERS = {"X-API-Key": KEY}
BODY: dict[str, Any] = {"since": SINCE.isoformat(), "until": UNTIL.isoformat()}


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        for name, is_polled in (("acme/shop", True), ("acme/app", True), ("acme/gone", False)):
            await prepared.put(
                "poller.targets",
                "target_id",
                {
                    "target_id": derive_id("target", name),
                    "provider": "github",
                    "instance": "api.github.com",
                    "target": name,
                    "is_polled": is_polled,
                },
            )
        yield prepared


@pytest_asyncio.fixture
async def client(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        running(database_url, amqp_url) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as opened,
    ):
        yield opened


@pytest_asyncio.fixture
async def queue(amqp_url: str) -> AsyncIterator[aio_pika.abc.AbstractQueue]:
    """Where the commands go."""
    await declare(amqp_url, (), ("5s",))
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        bound = await channel.declare_queue("test.backfill", auto_delete=True)
        await bound.bind(COMMANDS.name, BackfillTargetV1.type)
        yield bound


async def begun(stage: Stage, request_id: str, target: str, *, days: float, **changes: Any) -> None:
    """The poller's row of one target, so many of its ten days done."""
    await stage.put(
        "poller.backfills",
        "target_id",
        {
            "request_id": UUID(request_id),
            "target_id": derive_id("target", target),
            "provider": "github",
            "instance": "api.github.com",
            "target": target,
            "targets": 2,
            "since": SINCE,
            "until": UNTIL,
            "through": SINCE + timedelta(days=days),
            **changes,
        },
    )


async def test_it_is_asked_for_and_followed(
    client: httpx.AsyncClient, stage: Stage, queue: aio_pika.abc.AbstractQueue
) -> None:
    """One command a target; how far it is counts those that have not begun; it has failed when one has."""
    answer = await client.post("/api/v1/backfills", json=BODY, headers=HEADERS)
    assert answer.status_code == 202, answer.text
    location, told = answer.headers["Location"], answer.json()
    assert (told["status"], told["targets"], told["fraction"], told["items"]) == ("queued", 2, 0, [])
    assert (await client.get(location)).json() == told
    commands = []
    for _ in range(2):
        message = await queue.get(timeout=10)
        commands.append(command_of(parse(message.body)))
    assert sorted(c.target for c in commands if isinstance(c, BackfillTargetV1)) == ["acme/app", "acme/shop"]
    for command in commands:
        assert isinstance(command, BackfillTargetV1)
        assert (command.since, command.until, command.targets) == (SINCE, UNTIL, 2)
        assert str(command.request_id) == told["request_id"]

    await begun(stage, told["request_id"], "acme/shop", days=5, builds=40, facts=90)
    told = (await client.get(location)).json()
    assert (told["status"], told["fraction"], told["builds"], told["facts"]) == ("running", 0.25, 40, 90)
    assert told["items"][0]["fraction"] == 0.5
    await begun(stage, told["request_id"], "acme/shop", days=10, builds=50, facts=99, status="done")
    why = {"reason": "unauthorized", "detail": "GitHub refuses the token."}
    await begun(stage, told["request_id"], "acme/app", days=0, status="failed", **why)
    told = (await client.get(location)).json()
    assert (told["status"], told["ended"], told["failed"], told["fraction"]) == ("failed", 2, 1, 0.5)
    assert told["items"][0]["detail"] == "GitHub refuses the token."


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"targets": ["acme/shop", "acme/none"]}, 404, "Not polled: acme/none"),
        ({"targets": ["acme/gone"]}, 404, "Not polled: acme/gone"),
        ({"until": SINCE.isoformat()}, 422, "before `until`"),
        ({"since": "2026-01-01"}, 422, "since"),
        ({"targets": []}, 422, "targets"),
    ],
)
async def test_a_wrong_request_is_refused(
    client: httpx.AsyncClient,
    queue: aio_pika.abc.AbstractQueue,
    change: dict[str, Any],
    status: int,
    said: str,
) -> None:
    """With what is wrong, and before anything is asked of the poller."""
    answer = await client.post("/api/v1/backfills", json=BODY | change, headers=HEADERS)
    assert answer.status_code == status
    assert said in json.dumps(answer.json()["error"])
    assert await queue.get(fail=False, timeout=1) is None


async def test_it_needs_a_key_and_a_poller(client: httpx.AsyncClient) -> None:
    """Without the one 401; with no queue for it 503; and what nobody asked for is not found."""
    assert (await client.post("/api/v1/backfills", json=BODY)).status_code == 401
    answer = await client.post("/api/v1/backfills", json=BODY | {"targets": ["ACME/shop"]}, headers=HEADERS)
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "Unavailable")
    nobody = "/api/v1/backfills/7f0d4b55-93c3-5c2e-8e0d-2f6a1c9b3d44"
    assert (await client.get(nobody)).status_code == 404
