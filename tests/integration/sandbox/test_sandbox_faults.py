"""Faults on order: each provider fails in its own words, as often as ordered, and no other one does."""

import smtplib
import time
from email.message import EmailMessage
from typing import Any

import httpx
import pytest

from tests.integration.sandbox.conftest import Running


def order(sandbox: Running, target: str, kind: str, **more: Any) -> None:
    sandbox.control("POST", "/faults", json={"target": target, "kind": kind, **more})


def post(sandbox: Running, payload: Any) -> httpx.Response:
    """Send something to the Slack webhook."""
    return sandbox.http.post(sandbox.addresses["slack"], json=payload)


def mail(sandbox: Running, recipient: str = "team@acme.example") -> None:
    """Send a mail."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "ci@acme.example", recipient, "Main is red"
    message["Message-ID"] = "<one@acme.example>"
    message.set_content("acme/shop broke: größer\n")
    with smtplib.SMTP(sandbox.addresses["smtp_host"], sandbox.addresses["smtp_port"], timeout=10) as client:
        client.send_message(message)


def test_a_status_fault_lasts_its_times(sandbox: Running) -> None:
    """Two failures on order are two failures, on the paths meant only."""
    order(sandbox, "github", "status", status=502, times=2, path="^/repos/acme/shop")
    assert sandbox.get("/repos/acme/docs").status_code == 200
    assert [sandbox.get("/repos/acme/shop").status_code for _ in range(3)] == [502, 502, 200]
    assert sandbox.control("GET", "/faults") == []


def test_faults_are_cleared(sandbox: Running) -> None:
    """A fault without an end lasts until it is cleared."""
    order(sandbox, "gitlab", "status", status=500)
    assert [sandbox.lab("GET", "/user").status_code for _ in range(3)] == [500, 500, 500]
    sandbox.control("DELETE", "/faults", params={"target": "gitlab"})
    assert sandbox.lab("GET", "/user").status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "header", "text"),
    [
        ("rate_limit", 403, "x-ratelimit-reset", "API rate limit exceeded"),
        ("secondary_limit", 403, "retry-after", "You have exceeded a secondary rate limit"),
        ("auth", 401, None, "Bad credentials"),
    ],
)
def test_github_refuses_in_its_words(
    sandbox: Running, kind: str, status: int, header: str | None, text: str
) -> None:
    """Each way GitHub has to say no is told apart by status, header and message, as from the real one."""
    order(sandbox, "github", kind, times=1, seconds=30)
    response = sandbox.get("/user")
    assert response.status_code == status
    assert response.json()["message"].startswith(text)
    assert header is None or header in response.headers
    assert response.headers.get("retry-after") == ("30" if kind == "secondary_limit" else None)


def test_nonsense_is_no_json(sandbox: Running) -> None:
    """A nonsense answer says 200 and JSON and is cut off."""
    order(sandbox, "github", "nonsense", times=1)
    response = sandbox.get("/user")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        response.json()


def test_a_hang_never_answers(sandbox: Running) -> None:
    """A client with a timeout gets its timeout; nothing else is held up."""
    order(sandbox, "github", "hang", times=1)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.get("/user", timeout=0.3)
    assert sandbox.get("/user").status_code == 200


def test_an_answer_can_be_lost_after_the_effect(sandbox: Running) -> None:
    """With `after` the project is made although the caller is told 502: look before you create again."""
    order(sandbox, "gitlab", "status", status=502, times=1, after=True)
    assert sandbox.lab("POST", "/projects", json={"name": "lost", "namespace_id": 100}).status_code == 502
    assert sandbox.lab("GET", "/projects/acme%2Flost").json()["path_with_namespace"] == "acme/lost"
    assert [effect["kind"] for effect in sandbox.effects("gitlab")] == ["project_created"]


def test_senseless_orders_are_refused(sandbox: Running) -> None:
    """An unknown target, kind or field, or a broken pattern, is a 400 that says what would do."""
    scripts: list[Any] = [
        {"target": "jira", "kind": "status"},
        {"target": "github", "kind": "explode"},
        {"target": "github", "kind": "status", "often": 3},
        {"target": "github", "kind": "status", "path": "("},
        [],
    ]
    for script in scripts:
        response = sandbox.http.post(f"{sandbox.addresses['control']}/faults", json=script)
        assert response.status_code == 400
        assert response.json()["error"]


def test_slack_takes_messages_and_refuses_nonsense(sandbox: Running) -> None:
    """A message is answered `ok` and recorded; what Slack would refuse is refused in its words."""
    good = {
        "text": "main is red",
        "blocks": [{"type": "section", "text": {"type": "mrkdwn", "text": "*red*"}}],
    }
    response = post(sandbox, good)
    assert (response.status_code, response.text) == (200, "ok")
    assert response.headers["content-type"].startswith("text/plain")
    for bad, text in (({}, "no_text"), ({"blocks": "x"}, "invalid_blocks"), ([1], "invalid_payload")):
        response = post(sandbox, bad)
        assert (response.status_code, response.text) == (400, text)
    slack = sandbox.addresses["slack"]
    for address, status, text in (
        (slack.replace("T000", "T999"), 404, "no_team"),
        (slack.replace("B000", "B999"), 404, "no_service"),
        (slack + "x", 403, "invalid_token"),
    ):
        response = sandbox.http.post(address, json=good)
        assert (response.status_code, response.text) == (status, text)
    assert [effect["body"] for effect in sandbox.effects("slack")] == [good]


def test_slack_asks_for_patience(sandbox: Running) -> None:
    """A rate limit is 429 with Retry-After, and nothing is recorded."""
    order(sandbox, "slack", "rate_limit", seconds=7, times=1)
    response = post(sandbox, {"text": "hello"})
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert sandbox.effects("slack") == []
    assert post(sandbox, {"text": "hello"}).text == "ok"


def test_mail_is_delivered_to_the_ledger(sandbox: Running) -> None:
    """A mail is recorded with its sender, recipients, subject and text."""
    mail(sandbox)
    (effect,) = sandbox.effects("smtp")
    shown = {name: effect[name] for name in ("sender", "recipients", "subject", "message_id")}
    assert shown == {
        "sender": "ci@acme.example",
        "recipients": ["team@acme.example"],
        "subject": "Main is red",
        "message_id": "<one@acme.example>",
    }
    assert effect["body"].strip() == "acme/shop broke: größer"


def test_mail_faults(sandbox: Running) -> None:
    """A passing refusal is 4xx, a final one 5xx, for the recipient meant; a refused mail is not recorded."""
    order(sandbox, "smtp", "status", times=1)
    order(sandbox, "smtp", "status", status=550, path="gone@")
    with pytest.raises(smtplib.SMTPDataError) as passing:
        mail(sandbox)
    with pytest.raises(smtplib.SMTPDataError) as final:
        mail(sandbox, "gone@acme.example")
    mail(sandbox)
    assert (passing.value.smtp_code, final.value.smtp_code) == (451, 550)
    assert [effect["recipients"] for effect in sandbox.effects("smtp")] == [["team@acme.example"]]


def test_the_control_plane_takes_call_backs(sandbox: Running) -> None:
    """With either form of the key a call-back is recorded; without one it is 401."""
    address = f"{sandbox.addresses['control_plane']}/api/runs/42"
    body = {"status": "succeeded"}
    assert sandbox.http.post(address, json=body).status_code == 401
    assert sandbox.http.post(address, json=body, headers={"x-api-key": "sandbox-key"}).status_code == 200
    bearer = {"authorization": "Bearer sandbox-key", "idempotency-key": "k1"}
    assert sandbox.http.patch(address, json=body, headers=bearer).status_code == 200
    effects = sandbox.effects("control_plane")
    assert [(effect["method"], effect["path"], effect["body"]) for effect in effects] == [
        ("POST", "/api/runs/42", body),
        ("PATCH", "/api/runs/42", body),
    ]
    assert effects[1]["idempotency_key"] == "k1"


def test_effects_come_in_order(sandbox: Running) -> None:
    """All servers share one sequence, and a reader can ask for what came after a place in it."""
    post(sandbox, {"text": "one"})
    mail(sandbox)
    post(sandbox, {"text": "three"})
    effects = sandbox.control("GET", "/effects")["effects"]
    assert [effect["target"] for effect in effects] == ["slack", "smtp", "slack"]
    numbers = [effect["sequence"] for effect in effects]
    assert numbers == list(range(numbers[0], numbers[0] + 3))
    later = sandbox.control("GET", "/effects", params={"after": numbers[1]})["effects"]
    assert [effect["body"] for effect in later] == [{"text": "three"}]


def test_frozen_it_stands_still_and_then_lives_on(sandbox: Running) -> None:
    """Frozen, the listing keeps its ETag; unfrozen, the company soon has more to show."""
    path = "/repos/acme/shop/actions/runs"
    served = sandbox.control("GET", "/github/served")
    etag = sandbox.get(path).headers["etag"]
    assert sandbox.get(path, headers={"if-none-match": etag}).status_code == 304
    sandbox.control("POST", "/unfreeze")
    deadline = time.time() + 60
    while sandbox.control("GET", "/github/served") == served:
        assert time.time() < deadline, "nothing happened for a pretend hour"
        time.sleep(0.2)
