"""From a recorded fact to what people read, on real servers and with sinks that fail."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from buildlight_contracts.builds import PipelineBrokeV1, PipelineRecoveredV1
from chassis.retry import strip_retry_headers
from services.notifier.rules import delivery_id

Broke = Callable[..., PipelineBrokeV1]
Recovered = Callable[..., PipelineRecoveredV1]
Eventually = Callable[..., Awaitable[Any]]

RULE = "pipeline-state"
SENT, FAILED = "notification.sent.v1", "notification.failed.v1"
BOTH_SENT = {"slack": "sent", "mail": "sent"}
CHECKOUT = Path(__file__).resolve().parents[3]


async def test_a_break_is_told_once_on_each_channel_and_recorded(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """One Slack message, one mail, and for each a fact on intake that names rule, channel and cause."""
    async with world.notifier():
        fact = await world.tell(broke())

        async def recorded() -> bool:
            return len(await world.facts(SENT)) == 2

        await eventually(recorded)
        await eventually(world.settled)
    [message] = await world.sandbox.effects("slack")
    [mail] = await world.sandbox.effects("smtp")
    assert message["body"]["text"] == "acme/shop: CI broke on main"
    assert message["body"]["blocks"][0]["text"]["text"].startswith(
        "*acme/shop: CI broke on main*\nIt failed; "
    )
    assert mail["subject"] == "acme/shop: CI broke on main"
    assert mail["recipients"] == ["team@acme.example"]
    assert mail["body"].startswith("It failed; broken since ")
    assert mail["message_id"] == f"<{delivery_id(RULE, 'mail', fact.id)}@acme.example>"
    told = {data["channel"]: data for data in await world.facts(SENT)}
    assert {name: told[name]["delivery_id"] for name in told} == {
        name: str(delivery_id(RULE, name, fact.id)) for name in ("slack", "mail")
    }
    assert {data["fact_id"] for data in told.values()} == {fact.id}
    assert {data["fact_type"] for data in told.values()} == {"pipeline.broke.v1"}
    assert {envelope.causationid for envelope in world.recorded.values()} == {fact.id}
    rows = await world.query("SELECT * FROM notifier.published_history ORDER BY channel")
    assert [(row["rule"], row["channel"], row["title"], row["status"], row["reason"]) for row in rows] == [
        (RULE, "mail", "acme/shop: CI broke on main", "sent", None),
        (RULE, "slack", "acme/shop: CI broke on main", "sent", None),
    ]


async def test_the_same_fact_three_times_is_told_once(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """At once, and again when all is done."""
    async with world.notifier():
        fact = broke()
        for _ in range(3):
            await world.tell(fact)
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
        await eventually(world.settled)
        await world.tell(fact)
        await eventually(world.settled)
    assert len(await world.sandbox.effects("slack")) == 1
    assert len(await world.sandbox.effects("smtp")) == 1
    assert len(await world.facts(SENT)) == 2


@pytest.mark.parametrize(
    ("fault", "answers"),
    [
        ({"kind": "rate_limit", "seconds": 1, "times": 1}, {"429": 1, "200": 1}),
        ({"kind": "status", "status": 500, "times": 3}, {"500": 3, "200": 1}),
    ],
    ids=["429", "500"],
)
async def test_what_slack_refuses_for_now_is_sent_once_it_takes_it(
    world: Any, broke: Broke, eventually: Eventually, fault: dict[str, Any], answers: dict[str, int]
) -> None:
    """Up the rungs, and then one message; the attempts are on record."""
    await world.sandbox.fault(target="slack", **fault)
    async with world.notifier():
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
    assert len(await world.sandbox.effects("slack")) == 1
    assert await world.sandbox.answers("slack") == answers
    assert await _attempts(world, "slack") == sum(answers.values())


async def test_retry_after_is_obeyed(world: Any, broke: Broke, eventually: Eventually) -> None:
    """Told to wait two seconds, it does not ask again before they are over."""
    await world.sandbox.fault(target="slack", kind="rate_limit", seconds=2, times=1)
    loop = asyncio.get_running_loop()
    async with world.notifier():
        told = loop.time()
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
    assert loop.time() - told >= 1.9
    assert await world.sandbox.answers("slack") == {"429": 1, "200": 1}


async def test_while_slack_is_away_its_message_is_held_and_mail_goes_out(
    world: Any, broke: Broke, eventually: Eventually, door: Any
) -> None:
    """No attempt is spent, no retry queue is used; when Slack is back it gets one message."""
    door.shut()
    async with world.notifier(slack_webhook=door.url):
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, {"mail": "sent", "slack": "pending"}))

        async def held() -> bool:
            rows = await world.query("SELECT reason FROM notifier.published_history WHERE channel = 'slack'")
            return str(rows[0]["reason"]).startswith("slack is down: ConnectError")

        await eventually(held)
        await asyncio.sleep(2)  # the outage itself; nothing to wait for
        assert await _attempts(world, "slack") == 0
        assert await world.dead("notifier.slack") is None
        await door.open()
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
    assert len(await world.sandbox.effects("slack")) == 1
    assert await _attempts(world, "slack") == 1


async def test_a_slow_slack_does_not_hold_up_mail(world: Any, broke: Broke, eventually: Eventually) -> None:
    """Ten mails are out while Slack has not answered once."""
    await world.sandbox.fault(target="slack", kind="hang", seconds=5)
    async with world.notifier(send_timeout_seconds=30.0):
        for number in range(10):
            build = broke().build.model_copy(update={"run_id": str(number)})
            await world.tell(broke(build=build.model_dump()))

        async def mailed() -> bool:
            return len(await world.sandbox.effects("smtp")) == 10

        await eventually(mailed)
        assert await world.sandbox.answers("slack") == {}
        await world.sandbox.control("DELETE", "/faults")


async def test_what_slack_refuses_for_good_is_a_dead_letter_and_replayed_is_told_once(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """Slack's word is the reason on the dead letter, in the history and in the fact; a replay mends it all."""
    wrong = world.sandbox.addresses["slack"].replace("B000", "B999")
    reason = "Slack refuses with 404: no_service. Check ALERT_SLACK_WEBHOOK and its channel; then replay."
    async with world.notifier(slack_webhook=wrong):
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.slack"))
        assert dead.headers["buildlight-kind"] == "permanent"
        assert dead.headers["buildlight-reason"] == reason
        await eventually(lambda: _is(world.statuses, {"slack": "failed", "mail": "sent"}))

        async def told() -> Any:
            return await world.facts(FAILED)

        [failed] = await eventually(told)
    assert failed["reason"] == reason
    rows = await world.query("SELECT reason FROM notifier.published_history WHERE channel = 'slack'")
    assert rows[0]["reason"] == reason
    async with world.notifier():
        for _ in range(2):
            await _replay(world, "notifier.slack", dead)
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
        await eventually(world.settled)

        async def both() -> bool:
            return len(await world.facts(SENT)) == 2

        await eventually(both)
    assert len(await world.sandbox.effects("slack")) == 1
    assert len(await world.facts(FAILED)) == 1


async def test_used_up_retries_are_given_up_on_record(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """After the first try and one a rung: failed, a fact, and a dead letter that says so."""
    await world.sandbox.fault(target="slack", kind="status", status=503)
    async with world.notifier():
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.slack"))

        async def told() -> Any:
            return await world.facts(FAILED)

        [failed] = await eventually(told)
    assert dead.headers["buildlight-kind"] == "exhausted"
    assert await world.sandbox.answers("slack") == {"503": 5}
    assert await _attempts(world, "slack") == 5
    assert failed["reason"] == "Slack answers 503: rollup_error"
    assert (await world.statuses())["slack"] == "failed"


async def test_a_slack_that_takes_and_never_answers_is_not_asked_for_ever(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """It may have taken each: five tries and then a dead letter, rather than a copy every few seconds."""
    await world.sandbox.fault(target="slack", kind="hang", seconds=30, after=True)
    async with world.notifier(send_timeout_seconds=0.5):
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.slack"))
    assert dead.headers["buildlight-kind"] == "exhausted"
    assert dead.headers["buildlight-reason"].startswith("Slack did not answer, and may have taken it: ")
    assert len(await world.sandbox.effects("slack")) == 5


@pytest.mark.parametrize(
    ("fault", "answers"),
    [
        ({"kind": "status", "status": 451, "times": 2}, {"451": 2, "250": 1}),
        ({"kind": "nonsense", "times": 1}, {"0": 1, "250": 1}),
    ],
    ids=["451", "nonsense"],
)
async def test_what_the_mail_server_refuses_for_now_is_sent_later(
    world: Any, broke: Broke, eventually: Eventually, fault: dict[str, Any], answers: dict[str, int]
) -> None:
    """4xx, and what is no answer at all, go up the rungs."""
    await world.sandbox.fault(target="smtp", **fault)
    async with world.notifier():
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
    assert len(await world.sandbox.effects("smtp")) == 1
    assert await world.sandbox.answers("smtp") == answers


async def test_what_the_mail_server_refuses_for_good_is_a_dead_letter(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """5xx: its words and what to check."""
    await world.sandbox.fault(target="smtp", kind="auth", times=1)
    async with world.notifier():
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.mail"))
    assert dead.headers["buildlight-reason"] == (
        "the mail server refuses: 530 5.7.0 Authentication required. Check SMTP_USER, SMTP_PASS, "
        "ALERT_EMAIL_FROM and ALERT_EMAIL_TO; then replay."
    )


async def test_a_mail_server_that_is_away_is_waited_for(
    world: Any, broke: Broke, eventually: Eventually, closed_port: int
) -> None:
    """Held with its reason, no attempt spent, and Slack is told meanwhile."""
    async with world.notifier(smtp_host="127.0.0.1", smtp_port=closed_port):
        await world.tell(broke())

        async def held() -> bool:
            rows = await world.query("SELECT reason FROM notifier.published_history WHERE channel = 'mail'")
            return bool(rows) and str(rows[0]["reason"]).startswith("smtp is down: SMTPConnectError")

        await eventually(held)
        await eventually(lambda: _is(world.statuses, {"mail": "pending", "slack": "sent"}))
        assert await _attempts(world, "mail") == 0


async def test_a_password_is_not_sent_in_the_clear(world: Any, broke: Broke, eventually: Eventually) -> None:
    """With a user and a server without STARTTLS the mail is refused before anything is said."""
    async with world.notifier(smtp_user="ci", smtp_password="word"):
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.mail"))
    assert dead.headers["buildlight-reason"] == (
        "the mail server cannot do it: SMTP STARTTLS extension not supported by server. "
        "Check SMTP_TLS and SMTP_USER; then replay."
    )
    assert await world.sandbox.effects("smtp") == []


async def test_history_is_not_told(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """Neither a break of two hours ago nor the recovery from it; news that comes after them is."""
    then = datetime.now(UTC) - timedelta(hours=2)
    old = broke().build.model_copy(update={"run_id": "1"}).model_dump()
    async with world.notifier():
        await world.tell(broke(build=old, broke_at=then))
        await world.tell(recovered(build=old, recovered_at=then + timedelta(minutes=5)))
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
        await eventually(world.settled)
    assert len(await world.sandbox.effects("slack")) == 1
    assert len(await world.sandbox.effects("smtp")) == 1
    assert len(await world.query("SELECT FROM notifier.published_history")) == 2


async def test_a_recovery_hangs_under_its_break(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """After the break on both channels; its mail refers to the break's."""
    async with world.notifier():
        await world.tell(broke())
        await world.tell(recovered())

        async def told() -> bool:
            return len(await world.facts(SENT)) == 4

        await eventually(told)
    first, second = await world.sandbox.effects("smtp")
    assert first["subject"] == "acme/shop: CI broke on main"
    assert second["subject"] == "acme/shop: CI works again on main"
    assert second["headers"]["references"] == first["message_id"]
    assert second["headers"]["in-reply-to"] == first["message_id"]
    assert "references" not in first["headers"]
    assert [effect["body"]["text"] for effect in await world.sandbox.effects("slack")] == [
        "acme/shop: CI broke on main",
        "acme/shop: CI works again on main",
    ]


async def test_a_break_has_one_recovery_and_the_next_break_its_own(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """The same recovery again, and another one from the same break, are not told; a new break and its end are."""
    now = datetime.now(UTC)
    seconds = [now + timedelta(seconds=n) for n in range(4)]
    other, third = ({**broke().build.model_dump(), "run_id": run_id} for run_id in ("2", "3"))
    async with world.notifier(smtp_host=None):
        await world.tell(broke(broke_at=seconds[0]))
        await eventually(lambda: _count(world, "slack", 1))
        first = recovered(recovered_at=seconds[1])
        for fact in (first, first):
            await world.tell(fact)
            await eventually(lambda: _count(world, "slack", 2))
            await eventually(world.settled)
        await world.tell(recovered(recovered_at=seconds[1], build=other))
        await eventually(world.settled)
        await world.tell(broke(broke_at=seconds[2], build=third))
        await eventually(lambda: _count(world, "slack", 3))
        await world.tell(recovered(recovered_at=seconds[3], build=third))
        await eventually(lambda: _count(world, "slack", 4))
        await eventually(world.settled)
    assert [effect["body"]["text"] for effect in await world.sandbox.effects("slack")] == [
        "acme/shop: CI broke on main",
        "acme/shop: CI works again on main",
        "acme/shop: CI broke on main",
        "acme/shop: CI works again on main",
    ]


async def test_a_recovery_that_comes_before_its_break_is_not_taken_for_an_earlier_ones(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """Evaluated in the wrong order, as after an outage, each of two breaks still gets its own recovery."""
    now = datetime.now(UTC)
    seconds = [now + timedelta(seconds=n) for n in range(4)]
    third = {**broke().build.model_dump(), "run_id": "3"}
    async with world.notifier(slack_webhook=None):
        await world.tell(broke(broke_at=seconds[0]))
        await eventually(lambda: _count(world, "smtp", 1))
        await world.tell(recovered(recovered_at=seconds[3], broken_since=seconds[2], build=third))
        await world.tell(recovered(recovered_at=seconds[1], broken_since=seconds[0]))
        await eventually(lambda: _count(world, "smtp", 2))
        await world.tell(broke(broke_at=seconds[2], build=third))
        await eventually(lambda: _count(world, "smtp", 4))
        await eventually(world.settled)
    first, end, second, its_end = await world.sandbox.effects("smtp")
    assert end["headers"]["in-reply-to"] == first["message_id"]
    assert its_end["headers"]["in-reply-to"] == second["message_id"]


async def test_a_recovery_waits_for_a_break_that_is_retried(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """While Slack refuses the break, the recovery does not overtake it."""
    await world.sandbox.fault(target="slack", kind="status", status=500, times=3)
    async with world.notifier():
        await world.tell(broke())
        await eventually(lambda: _answered(world, "500"))
        await world.tell(recovered())

        async def told() -> bool:
            return len(await world.sandbox.effects("slack")) == 2

        await eventually(told)
    assert [effect["body"]["text"] for effect in await world.sandbox.effects("slack")] == [
        "acme/shop: CI broke on main",
        "acme/shop: CI works again on main",
    ]


async def test_a_recovery_from_a_break_that_failed_is_told_after_its_replay(
    world: Any, broke: Broke, recovered: Recovered, eventually: Eventually
) -> None:
    """Until then it waits, and the history says for what."""
    await world.sandbox.fault(target="slack", kind="status", status=404, times=1)
    async with world.notifier():
        await world.tell(broke())
        dead = await eventually(lambda: world.dead("notifier.slack"))
        recovery = await world.tell(recovered())

        async def waiting() -> Any:
            return await world.query(
                "SELECT status, reason FROM notifier.published_history WHERE delivery_id = $1",
                delivery_id(RULE, "slack", recovery.id),
            )

        [row] = await eventually(waiting)
        assert dict(row) == {"status": "pending", "reason": "waits until its break is told"}
        await _replay(world, "notifier.slack", dead)

        async def told() -> bool:
            return len(await world.sandbox.effects("slack")) == 2

        await eventually(told)
    assert [effect["body"]["text"] for effect in await world.sandbox.effects("slack")] == [
        "acme/shop: CI broke on main",
        "acme/shop: CI works again on main",
    ]


async def test_a_recovery_of_what_nobody_was_told_of_is_not_told(
    world: Any, recovered: Recovered, eventually: Eventually
) -> None:
    """It looks once more after the first rung, in case the break is on its way, and then lets it be."""
    async with world.notifier():
        await world.tell(recovered())

        async def looked_again() -> bool:
            queue = await world.channel.declare_queue("notifier.evaluate.retry.100ms", passive=True)
            return bool(queue.declaration_result.message_count)

        await eventually(looked_again)
        await eventually(world.settled)
    assert await world.sandbox.effects("slack") == []
    assert await world.dead("notifier.evaluate") is None
    assert await world.query("SELECT FROM notifier.published_history") == []


async def test_only_what_is_configured_is_on(world: Any, broke: Broke, eventually: Eventually) -> None:
    """Without a mail server nothing is put on the mail queue, and the service is ready."""
    async with world.notifier(smtp_host=None) as service:
        await world.tell(broke())
        await eventually(lambda: _is(world.statuses, {"slack": "sent"}))
        assert await service.ready() == {"notifier.database": "ok", "notifier.consumers": "ok"}
    mail = await world.channel.declare_queue("notifier.mail", passive=True)
    assert mail.declaration_result.message_count == 0


async def test_a_message_that_names_no_delivery_is_buried(world: Any, eventually: Eventually) -> None:
    """One that is unreadable, and one whose delivery nobody knows: each with its reason."""
    unknown = "00000000-0000-0000-0000-000000000001"
    event = '{"specversion": "1.0", "id": "1", "source": "x", "type": "t", "data": %s}'
    async with world.notifier():
        for data, reason in (
            ("{}", "names no delivery: delivery_id: Field required; title: Field required"),
            (f'{{"delivery_id": "{unknown}", "title": "x"}}', f"no delivery {unknown} is on record"),
        ):
            await world.channel.default_exchange.publish(
                aio_pika.Message((event % data).encode()), "notifier.slack"
            )
            dead = await eventually(lambda: world.dead("notifier.slack"))
            assert dead.headers["buildlight-reason"] == reason


async def test_postgres_lost_between_sending_and_recording_makes_no_second_message(
    world: Any, broke: Broke, eventually: Eventually, database_door: Any
) -> None:
    """What Slack took is kept in hand until Postgres is back, and recorded then."""
    asked: list[bytes] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n"))
        database_door.shut()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
        await writer.drain()
        writer.close()

    slack = await asyncio.start_server(take, "127.0.0.1", 0)
    port = slack.sockets[0].getsockname()[1]
    async with (
        slack,
        world.notifier(
            slack_webhook=f"http://127.0.0.1:{port}/services/x",
            smtp_host=None,
            database_url=database_door.url,
        ),
    ):
        await world.tell(broke())
        await eventually(lambda: asked)
        await asyncio.sleep(3)  # the outage itself, long enough for tries that fail
        assert await world.statuses() == {"slack": "pending"}
        await database_door.open()
        await eventually(lambda: _is(world.statuses, {"slack": "sent"}))
        await eventually(world.settled)
    assert asked == [b"POST /services/x HTTP/1.1\r\n"]
    assert await _attempts(world, "slack") == 1


@pytest.mark.fault
async def test_killed_between_sending_and_recording_it_is_told_again(
    world: Any, broke: Broke, eventually: Eventually
) -> None:
    """At least once, as documented: Slack has the message, the process dies before it knows, the next sends it.

    Nothing is lost, and the copies say the same.
    """
    await world.sandbox.fault(target="slack", kind="hang", seconds=30, after=True, times=1)
    victim = _process(world)
    try:
        await world.tell(broke())
        await eventually(lambda: _count(world, "slack", 1))
    finally:
        victim.kill()
        victim.wait()
    assert (await world.statuses())["slack"] == "pending"
    async with world.notifier():
        await eventually(lambda: _is(world.statuses, BOTH_SENT))
        await eventually(world.settled)
    first, second = await world.sandbox.effects("slack")
    assert first["body"] == second["body"]
    assert len(await world.sandbox.effects("smtp")) == 1


def _process(world: Any) -> subprocess.Popen[bytes]:
    """A notifier as a process of its own, to be killed."""
    program = """
import asyncio
from chassis.service import serve
from services.notifier.service import build
from services.notifier.settings import NotifierSettings
async def main():
    await serve([build(NotifierSettings.load())], host="127.0.0.1", port=0)

asyncio.run(main())
"""
    variables = {
        "PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'contracts'}",
        "BUILDLIGHT_DATABASE_URL": world.database_url,
        "BUILDLIGHT_AMQP_URL": world.amqp_url,
        "BUILDLIGHT_RETRY_RUNGS": "100ms,200ms,300ms,400ms",
        "BUILDLIGHT_NOTIFY_SEND_TIMEOUT_SECONDS": "6",
        "ALERT_SLACK_WEBHOOK": world.sandbox.addresses["slack"],
        "SMTP_HOST": world.sandbox.addresses["smtp_host"],
        "SMTP_PORT": str(world.sandbox.addresses["smtp_port"]),
        "ALERT_EMAIL_FROM": "buildlight@acme.example",
        "ALERT_EMAIL_TO": "team@acme.example",
        "BUILDLIGHT_URL": "https://buildlight.acme.example",
    }
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env={name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        | variables,
    )


async def _is(read: Callable[[], Awaitable[dict[str, str]]], wanted: dict[str, str]) -> bool:
    return await read() == wanted


async def _count(world: Any, target: str, wanted: int) -> bool:
    return len(await world.sandbox.effects(target)) == wanted


async def _answered(world: Any, status: str) -> bool:
    return status in await world.sandbox.answers("slack")


async def _attempts(world: Any, channel: str) -> int:
    [row] = await world.query(
        "SELECT attempts FROM notifier.deliveries WHERE channel = $1", channel, role="buildlight_app"
    )
    return int(row["attempts"])


async def _replay(world: Any, queue: str, dead: Any) -> None:
    """Put a dead letter back as ingest does."""
    await world.channel.default_exchange.publish(
        aio_pika.Message(
            dead.body,
            headers=strip_retry_headers(dead.headers) | {"buildlight-replay": 1},
            message_id=dead.message_id,
        ),
        queue,
    )
