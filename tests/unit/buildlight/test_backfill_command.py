"""`buildlight backfill`: what it asks for, shows while it waits, and exits with."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from buildlight import cli
from buildlight.client import Client, ClientError
from buildlight.commands import backfill

ITEM: dict[str, Any] = {
    "target": "acme/shop",
    "status": "running",
    "fraction": 0.5,
    "waits_until": None,
    "detail": None,
}
QUEUED: dict[str, Any] = {
    "request_id": "7f0d4b55-93c3-5c2e-8e0d-2f6a1c9b3d44",
    "status": "queued",
    "targets": 2,
    "ended": 0,
    "failed": 0,
    "fraction": 0.0,
    "builds": 0,
    "facts": 0,
    "unreadable": 0,
    "items": [],
}
RUNNING = QUEUED | {"status": "running", "fraction": 0.25, "builds": 40, "facts": 90, "items": [ITEM]}
DONE = RUNNING | {"status": "done", "fraction": 1.0, "ended": 2, "builds": 1200, "facts": 5000, "items": []}
FAILED = DONE | {
    "status": "failed",
    "failed": 1,
    "unreadable": 3,
    "items": [ITEM | {"status": "failed", "detail": "GitHub refuses the token."}],
}


class Api:
    """Answers how far it is, one answer after the other; keeps what was asked."""

    def __init__(self, *answers: Mapping[str, Any] | ClientError) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def request(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append((method, path, options.get("json")))
        answer = self.answers.pop(0)
        if isinstance(answer, ClientError):
            raise answer
        return answer


def run(monkeypatch: pytest.MonkeyPatch, api: Api, *arguments: str) -> Any:
    monkeypatch.setattr(Client, "request", lambda _, *given, **options: api.request(*given, **options))
    monkeypatch.setattr(backfill, "_LOOK_SECONDS", 0)
    return CliRunner().invoke(cli.app, ["backfill", *arguments])


def test_it_asks_and_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Days are UTC; the outcome is on stdout, the bar is not; exit code 0."""
    api = Api(QUEUED, QUEUED, RUNNING, DONE)
    result = run(monkeypatch, api, "--since", "2026-01-01", "--until", "2026-02-01", "--target", "acme/shop")
    assert result.exit_code == 0, result.output
    assert api.asked[0] == (
        "POST",
        "/api/v1/backfills",
        {
            "since": "2026-01-01T00:00:00+00:00",
            "until": "2026-02-01T00:00:00+00:00",
            "targets": ["acme/shop"],
        },
    )
    assert {path for _, path, _ in api.asked[1:]} == {f"/api/v1/backfills/{QUEUED['request_id']}"}
    assert result.stdout == "1,200 builds from 2 targets: 5,000 facts\n"


def test_as_json_it_tells_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line whenever it has got on, and the outcome last."""
    result = run(monkeypatch, Api(QUEUED, QUEUED, RUNNING, RUNNING, DONE), "--since", "2026-01-01", "--json")
    assert [json.loads(line)["status"] for line in result.stdout.splitlines()] == [
        "queued",
        "running",
        "done",
    ]


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Why, and what was left out, on stderr; exit code 1."""
    result = run(monkeypatch, Api(QUEUED, FAILED), "--since", "2026-01-01")
    assert result.exit_code == 1
    assert "acme/shop: GitHub refuses the token." in result.stderr
    assert "3 rows or runs could not be read" in result.stderr


def test_without_waiting_it_names_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call, and the id to follow it by."""
    api = Api(QUEUED)
    result = run(monkeypatch, api, "--since", "2026-01-01", "--no-wait")
    assert (result.exit_code, len(api.asked)) == (0, 1)
    assert str(QUEUED["request_id"]) in result.stdout


def test_a_refusal_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the scope 4, with a target that is not polled 1, without a day 2."""
    denied = Api(ClientError("403: This API key lacks the scope 'write'", 403))
    assert run(monkeypatch, denied, "--since", "2026-01-01").exit_code == 4
    unknown = Api(ClientError("404: Not polled: acme/none", 404))
    assert run(monkeypatch, unknown, "--since", "2026-01-01", "--target", "acme/none").exit_code == 1
    assert run(monkeypatch, Api(), "--since", "lately").exit_code == 2


def test_another_replica_that_does_not_know_of_it_yet_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until a poller has begun only the replica that accepted it knows of it; later a 404 is one."""
    unknown = ClientError("404: No backfill has begun", 404)
    result = run(monkeypatch, Api(QUEUED, unknown, RUNNING, DONE), "--since", "2026-01-01")
    assert result.exit_code == 0, result.output
    lost = run(monkeypatch, Api(QUEUED, RUNNING, unknown), "--since", "2026-01-01")
    assert lost.exit_code != 0
