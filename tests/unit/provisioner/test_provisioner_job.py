"""What a provisioning job may say."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from buildlight_contracts.catalogue import BadMessage
from buildlight_contracts.commands import PollTargetV1, ProvisionV1
from buildlight_contracts.testing import example, example_envelope
from services.provisioner.job import canonical, from_command, from_plain, requested, restored, without_values

JOB: dict[str, Any] = {
    "run_id": "2f1c9a4e-0001",
    "type": "component",
    "blueprint": {
        "template": "go-backend",
        "name": "my-service",
        "namespace": "my-team",
        "values": {"port": 8080, "database": "postgres"},
    },
    "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
}


def changed(path: str, value: Any) -> bytes:
    job = json.loads(json.dumps(JOB))
    *folders, last = path.split(".")
    place = job
    for folder in folders:
        place = place[folder]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(job).encode()


def nested(levels: int) -> dict[str, Any]:
    """An object with `levels` more inside."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def test_the_plain_job_is_taken_as_it_is() -> None:
    """Plain JSON with `type` for the kind, and a group id that may be a number."""
    job = from_plain(changed("git_config.group_id", 123))
    assert (job.run_id, job.kind, job.git_config.group_id) == ("2f1c9a4e-0001", "component", "123")
    assert job.blueprint.values == {"port": 8080, "database": "postgres"}


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("run_id", ..., "run_id: Field required"),
        ("type", "thing", "Input should be 'system' or 'component'"),
        ("blueprint.template", "", "blueprint.template: String should have at least 1 character"),
        ("blueprint.template", "a\0b", "blueprint.template: String should match pattern"),
        ("blueprint.name", "../x", "blueprint.name: String should match pattern"),
        ("blueprint.name", "x/y", "blueprint.name: String should match pattern"),
        ("blueprint.name", "x.", "ends in .git, .atom or a full stop"),
        ("blueprint.name", "x.ATOM", "ends in .git, .atom or a full stop"),
        ("blueprint.name", "x.git", "blueprint.name: Value error, GitLab takes no name that ends in .git"),
        ("blueprint.namespace", "../x", "blueprint.namespace: String should match pattern"),
        ("blueprint.namespace", "a/../b", "blueprint.namespace: String should match pattern"),
        ("blueprint.namespace", "/a", "blueprint.namespace: String should match pattern"),
        ("blueprint.namespace", "a\nb", "blueprint.namespace: String should match pattern"),
        ("blueprint.values", [1], "blueprint.values: Input should be a valid dictionary"),
        ("blueprint.values", nested(50), "blueprint.values: Value error, nested deeper than 50 levels"),
        ("blueprint.values", {"a": "\ud800"}, "blueprint.values: Value error, not JSON"),
        ("git_config.provider", "github", "git_config.provider: Input should be 'gitlab'"),
        ("git_config.group_id", "../1", "git_config.group_id: String should match pattern"),
        ("git_config.visibility", "secret", "git_config.visibility: Input should be"),
    ],
)
def test_a_bad_field_is_named(path: str, value: Any, said: str) -> None:
    """The reason names the field, and not what stood in it."""
    with pytest.raises(BadMessage) as refused:
        from_plain(changed(path, value))
    assert said in str(refused.value)
    assert "2f1c9a4e" not in str(refused.value)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "not JSON at character 1"),
        (b"\xff", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[1]", "a job is a JSON object, not a list"),
        (b"7", "a job is a JSON object, not a number"),
    ],
)
def test_what_is_no_json_object_is_refused(body: bytes, said: str) -> None:
    """The reason says what it is, in a few words."""
    with pytest.raises(BadMessage) as refused:
        from_plain(body)
    assert str(refused.value) == said


def test_a_number_that_is_none_is_refused_in_a_command() -> None:
    """JSON has no infinity; a command with one is refused by the field's name."""
    envelope = example_envelope(ProvisionV1)
    body = envelope.to_json().replace(b"8080", b"Infinity")
    assert envelope.time is not None
    with pytest.raises(BadMessage, match="blueprint.values: Value error, not JSON"):
        from_command(body, now=envelope.time)


def test_a_command_carries_the_same_job() -> None:
    """The job and the envelope, whose ids tell the cause."""
    envelope = example_envelope(ProvisionV1)
    assert envelope.time is not None
    job, read = from_command(envelope.to_json(), now=envelope.time)
    assert job == example(ProvisionV1)
    assert read == envelope


def test_an_expired_command_is_refused() -> None:
    """With the time it expired at."""
    envelope = example_envelope(ProvisionV1)
    assert envelope.expiresat is not None
    with pytest.raises(BadMessage, match=r"expired at 2026-03-02T09:10:00\+00:00; send it again"):
        from_command(envelope.to_json(), now=envelope.expiresat + timedelta(seconds=1))


def test_another_command_is_not_for_us() -> None:
    """A command that reached the queue by mistake is said to be one."""
    with pytest.raises(BadMessage, match="is not for the provisioner"):
        from_command(example_envelope(PollTargetV1).to_json(), now=datetime(2026, 3, 2, 9, 5, tzinfo=UTC))


def test_equal_jobs_are_the_same_text() -> None:
    """Whatever the order of keys and the way in; and the text gives the job back, odd characters too."""
    one = from_plain(json.dumps(JOB).encode())
    two = from_plain(json.dumps(dict(reversed(JOB.items()))).encode())
    assert canonical(one) == canonical(two)
    odd = from_plain(changed("blueprint.values", {"a": "\0 é", "deep": nested(48)}))
    assert restored(canonical(odd)) == odd
    assert canonical(odd).isascii()
    assert "\\u0000" in canonical(odd)


def test_values_are_in_no_fact() -> None:
    """What is asked for is said without its values: they may be secret."""
    job = from_plain(changed("blueprint.values", {"password": "hunter22"}))
    assert "hunter22" not in requested(job, datetime(2026, 1, 1, tzinfo=UTC)).model_dump_json()


def test_values_are_struck_out_of_others_words() -> None:
    """Wherever a program quotes one, escaped or inside another; short ones are ordinary words."""
    values = {"token": "hunter22", "list": ["hunter22-long", 12345], "odd": "a\nbcd", "port": 80, "on": True}
    text = "'hunter22-long', hunter22, 12345, 'a\\nbcd', 80, True"
    assert without_values(text, values) == "'[value]', [value], [value], '[value]', 80, True"
