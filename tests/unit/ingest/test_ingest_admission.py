"""What may enter the log, under which id, and how what Postgres cannot hold is kept."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import FACTS
from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.envelope import Fact, derive_id
from buildlight_contracts.operations import PollFailedV1
from buildlight_contracts.testing import example_envelope
from services.ingest.admission import Refused, admit
from services.ingest.log import Entry

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


def admitted(body: bytes) -> Entry:
    entry = admit(body, now=NOW)
    assert isinstance(entry, Entry), entry
    return entry


def refusal(body: bytes) -> str:
    refused = admit(body, now=NOW)
    assert isinstance(refused, Refused), refused
    return refused.reason


def foreign(**changes: Any) -> bytes:
    event = {"specversion": "1.0", "id": "7", "source": "https://acme.example", "type": "com.acme.x"}
    return json.dumps(event | changes).encode()


@pytest.mark.parametrize("fact", FACTS.values(), ids=str)
def test_every_fact_of_ours_is_admitted_as_it_is(fact: type[Fact]) -> None:
    """The entry has the envelope's own id, subject and data, and the time at which the fact occurred."""
    envelope = example_envelope(fact)
    entry = admitted(envelope.to_json())
    assert str(entry.id) == envelope.id
    assert entry.type == envelope.type
    assert entry.subject == envelope.subject
    assert entry.source == "https://ci.acme.example"
    assert entry.occurred_at == envelope.time
    assert entry.correlation_id == envelope.id
    assert json.loads(entry.data) == envelope.data


def test_fields_of_a_newer_publisher_are_kept() -> None:
    """A field this release does not know stays in the data."""
    envelope = example_envelope(BuildObservedV1)
    body = envelope.model_copy(update={"data": {**envelope.data, "mood": "good"}}).to_json()
    assert json.loads(admitted(body).data)["mood"] == "good"


def test_observers_who_differ_in_what_is_not_material_agree() -> None:
    """The same digest under the same id: the second is a duplicate, not a conflict."""
    one = admitted(example_envelope(BuildObservedV1, title="one").to_json())
    two = admitted(example_envelope(BuildObservedV1, title="two").to_json())
    assert (one.id, one.digest) == (two.id, two.digest)


def test_a_forged_id_is_refused() -> None:
    """An event of ours under any id but its own names both."""
    envelope = example_envelope(BuildObservedV1)
    body = envelope.model_copy(update={"id": "0d5c9d1e-4a4b-5d52-9f0f-3f1b6b1f8f10"}).to_json()
    assert refusal(body) == (
        "forged id: 0d5c9d1e-4a4b-5d52-9f0f-3f1b6b1f8f10 is not this event's, "
        f"its content gives {envelope.id}"
    )


def test_a_wrong_subject_is_refused() -> None:
    """The subject must be the one the data yields."""
    body = example_envelope(BuildObservedV1).model_copy(update={"subject": "github/x"}).to_json()
    assert refusal(body) == (
        "wrong subject: 'github/x'; the data says 'github/api.github.com/1296269/runs/30433642'"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"type": "dev.buildlight.build.observed.v9"},
            "unknown version 'v9' of event build.observed: known is v1",
        ),
        ({"type": "dev.buildlight.moon.rose.v1"}, "unknown event type 'dev.buildlight.moon.rose.v1'"),
        (
            {"data": None},
            "not a valid build.observed.v1: body: Input should be a valid dictionary or instance "
            "of BuildObservedV1",
        ),
    ],
)
def test_what_is_no_event_of_ours_is_refused(changes: dict[str, Any], reason: str) -> None:
    """An unknown type, an unknown version and data that does not fit are refused, saying which."""
    assert refusal(example_envelope(BuildObservedV1).model_copy(update=changes).to_json()) == reason


def test_a_command_is_refused() -> None:
    """Commands have owners; the log is not one."""
    assert refusal(example_envelope(ReplayDeadLettersV1).to_json()) == (
        "dead_letters.replay.v1 is a command: publish it to the exchange buildlight.commands"
    )


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"specversion":"0.3"}', b"[" * 100_000])
def test_what_is_no_cloudevent_is_refused(body: bytes) -> None:
    """Not JSON, not an object, too deep, another version."""
    assert refusal(body).startswith("not a CloudEvent: ")


def test_a_foreign_event_is_kept_as_received() -> None:
    """Its id is derived from its source and its own id; what it does not tell has a default."""
    entry = admitted(foreign(data=[1, {"a": None}]))
    assert entry.id == derive_id("https://acme.example", "7")
    assert (entry.type, entry.subject, entry.occurred_at) == ("com.acme.x", "https://acme.example", NOW)
    assert json.loads(entry.data) == [1, {"a": None}]
    assert admitted(foreign(data=[1, {"a": None}])).digest == entry.digest
    assert admitted(foreign(data=[2])).digest != entry.digest


def test_a_foreign_events_bytes_are_kept() -> None:
    """Binary data stays in base64, beside the name of its format."""
    entry = admitted(foreign(datacontenttype="application/pdf", data_base64="JVBERg=="))
    assert json.loads(entry.data) == {"datacontenttype": "application/pdf", "data_base64": "JVBERg=="}


def test_nul_is_shown_and_flagged() -> None:
    """A NUL becomes visible text, in data and attributes; text that only looks like one is left alone."""
    data = {"a": "x\0y", "k\0": ["\0"], "innocent": "\\u0000"}
    entry = admitted(foreign(subject="s\0", data=data))
    assert json.loads(entry.data) == {
        "a": "x\\u0000y",
        "k\\u0000": ["\\u0000"],
        "innocent": "\\u0000",
        "buildlight:escaped": 3,
    }
    assert entry.subject == "s\\u0000"


def test_a_nul_in_what_is_material_does_not_look_forged() -> None:
    """The id is of the fact as its observer saw it, the NUL included."""
    envelope = example_envelope(PollFailedV1, reason="no\0nsense")
    entry = admitted(envelope.to_json())
    assert str(entry.id) == envelope.id
    assert json.loads(entry.data)["reason"] == "no\\u0000nsense"


def test_half_a_surrogate_pair_is_shown_and_flagged() -> None:
    """A lone half becomes visible text; whole pairs and escaped backslashes stay what they are."""
    body = (
        foreign().removesuffix(b"}")
        + rb',"data":{"a":"\ud83d|\uDE00|\ud83d\ude00|\\ud83d|\ud83d\ud83d\ude00"}}'
    )
    assert json.loads(admitted(body).data) == {
        "a": "\\ud83d|\\uDE00|😀|\\ud83d|\\ud83d😀",
        "buildlight:escaped": 3,
    }


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_json_does_not_have_are_refused(number: str) -> None:
    """Postgres would refuse them, and with them a whole batch."""
    body = foreign().removesuffix(b"}") + b',"data":{"a":[' + number.encode() + b"]}}"
    assert refusal(body) == "data: NaN and Infinity are no JSON numbers"


def test_text_that_says_nan_is_fine() -> None:
    """Only numbers are meant."""
    assert json.loads(admitted(foreign(data="NaN Infinity")).data) == "NaN Infinity"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec=None, exclude_categories=())),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@given(json_values)
def test_whatever_json_comes_postgres_can_hold_it(data: Any) -> None:
    """Any data at all is admitted as JSON without a NUL and without half a surrogate pair."""
    text = admitted(foreign(data=data)).data
    text.encode()  # no half pairs
    strings: list[str] = []
    json.loads(text, object_pairs_hook=lambda pairs: strings.extend(key for key, _ in pairs))
    assert "\0" not in json.dumps(json.loads(text), ensure_ascii=False)
    assert "\\u0000" not in json.dumps(json.loads(text)).replace("\\\\u0000", "")


@given(st.binary(max_size=200))
def test_whatever_bytes_come_there_is_an_answer(body: bytes) -> None:
    """No input makes admission fail."""
    assert isinstance(admit(body, now=NOW), Refused | Entry)
