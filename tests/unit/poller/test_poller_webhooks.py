"""Who sent a webhook, what it says, and whether it came before."""

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from chassis.http import HttpError
from chassis.settings import BadSettings
from services.poller.http import Hands
from services.poller.provider import Target
from services.poller.seen import Seen
from services.poller.webhook_settings import WebhookSettings
from services.poller.webhooks import (
    BadBodyError,
    Genuine,
    GitHubSignature,
    GitLabSignature,
    Letter,
    Refused,
    SharedToken,
    among,
    body_of,
    doors,
    event_of,
    key_of,
    or_unsigned,
)

NOW = datetime(2026, 3, 2, 9, 5, tzinfo=UTC)
KEY = base64.b64encode(b"k" * 32).decode()
SIGNING = f"whsec_{KEY}"


def letter(body: bytes = b"{}", token: str | None = None, at: datetime = NOW, **headers: str) -> Letter:
    return Letter(Headers({k.replace("_", "-"): v for k, v in headers.items()}), body, at, token)


def by_github(secret: str, body: bytes) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def by_gitlab(
    body: bytes, *, at: datetime = NOW, number: str = "msg_1", key: bytes = b"k" * 32
) -> dict[str, Any]:
    seconds = str(int(at.timestamp()))
    signed = hmac.new(key, f"{number}.{seconds}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook_id": number,
        "webhook_timestamp": seconds,
        "webhook_signature": "v1," + base64.b64encode(signed).decode(),
    }


def kind(verdict: Genuine | Refused) -> str:
    return verdict.kind if isinstance(verdict, Refused) else "genuine"


# -- who sent it


def test_githubs_own_example_of_a_signature() -> None:
    """The secret, payload and digest that GitHub's documentation gives for trying one's own code."""
    check = GitHubSignature(["It's a Secret to Everybody"])
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert check(letter(b"Hello, World!", x_hub_signature_256=signature)) == Genuine("signature")
    assert kind(check(letter(b"Hello, World?", x_hub_signature_256=signature))) == "forged"


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        (by_github("old", b"{}"), "genuine"),
        (by_github("new", b"{}"), "genuine"),
        (by_github("other", b"{}"), "forged"),
        (by_github("new", b"{ }"), "forged"),
        (by_github("new", b"{}").removeprefix("sha256="), "forged"),
        (by_github("new", b"{}").replace("sha256", "sha1"), "forged"),
        (by_github("new", b"{}").upper(), "forged"),
        ("sha256=", "forged"),
        ("\xe9" * 10_000, "forged"),
        ("", "unsigned"),
    ],
)
def test_github_is_taken_by_any_of_its_secrets(signature: str, expected: str) -> None:
    """A new secret and the old one hold side by side; what is not exactly the body's signature is forged."""
    check = GitHubSignature(["new", "old"])
    assert kind(check(letter(x_hub_signature_256=signature) if signature else letter())) == expected


def test_without_a_secret_nothing_is_genuine() -> None:
    """An empty secret is no secret: what is signed with it is refused, and the text says what to set."""
    for check, headers in (
        (GitHubSignature([]), {"x_hub_signature_256": by_github("", b"{}")}),
        (GitLabSignature([], [], tolerance_seconds=300), {"x_gitlab_token": "anything"}),
        (GitLabSignature([], [], tolerance_seconds=300), by_gitlab(b"{}", key=b"")),
        (SharedToken([]), {"x_jenkins_token": "anything"}),
    ):
        verdict = check(letter(**headers))
        assert isinstance(verdict, Refused)
        assert verdict.kind == "forged"
        assert "_WEBHOOK_" in verdict.reason


def test_gitlab_signs_by_standard_webhooks() -> None:
    """Over id, time and body, with the key inside whsec_; a tolerance both ways; one of several signatures will do."""
    check = GitLabSignature([], [SIGNING], tolerance_seconds=300)
    good = by_gitlab(b'{"a":1}')
    assert check(letter(b'{"a":1}', **good)) == Genuine("signature")
    assert kind(check(letter(b'{"a":2}', **good))) == "forged"
    assert kind(check(letter(b'{"a":1}', **good | {"webhook_id": "msg_2"}))) == "forged"
    assert kind(check(letter(b'{"a":1}', **good | {"webhook_timestamp": "tomorrow"}))) == "forged"
    several = good | {"webhook_signature": f"v1,bm9uZQ== v1a,x {good['webhook_signature']}"}
    assert kind(check(letter(b'{"a":1}', **several))) == "genuine"
    for away, expected in ((-299, "genuine"), (299, "genuine"), (-301, "forged"), (301, "forged")):
        arrived = letter(b'{"a":1}', at=NOW + timedelta(seconds=away), **good)
        assert kind(check(arrived)) == expected
    assert kind(check(letter(b'{"a":1}'))) == "unsigned"


def test_gitlab_with_a_shared_secret() -> None:
    """As it comes; a signature counts before it, so that a wrong one is not mended by the right token."""
    check = GitLabSignature(["s3cret", "older"], [SIGNING], tolerance_seconds=300)
    assert check(letter(x_gitlab_token="older")) == Genuine("token")
    assert kind(check(letter(x_gitlab_token="s3cre"))) == "forged"
    assert kind(check(letter(x_gitlab_token="s3cret", **by_gitlab(b"[]")))) == "forged"


def test_jenkins_with_a_token_in_header_or_address() -> None:
    """Either will do; a wrong header is not mended by the address."""
    check = SharedToken(["geheim\xe9"])
    assert kind(check(letter(token="geheim\xe9"))) == "genuine"
    assert kind(check(letter(x_jenkins_token="geheim\xe9".encode().decode("latin-1")))) == "genuine"
    assert kind(check(letter(token="geheim"))) == "forged"
    assert kind(check(letter(token="geheim\xe9", x_jenkins_token="no"))) == "forged"
    assert kind(check(letter(token="\udc80"))) == "forged"
    assert kind(check(letter())) == "unsigned"


def test_unsigned_is_taken_where_allowed_and_forged_is_not() -> None:
    """Leave for what has no signature is none for a wrong one."""
    check = or_unsigned(GitHubSignature(["secret"]))
    assert check(letter()) == Genuine("nothing")
    assert kind(check(letter(x_hub_signature_256="sha256=00"))) == "forged"


@given(st.binary(max_size=200), st.text(max_size=50), st.text(max_size=50))
def test_no_reason_shows_a_secret(body: bytes, told: str, number: str) -> None:
    """Whatever is sent is judged without another error, and the judgement names no secret."""
    headers = {
        "x-hub-signature-256": told,
        "x-gitlab-token": told,
        "x-jenkins-token": told,
        "webhook-signature": told,
        "webhook-id": number,
        "webhook-timestamp": number,
    }
    sent = Letter(headers, body, NOW, told)
    for check in (
        GitHubSignature(["s3cretsecret"]),
        GitLabSignature(["s3cretsecret"], [SIGNING], tolerance_seconds=1),
        SharedToken(["s3cretsecret"]),
    ):
        verdict = check(sent)
        assert isinstance(verdict, Refused)
        assert "s3cretsecret" not in verdict.reason
        assert KEY not in verdict.reason


# -- what it says


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"a": 1}'),
        ("Application/JSON; charset=UTF-8", b'{"a": 1}'),
        ("application/vnd.github+json", b'{"a": 1}'),
        ("application/x-www-form-urlencoded", urlencode({"payload": '{"a": 1}'}).encode()),
    ],
)
def test_bodies_that_are_read(content_type: str, body: bytes) -> None:
    """JSON under its names, and GitHub's other type, a form with one field."""
    assert body_of(content_type, "", body, takes_forms=True) == {"a": 1}


@pytest.mark.parametrize(
    ("content_type", "encoding", "body", "reason"),
    [
        ("", "", b"{}", "Content-Type missing: send application/json"),
        ("text/plain", "", b"{}", "Content-Type text/plain: send application/json"),
        ("application/json", "gzip", b"{}", "Content-Encoding gzip: bodies are taken uncompressed"),
        ("application/json; charset=latin-1", "", b"{}", "charset latin-1: JSON is sent in UTF-8"),
        ("application/json", "", b'{"a": "\xff"}', "the body is not UTF-8: byte 7 of 10"),
        ("application/json", "", '{"a": 1}'.encode("utf-16"), "the body is not UTF-8: byte 0 of 18"),
        ("application/json", "", b'{"a": [1, 2', "the body of 11 bytes is not JSON: Expecting"),
        ("application/json", "", b"", "the body of 0 bytes is not JSON"),
        ("application/json", "", b"[1]", "the body is JSON, but no object"),
        ("application/json", "", b'{"a":' * 100_000, "the body is nested too deep"),
        (
            "application/json",
            "",
            b'{"a": 1, "b": {"c": 1, "c": 2}}',
            "the body of 31 bytes is not JSON: 'c' stands",
        ),
        ("application/json", "", b'{"a": NaN}', "the body of 10 bytes is not JSON: NaN is no JSON number"),
        (
            "application/json",
            "",
            b'{"a": ' + b"9" * 5000 + b"}",
            "the body of 5,007 bytes is not JSON: Exceeds",
        ),
        ("application/x-www-form-urlencoded", "", b"payload=%7B", "the body of 1 bytes is not JSON"),
        ("application/x-www-form-urlencoded", "", b"other=1", "the form has no field payload"),
        ("application/x-www-form-urlencoded", "", b"payload=1&payload=2", "the form has no field payload"),
        ("application/x-www-form-urlencoded", "", b"\xff", "the body is no form"),
        ("application/x-www-form-urlencoded", "", b"&".join([b"a=1"] * 99), "the body is no form"),
    ],
)
def test_bodies_that_are_not(content_type: str, encoding: str, body: bytes, reason: str) -> None:
    """Each with what is wrong, in a text of bounded length."""
    with pytest.raises(BadBodyError) as refused:
        body_of(content_type, encoding, body, takes_forms=True)
    assert str(refused.value).startswith(reason)
    assert len(str(refused.value)) < 250


def test_a_form_is_githubs_alone() -> None:
    """Others send none."""
    with pytest.raises(BadBodyError, match="send application/json"):
        body_of("application/x-www-form-urlencoded", "", b"payload={}", takes_forms=False)


@given(st.binary(max_size=300), st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_any_bytes_are_an_object_or_a_clear_refusal(body: bytes, media: str) -> None:
    """Never another error."""
    try:
        assert isinstance(body_of(media, "", body, takes_forms=True), dict)
    except BadBodyError as error:
        assert str(error)


# -- whether it came before


def nothing(event: str, body: Any, *, instance: str) -> Seen:
    return Seen(ignored=f"{event} of {instance}")


INSTANCES = {name: f"{name}.example" for name in ("github", "gitlab", "jenkins")}
GITHUB, GITLAB, JENKINS = doors(
    WebhookSettings.load(database_url="x", amqp_url="x", github_webhook_secrets=("s",)),
    INSTANCES,
    dict.fromkeys(INSTANCES, nothing),
)


def test_a_delivery_is_known_by_its_id_and_its_body() -> None:
    """The id is not signed: with another body it is another delivery. Without an id there is no telling."""
    first = key_of(GITHUB, letter(b"a", x_github_delivery="1"))
    assert first is not None
    assert len(first) == 32
    assert first == key_of(GITHUB, letter(b"a", x_github_delivery="1"))
    others = [
        key_of(GITHUB, letter(b"b", x_github_delivery="1")),
        key_of(GITHUB, letter(b"a", x_github_delivery="2")),
        key_of(GITLAB, letter(b"a", webhook_id="1")),
        key_of(GITLAB, letter(b"a", idempotency_key="2")),
        key_of(GITLAB, letter(b"a", x_gitlab_event_uuid="3")),
    ]
    assert len({first, *others}) == 6
    assert key_of(GITHUB, letter(b"a")) is None
    assert key_of(JENKINS, letter(b"a", x_github_delivery="1")) is None


def test_ids_and_events_of_any_length_are_not_read() -> None:
    """Ten thousand characters are no name."""
    with pytest.raises(BadBodyError, match=r"x-github-delivery has 10,000 characters; 255 are read"):
        key_of(GITHUB, letter(x_github_delivery="1" * 10_000))
    with pytest.raises(BadBodyError, match="x-github-event has 10,000 characters"):
        event_of(GITHUB, letter(x_github_event="e" * 10_000))
    assert event_of(GITHUB, letter(x_github_event="workflow_run")) == "workflow_run"
    assert event_of(JENKINS, letter(x_github_event="workflow_run")) == ""


def test_what_is_polled_is_found_by_name() -> None:
    """Upper and lower case are one on GitHub and GitLab, and two on Jenkins."""
    shop, job = Target("github", "api.github.com", "Acme/Shop"), Target("jenkins", "ci", "Shop")
    assert among([shop, job], Target("github", "api.github.com", "acme/shop")) == shop
    assert among([shop, job], Target("github", "ghe.example", "acme/shop")) is None
    assert among([shop, job], Target("jenkins", "ci", "Shop")) == job
    assert among([shop, job], Target("jenkins", "ci", "shop")) is None


# -- settings


def test_secrets_are_one_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas and blanks belong to a secret: a piece of one is no secret."""
    monkeypatch.setenv("GITHUB_WEBHOOK_SECRET", "one, and two\n\n  three \n")
    monkeypatch.setenv("BUILDLIGHT_WEBHOOKS_UNSIGNED", "jenkins")
    settings = WebhookSettings.load(database_url="x", amqp_url="x")
    assert [s.get_secret_value() for s in settings.github_webhook_secrets] == ["one, and two", "three"]
    assert "three" not in repr(settings)
    body = json.dumps({}).encode()
    made = {
        door.provider: door for door in doors(settings, INSTANCES, {"jenkins": nothing, "github": nothing})
    }
    assert set(made) == {"github", "jenkins"}
    assert kind(made["jenkins"].check(letter(body))) == "genuine"
    assert kind(made["github"].check(letter(body))) == "unsigned"
    assert kind(made["github"].check(letter(body, x_hub_signature_256=by_github("three", body)))) == "genuine"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN", "glpat-hush", "a signing token is whsec_"),
        ("BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN", "whsec_!hush!", "a signing token is whsec_"),
        ("BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN", "whsec_", "a signing token is whsec_"),
        ("BUILDLIGHT_WEBHOOKS_UNSIGNED", "gitea", "gitea: there are github, gitlab, jenkins"),
        ("BUILDLIGHT_WEBHOOK_MAX_BYTES", "99999999999", "less than or equal to"),
    ],
)
def test_wrong_settings_stop_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, problem: str
) -> None:
    """With the variable and what is wrong, and without the secret."""
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=problem) as refused:
        WebhookSettings.load(database_url="x", amqp_url="x")
    assert name in str(refused.value)
    assert "hush" not in str(refused.value)


def test_a_door_is_open_only_with_a_mapping() -> None:
    """A provider whose webhooks nobody can read has no address."""
    settings = WebhookSettings.load(database_url="x", amqp_url="x")
    assert doors(settings, INSTANCES, {}) == ()
    [door] = doors(settings, INSTANCES, {"gitlab": nothing})
    assert (door.provider, door.instance, door.takes_forms) == ("gitlab", "gitlab.example", False)


# -- how much at once


def test_hands_are_full_at_some_point_and_empty_again() -> None:
    """What would be too much at once is asked to come later; what was put down makes room."""
    hands = Hands(100)
    with hands.load() as take, pytest.raises(HttpError) as busy, hands.load() as other:
        assert take(60) == 60
        assert take(30) == 90
        other(11)
    assert busy.value.status_code == 503
    assert busy.value.headers == {"Retry-After": "5"}
    with hands.load() as take:
        assert take(100) == 100
