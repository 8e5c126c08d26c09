"""Asking a provider to act on a build, over HTTP."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import aio_pika
import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import CancelBuildV1, PublishCheckV1, RerunBuildV1
from buildlight_contracts.envelope import Envelope
from chassis.keys import digest
from chassis.topology import declare
from services.poller.queues import ACTIONS
from tests.api_stage import KEY, NOON, Running, Stage, running, staged

ACT = "a-key-that-may-act"
BEARER = {"Authorization": f"Bearer {ACT}"}


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        for name, key, scopes in (
            ("ada", ACT, ["read", "act"]),
            ("script", "a-key-that-writes", ["read", "write"]),
        ):
            await prepared.connection.execute(
                "INSERT INTO api.keys (name, digest, scopes) VALUES ($1, $2, $3)", name, digest(key), scopes
            )
        yield prepared


@pytest_asyncio.fixture
async def client(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[httpx.AsyncClient]:
    await declare(amqp_url, [ACTIONS], ("5s",))
    async with (
        running(database_url, amqp_url) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=20) as opened,
    ):
        yield opened


async def asked(amqp_url: str) -> list[Envelope]:
    """The commands that wait for the poller."""
    found = []
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.get_queue(ACTIONS.name)
        while (message := await queue.get(no_ack=True, fail=False)) is not None:
            found.append(parse(message.body))
    return found


async def test_a_rerun_is_asked_for(client: httpx.AsyncClient, stage: Stage, amqp_url: str) -> None:
    """202 with a Location that answers at once; the command names the build, who asks, and when it is too late."""
    build = await stage.build(7, "failure", attempt=2)
    answer = await client.post(f"/api/v1/builds/{build}/rerun", json={"failed_only": True}, headers=BEARER)
    assert answer.status_code == 202
    body = answer.json()
    assert body == {
        "request_id": body["request_id"],
        "status": "queued",
        "location": f"/api/v1/actions/{body['request_id']}",
    }
    assert answer.headers["location"] == body["location"]
    (envelope,) = await asked(amqp_url)
    command = command_of(envelope)
    assert isinstance(command, RerunBuildV1)
    assert (str(command.request_id), command.by, command.failed_only) == (body["request_id"], "ada", True)
    assert command.build.build_id == build
    assert envelope.expiresat is not None
    assert timedelta(minutes=9) < envelope.expiresat - datetime.now(UTC) <= timedelta(minutes=10)
    waiting = (await client.get(body["location"])).json()
    assert (waiting["status"], waiting["action"], waiting["asked_by"]) == ("queued", "rerun_failed", "ada")


async def test_without_a_body_all_of_it_is_run_again(
    client: httpx.AsyncClient, stage: Stage, amqp_url: str
) -> None:
    build = await stage.build(7, "failure")
    assert (await client.post(f"/api/v1/builds/{build}/rerun", headers=BEARER)).status_code == 202
    assert (await client.post(f"/api/v1/builds/{build}/cancel", headers=BEARER)).status_code == 202
    first, second = [command_of(envelope) for envelope in await asked(amqp_url)]
    assert isinstance(first, RerunBuildV1)
    assert not first.failed_only
    assert isinstance(second, CancelBuildV1)


async def test_a_check_is_asked_for(client: httpx.AsyncClient, stage: Stage, amqp_url: str) -> None:
    """With the commit of the build, whatever the body says."""
    build = await stage.build(7, "failure")
    verdict = {
        "conclusion": "neutral",
        "title": "Flaky",
        "summary": "Not you.",
        "annotations": [{"path": "a.py", "line": 3, "title": "t", "message": "m"}],
    }
    assert (
        await client.post(f"/api/v1/builds/{build}/check", json=verdict, headers=BEARER)
    ).status_code == 202
    (envelope,) = await asked(amqp_url)
    command = command_of(envelope)
    assert isinstance(command, PublishCheckV1)
    sha = await stage.connection.fetchval(
        "SELECT commit_sha FROM analytics.builds WHERE build_id = $1", build
    )
    assert (command.commit_sha, command.name, command.annotations[0].path) == (sha, "Buildlight", "a.py")


@pytest.mark.parametrize("path", ["rerun", "cancel", "check"])
async def test_only_a_key_that_may_act(
    client: httpx.AsyncClient, stage: Stage, amqp_url: str, path: str
) -> None:
    """No key or a strange one: 401. One that may read and write: 403, naming the scope. The admin's: yes."""
    build = await stage.build(7, "failure")
    verdict = {"conclusion": "success", "title": "t", "summary": "s"} if path == "check" else {}
    for key, status in ((None, 401), ("a-strange-key", 401), ("a-key-that-writes", 403), (KEY, 202)):
        headers = {"X-API-Key": key} if key else {}
        answer = await client.post(f"/api/v1/builds/{build}/{path}", json=verdict, headers=headers)
        assert answer.status_code == status, answer.text
        if status == 403:
            assert "'act'" in answer.json()["error"]["message"]
    assert len(await asked(amqp_url)) == 1


async def test_an_admin_key_of_before_may_act_too(stage: Stage, database_url: str, amqp_url: str) -> None:
    """A key stored when there was no such scope gets it at the next start."""
    await stage.connection.execute(
        "INSERT INTO api.keys (name, digest, scopes) VALUES ('admin', $1, ARRAY['read', 'write', 'admin'])",
        digest(KEY),
    )
    build = await stage.build(7, "failure")
    await declare(amqp_url, [ACTIONS], ("5s",))
    async with (
        running(database_url, amqp_url) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=20) as client,
    ):
        answer = await client.post(f"/api/v1/builds/{build}/cancel", headers={"X-API-Key": KEY})
    assert answer.status_code == 202


async def test_the_same_idempotency_key_is_the_same_request(
    client: httpx.AsyncClient, stage: Stage, amqp_url: str
) -> None:
    """Until it is settled the command may go twice, with one id; settled, it is only answered."""
    build = await stage.build(7, "failure")
    headers = BEARER | {"Idempotency-Key": "retry me"}
    first, second = [
        (await client.post(f"/api/v1/builds/{build}/rerun", headers=headers)).json() for _ in range(2)
    ]
    assert first == second
    assert {envelope.id for envelope in await asked(amqp_url)} == {(await envelope_id(build, first))}
    await settle(stage, UUID(first["request_id"]), build)
    third = (await client.post(f"/api/v1/builds/{build}/rerun", headers=headers)).json()
    assert third == first | {"status": "done"}
    assert await asked(amqp_url) == []
    told = (await client.get(first["location"])).json()
    assert (told["status"], told["detail"], told["url"]) == ("done", "As attempt 2.", "https://x.test/2")


async def test_an_idempotency_key_is_for_one_thing(
    client: httpx.AsyncClient, stage: Stage, amqp_url: str
) -> None:
    """Another action or another build with it is a conflict; the same words of another's API key are not."""
    build, other = await stage.build(7, "failure"), await stage.build(8, "failure")
    headers = BEARER | {"Idempotency-Key": "1"}
    assert (await client.post(f"/api/v1/builds/{build}/rerun", headers=headers)).status_code == 202
    for path in (f"{build}/cancel", f"{other}/rerun"):
        assert (await client.post(f"/api/v1/builds/{path}", headers=headers)).status_code == 409
    admins = {"X-API-Key": KEY, "Idempotency-Key": "1"}
    assert (await client.post(f"/api/v1/builds/{other}/cancel", headers=admins)).status_code == 202


async def test_what_is_wrong_is_said(client: httpx.AsyncClient, stage: Stage) -> None:
    """An unknown build or action is 404, an unknown field or verdict 422."""
    build = await stage.build(7, "failure")
    assert (await client.post(f"/api/v1/builds/{uuid4()}/rerun", headers=BEARER)).status_code == 404
    assert (await client.get(f"/api/v1/actions/{uuid4()}")).status_code == 404
    for path, body in (
        ("rerun", {"failed": True}),
        ("rerun", {"failed_only": "perhaps"}),
        ("check", {"conclusion": "perhaps", "title": "t", "summary": "s"}),
        ("check", {"conclusion": "success", "title": "t", "summary": "s", "details_url": "javascript:1"}),
    ):
        answer = await client.post(f"/api/v1/builds/{build}/{path}", json=body, headers=BEARER)
        assert answer.status_code == 422


async def test_before_any_poller_has_run(stage: Stage, database_url: str, amqp_url: str) -> None:
    """Nobody could take it: 503, and nothing is promised."""
    build = await stage.build(7, "failure")
    async with (
        running(database_url, amqp_url) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=20) as client,
    ):
        await unrouted(api, client, build)


async def unrouted(api: Running, client: httpx.AsyncClient, build: UUID) -> None:
    from buildlight_contracts.routing import EXCHANGES

    connection = await aio_pika.connect(api.service.broker.url)
    async with connection:
        channel = await connection.channel()
        for exchange in EXCHANGES:
            await channel.declare_exchange(exchange.name, aio_pika.ExchangeType(exchange.kind), durable=True)
    answer = await client.post(f"/api/v1/builds/{build}/rerun", headers=BEARER)
    assert answer.status_code == 503
    assert "poller" in answer.json()["error"]["message"]


async def envelope_id(build: UUID, accepted: dict[str, Any]) -> str:
    """What the command's id has to be: known from the request alone."""
    command = RerunBuildV1.model_validate(
        {
            "request_id": accepted["request_id"],
            "build": {
                "provider": "github", "instance": "api.github.com", "repository_id": "895", "run_id": "7",
            },
            "repository": "x",
            "by": "x",
        }
    )  # fmt: skip
    return str(command.identity()) if command.build.build_id == build else f"another build than {build}"


async def settle(stage: Stage, request_id: UUID, build: UUID) -> None:
    """As the poller does."""
    await stage.connection.execute(
        """
        INSERT INTO poller.actions (request_id, action, build_id, repository, asked_by, status, detail, url,
                                    asked_at, finished_at)
        VALUES ($1, 'rerun', $2, 'acme/shop', 'ada', 'done', 'As attempt 2.', 'https://x.test/2', $3, $3)
        """,
        request_id,
        build,
        NOON,
    )
