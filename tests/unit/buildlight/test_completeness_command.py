"""`buildlight completeness`: what it prints, asks for, waits for, and exits with."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from buildlight import cli, completeness
from buildlight.client import Client, ClientError

WHOLE: dict[str, Any] = {
    "provider": "github",
    "instance": "api.github.com",
    "target": "acme/shop",
    "status": "complete",
    "at_provider": 12,
    "recorded": 12,
    "unavailable": 0,
    "missing": 0,
    "open_but_ended": 0,
    "gaps": [],
    "measured_at": "2026-03-02T09:00:00Z",
    "request_id": "one",
    "postponed_why": None,
    "postponed_request_id": None,
    "succeeded_at": "2026-03-02T09:01:02Z",
    "failing_since": None,
    "failing_detail": None,
}
LACKING = WHOLE | {
    "target": "acme/app",
    "status": "incomplete",
    "recorded": 11,
    "missing": 1,
    "gaps": [
        {
            "run_id": "41",
            "attempt": 2,
            "kind": "missing",
            "reason": "never_listed",
            "detail": "No listing has shown it.",
        }
    ],
}
FAILING = WHOLE | {
    "target": "acme/api",
    "status": "failing",
    "request_id": None,
    "postponed_request_id": "two",
    "postponed_why": "GitHub refuses the token.",
    "failing_since": "2026-03-02T06:00:00Z",
    "failing_detail": "GitHub refuses the token.",
}


class Api:
    """Answers the reports one after the other, the last for ever; keeps what was asked."""

    def __init__(self, *reports: list[dict[str, Any]], requests: Iterator[str] | None = None) -> None:
        self.reports = list(reports)
        self.requests = list(requests or ())
        self.asked: list[tuple[str, Any]] = []

    def request(self, method: str, path: str, **options: Any) -> Any:
        self.asked.append((f"{method} {path}", options.get("params") or options.get("json")))
        if method == "POST":
            return {"requests": [{"request_id": number} for number in self.requests]}
        targets = self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]
        complete = bool(targets) and all(row["status"] == "complete" for row in targets)
        return {"complete": complete, "since": "2026-02-01", "targets": targets}


def invoke(monkeypatch: pytest.MonkeyPatch, api: Api, *arguments: str) -> Any:
    def request(_: Client, method: str, path: str, **options: Mapping[str, Any]) -> Any:
        return api.request(method, path, **options)

    monkeypatch.setattr(Client, "request", request)
    monkeypatch.setattr(completeness, "_LOOK_SECONDS", 0.0)
    return CliRunner().invoke(cli.app, ["completeness", *arguments])


def test_complete_is_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line a target on stdout, nothing on stderr, and what was asked for goes to the API."""
    api = Api([WHOLE])
    ran = invoke(monkeypatch, api, "--since", "7d", "--target", "acme/shop")
    assert (ran.exit_code, ran.stderr) == (0, "")
    fields = ran.stdout.rstrip("\n").split("\t")
    assert fields[:6] == ["complete", "github acme/shop", "12", "12", "0", "0"]
    assert fields[6:] == ["2026-03-02 09:00 UTC", "2026-03-02 09:01 UTC"]
    assert api.asked == [("GET /api/v1/completeness", {"since": "7d", "target": "acme/shop"})]


def test_something_missing_is_1_and_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run, its attempt, the reason and why."""
    ran = invoke(monkeypatch, Api([LACKING, WHOLE]))
    assert ran.exit_code == 1
    assert "acme/app: run 41 attempt 2 missing (never_listed). No listing has shown it." in ran.stderr


def test_what_nobody_can_tell_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that fails: since when, when it last worked, and why; and nothing polled at all."""
    ran = invoke(monkeypatch, Api([FAILING]))
    assert ran.exit_code == 1
    assert "polls fail since 2026-03-02 06:00 UTC, last worked 2026-03-02 09:01 UTC" in ran.stderr
    assert invoke(monkeypatch, Api([])).exit_code == 1


def test_json_is_the_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """One document on stdout, with the same exit codes."""
    ran = invoke(monkeypatch, Api([LACKING]), "--json")
    assert ran.exit_code == 1
    assert json.loads(ran.stdout)["targets"][0]["gaps"][0]["run_id"] == "41"


def test_now_waits_for_each_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until each request was carried out or put off; then the report as it is."""
    before = [WHOLE | {"request_id": "zero"}, FAILING | {"postponed_request_id": None}]
    api = Api(before, [WHOLE, before[1]], [WHOLE, FAILING], requests=iter(("one", "two")))
    ran = invoke(monkeypatch, api, "--now", "--since", "2026-03-01")
    assert ran.exit_code == 1
    assert api.asked[0] == ("POST /api/v1/completeness", {"since": "2026-03-01"})
    assert len([one for one in api.asked if one[0].startswith("GET")]) == 4


def test_a_measurement_that_was_over_stays_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule measures a target again while others are waited for: it is not waited for once more."""
    first = WHOLE | {"target": "acme/app", "request_id": "one"}
    slow = WHOLE | {"request_id": "before"}
    api = Api(
        [first, slow],
        [first | {"request_id": "by the schedule"}, slow | {"request_id": "two"}],
        requests=iter(("one", "two")),
    )
    monkeypatch.setattr(completeness, "_PATIENCE_SECONDS", 5.0)
    ran = invoke(monkeypatch, api, "--now")
    assert (ran.exit_code, "not over" in ran.stderr) == (0, False)


def test_a_measurement_that_does_not_end_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """After as long as a request is good for, the last report there is."""
    monkeypatch.setattr(completeness, "_PATIENCE_SECONDS", 0.0)
    ran = invoke(monkeypatch, Api([WHOLE], requests=iter(("other",))), "--now")
    assert "not over" in ran.stderr


def test_without_a_key_it_is_4(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused request exits as every command does."""

    class Refusing(Api):
        def request(self, method: str, path: str, **options: Any) -> Any:
            raise ClientError("401: This needs an API key", 401)

    assert invoke(monkeypatch, Refusing(), "--now").exit_code == 4
