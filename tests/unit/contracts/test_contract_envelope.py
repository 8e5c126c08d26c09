"""Reading messages: what is taken, what is refused and in which words; addresses and states."""

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import (
    COMMANDS,
    FACTS,
    BadMessage,
    command_of,
    fact_of,
    parse,
    validate,
)
from buildlight_contracts.commands import ProvisionV1, ReplayDeadLettersV1
from buildlight_contracts.envelope import MAX_MESSAGE_BYTES, Envelope
from buildlight_contracts.outgoing import MessageTooLargeError, outgoing
from buildlight_contracts.routing import EXCHANGES
from buildlight_contracts.states import State
from buildlight_contracts.testing import Recorder, example, example_envelope

FOREIGN = {"specversion": "1.0", "id": "7", "source": "urn:acme", "type": "com.acme.released"}


def sent(**changes: Any) -> bytes:
    return json.dumps(json.loads(example_envelope(BuildObservedV1).to_json()) | changes).encode()


def refusal(message: type[Any], data: object) -> str:
    """What is said of data that does not fit; nothing when it does."""
    try:
        validate(message, data)
    except BadMessage as refused:
        return str(refused)
    return ""


def test_an_envelope_is_a_cloudevent() -> None:
    """The attributes and their spelling are CloudEvents 1.0's; absent ones are left out."""
    envelope = json.loads(example_envelope(BuildObservedV1).to_json())
    data = envelope.pop("data")
    assert data["build"]["run_id"] == "30433642"
    assert envelope == {
        "specversion": "1.0",
        "id": "5a560764-4684-5ee2-a8cd-21df460c6e99",
        "source": "https://ci.acme.example",
        "type": "dev.buildlight.build.observed.v1",
        "subject": "github/api.github.com/1296269/runs/30433642",
        "time": "2026-03-02T09:04:12Z",
        "datacontenttype": "application/json",
        "correlationid": "5a560764-4684-5ee2-a8cd-21df460c6e99",
    }


def test_the_story_is_carried_along() -> None:
    """Correlation, causation and trace are given by the caller and are not the id."""
    envelope = Envelope.of(
        example(BuildObservedV1),
        source="buildlight://poller",
        correlation_id="story",
        causation_id="cause",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    assert (envelope.correlationid, envelope.causationid) == ("story", "cause")
    assert json.loads(envelope.to_json())["traceparent"].startswith("00-0af7651916cd43dd")


def test_a_foreign_event_is_kept_as_received() -> None:
    """Any CloudEvent is read, of whatever type and data."""
    received = parse(json.dumps(FOREIGN | {"data": {"a": [1, None, "é"]}}).encode())
    assert received.data == {"a": [1, None, "é"]}
    assert received.routing_key == "com.acme.released"
    assert not received.is_ours


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"hello", "not a CloudEvent: body: Invalid JSON: expected value at line 1 column 1"),
        (b"[]", "not a CloudEvent: body: Input should be an object"),
        (
            b'{"specversion":"1.0","id":"7","source":"urn:acme"}',
            "not a CloudEvent: type: Field required",
        ),
        (
            b'{"specversion":"0.3","id":"","source":"urn:acme","type":"x"}',
            (
                "not a CloudEvent: specversion: Input should be '1.0'; "
                "id: String should have at least 1 character"
            ),
        ),
        (
            b'{"id":"7","source":"urn:acme","type":"x","time":"2026-03-02T09:00:00"}',
            "not a CloudEvent: time: Input should have timezone info",
        ),
        (
            b'{"id":"7","source":"urn:acme","type":"x","time":"0001-01-01T00:00:00+14:00"}',
            "not a CloudEvent: time: Value error, outside the years 1 to 9999 in UTC",
        ),
    ],
)
def test_what_is_not_a_cloudevent_is_refused(body: bytes, text: str) -> None:
    """The sentence names the attribute."""
    with pytest.raises(BadMessage) as refused:
        parse(body)
    assert str(refused.value) == text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"type": "com.acme.released"}, "unknown event type 'com.acme.released'"),
        ({"type": "dev.buildlight.moon.rose.v1"}, "unknown event type 'dev.buildlight.moon.rose.v1'"),
        ({"type": "build.observed.v1"}, "unknown event type 'build.observed.v1'"),
        (
            {"type": "dev.buildlight.build.observed.v9"},
            "unknown version 'v9' of event build.observed: known is v1",
        ),
        (
            {"type": "dev.buildlight.target.poll.v1"},
            "unknown event type 'dev.buildlight.target.poll.v1'",
        ),
        (
            {"data": None},
            (
                "not a valid build.observed.v1: body: Input should be a valid dictionary "
                "or instance of BuildObservedV1"
            ),
        ),
    ],
)
def test_an_event_nobody_knows_is_refused(changes: dict[str, Any], text: str) -> None:
    """Type, version and data each have their sentence."""
    with pytest.raises(BadMessage) as refused:
        fact_of(parse(sent(**changes)))
    assert str(refused.value) == text


def test_a_fact_is_no_command() -> None:
    """The two catalogues are apart."""
    with pytest.raises(BadMessage) as refused:
        command_of(example_envelope(BuildObservedV1))
    assert str(refused.value) == "unknown command type 'dev.buildlight.build.observed.v1'"


def test_bad_fields_are_named_and_their_values_are_not_shown() -> None:
    """Up to five fields, then how many more; a value may be a secret."""
    data = example(BuildObservedV1).model_dump(mode="json")
    data["build"]["attempt"] = 0
    data["state"] = "hunter2"
    assert refusal(BuildObservedV1, data) == (
        "not a valid build.observed.v1: build.attempt: Input should be greater than or equal to 1; "
        "state: Input should be 'queued', 'waiting', 'action_required', 'running', 'success', 'failure', "
        "'cancelled', 'skipped', 'timed_out', 'startup_failure', 'neutral', 'stale' or 'unknown'"
    )
    assert refusal(BuildObservedV1, {}) == (
        "not a valid build.observed.v1: build: Field required; repository: Field required; "
        "workflow_id: Field required; workflow: Field required; state: Field required; and 1 more"
    )


@pytest.mark.parametrize("message", [*FACTS.values(), *COMMANDS.values()], ids=[*FACTS, *COMMANDS])
@pytest.mark.parametrize("secret", ["hunter2-hunter2", {"token": "hunter2-hunter2"}, ["hunter2-hunter2"]])
def test_no_field_of_any_message_shows_its_value(message: type[Any], secret: object) -> None:
    """Whichever field it is put into."""
    for field in message.model_fields:
        said = refusal(message, example(message).model_dump(mode="json") | {field: secret})
        assert "hunter2" not in said
        assert not said or field in said


def test_the_plain_provisioning_job_is_read() -> None:
    """Its own names for fields, and a number where we keep text."""
    job = {
        "run_id": "r1",
        "type": "system",
        "blueprint": {"template": "go-backend", "name": "a", "namespace": "team"},
        "git_config": {"provider": "gitlab", "group_id": 42},
    }
    read = validate(ProvisionV1, job)
    assert (read.kind, read.git_config.group_id, read.git_config.visibility) == ("system", "42", "private")
    assert validate(ProvisionV1, read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("type_", "key"),
    [
        ("dev.buildlight.build.observed.v1", "build.observed.v1"),
        ("com.acme.released", "com.acme.released"),
        ("é" * 200, "é" * 127),
    ],
)
def test_the_routing_key_is_the_type(type_: str, key: str) -> None:
    """Without our prefix, and never over AMQP's 255 bytes."""
    assert Envelope.model_validate(FOREIGN | {"type": type_}).routing_key == key


def test_facts_go_to_intake_and_commands_to_their_owners() -> None:
    """So do their envelopes, and foreign events go to intake."""
    fact, command = example(BuildObservedV1), example(ReplayDeadLettersV1)
    foreign = Envelope.model_validate(FOREIGN)
    assert [
        outgoing(message, source="urn:acme").exchange.name
        for message in (fact, command, example_envelope(BuildObservedV1), foreign)
    ] == ["buildlight.intake", "buildlight.commands", "buildlight.intake", "buildlight.intake"]
    assert outgoing(example_envelope(ReplayDeadLettersV1)).exchange.name == "buildlight.commands"
    assert [exchange.kind for exchange in EXCHANGES] == ["topic", "topic", "direct", "fanout"]


def test_a_command_expires() -> None:
    """When its sender says, or else in five minutes."""
    command = example(ReplayDeadLettersV1)
    when = datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert outgoing(command, source="urn:acme", expires_at=when).envelope.expiresat == when
    envelope = outgoing(command, source="urn:acme").envelope
    assert envelope.expiresat is not None
    assert envelope.time is not None
    assert (envelope.expiresat - envelope.time).total_seconds() == 300


def test_a_message_says_who_publishes_it() -> None:
    """A forgotten source is the caller's mistake and says what to write."""
    with pytest.raises(TypeError, match=r"^say who publishes this: source='https://"):
        outgoing(example(BuildObservedV1))


def test_a_message_over_a_mebibyte_is_refused() -> None:
    """At the limit it goes; a byte more does not."""
    envelope = Envelope.model_validate(FOREIGN | {"data": ""})
    room = MAX_MESSAGE_BYTES - len(envelope.to_json())
    assert len(outgoing(envelope.model_copy(update={"data": "x" * room})).body) == MAX_MESSAGE_BYTES
    with pytest.raises(MessageTooLargeError) as refused:
        outgoing(envelope.model_copy(update={"data": "x" * (room + 1)}))
    assert str(refused.value) == (
        "com.acme.released 7 is 1,048,577 bytes and a message may have at most 1,048,576: "
        "split it, or shorten its texts"
    )


async def test_the_recorder_keeps_what_would_be_published() -> None:
    """It takes what Publisher takes, wraps it alike, and gives it back typed."""
    fact, command = example(BuildObservedV1), example(ReplayDeadLettersV1)
    async with Recorder() as publisher:
        envelope = await publisher.publish(fact, source="urn:acme")
        await publisher.publish(command, source="urn:acme")
        with pytest.raises(TypeError):
            await publisher.publish(fact)
    assert envelope == Envelope.of(fact, source="urn:acme")
    assert [kept.type for kept in publisher.published] == [
        "dev.buildlight.build.observed.v1",
        "dev.buildlight.dead_letters.replay.v1",
    ]
    assert publisher.messages(BuildObservedV1) == [fact]
    assert publisher.messages(ReplayDeadLettersV1) == [command]
    assert publisher.messages(ProvisionV1) == []


def test_a_changed_example_is_checked() -> None:
    """`example` gives only valid messages, with the changes asked for."""
    assert example(BuildObservedV1, branch="release").branch == "release"
    assert example(ReplayDeadLettersV1).dead_letter_ids == (UUID("0d5c9d1e-4a4b-5d52-9f0f-3f1b6b1f8f10"),)
    with pytest.raises(ValueError, match="state"):
        example(BuildObservedV1, state="broken")


@pytest.mark.parametrize(
    ("state", "terminal", "conclusive", "bad", "rank"),
    [
        ("queued", False, False, False, 1),
        ("waiting", False, False, False, 2),
        ("action_required", False, False, False, 3),
        ("running", False, False, False, 4),
        ("success", True, True, False, 5),
        ("failure", True, True, True, 5),
        ("cancelled", True, False, False, 5),
        ("skipped", True, False, False, 5),
        ("timed_out", True, True, True, 5),
        ("startup_failure", True, True, True, 5),
        ("neutral", True, False, False, 5),
        ("stale", True, False, False, 5),
        ("unknown", False, False, False, 0),
    ],
)
def test_what_each_state_means(state: str, terminal: bool, conclusive: bool, bad: bool, rank: int) -> None:
    """Ended or not, saying something of the code or not, and which wins when the times tie."""
    it = State(state)
    assert (it.is_terminal, it.is_conclusive, it.is_bad, it.rank) == (terminal, conclusive, bad, rank)


def test_every_state_is_in_the_table() -> None:
    """Thirteen, so that a new one is added there too."""
    assert len(State) == 13


def test_the_messages_need_pydantic_alone() -> None:
    """Nothing but pydantic and what it brings is imported with the catalogue or the test helpers."""
    code = (
        "import sys\n"
        "import buildlight_contracts.catalogue, buildlight_contracts.testing\n"
        "wanted = {'aio_pika', 'aiormq', 'faststream', 'jsonschema', 'pytest', 'chassis'}\n"
        "print(sorted(wanted & set(sys.modules)), 'buildlight_contracts.schemas' in sys.modules)\n"
    )
    path = ":".join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[] False\n"
