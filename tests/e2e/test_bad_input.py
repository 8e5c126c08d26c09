"""Bad settings, a provider that answers badly, bad requests: each is told apart and told plainly."""

import asyncio
import subprocess
import sys
import uuid
from datetime import datetime
from typing import Any

import pytest

from tests.e2e.fleet import CHECKOUT, Fleet, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

TROUBLE, STEADY = "acme/trouble", "acme/steady"


@pytest.mark.parametrize(
    ("service", "variable", "value", "says"),
    [
        ("ingest", "BUILDLIGHT_INGEST_BATCH_MESSAGES", "many", "Input should be a valid integer"),
        ("poller", "WORKER_POLL_INTERVAL", "0", "Input should be greater than or equal to 0.1"),
        ("poller", "GITHUB_REPOS", "shop", "is no repository: write owner/name"),
        ("analytics", "BUILDLIGHT_ANALYTICS_POLL_SECONDS", "0", "Input should be greater than 0"),
        ("notifier", "SMTP_PORT", "70000", "Input should be less than or equal to 65535"),
        ("provisioner", "MAX_TEMPLATE_SIZE", "big", "is not a size such as 500KB, 10MB or 1GB"),
        ("api", "BUILDLIGHT_ADMIN_KEY", "tooshort", "should have at least 16"),
        ("ingest", "BUILDLIGHT_RETRY_RUNGS", "soon", "'soon' is not a duration such as 500ms, 30s, 5m or 1h"),
        ("analytics", "BUILDLIGHT_DATABASE_URL", None, "is not set"),
        ("api", "BUILDLIGHT_PORT", "web", "Input should be a valid integer"),
    ],
)
async def test_a_bad_setting_stops_the_start_and_is_named(
    fleet: Fleet, service: str, variable: str, value: str | None, says: str
) -> None:
    """Status 2 and one line with the variable's name; no traceback, and never a secret's value."""
    env = {name: text for name, text in fleet.environment().items() if name != variable}
    if value is not None:
        env[variable] = value
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "buildlight", "run", service],
        env=env,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    [line] = ended.stderr.splitlines()
    assert line.startswith(f"{variable}: ")
    assert says in line
    assert ended.stdout == ""
    if variable == "BUILDLIGHT_ADMIN_KEY":
        assert str(value) not in line


async def failures(fleet: Fleet) -> list[dict[str, Any]]:
    return [
        event["data"]
        for event in await fleet.log(type="dev.buildlight.poll.failed.v1")
        if event["data"]["target"] == TROUBLE
    ]


async def observed(fleet: Fleet, run: int) -> bool:
    return any(
        event["data"]["build"]["run_id"] == str(run)
        for event in await fleet.log(type="dev.buildlight.build.observed.v1")
    )


async def polls(fleet: Fleet, outcome: str) -> float:
    """How many polls the poller has counted with this outcome."""
    metrics = (await fleet.http.get(f"{fleet.url('poller')}/metrics")).text
    name = f'buildlight_poller_polls_total{{outcome="{outcome}",provider="github"}} '
    return sum(float(line.removeprefix(name)) for line in metrics.splitlines() if line.startswith(name))


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [
        ({"kind": "auth"}, "unauthorized", 401),
        ({"kind": "status", "status": 403}, "forbidden", 403),
        ({"kind": "status", "status": 404}, "not_found", 404),
        ({"kind": "secondary_limit", "status": 429, "seconds": 1}, "rate_limited", 429),
        ({"kind": "status", "status": 502}, "server_error", 502),
        ({"kind": "nonsense"}, "nonsense", 200),
    ],
)
async def test_a_provider_that_answers_badly_for_one_repository_holds_up_no_other(
    fleet: Fleet, fault: dict[str, Any], reason: str, status: int
) -> None:
    """`poll.failed` once, a metric, builds of the others meanwhile; and its own when it answers again."""
    before, counted = len(await failures(fleet)), await polls(fleet, reason)
    await fleet.company.fault("github", path=TROUBLE, **fault)
    run = await fleet.company.ended(TROUBLE, "success")
    other = await fleet.company.ended(STEADY, "success")

    async def is_told() -> bool:
        return len(await failures(fleet)) > before and await polls(fleet, reason) >= counted + 2

    await until(is_told, why="poll.failed was not recorded, or not counted")
    await until(lambda: observed(fleet, other), why="the other repository was not polled")
    assert not await observed(fleet, run)

    await fleet.company.repair("github")
    await until(lambda: observed(fleet, run), why="polling did not go on")
    told = (await failures(fleet))[before:]
    assert [(fact["reason"], fact["status"]) for fact in told] == [(reason, status)]
    assert told[0]["detail"]


@pytest.mark.parametrize(
    ("service", "method", "path", "options", "status", "kind"),
    [
        ("api", "GET", "/nowhere", {}, 404, "NotFound"),
        ("api", "DELETE", "/api/v1/builds/", {}, 405, "MethodNotAllowed"),
        ("api", "GET", "/api/v1/builds/?per_page=0", {}, 422, "ValidationError"),
        ("api", "GET", "/api/v1/builds/?state=sideways", {}, 422, "ValidationError"),
        ("api", "GET", "/api/v1/builds/not-an-id", {}, 422, "ValidationError"),
        ("api", "GET", f"/api/v1/builds/{uuid.UUID(int=7)}", {}, 404, "NotFound"),
        ("api", "GET", "/api/v1/pipeline/overview?window=never", {}, 422, "ValidationError"),
        ("api", "GET", "/api/v1/provisioning/runs/none", {}, 404, "NotFound"),
        ("api", "POST", "/api/v1/provisioning/runs", {"content": b"{"}, 422, "ValidationError"),
        ("api", "POST", "/api/v1/provisioning/runs", {"json": {"type": "system"}}, 422, "ValidationError"),
        ("ingest", "POST", "/events", {"content": b"{"}, 400, "Refused"),
        ("ingest", "POST", "/events", {"json": {"specversion": "1.0"}}, 400, "Refused"),
        ("ingest", "POST", "/events", {"content": b" " * 10_485_761}, 413, "TooLarge"),
        ("ingest", "POST", "/api/v1/dead-letters/replay", {"json": {}}, 422, "ValidationError"),
    ],
)
async def test_a_bad_request_gets_the_one_shape_of_error(
    fleet: Fleet, service: str, method: str, path: str, options: dict[str, Any], status: int, kind: str
) -> None:
    """`{"error": {message, type, details, timestamp, path}}`, with the status that fits."""
    headers = fleet.key | ({"content-type": "application/json"} if "content" in options else {})
    answer = await fleet.http.request(method, f"{fleet.url(service)}{path}", headers=headers, **options)
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "details", "timestamp", "path"}
    assert error["type"] == kind
    assert error["message"]
    assert error["path"] == path.partition("?")[0]
    assert datetime.fromisoformat(error["timestamp"]).tzinfo is not None
