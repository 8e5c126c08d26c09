"""`buildlight rerun`, `cancel` and `logs`: what they ask for, show, and exit with."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from buildlight import actions, cli
from buildlight.client import Client, ClientError

BUILD = "0b6f2b1e-6f0e-5a57-9d3c-1f4a6c2f9b10"
REQUEST = "7f0d4b55-93c3-5c2e-8e0d-2f6a1c9b3d44"
ACCEPTED = {"request_id": REQUEST, "status": "queued", "location": f"/api/v1/actions/{REQUEST}"}
QUEUED: dict[str, Any] = {"request_id": REQUEST, "status": "queued", "detail": None, "url": None}
DONE = QUEUED | {"status": "done", "detail": "GitHub runs it again, as attempt 2.", "url": "https://x.test/1"}
REFUSED = QUEUED | {"status": "refused", "detail": "The run is too old to be run again."}


class Api:
    """Gives one answer after the other; keeps what was asked."""

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
    monkeypatch.setattr(actions, "_LOOK_SECONDS", 0.001)
    return CliRunner().invoke(cli.app, [*arguments])


def test_a_rerun_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks once, looks until it is settled, and says what the provider said."""
    api = Api(ACCEPTED, QUEUED, QUEUED, DONE)
    result = run(monkeypatch, api, "rerun", BUILD, "--failed")
    assert (result.exit_code, result.stdout) == (
        0,
        "done: GitHub runs it again, as attempt 2. (https://x.test/1)\n",
    )
    assert api.asked[0] == ("POST", f"/api/v1/builds/{BUILD}/rerun", {"failed_only": True})
    assert [path for _, path, _ in api.asked[1:]] == [f"/api/v1/actions/{REQUEST}"] * 3


def test_another_replica_that_does_not_know_of_it_yet_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was accepted: until one sees it begun it is queued, whether one waits for it or not."""
    unknown = ClientError("404: No action is known", 404)
    result = run(monkeypatch, Api(ACCEPTED, unknown, QUEUED, unknown, DONE), "rerun", BUILD)
    assert (result.exit_code, result.stdout[:5]) == (0, "done:"), result.output
    result = run(monkeypatch, Api(ACCEPTED, unknown), "rerun", BUILD, "--no-wait")
    assert (result.exit_code, REQUEST in result.stdout) == (0, True)
    gone = run(monkeypatch, Api(ACCEPTED, ClientError("503: away", 503)), "rerun", BUILD)
    assert gone.exit_code != 0


def test_a_refusal_is_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, Api(ACCEPTED, REFUSED), "cancel", BUILD, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == REFUSED


def test_not_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where to look."""
    result = run(monkeypatch, Api(ACCEPTED, QUEUED), "rerun", BUILD, "--no-wait")
    assert result.exit_code == 0
    assert REQUEST in result.stdout


def test_a_key_that_may_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 4, and the server's words."""
    api = Api(ClientError("403: This API key lacks the scope 'act'", 403))
    result = run(monkeypatch, api, "rerun", BUILD)
    assert result.exit_code == 4
    assert "'act'" in result.stderr


def test_a_log_goes_to_stdout_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a build or of one job; nothing of an address gets out of its place."""
    asked = []

    def stream(_: Client, path: str) -> Iterator[bytes]:
        asked.append(path)
        yield "naïve\n".encode()

    monkeypatch.setattr(Client, "stream", stream)
    for arguments in (
        ("logs", BUILD),
        ("logs", BUILD, "7"),
        ("logs", BUILD, "7", "--steps"),
        ("logs", "../x", "?"),
    ):
        result = CliRunner().invoke(cli.app, [*arguments])
        assert (result.exit_code, result.stdout_bytes) == (0, "naïve\n".encode())
    assert asked == [
        f"/api/v1/builds/{BUILD}/log",
        f"/api/v1/builds/{BUILD}/jobs/7/log",
        f"/api/v1/builds/{BUILD}/jobs/7/log?format=steps",
        "/api/v1/builds/..%2Fx/jobs/%3F/log",
    ]
    assert CliRunner().invoke(cli.app, ["logs", BUILD, "--steps"]).exit_code == 2
