"""Ingest's HTTP side on real servers."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from aio_pika.abc import AbstractChannel

from buildlight_contracts.envelope import Envelope, derive_id
from chassis.database import Pool
from chassis.http import make_app
from chassis.topology import declare
from tests.integration.ingest.conftest import Eventually, build_observed, keep_key_table, running
from tests.integration.ingest.test_ingest_dead_letters import ARCHIVED, BURIED, WORK, bury, taken

STRUCTURED = {"content-type": "application/cloudevents+json; charset=utf-8"}
BATCH = {"content-type": "application/cloudevents-batch+json"}
FOREIGN = Envelope(id="1", source="https://acme.example", type="com.acme.x", data={"a": 1})


@asynccontextmanager
async def client(
    amqp_url: str, database_url: str, key: str | None, **changes: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the running service, with the key named after its scope."""
    superuser = await asyncpg.connect(database_url)
    await keep_key_table(superuser)
    await superuser.close()
    async with running(amqp_url, database_url, ARCHIVED, **changes) as service:
        app = make_app()
        app.state.body_limits = dict(service.body_limits)
        for router in service.routers:
            app.include_router(router)
        headers = {"x-api-key": key} if key else {}
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as http:
            yield http


async def logged(pool: Pool) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch("SELECT id, type, data FROM log.events ORDER BY position")]


async def test_one_event_in_structured_mode(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """202 with the id it has in the log, where it soon is."""
    sent = build_observed(1)
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post("/events", content=sent.to_json(), headers=STRUCTURED)
        assert (answer.status_code, answer.json()) == (202, {"accepted": [sent.id]})
        await eventually(lambda: logged(service_pool))
    assert await logged(service_pool) == [{"id": UUID(sent.id), "type": sent.type, "data": sent.data}]


async def test_a_batch(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Events of ours and of others in one request, answered in their order."""
    sent = build_observed(1)
    body = b"[" + sent.to_json() + b"," + FOREIGN.to_json() + b"]"
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post("/events", content=body, headers=BATCH)
        assert answer.json() == {"accepted": [sent.id, str(derive_id("https://acme.example", "1"))]}
        await eventually(lambda: service_pool.fetchval("SELECT position = 2 FROM log.head"))


@pytest.mark.parametrize(
    ("content_type", "body", "data"),
    [
        ("application/json", b'{"a": [1]}', {"a": [1]}),
        ("application/vnd.acme+json; charset=utf-8", b"7", 7),
        ("text/plain", b"hello", "hello"),
        ("application/pdf", b"%PDF", {"datacontenttype": "application/pdf", "data_base64": "JVBERg=="}),
    ],
)
async def test_binary_mode(
    amqp_url: str,
    database_url: str,
    service_pool: Pool,
    channel: AbstractChannel,
    eventually: Eventually,
    content_type: str,
    body: bytes,
    data: Any,
) -> None:
    """Attributes in headers, percent-encoded; the body as JSON, text or bytes, as its type says."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": "caf%C3%A9",
        "ce-source": "https://acme.example",
        "ce-type": "com.acme.x",
        "content-type": content_type,
    }
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post("/events", content=body, headers=headers)
        assert answer.json() == {"accepted": [str(derive_id("https://acme.example", "café"))]}
        assert (await eventually(lambda: logged(service_pool)))[0]["data"] == data


@pytest.mark.parametrize(
    ("headers", "body", "status", "message"),
    [
        (STRUCTURED, b"{", 400, "event 1 of 1: not a CloudEvent: body: Invalid JSON"),
        (BATCH, b"{}", 400, "a batch is a JSON array of events"),
        (BATCH, b"[" + FOREIGN.to_json() + b",7]", 400, "event 2 of 2: not a CloudEvent"),
        (BATCH, json.dumps([1] * 1001).encode(), 413, "1,001 events; a batch may have 1,000"),
        (BATCH, b"[" * 100_000, 400, "the body is not JSON"),
        (
            STRUCTURED,
            FOREIGN.model_copy(update={"data": "x" * 1_048_576}).to_json(),
            413,
            "event 1 of 1: 1,048,705 bytes; an event may have 1,048,576",
        ),
        (
            STRUCTURED,
            build_observed(1).model_copy(update={"id": "forged"}).to_json(),
            400,
            "event 1 of 1: forged id: forged is not this event's",
        ),
    ],
)
async def test_what_would_be_refused_is_refused_at_the_door(
    amqp_url: str,
    database_url: str,
    service_pool: Pool,
    channel: AbstractChannel,
    headers: dict[str, str],
    body: bytes,
    status: int,
    message: str,
) -> None:
    """The answer names the event and the reason; none of the request is taken."""
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post("/events", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)
    assert await logged(service_pool) == []


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("nonsense", 401), ("read", 403)])
async def test_writing_needs_a_key(
    amqp_url: str, database_url: str, channel: AbstractChannel, key: str | None, status: int
) -> None:
    """Without one, with an unknown one, with one of another scope."""
    async with client(amqp_url, database_url, key) as http:
        answers = [
            await http.post("/events", content=FOREIGN.to_json(), headers=STRUCTURED),
            await http.get(f"/api/v1/dead-letters/{UUID(int=1)}"),
            await http.post("/api/v1/dead-letters/replay", json={"dead_letter_ids": [str(UUID(int=1))]}),
        ]
    assert [answer.status_code for answer in answers] == [status] * 3


@pytest.mark.parametrize(("key", "status"), [(None, 401), ("write", 403), ("read", 200)])
async def test_listing_dead_letters_needs_a_key_when_reads_do(
    amqp_url: str, database_url: str, channel: AbstractChannel, key: str | None, status: int
) -> None:
    """With the setting of the API's reads; open without it."""
    async with client(amqp_url, database_url, key, reads_need_key=True) as http:
        assert (await http.get("/api/v1/dead-letters")).status_code == status
    async with client(amqp_url, database_url, key) as http:
        assert (await http.get("/api/v1/dead-letters")).status_code == 200
        assert (await http.get("/api/v1/dead-letters", params={"queue": "\0"})).status_code == 422


async def test_dead_letters_are_listed_shown_and_replayed(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Newest first, page by page, by queue and by cause; with its body for an administrator; then replayed."""
    await declare(amqp_url, [WORK], ["100ms"])
    for number in range(3):
        died = {"buildlight-died-at": f"2026-03-02T10:00:0{number}+00:00"}
        cause = {"buildlight-fingerprint": f"cause{number % 2}"}
        await bury(channel, b"\xff" if number else b"body", BURIED | died | cause, str(number))
    async with client(amqp_url, database_url, "admin") as http:
        await eventually(lambda: service_pool.fetchval("SELECT count(*) = 3 FROM ingest.dead_letters"))

        async def page(**query: Any) -> tuple[list[str], str | None]:
            answer = (await http.get("/api/v1/dead-letters", params=query)).json()
            return [letter["message_id"] for letter in answer["dead_letters"]], answer["next"]

        first, after = await page(limit=2)
        assert first == ["2", "1"]
        assert await page(limit=2, after=after) == (["0"], None)
        assert await page(fingerprint="cause0") == (["2", "0"], None)
        assert await page(queue="ingest.append") == ([], None)

        [oldest] = (await http.get("/api/v1/dead-letters", params={"after": after})).json()["dead_letters"]
        shown = (await http.get(f"/api/v1/dead-letters/{oldest['dead_letter_id']}")).json()
        assert (shown["body"], shown["body_base64"], shown["content_type"]) == ("body", None, "text/plain")
        newer = (await http.get(f"/api/v1/dead-letters/{after}")).json()
        assert (newer["body"], newer["body_base64"]) == (None, "/w==")
        assert (await http.get(f"/api/v1/dead-letters/{UUID(int=1)}")).status_code == 404

        unknown = {"dead_letter_ids": [oldest["dead_letter_id"], str(UUID(int=1))]}
        refused = await http.post("/api/v1/dead-letters/replay", json=unknown)
        assert refused.status_code == 404
        assert refused.json()["error"]["message"] == f"no such dead letters: {UUID(int=1)}"
        asked = await http.post(
            "/api/v1/dead-letters/replay",
            json={"dead_letter_ids": [oldest["dead_letter_id"]], "request_id": str(UUID(int=7))},
        )
        assert (asked.status_code, asked.json()) == (202, {"request_id": str(UUID(int=7))})
        back = await taken(channel, eventually, WORK.name)
        assert (back.body, back.headers["buildlight-replay"]) == (b"body", 1)
