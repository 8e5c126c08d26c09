"""`/api/v1/targets` and `/api/v1/completeness`: exact answers on known figures, and what a request asks for."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import aio_pika
import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import ReconcileTargetV1
from buildlight_contracts.routing import COMMANDS
from services.api.routes.completeness import status_of
from services.api.windows import parse_since
from tests.api_stage import KEY, Running, Stage, Watched, running, staged, watch

NOW = datetime.now(UTC)
MINUTE = timedelta(minutes=1)
WHOLE = Watched("acme/whole", days=((5, 0, 0, 0), (7, 2, 0, 0), (1, 0, 0, 0)))
LACKING = Watched(
    "acme/lacking",
    days=((3, 0, 1, 1), (4, 0, 2, 0)),
    gaps=(("41", 1, "missing", "never_listed", "No listing has shown it."),),
    asked_again=2,
)
FAILING = Watched(
    "acme/failing",
    days=((2, 0, 0, 0),),
    worked=timedelta(hours=3),
    failing=(timedelta(hours=3), "unauthorized", "GitHub refuses the token."),
    postponed="GitHub refuses the token.",
)
NEW = Watched("acme/new", measured=None, worked=None)
OLD = Watched("acme/old", days=((1, 0, 0, 0),), measured=timedelta(days=3))


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        yield prepared


@pytest_asyncio.fixture
async def api(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[Running]:
    async with running(database_url, amqp_url) as started:
        yield started


@pytest_asyncio.fixture
async def client(api: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as opened:
        yield opened


async def report(client: httpx.AsyncClient, **query: str) -> dict[str, Any]:
    answer = await client.get("/api/v1/completeness", params=query)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_nothing_polled_is_not_complete(client: httpx.AsyncClient) -> None:
    """An empty report claims nothing."""
    told = await report(client)
    assert (told["complete"], told["targets"]) == (False, [])
    assert (await client.get("/api/v1/targets")).json() == {"targets": []}


async def test_figures_are_sums_over_the_days_asked_for(client: httpx.AsyncClient, stage: Stage) -> None:
    """All days by default; `1d` is today; a day by name; another target is left out."""
    await watch(stage, WHOLE, LACKING, now=NOW)
    told = await report(client, target="acme/whole")
    assert told["complete"] is True
    (whole,) = told["targets"]
    figures = ("at_provider", "recorded", "unavailable", "missing", "open_but_ended")
    assert [whole[name] for name in figures] == [13, 13, 2, 0, 0]
    assert whole["status"] == "complete"
    assert datetime.fromisoformat(whole["measured_at"]) == NOW - 40 * MINUTE
    (today,) = (await report(client, target="acme/whole", since="1d"))["targets"]
    assert [today[name] for name in figures] == [5, 5, 0, 0, 0]
    yesterday = (NOW - timedelta(days=1)).date().isoformat()
    (two,) = (await report(client, target="acme/lacking", since=yesterday))["targets"]
    assert [two[name] for name in figures] == [7, 4, 0, 3, 1]
    assert (two["status"], two["asked_again"]) == ("incomplete", 2)
    (gap,) = two["gaps"]
    assert (gap["run_id"], gap["attempt"], gap["kind"], gap["reason"]) == ("41", 1, "missing", "never_listed")


async def test_days_that_nobody_measured_are_not_called_complete(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    """Beyond what was measured it is not known; the answer says from where on it is."""
    await watch(stage, WHOLE, now=NOW)
    told = await report(client, since="2020-01-01")
    assert told["complete"] is False
    (row,) = told["targets"]
    assert row["status"] == "not_measured"
    assert row["measured_from"] == (NOW - timedelta(days=29)).date().isoformat()
    assert (await report(client, since="30d"))["complete"] is True


def test_a_hole_between_measured_days_is_seen() -> None:
    """Each day counts, from where collecting begins to the end of the last measurement."""
    now = datetime(2026, 3, 31, 12, tzinfo=UTC)
    row = {"missing": 0, "open_but_ended": 0, "failing_since": None, "measured_at": now, "until": now}
    begin = date(2026, 3, 2)
    assert status_of(row | {"measured_days": 30}, now, begin=begin) == "complete"
    assert status_of(row | {"measured_days": 29}, now, begin=begin) == "not_measured"
    # Just after midnight the last measurement says nothing of today yet.
    early = datetime(2026, 3, 31, tzinfo=UTC)
    assert status_of(row | {"until": early, "measured_days": 29}, now, begin=begin) == "complete"


async def test_where_collecting_begins_later_nothing_older_is_asked_for(
    stage: Stage, database_url: str, amqp_url: str
) -> None:
    """A target collected since three days ago is complete with these."""
    await watch(stage, replace(WHOLE, reach_days=3), now=NOW)
    since = (NOW - timedelta(days=2)).replace(hour=0, minute=0)
    for settings, expected in (({"collecting_since": since}, "complete"), ({}, "not_measured")):
        async with (
            running(database_url, amqp_url, **settings) as started,
            httpx.AsyncClient(base_url=started.url, trust_env=False, timeout=10) as opened,
        ):
            assert [row["status"] for row in (await report(opened))["targets"]] == [expected]


async def test_what_needs_seeing_to_comes_first(client: httpx.AsyncClient, stage: Stage) -> None:
    """What is missing, what fails, what was not measured for long or ever; then what is whole."""
    await watch(stage, WHOLE, NEW, OLD, FAILING, LACKING, now=NOW)
    told = await report(client)
    assert told["complete"] is False
    assert [(row["target"], row["status"]) for row in told["targets"]] == [
        ("acme/lacking", "incomplete"),
        ("acme/failing", "failing"),
        ("acme/new", "not_measured"),
        ("acme/old", "not_measured"),
        ("acme/whole", "complete"),
    ]


async def test_a_failing_target_says_when_it_last_worked_and_why(
    client: httpx.AsyncClient, stage: Stage
) -> None:
    """In the list of targets, before those that work, and in the report."""
    await watch(stage, WHOLE, FAILING, now=NOW)
    (failing, whole) = (await client.get("/api/v1/targets")).json()["targets"]
    assert (failing["target"], whole["target"]) == ("acme/failing", "acme/whole")
    for told in (failing, (await report(client, target="acme/failing"))["targets"][0]):
        assert datetime.fromisoformat(told["succeeded_at"]) == NOW - timedelta(hours=3)
        assert told["failing_reason"] == "unauthorized"
        assert told["failing_detail"] == "GitHub refuses the token."
    assert whole["failing_since"] is None
    assert told["postponed_why"] == "GitHub refuses the token."


@pytest.mark.parametrize("since", ["soon", "0d", "99d", "2999-01-01"])
async def test_a_since_that_is_none_is_refused(client: httpx.AsyncClient, since: str) -> None:
    """422 with what may be given."""
    answer = await client.get("/api/v1/completeness", params={"since": since})
    assert answer.status_code == 422
    assert "since" in answer.json()["error"]["message"] or "window" in answer.json()["error"]["message"]


def test_windows_are_whole_days() -> None:
    """`7d` is today and the six days before it; an hour is today; a day or a time is that day."""
    now = datetime(2026, 3, 9, 0, 30, tzinfo=UTC)
    assert parse_since("7d", now).isoformat() == "2026-03-03"
    assert parse_since("1h", now).isoformat() == "2026-03-09"
    assert parse_since("2026-03-01", now).isoformat() == "2026-03-01"
    assert parse_since("2026-03-01T23:30:00-05:00", now).isoformat() == "2026-03-02"


async def test_a_measurement_is_asked_for(client: httpx.AsyncClient, stage: Stage, amqp_url: str) -> None:
    """A command a target, with the ids the answer gives; a key is needed; an unknown target is 404."""
    await watch(stage, WHOLE, NEW, now=NOW)
    assert (await client.post("/api/v1/completeness", json={})).status_code == 401
    headers = {"X-API-Key": KEY}
    unheard = await client.post("/api/v1/completeness", json={}, headers=headers)
    assert unheard.status_code == 503
    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("test.reconcile", auto_delete=True)
        await queue.bind(COMMANDS.name, ReconcileTargetV1.type)
        unknown = await client.post("/api/v1/completeness", json={"target": "acme/none"}, headers=headers)
        assert unknown.status_code == 404
        answer = await client.post("/api/v1/completeness", json={"since": "3d"}, headers=headers)
        assert answer.status_code == 202
        asked = {one["target"]: one["request_id"] for one in answer.json()["requests"]}
        assert set(asked) == {"acme/new", "acme/whole"}
        async with asyncio.timeout(20):
            envelopes = [parse((await queue.get(timeout=10)).body) for _ in asked]
        commands = [command_of(envelope) for envelope in envelopes]
    assert {c.target: str(c.request_id) for c in commands if isinstance(c, ReconcileTargetV1)} == asked
    for envelope, command in zip(envelopes, commands, strict=True):
        assert isinstance(command, ReconcileTargetV1)
        assert command.until - command.since <= timedelta(days=3)
        assert (command.since.hour, command.since.minute, command.since.second) == (0, 0, 0)
        assert envelope.expiresat is not None


async def test_what_waits_is_asked_for_once(client: httpx.AsyncClient, stage: Stage, amqp_url: str) -> None:
    """The same request until it is over; another stretch waits for that; too far back is refused."""
    await watch(stage, WHOLE, now=NOW)

    async def ask(**body: str) -> httpx.Response:
        return await client.post("/api/v1/completeness", json=body, headers={"X-API-Key": KEY})

    connection = await aio_pika.connect(amqp_url)
    async with connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("test.reconcile.once", auto_delete=True)
        await queue.bind(COMMANDS.name, ReconcileTargetV1.type)
        far = await ask(since=(NOW - timedelta(days=402)).date().isoformat())
        assert (far.status_code, "400 days" in far.text) == (422, True)
        first, again = await ask(since="3d"), await ask(since="3d")
        assert (first.status_code, again.status_code) == (202, 202)
        assert first.json()["requests"] == again.json()["requests"]
        other = await ask(since="4d")
        assert other.status_code == 409
        assert first.json()["requests"][0]["request_id"] in other.text
        # It came to an end: the next is another.
        await stage.connection.execute("UPDATE poller.completeness SET measured_at = now()")
        later = await ask(since="4d")
        assert later.status_code == 202
        asked = [command_of(parse((await queue.get(timeout=10)).body)) for _ in range(2)]
        assert await queue.get(fail=False, timeout=1) is None
    assert [c.request_id for c in asked if isinstance(c, ReconcileTargetV1)] == [
        UUID(answer.json()["requests"][0]["request_id"]) for answer in (first, later)
    ]
