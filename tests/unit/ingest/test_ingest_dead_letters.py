"""What becomes of a message from a dead-letter queue."""

from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.operations import MessageDeadLetteredV1
from buildlight_contracts.testing import example_envelope
from services.ingest.dead_letters import DeadLetter, TryAlone, examine, headers_for_replay

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
DIED = "2026-03-02T10:00:00.123456+00:00"
BURIED = {
    "buildlight-kind": "permanent",
    "buildlight-reason": "it is bad",
    "buildlight-error-class": "Permanent",
    "buildlight-fingerprint": "0123456789ab",
    "buildlight-attempt": 2,
    "buildlight-first-failure": "2026-03-02T09:00:00+00:00",
    "buildlight-died-at": DIED,
}


def examined(
    headers: dict[str, Any], body: bytes = b"x", message_id: str | None = "m"
) -> DeadLetter | TryAlone:
    return examine("work", body, headers, message_id=message_id, content_type="application/json", now=NOW)


def letter(headers: dict[str, Any], body: bytes = b"x", message_id: str | None = "m") -> DeadLetter:
    verdict = examined(headers, body, message_id)
    assert isinstance(verdict, DeadLetter)
    return verdict


def death(reason: str, queue: str = "work") -> dict[str, Any]:
    return {
        "x-death": [
            {"count": 1, "reason": reason, "queue": queue, "time": datetime(2026, 3, 2, 11, tzinfo=UTC)}
        ],
        "x-first-death-reason": reason,
        "x-delivery-count": 20,
        "kept": "yes",
    }


def test_what_a_service_buried_is_archived_with_its_history() -> None:
    """Kind, reason, class, fingerprint, attempts and time of death come from the headers."""
    envelope = example_envelope(BuildObservedV1)
    found = letter(BURIED, envelope.to_json())
    assert (found.kind, found.reason, found.error_class) == ("permanent", "it is bad", "Permanent")
    assert (found.fingerprint, found.attempts) == ("0123456789ab", 2)
    assert found.died_at == datetime.fromisoformat(DIED)
    assert found.message_type == "dev.buildlight.build.observed.v1"


def test_the_same_death_has_the_same_id_and_another_has_another() -> None:
    """Queue, message and time of death make the id."""
    assert letter(BURIED).dead_letter_id == letter(BURIED).dead_letter_id
    later = BURIED | {"buildlight-died-at": "2026-03-02T10:00:01+00:00"}
    assert letter(BURIED).dead_letter_id != letter(later).dead_letter_id
    assert letter(BURIED).dead_letter_id != letter(BURIED, message_id="n").dead_letter_id


def test_given_up_by_rabbitmq_it_is_tried_alone_first() -> None:
    """RabbitMQ's own records are taken off (it would drop the message for them), the mark is put on."""
    assert examined(death("delivery_limit")) == TryAlone({"kept": "yes", "buildlight-lonely": 1})


def test_given_up_by_rabbitmq_again_it_is_archived() -> None:
    """The second time it is no victim of its neighbours."""
    found = letter(death("delivery_limit") | {"buildlight-lonely": 1})
    assert found.kind == "delivery_limit"
    assert found.reason.startswith("it was delivered again and again with no answer")
    assert found.died_at == datetime(2026, 3, 2, 11, tzinfo=UTC)


def test_a_death_on_another_queue_is_no_delivery_limit_here() -> None:
    """Only what befell it on this queue counts."""
    assert letter(death("delivery_limit", "elsewhere")).kind == "unknown"


def test_nothing_known_still_makes_a_letter() -> None:
    """No headers, no id, no CloudEvent: an id from the body, the time of archiving, kind `unknown`."""
    found = letter({}, b"\xff\x00", None)
    assert found.message_id == "sha256:" + sha256(b"\xff\x00").hexdigest()[:32]
    assert (found.kind, found.died_at, found.message_type, found.attempts) == ("unknown", NOW, None, 0)
    assert found.reason == "no reason was left with it"


def test_headers_of_any_kind_are_kept_fit_for_postgres() -> None:
    """Times, bytes, floats, NULs, nested tables: all become JSON that jsonb takes."""
    headers = {"t": NOW, "b": b"\xff\0", "f": 1.5, "n\0": ["\0", {"d": None}], "i": 7, "ok": True}
    assert letter(headers).headers == {
        "t": "2026-03-02T12:00:00+00:00",
        "b": "\\xff\\u0000",
        "f": "1.5",
        "n\\u0000": ["\\u0000", {"d": None}],
        "i": 7,
        "ok": True,
    }


def test_nonsense_in_our_own_headers_does_not_stop_the_archive() -> None:
    """A header that says what it should not is passed over."""
    found = letter(BURIED | {"buildlight-died-at": "yesterday", "buildlight-attempt": "many"})
    assert (found.died_at, found.attempts) == (NOW, 0)


def test_a_replayed_message_is_as_new_and_knows_how_often() -> None:
    """Every mark of its failures is taken off; the count of replays goes on from what it had."""
    headers = BURIED | death("rejected") | {"buildlight-lonely": 1, "traceparent": "00-1"}
    assert headers_for_replay(headers, 1) == {"kept": "yes", "traceparent": "00-1", "buildlight-replay": 1}
    assert headers_for_replay(headers | {"buildlight-replay": 2}, 1)["buildlight-replay"] == 3


def test_a_dead_record_of_a_death_is_not_recorded() -> None:
    """Else each would make the next, for ever."""
    assert letter(BURIED, example_envelope(MessageDeadLetteredV1).to_json()).fact() is None
    fact = letter(BURIED, example_envelope(BuildObservedV1).to_json()).fact()
    assert fact is not None
    assert (fact.queue, fact.kind, fact.attempts) == ("work", "permanent", 2)
