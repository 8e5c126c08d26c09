"""GitHub's webhooks at a real door: what is taken, what is refused, and what is known already."""

import asyncio
import base64
import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import asyncpg
import pytest
import pytest_asyncio

from buildlight.servers import Postgres, RabbitMQ
from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.routing import COMMANDS
from chassis.broker import Broker
from chassis.database import make_pool
from chassis.outbox import Outbox
from chassis.service import Service
from chassis.topology import Binding, Queue, declare
from sandbox.webhooks import Delivery, Hook, signature
from services.ingest.queues import APPEND
from services.poller.http import router
from services.poller.provider import Target
from services.poller.seen import Seen
from services.poller.store import Store
from services.poller.webhook_settings import WebhookSettings
from tests.integration.ingest.conftest import keep_key_table
from tests.integration.poller.conftest import Intake
from tests.integration.poller.webhook_door import (
    REFRESH_KEYS,
    SECRET,
    Address,
    Refreshes,
    facts_of,
    hearing_refreshes,
    listening,
    open_door,
    run,
    signed,
)


def of_jenkins(event: str, body: Any, *, instance: str) -> Seen:
    return Seen(refresh=((body["name"], str(body["build"]["number"])),))


@asynccontextmanager
async def bare_door(database_url: str, amqp_url: str, **settings: Any) -> AsyncIterator[Address]:
    """The routes of all providers without a poller behind them; everything is held to be polled."""
    pool = make_pool(database_url, application="test")
    broker = Broker(amqp_url, service="test", rungs=("5s",))

    async def watched(provider: str, instance: str, name: str) -> Target:
        return Target(provider, instance, name)

    loaded = WebhookSettings.load(
        database_url=database_url, amqp_url=amqp_url, github_webhook_secrets=(SECRET,), **settings
    )
    routes = router(
        loaded,
        {"github": "api.github.com", "gitlab": "gitlab.example", "jenkins": "ci.example"},
        {"github": facts_of, "gitlab": facts_of, "jenkins": of_jenkins},
        watched,
        pool,
        broker,
    )
    await broker.start()
    try:
        async with pool, listening(Service("test", pool, broker, broker.start, routers=[routes])) as address:
            yield address
    finally:
        await broker.stop()


@pytest_asyncio.fixture
async def refreshes(amqp_url: str, intake: Intake) -> AsyncIterator[Refreshes]:
    async with hearing_refreshes(amqp_url) as heard:
        yield heard


@pytest_asyncio.fixture
async def door(database_url: str, amqp_url: str, refreshes: Refreshes) -> AsyncIterator[Address]:
    async with open_door(database_url, amqp_url) as address:
        yield address


async def test_a_run_is_published_and_its_build_looked_at(
    door: Address, intake: Intake, refreshes: Refreshes, eventually: Any
) -> None:
    """202 when both are safe: the very fact a poll makes, and a refresh with priority under the target's own name."""
    answer = await door.deliver(run())
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "refreshes": 1, "ignored": None})
    await intake.settle()
    [fact] = intake.facts(BuildObservedV1)
    assert fact == facts_of("workflow_run", run(), instance="api.github.com").facts[0]
    await eventually(lambda: refreshes.commands)
    [command] = refreshes.commands
    assert (command.target, command.run_id, command.priority, command.reason) == (
        "Acme/Shop",
        "30433642",
        "high",
        "webhook",
    )


async def test_a_pause_is_left_to_a_look(
    door: Address, intake: Intake, refreshes: Refreshes, eventually: Any
) -> None:
    """Only what is remembered of it makes what comes after it news; the repository is polled."""
    told = run()
    told["workflow_run"] |= {"status": "waiting", "conclusion": None}
    answer = await door.deliver(told)
    assert answer.json() == {"accepted": 0, "refreshes": 1, "ignored": None}
    await eventually(lambda: refreshes.commands)
    await intake.settle()
    assert intake.facts(BuildObservedV1) == []


async def test_a_repository_that_is_not_polled(door: Address, intake: Intake, refreshes: Refreshes) -> None:
    """Its facts are taken; nothing is fetched, and the answer says so."""
    elsewhere = run() | {"repository": {"id": 7, "full_name": "acme/elsewhere"}}
    answer = await door.deliver(elsewhere)
    assert answer.json() == {
        "accepted": 1,
        "refreshes": 0,
        "ignored": "acme/elsewhere is not polled: what was told is kept, nothing is fetched",
    }
    await intake.settle()
    assert [fact.repository for fact in intake.facts(BuildObservedV1)] == ["acme/elsewhere"]
    assert refreshes.commands == []


async def test_a_delivery_counts_once(door: Address, intake: Intake, database_url: str) -> None:
    """The same one again is known; under the same id another body is not dropped; old ones are forgotten."""
    for _ in range(2):
        answers = [
            await door.deliver(run(), delivery="1"),
            await door.deliver(run(status="queued"), delivery="1"),
        ]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert [answer.json()["ignored"] for answer in answers] == ["this delivery was taken before"] * 2
    await intake.settle()
    assert sorted(fact.raw_status or "" for fact in intake.facts(BuildObservedV1)) == ["completed", "queued"]
    async with make_pool(database_url, application="test") as pool:
        await pool.execute(
            "UPDATE poller.deliveries SET received_at = now() - interval '8 days' "
            "WHERE key IN (SELECT key FROM poller.deliveries LIMIT 1)"
        )
        nobody = Broker("amqp://nowhere", service="test", rungs=("5s",))
        await Store(pool, Outbox(pool, nobody, schema="poller")).forget(before=datetime.now(UTC))
        assert await pool.fetchval("SELECT count(*) FROM poller.deliveries") == 1


async def test_githubs_other_content_type(door: Address, intake: Intake) -> None:
    """A form, signed as it is sent."""
    form = urlencode({"payload": json.dumps(run())}).encode()
    headers = signed(form) | {"content-type": "application/x-www-form-urlencoded"}
    answer = await door.http.post("/webhooks/github", content=form, headers=headers)
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


@pytest.mark.parametrize(
    ("event", "body", "why"),
    [
        ("ping", {"zen": "Keep it logically awesome."}, "nothing is made of 'ping'"),
        ("workflow_run", {"workflow_run": {"id": "x"}}, "repository.id is missing or no number"),
    ],
)
async def test_what_maps_to_nothing_is_taken_and_told(
    door: Address, intake: Intake, event: str, body: Any, why: str
) -> None:
    """202, for there is nothing to mend at the provider; the answer says why."""
    answer = await door.deliver(body, event=event)
    assert answer.status_code == 202
    assert answer.json()["accepted"] == 0
    assert why in answer.json()["ignored"] or "workflow_run" in event
    await intake.settle()
    assert intake.envelopes == []


GOOD = json.dumps(run()).encode()


@pytest.mark.parametrize(
    ("body", "changes", "status", "kind"),
    [
        (GOOD, {"x-hub-signature-256": ""}, 401, "Unsigned"),
        (GOOD, {"x-hub-signature-256": "sha256=" + "0" * 64}, 403, "Forged"),
        (GOOD, {"x-hub-signature-256": "x" * 10_000}, 403, "Forged"),
        (GOOD, {"x-github-delivery": "x" * 10_000}, 400, "Malformed"),
        (GOOD, {"x-github-event": "x" * 10_000}, 400, "Malformed"),
        (GOOD, {"content-type": "text/plain"}, 400, "Malformed"),
        (GOOD, {"content-encoding": "gzip"}, 400, "Malformed"),
        (GOOD[:-20], {}, 400, "Malformed"),
        (
            json.dumps(run(), ensure_ascii=False).replace("main", "mäin").encode("latin-1"),
            {},
            400,
            "Malformed",
        ),
        (b'{"a":' * 500_000, {}, 400, "Malformed"),
        (GOOD[:-1] + b',"action":"requested"}', {}, 400, "Malformed"),
        (b"[]", {}, 400, "Malformed"),
        (b'{"a": "' + b"x" * 8_388_608 + b'"}', {}, 413, "TooLarge"),
    ],
)
async def test_bad_deliveries_get_a_clear_error(
    door: Address, intake: Intake, body: bytes, changes: dict[str, str], status: int, kind: str
) -> None:
    """Forged, cut, badly encoded, deep, ambiguous, huge: each refused by name, and nothing of it published."""
    answer = await door.http.post("/webhooks/github", content=body, headers=signed(body) | changes)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["type"] == kind
    assert 20 < len(error["message"]) < 300
    await intake.settle()
    assert intake.envelopes == []
    assert (await door.deliver(run())).status_code == 202


async def test_a_body_that_only_grows_is_not_kept(door: Address) -> None:
    """One that does not announce its length is kept as far as the limit, and no byte further."""

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200 * 16):
            yield b" " * 65_536

    tracemalloc.start()
    try:
        answer = await door.http.post("/webhooks/github", content=endless(), headers=signed(b""))
        assert answer.status_code == 413
    except Exception as error:  # noqa: BLE001 -- the door may close before the client has stopped talking
        assert type(error).__name__ in {"WriteError", "ReadError", "RemoteProtocolError"}
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 * 1_048_576
    assert (await door.deliver(run())).status_code == 202


async def test_half_a_request_holds_up_nobody(door: Address, intake: Intake) -> None:
    """A client that announces more than it sends is left waiting alone; one that goes away leaves nothing."""
    body = json.dumps(run(1)).encode()
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(body).items())
    request = (
        f"POST /webhooks/github HTTP/1.1\r\nhost: x\r\n{head}content-length: {len(body) + 9}\r\n\r\n".encode()
    )
    writers = []
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(request + body)
        await writer.drain()
        writers.append(writer)
    answers = await asyncio.gather(*(door.deliver(run(number)) for number in range(2, 12)))
    assert {answer.status_code for answer in answers} == {202}
    for writer in writers:
        writer.close()
    assert (await door.deliver(run(12))).status_code == 202
    await intake.settle()
    assert {fact.build.run_id for fact in intake.facts(BuildObservedV1)} == set(map(str, range(2, 13)))


async def test_replayed_deliveries_publish_nothing_new(door: Address, intake: Intake) -> None:
    """Whoever overhears a delivery can send it again, under its id or another: the fact stays one."""
    body = json.dumps(run()).encode()
    for delivery in ("1", "1", "2", "3"):
        answer = await door.http.post(
            "/webhooks/github", content=body, headers=signed(body, delivery=delivery)
        )
        assert answer.status_code == 202
    await intake.settle()
    assert len(intake.ids()) == 1


async def test_unsigned_by_name_and_larger_by_setting(
    database_url: str, amqp_url: str, refreshes: Refreshes
) -> None:
    """What the operator allows is taken: no signature, and a body past the limit of all other paths."""
    async with open_door(
        database_url,
        amqp_url,
        github_webhook_secrets=(),
        webhooks_unsigned=("github",),
        webhook_max_bytes=20 * 1_048_576,
    ) as door:
        body = json.dumps(run() | {"padding": "x" * 12_000_000}).encode()
        headers = {"content-type": "application/json", "x-github-event": "workflow_run"}
        answer = await door.http.post("/webhooks/github", content=body, headers=headers)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        signed_too = await door.http.post("/webhooks/github", content=body, headers=signed(body))
        assert signed_too.status_code == 403
        assert "BUILDLIGHT_GITHUB_WEBHOOK_SECRET" in signed_too.json()["error"]["message"]


async def test_a_refresh_nobody_takes_is_no_accepted_delivery(
    database_url: str, amqp_url: str, intake: Intake
) -> None:
    """503 and Retry-After, and the same delivery is taken once somebody does."""
    async with bare_door(database_url, amqp_url) as door:
        answer = await door.deliver(run(), delivery="1")
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        async with hearing_refreshes(amqp_url):
            assert (await door.deliver(run(), delivery="1")).json()["refreshes"] == 1


async def test_gitlab_signs_and_delivers_again(
    database_url: str, amqp_url: str, intake: Intake, refreshes: Refreshes
) -> None:
    """By Standard Webhooks; what it tries again has its id, and is known; a form is not read."""
    body = json.dumps(run()).encode()
    letter = Delivery("workflow_run", body, {"x-gitlab-event": "workflow_run"}, "msg-1")
    token = "whsec_" + base64.b64encode(b"k" * 32).decode()
    headers = dict(letter.headers) | signature(Hook(1, "gitlab", "", "", "", token), letter, forged=False)
    async with bare_door(database_url, amqp_url, gitlab_webhook_signing_tokens=(token,)) as door:

        async def post(**more: str) -> Any:
            told = {"content-type": "application/json"} | headers | more
            return await door.http.post("/webhooks/gitlab", content=body, headers=told)

        assert (await post()).json() == {"accepted": 1, "refreshes": 1, "ignored": None}
        assert (await post()).json()["ignored"] == "this delivery was taken before"
        assert (await post(**{"webhook-id": "msg-2"})).status_code == 403
        assert (await post(**{"webhook-signature": ""})).status_code == 401
        assert (await post(**{"content-type": "application/x-www-form-urlencoded"})).status_code == 400
    await intake.settle()
    assert [fact.build.instance for fact in intake.facts(BuildObservedV1)] == ["gitlab.example"]


async def test_jenkins_comes_with_its_token(
    database_url: str, amqp_url: str, intake: Intake, refreshes: Refreshes, eventually: Any
) -> None:
    """In the address; its plug-in is understood at the older path too, there with a key."""
    notification = {"name": "shop", "build": {"number": 7, "phase": "COMPLETED", "status": "SUCCESS"}}
    superuser = await asyncpg.connect(database_url)
    await keep_key_table(superuser)
    await superuser.close()
    async with bare_door(database_url, amqp_url, jenkins_webhook_secrets=("a b",)) as door:
        good = await door.http.post("/webhooks/jenkins?token=a%20b", json=notification)
        assert (good.status_code, good.json()["refreshes"]) == (202, 1)
        assert (await door.http.post("/webhooks/jenkins?token=a", json=notification)).status_code == 403
        assert (await door.http.post("/webhooks/jenkins", json=notification)).status_code == 401
        older = await door.http.post(
            "/api/webhook/jenkins", json=notification, headers={"x-api-key": "write"}
        )
        assert (older.status_code, older.json()["refreshes"]) == (202, 1)
    await eventually(lambda: len(refreshes.commands) == 2)
    assert {(c.provider, c.target, c.run_id) for c in refreshes.commands} == {("jenkins", "shop", "7")}


@pytest.mark.fault
async def test_with_the_broker_or_the_database_away(
    own_postgres: Postgres, own_rabbitmq: RabbitMQ, eventually: Any
) -> None:
    """503 with Retry-After and never 4xx, within the provider's patience; afterwards the delivery is taken."""
    from buildlight.migrate import migrate

    await migrate(own_postgres.url)
    looking = Queue(
        "test.refresh",
        owner="test",
        purpose="refreshes",
        bindings=tuple(Binding(COMMANDS, key) for key in REFRESH_KEYS),
    )
    await declare(own_rabbitmq.url, (APPEND, looking), ("5s",))
    for queue in (APPEND, looking):
        await eventually(lambda name=queue.name: own_rabbitmq.remembers(name), timeout=60)
    loop = asyncio.get_running_loop()

    async with open_door(own_postgres.url, own_rabbitmq.url) as door:

        async def refused(delivery: str) -> None:
            begun = loop.time()
            answer = await door.deliver(run(), delivery=delivery)
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) > 0
            assert loop.time() - begun < 10

        async def taken(delivery: str) -> bool:
            answer = await door.deliver(run(), delivery=delivery)
            assert answer.status_code in (202, 503), answer.text
            return answer.status_code == 202

        await own_postgres.kill()
        await refused("1")
        await own_postgres.start()
        await eventually(lambda: taken("1"), timeout=60)
        await own_rabbitmq.kill()
        await refused("2")
        await own_rabbitmq.start()
        await eventually(lambda: taken("2"), timeout=90)
