"""The sandbox's webhooks as a receiver meets them."""

import asyncio
import hashlib
import hmac
import json
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jsonschema
import pytest

from sandbox.webhooks import Delivery, Hook, Hooks, signature
from tests.corpora import corpus
from tests.integration.sandbox.conftest import Running

Eventually = Callable[..., Awaitable[object]]
SECRET = "hush"


@dataclass
class Receiver:
    url: str = ""
    status: int = 202
    letters: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def bodies(self, event: str) -> list[dict[str, Any]]:
        return [
            json.loads(body) for headers, body in tuple(self.letters) if headers["x-github-event"] == event
        ]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes what is posted to it."""
    got = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.letters.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(got.status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    got.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    yield got
    server.shutdown()
    server.server_close()


@pytest.fixture
def hooked(sandbox: Running, receiver: Receiver) -> Iterator[Callable[..., None]]:
    """Have the sandbox tell the receiver, as asked."""

    def ask(**more: Any) -> None:
        sandbox.control(
            "POST", "/webhooks", json={"provider": "github", "url": receiver.url, "secret": SECRET, **more}
        )

    yield ask
    sandbox.control("DELETE", "/webhooks")


def is_genuine(headers: dict[str, str], body: bytes) -> bool:
    expected = "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    return headers.get("x-hub-signature-256") == expected


async def test_each_change_is_told_once_and_in_order(
    sandbox: Running, receiver: Receiver, hooked: Callable[..., None], eventually: Eventually
) -> None:
    """From requested to completed, the run and its job, signed; nothing of what was there before."""
    hooked()
    run = sandbox.control("POST", "/github/runs", json={"repository": "acme/hooks"})
    await eventually(lambda: len(receiver.letters) == 2)
    for change in ({"status": "in_progress"}, {"status": "completed", "conclusion": "success"}):
        sandbox.control("PATCH", f"/github/runs/{run['id']}", json=change)
        expected = len(receiver.letters) + 2
        await eventually(lambda expected=expected: len(receiver.letters) == expected)
    told = [(b["action"], b["workflow_run"]["status"]) for b in receiver.bodies("workflow_run")]
    assert told == [("requested", "queued"), ("in_progress", "in_progress"), ("completed", "completed")]
    assert [b["action"] for b in receiver.bodies("workflow_job")] == ["queued", "in_progress", "completed"]
    assert {b["workflow_run"]["id"] for b in receiver.bodies("workflow_run")} == {run["id"]}
    assert all(is_genuine(headers, body) for headers, body in receiver.letters)
    assert len({headers["x-github-delivery"] for headers, _ in receiver.letters}) == 6
    assert (
        receiver.bodies("workflow_run")[-1]["workflow_run"]
        == sandbox.get(f"/repos/acme/hooks/actions/runs/{run['id']}").json()
    )


async def test_the_living_company_tells_what_it_does(
    sandbox: Running, receiver: Receiver, hooked: Callable[..., None], eventually: Eventually
) -> None:
    """Set free, runs and jobs are told of as they go; each is at that moment what GitHub would answer."""
    hooked()
    sandbox.control("POST", "/unfreeze")
    await eventually(lambda: len(receiver.bodies("workflow_job")) > 5, timeout=90)
    sandbox.control("POST", "/freeze")
    assert all(is_genuine(headers, body) for headers, body in receiver.letters)


@pytest.mark.parametrize("event", ["workflow_run", "workflow_job"])
async def test_bodies_are_as_githubs_schema_has_them(
    sandbox: Running, receiver: Receiver, hooked: Callable[..., None], eventually: Eventually, event: str
) -> None:
    """Each action against the schema that is published for GitHub's webhooks."""
    schema = json.loads(corpus("webhooks/github/webhooks-schema.json").read_text())
    hooked()
    run = sandbox.control("POST", "/github/runs", json={"repository": f"acme/{event}"})
    sandbox.control("PATCH", f"/github/runs/{run['id']}", json={"status": "in_progress"})
    await eventually(lambda: [b for b in receiver.bodies(event) if b["action"] == "in_progress"])
    sandbox.control(
        "PATCH", f"/github/runs/{run['id']}", json={"status": "completed", "conclusion": "failure"}
    )
    await eventually(lambda: [b for b in receiver.bodies(event) if b["action"] == "completed"])
    for body in receiver.bodies(event):
        name = f"{event}${body['action']}"
        part = {"$ref": f"#/definitions/{name}", "definitions": schema["definitions"]}
        problems = [
            f"{'/'.join(map(str, error.path))}: {error.message[:150]}"
            for error in jsonschema.Draft7Validator(part).iter_errors(body)
            # In GitHub's answers since the schema was last published.
            if "('user_view_type' was unexpected)" not in error.message
        ]
        assert problems == [], (name, problems)


async def test_deliveries_that_go_wrong(
    sandbox: Running, receiver: Receiver, hooked: Callable[..., None], eventually: Eventually
) -> None:
    """Dropped, twice, late, out of order, unsigned, forged: as often as asked, and counted."""
    hooked(twice=1.0, late=0.3, late_seconds=0.5, out_of_order=0.5, unsigned=0.3, forged=0.3)
    hooked(dropped=1.0)
    runs = [sandbox.control("POST", "/github/runs", json={"repository": "acme/faults"}) for _ in range(20)]
    assert len(runs) == 20
    await eventually(lambda: len(receiver.letters) == 80, timeout=60)
    counted = Counter(headers["x-github-delivery"] for headers, _ in receiver.letters)
    assert set(counted.values()) == {2}
    order = [body["workflow_run"]["id"] for body in receiver.bodies("workflow_run")]
    assert order != sorted(order)
    unsigned = [headers for headers, _ in receiver.letters if "x-hub-signature-256" not in headers]
    forged = [h for h, body in receiver.letters if "x-hub-signature-256" in h and not is_genuine(h, body)]
    wrong, dropped = sandbox.control("GET", "/webhooks")
    await eventually(lambda: sandbox.control("GET", "/webhooks")[0]["counts"]["answered 202"] == 80)
    wrong, dropped = sandbox.control("GET", "/webhooks")
    assert wrong["counts"]["unsigned"] == len(unsigned) > 0
    assert wrong["counts"]["forged"] == len(forged) > 0
    assert dropped["counts"] == {"made": 40, "dropped": 40}
    assert "secret" not in wrong


async def test_a_delivery_is_not_tried_again_but_by_hand(
    sandbox: Running, receiver: Receiver, hooked: Callable[..., None], eventually: Eventually
) -> None:
    """As with GitHub: refused once it is gone, until a person asks for it; then it is the very same."""
    receiver.status = 503
    hooked()
    sandbox.control("POST", "/github/runs", json={"repository": "acme/again", "jobs": []})
    await eventually(lambda: sandbox.control("GET", "/webhooks")[0]["counts"].get("answered 503") == 1)
    receiver.status = 202
    [one] = sandbox.control("GET", "/webhooks")[0]["recent"]
    sandbox.control("POST", "/webhooks/redeliver", json={"id": one["id"]})
    await eventually(lambda: len(receiver.letters) == 2)
    first, second = receiver.letters
    assert first == second
    assert (
        sandbox.http.post(f"{sandbox.addresses['control']}/webhooks/redeliver", json={"id": "x"}).status_code
        == 404
    )


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        ({}, '"provider" must be one of'),
        ({"provider": "gitea"}, '"provider" must be one of'),
        ({"provider": "github"}, '"url" must be'),
        ({"provider": "github", "url": "http://x", "mood": 1}, "unknown: mood"),
        ({"provider": "github", "url": "http://x", "twice": 2}, '"twice" must be a number between 0 and 1'),
    ],
)
def test_orders_that_make_no_sense(sandbox: Running, order: dict[str, Any], problem: str) -> None:
    """They are refused, and the answer says what would."""
    answer = sandbox.http.post(f"{sandbox.addresses['control']}/webhooks", json=order)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


async def test_gitlab_pauses_a_hook_that_fails(receiver: Receiver, eventually: Eventually) -> None:
    """After four failures in a row nothing is sent for a while; both of its signatures are on what is."""
    waiting: list[Delivery] = []

    def source(base: str) -> list[Delivery]:
        del base
        gone, waiting[:] = list(waiting), []
        return gone

    hooks = Hooks(1, {"gitlab": source})
    script = {"provider": "gitlab", "url": receiver.url, "secret": SECRET, "signing_token": "whsec_aGFzaA=="}
    hook = hooks.order(script, {"gitlab": "http://lab"})
    running = asyncio.create_task(hooks.run())
    try:
        receiver.status = 500
        waiting.extend(
            Delivery("Pipeline Hook", b"{}", {"X-Gitlab-Event": "Pipeline Hook"}, str(number))
            for number in range(6)
        )
        await eventually(lambda: hook.counts["paused"] == 2)
        assert hook.counts["answered 500"] == 4
        headers = receiver.letters[0][0]
        assert headers["x-gitlab-token"] == SECRET
        assert headers["webhook-signature"].startswith("v1,")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def test_jenkins_puts_its_token_into_the_address() -> None:
    """For its plug-ins set no headers."""
    hook = Hooks(1, {"jenkins": lambda _: []}).order(
        {"provider": "jenkins", "url": "http://door/webhooks/jenkins", "secret": "a b"}, {"jenkins": ""}
    )
    assert hook.url == "http://door/webhooks/jenkins?token=a%20b"
    assert signature(Hook(1, "github", "", ""), Delivery("x", b"", {}, "1"), forged=False) == {}
