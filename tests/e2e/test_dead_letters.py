"""Each way to die leaves a letter with a reason, holds up nobody, and is mended by a replay, once."""

import asyncio
import json
import uuid
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aio_pika
import asyncpg
import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import MAX_MESSAGE_BYTES, Envelope, derive_id
from buildlight_contracts.testing import example
from tests.e2e.fleet import Fleet, Running, until

pytestmark = [pytest.mark.fault, pytest.mark.asyncio(loop_scope="session")]

REPOSITORY = "acme/letters"
SOURCE = "https://letters.acme.example"


def foreign(number: int) -> Envelope:
    return Envelope(
        id=f"letter-{uuid.uuid4()}",
        source=SOURCE,
        type="example.acme.letter.written.v1",
        time=datetime.now(UTC),
        data={"number": number},
    )


def own(**changes: Any) -> Envelope:
    """A build's observation like no other's."""
    made = example(BuildObservedV1)
    ref = made.build.model_copy(update={"instance": "letters.acme.example", "run_id": str(uuid.uuid4())})
    return Envelope.of(made.model_copy(update={"build": ref}), source=SOURCE).model_copy(update=changes)


async def letters(fleet: Fleet, **where: str) -> list[asyncpg.Record]:
    """Dead letters in the archive whose columns are equal to these."""
    conditions = " AND ".join(f"{column} = ${number}" for number, column in enumerate(where, 1))
    return await fleet.sql(
        f"SELECT * FROM ingest.published_dead_letters WHERE {conditions} ORDER BY died_at", *where.values()
    )


async def about(fleet: Fleet, letter: asyncpg.Record) -> list[tuple[str, int | None]]:
    """Type, and number of the replay, of what the log says of a letter."""
    subject = f"dead-letters/{letter['dead_letter_id']}"
    return [(event["type"], event["data"].get("replay")) for event in await fleet.log(prefix=subject)]


async def test_what_intake_cannot_record_is_archived_with_its_reason(fleet: Fleet) -> None:
    """Six bad messages among good ones: the good are recorded, each bad one says what is wrong with it."""
    bad_state = own()
    bad_state = bad_state.model_copy(update={"data": bad_state.data | {"state": "sideways"}})
    forged = own(id=str(uuid.uuid4()))
    true_id = BuildObservedV1.model_validate(forged.data).identity()
    bad = {
        "not-json": b'{"specversion": "1.0", ',
        "unknown-type": own(type="dev.buildlight.build.exploded.v1").to_json(),
        "unknown-version": own(type="dev.buildlight.build.observed.v9").to_json(),
        "too-large": foreign(0).to_json().ljust(MAX_MESSAGE_BYTES + 1),
        "bad-field": bad_state.to_json(),
        "forged": forged.to_json(),
    }
    reasons = {
        "not-json": "not a CloudEvent: body: Invalid JSON: EOF while parsing a value at line 1 column 23",
        "unknown-type": "unknown event type 'dev.buildlight.build.exploded.v1'",
        "unknown-version": "unknown version 'v9' of event build.observed: known is v1",
        "too-large": "1,048,577 bytes; a message may have 1,048,576",
        "bad-field": "not a valid build.observed.v1: state: Input should be 'queued', 'waiting', "
        "'action_required', 'running', 'success', 'failure', 'cancelled', 'skipped', 'timed_out', "
        "'startup_failure', 'neutral', 'stale' or 'unknown'",
        "forged": f"forged id: {forged.id} is not this event's, its content gives {true_id}",
    }
    good = [foreign(number) for number in range(20)]
    names = {name: f"{name}-{uuid.uuid4()}" for name in bad}

    connection = await aio_pika.connect(fleet.rabbitmq.url)
    async with connection:
        channel = await connection.channel()
        intake = await channel.get_exchange("buildlight.intake")
        bodies = [(event.id, event.to_json()) for event in good]
        for place, (name, body) in enumerate(bad.items()):
            bodies.insert(3 * place + 1, (names[name], body))
        await asyncio.gather(
            *(
                intake.publish(aio_pika.Message(body, message_id=message_id), "letter")
                for message_id, body in bodies
            )
        )

    async def all_dead() -> list[asyncpg.Record]:
        query = "SELECT * FROM ingest.published_dead_letters WHERE message_id = ANY($1)"
        found = await fleet.sql(query, list(names.values()))
        return found if len(found) == len(bad) else []

    dead = {row["message_id"]: row for row in await until(all_dead, why="not every bad message was archived")}
    assert {name: dead[names[name]]["reason"] for name in bad} == reasons
    assert {(row["queue"], row["kind"], row["attempts"]) for row in dead.values()} == {
        ("ingest.append", "permanent", 1)
    }
    ids = [str(derive_id(SOURCE, event.id)) for event in good]

    async def all_recorded() -> bool:
        recorded = await fleet.sql("SELECT id::text FROM log.events WHERE id = ANY($1::uuid[])", ids)
        return sorted(row["id"] for row in recorded) == sorted(ids)

    await until(all_recorded, why="a good message was not recorded")

    for name, body in bad.items():
        letter = dead[names[name]]
        await until(partial(about, fleet, letter))
        assert await about(fleet, letter) == [("message.dead_lettered.v1", None)]
        shown = await fleet.get(f"/api/v1/dead-letters/{letter['dead_letter_id']}", of="ingest")
        assert shown["body"] == body.decode()


async def broken_pipeline(fleet: Fleet, workflow: str) -> int:
    """Let a pipeline break that was good; the run that broke it."""
    company = fleet.company
    if workflow != "ci":
        await company.ended(REPOSITORY, "success", workflow=workflow)

        async def is_known() -> bool:
            return any(
                event["data"]["workflow"] == workflow
                for event in await fleet.log(type="dev.buildlight.build.finished.v1")
            )

        await until(is_known)
        await asyncio.sleep(1.1)  # GitHub tells time in seconds
    return await company.ended(REPOSITORY, "failure", workflow=workflow)


async def slack_about(fleet: Fleet, run: int) -> int:
    """How many Slack messages link to the run."""
    return sum(f"/runs/{run}" in json.dumps(e["body"]) for e in await fleet.company.effects("slack"))


async def mail_about(fleet: Fleet, run: int) -> int:
    return sum(f"/runs/{run}" in effect["body"] for effect in await fleet.company.effects("smtp"))


async def delivery_of(fleet: Fleet, run: int, channel: str = "slack") -> str:
    """The delivery that tells what came of a run; waits until the notifier has it on record."""

    async def look() -> str | None:
        for event in await fleet.log(type="dev.buildlight.pipeline.broke.v1"):
            if event["data"]["build"]["run_id"] == str(run):
                return str(derive_id("delivery", "pipeline-state", channel, event["id"]))
        return None

    found = await until(look, why=f"run {run} broke nothing")
    assert found is not None
    return found


async def already_sent(fleet: Fleet) -> float:
    """How many copies of what was sent the notifier has passed over."""
    metrics = (await fleet.http.get(f"{fleet.url('notifier')}/metrics")).text
    name = 'buildlight_notifier_deliveries_total{channel="slack",outcome="already_sent"} '
    return sum(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))


async def replayed_twice_has_one_effect(fleet: Fleet, letter: asyncpg.Record, run: int) -> None:
    """Replay by the command, and again: one Slack message; the log tells of both replays."""
    named = str(letter["dead_letter_id"])
    command = await asyncio.to_thread(fleet.command, "dlq", "replay", named)
    assert command.returncode == 0, command.stderr

    async def is_told() -> bool:
        return await slack_about(fleet, run) == 1

    await until(is_told, why="the replayed notification did not come")
    passed_over = await already_sent(fleet)

    again = {"dead_letter_ids": [named], "request_id": str(uuid.uuid4()), "by": "a test"}
    for _ in range(2):  # asking again with the same request's id asks for nothing more
        answer = await fleet.http.post(
            f"{fleet.url('ingest')}/api/v1/dead-letters/replay", json=again, headers=fleet.key
        )
        assert answer.status_code == 202, answer.text

    async def is_passed_over() -> bool:
        return await already_sent(fleet) == passed_over + 1

    await until(is_passed_over, why="the second replay did not reach the notifier")

    async def is_on_record() -> bool:
        assert await about(fleet, letter) == [
            ("message.dead_lettered.v1", None),
            ("message.replayed.v1", 1),
            ("message.replayed.v1", 2),
        ]
        return True

    await until(is_on_record)
    assert await slack_about(fleet, run) == 1
    [now] = await letters(fleet, message_id=letter["message_id"])
    assert (now["status"], now["replays"]) == ("replayed", 2)


@pytest.mark.parametrize(
    ("workflow", "fault", "kind", "attempts", "reason"),
    [
        ("exhausted", {"kind": "status", "status": 500}, "exhausted", 5, "Slack answers 500: rollup_error"),
        (
            "refused",
            {"kind": "auth"},
            "permanent",
            1,
            "Slack refuses with 403: invalid_token. Check ALERT_SLACK_WEBHOOK and its channel; then replay.",
        ),
    ],
)
async def test_what_slack_does_not_take_dies_and_is_replayed(
    fleet: Fleet, workflow: str, fault: dict[str, Any], kind: str, attempts: int, reason: str
) -> None:
    """Mail goes on; the letter says what Slack said; once Slack is mended a replay sends it, one time."""
    await fleet.company.fault("slack", **fault)
    run = await broken_pipeline(fleet, workflow)
    delivery = await delivery_of(fleet, run)
    [letter] = await until(lambda: letters(fleet, message_id=delivery))
    assert (letter["queue"], letter["kind"], letter["attempts"], letter["reason"]) == (
        "notifier.slack",
        kind,
        attempts,
        reason,
    )

    async def is_mailed() -> bool:
        return await mail_about(fleet, run) == 1

    await until(is_mailed, why="mail waited for Slack")
    failed = await until(lambda: fleet.log(prefix=f"notifications/{delivery}"))
    assert [(event["type"], event["data"]["reason"]) for event in failed] == [
        ("notification.failed.v1", reason)
    ]
    assert await slack_about(fleet, run) == 0

    await fleet.company.repair("slack")
    listed = await asyncio.to_thread(fleet.command, "dlq", "list", "--json")
    assert str(letter["dead_letter_id"]) in {row["dead_letter_id"] for row in json.loads(listed.stdout)}
    await replayed_twice_has_one_effect(fleet, letter, run)
    assert [event["type"] for event in await fleet.log(prefix=f"notifications/{delivery}")] == [
        "notification.failed.v1",
        "notification.sent.v1",
    ]
    history = await fleet.get("/api/v1/notifications/history", limit=100)
    [shown] = [n for n in history["notifications"] if n["delivery_id"] == delivery]
    assert (shown["status"], shown["reason"]) == ("sent", None)


async def test_a_message_that_kills_its_consumer_is_put_away(fleet: Fleet) -> None:
    """After the delivery limit, and once more alone, it is archived; mail and later messages go their way."""
    notifier = fleet.services["notifier"]
    await notifier.stop()
    # Evaluated while Slack cannot be reached, so that exactly one message waits for it.
    notifier.start(ALERT_SLACK_WEBHOOK="http://127.0.0.1:9/services/T000/B000/away")
    run = await broken_pipeline(fleet, "poison")
    delivery = await delivery_of(fleet, run)

    async def is_mailed() -> bool:
        return await mail_about(fleet, run) == 1

    async def is_held() -> bool:
        [(reason,)] = await fleet.sql(
            "SELECT reason FROM notifier.published_history WHERE delivery_id::text = $1", delivery
        )
        return reason is not None and "slack is down" in reason

    await until(is_mailed)
    await until(is_held)
    await notifier.stop()

    policy = f"{fleet.rabbitmq.management_url}/api/policies/%2F/short-limit"
    definition = {
        "pattern": r"^notifier\.slack$",
        "definition": {"delivery-limit": 1},
        "apply-to": "queues",
    }
    (await fleet.http.put(policy, json=definition)).raise_for_status()
    # A short claim, so that what a killed process had in hand is soon free.
    poisoned = Running(
        "poisoned",
        ["tests.e2e.poisoned"],
        env=notifier.env
        | {"BUILDLIGHT_E2E_POISON": "poison", "BUILDLIGHT_NOTIFY_SEND_TIMEOUT_SECONDS": "0.5"},
        log=fleet.folder / "log" / "poisoned.log",
    )

    async def is_archived() -> bool:
        return bool(await letters(fleet, message_id=delivery))

    async def is_over() -> bool:
        return not poisoned.running or await is_archived()

    deaths = 0
    while not await is_archived():
        assert deaths < 10, f"not archived after {deaths} deaths"
        if not poisoned.running:
            poisoned.start()
        await until(is_over, seconds=60)
        deaths += not poisoned.running
    assert deaths >= 3
    [letter] = await letters(fleet, message_id=delivery)
    assert (letter["queue"], letter["kind"], letter["reason"]) == (
        "notifier.slack",
        "delivery_limit",
        "it was delivered again and again with no answer, the last time alone: it seems to kill whoever "
        "handles it",
    )

    if not poisoned.running:
        poisoned.start()
    neighbour = await broken_pipeline(fleet, "neighbour")

    async def neighbour_is_told() -> bool:
        return await slack_about(fleet, neighbour) == 1

    await until(neighbour_is_told, why="what killed before still holds up others")
    await poisoned.stop()
    (await fleet.http.delete(policy)).raise_for_status()
    assert await slack_about(fleet, run) == 0

    notifier.start()  # mended
    await fleet.ready("notifier")
    await replayed_twice_has_one_effect(fleet, letter, run)


async def test_only_an_admin_key_opens_dead_letters(fleet: Fleet) -> None:
    """Bodies and replays need a key: 401 without one."""
    url = f"{fleet.url('ingest')}/api/v1/dead-letters"
    nobody = uuid.uuid4()
    assert (await fleet.http.get(f"{url}/{nobody}")).status_code == 401
    refused = await fleet.http.post(f"{url}/replay", json={"dead_letter_ids": [str(nobody)]})
    assert refused.status_code == 401
    unknown = await fleet.http.post(
        f"{url}/replay", json={"dead_letter_ids": [str(nobody)]}, headers=fleet.key
    )
    assert (unknown.status_code, unknown.json()["error"]["message"]) == (
        404,
        f"no such dead letters: {nobody}",
    )
