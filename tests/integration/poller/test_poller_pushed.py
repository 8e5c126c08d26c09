"""One fact, whoever tells it: polls, webhooks that come twice, late and out of order, and what older systems post."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.older import INSTANCE
from buildlight_contracts.states import State
from chassis.database import make_pool
from chassis.topology import declare
from services.ingest.queues import QUEUES
from tests.integration.ingest.conftest import running
from tests.integration.poller.conftest import Intake, Sandbox, StartPoller
from tests.integration.poller.webhook_door import Address, Refreshes, hearing_refreshes, open_door, run

SECRET = "It's a Secret to Everybody"
KEY = {"x-api-key": "write"}
SHORT = {
    "pipeline": "build-and-test",
    "repo": "org/repository",
    "branch": "main",
    "status": "success",
    "started_at": "2025-08-24T10:30:00Z",
    "completed_at": "2025-08-24T10:35:30Z",
    "duration_seconds": 330,
    "url": "https://github.com/org/repo/actions/runs/12345",
    "logs": "Build completed successfully",
}


@pytest_asyncio.fixture
async def refreshes(amqp_url: str, intake: Intake) -> AsyncIterator[Refreshes]:
    async with hearing_refreshes(amqp_url) as heard:
        yield heard


@pytest_asyncio.fixture
async def door(database_url: str, amqp_url: str, refreshes: Refreshes) -> AsyncIterator[Address]:
    async with open_door(database_url, amqp_url) as address:
        yield address


async def test_polls_and_unruly_webhooks_make_one_event_of_one_fact(
    start_poller: StartPoller,
    bare: Sandbox,
    refreshes: Refreshes,
    database_url: str,
    amqp_url: str,
    eventually: Any,
) -> None:
    """Each state of each run stands in the log once, though it was told by two ways, twice, late and in disorder."""
    await declare(amqp_url, QUEUES, ["5s"])
    settings: dict[str, Any] = {
        "github_api_url": bare.github,
        "github_instance": None,
        "github_repositories": ("acme/one",),
    }
    async with (
        running(amqp_url, database_url),
        open_door(database_url, amqp_url, **settings) as door,
        start_poller(bare, ["acme/one"]) as poller,
        make_pool(database_url, application="test") as pool,
    ):
        bare.control(
            "POST",
            "/webhooks",
            json={
                "provider": "github",
                "url": f"http://127.0.0.1:{door.port}/webhooks/github",
                "secret": SECRET,
                "twice": 0.6,
                "late": 0.3,
                "late_seconds": 1.5,
                "out_of_order": 0.6,
                "forged": 0.1,
            },
        )
        runs = [bare.run(repository="acme/one", jobs=[]) for _ in range(6)]
        await poller.poll()
        for run_ in runs:
            bare.advance(run_["id"], status="in_progress")
        await poller.poll()
        for run_ in runs:
            bare.advance(run_["id"], status="completed", conclusion="success")
        await poller.poll()

        def all_told() -> bool:
            [hook] = bare.control("GET", "/webhooks")
            answered = {k: v for k, v in hook["counts"].items() if k.startswith("answered")}
            assert set(answered) <= {"answered 202", "answered 403"}, answered
            return bool(sum(answered.values()) >= hook["counts"]["made"] >= 18)

        await eventually(all_told, timeout=60)
        await eventually(
            lambda: pool.fetchval("SELECT count(*) >= 18 FROM log.events WHERE type LIKE '%build.observed%'"),
            timeout=60,
        )
        # Whatever was late is heard by now, or is a repetition.
        await poller.intake.settle()
        rows = await pool.fetch("SELECT data FROM log.events WHERE type LIKE '%build.observed%'")
    told = sorted((row["data"]["build"]["run_id"], row["data"]["raw_status"]) for row in rows)
    states = ("completed", "in_progress", "queued")
    assert told == sorted((str(run_["id"]), state) for run_ in runs for state in states)
    heard = [fact.identity() for fact in poller.intake.facts(BuildObservedV1)]
    assert len(heard) > len(set(heard)) == 18


# -- the older systems' paths


async def test_a_run_as_the_older_worker_sends_it(
    door: Address, intake: Intake, refreshes: Refreshes
) -> None:
    """It sends rows of GitHub's API in a frame: they have the real ids, and so are the poll's own facts."""
    framed = run() | {"workflow": {"id": 159038}, "sender": {"login": "octocat"}}
    del framed["action"]
    for _ in range(2):
        answer = await door.http.post("/api/webhook/github-actions", json=framed, headers=KEY)
        assert (answer.status_code, answer.json()) == (202, {"accepted": 1, "refreshes": 1, "ignored": None})
    assert (await door.deliver(run())).status_code == 202
    await intake.settle()
    assert len(intake.ids()) == 1
    [fact] = {fact.build for fact in intake.facts(BuildObservedV1)}
    assert (fact.provider, fact.instance, fact.repository_id) == ("github", "api.github.com", "1296269")


async def test_a_run_without_ids_is_kept_as_it_was_posted(door: Address, intake: Intake) -> None:
    """The short body, and a framed row whose ids are missing: one build each, under a name no provider's can have."""
    for body in (SHORT, SHORT | {"status": "in_progress"}):
        answer = await door.http.post("/api/webhook/github-actions", json=body, headers=KEY)
        assert answer.json() == {"accepted": 1, "refreshes": 0, "ignored": None}
    row = {
        "id": "123456789",
        "name": "CI/CD Pipeline",
        "status": "completed",
        "conclusion": "failure",
        "run_started_at": "2025-08-25T15:00:00Z",
        "updated_at": "2025-08-25T15:05:00Z",
        "html_url": "https://github.com/test/repo/actions/runs/123456789",
    }
    framed = {"workflow_run": row, "repository": {"full_name": "test/repo"}}
    answer = await door.http.post("/api/webhook/github-actions", json=framed, headers=KEY)
    assert answer.status_code == 202
    await intake.settle()
    posted, again, third = intake.facts(BuildObservedV1)
    assert posted.build == again.build
    assert {fact.build.instance for fact in (posted, third)} == {INSTANCE}
    assert (third.workflow, third.repository, third.state) == ("CI/CD Pipeline", "test/repo", State.FAILURE)


async def test_what_is_polled_is_looked_at_and_not_doubled(
    door: Address, intake: Intake, refreshes: Refreshes, eventually: Any
) -> None:
    """A short body about a repository that is polled is no second build: its run is fetched from GitHub."""
    body = SHORT | {"repo": "acme/shop", "url": "https://github.com/acme/shop/actions/runs/77"}
    answer = await door.http.post("/api/webhook/github-actions", json=body, headers=KEY)
    assert answer.json() == {"accepted": 0, "refreshes": 1, "ignored": None}
    await eventually(lambda: refreshes.commands)
    assert [(c.target, c.run_id) for c in refreshes.commands] == [("Acme/Shop", "77")]
    await intake.settle()
    assert intake.envelopes == []


@pytest.mark.parametrize(
    ("row", "state", "seconds"),
    [
        ({"result": "SUCCESS", "building": False, "duration": 90_000}, State.SUCCESS, 90),
        ({"result": "UNSTABLE", "building": False, "duration": 1000}, State.FAILURE, 1),
        ({"result": None, "building": True, "duration": 0}, State.RUNNING, None),
    ],
)
async def test_a_jenkins_build_as_the_older_worker_sends_it(
    door: Address, intake: Intake, row: dict[str, Any], state: State, seconds: int | None
) -> None:
    """A row of Jenkins's API in a frame, with its time in milliseconds."""
    url = "http://jenkins.company.com/job/myapp-pipeline/7/"
    build = {"number": 7, "timestamp": 1_740_000_000_000, "url": url, **row}
    framed = {
        "name": "myapp-pipeline",
        "url": "http://jenkins.company.com/job/myapp-pipeline",
        "build": build,
    }
    answer = await door.http.post("/api/webhook/jenkins", json=framed, headers=KEY)
    assert answer.status_code == 202, answer.text
    await intake.settle()
    [fact] = intake.facts(BuildObservedV1)
    assert (fact.build.provider, fact.build.instance, fact.workflow, fact.url) == (
        "jenkins",
        INSTANCE,
        "myapp-pipeline",
        url,
    )
    assert fact.state is state
    ended = fact.finished_at and fact.started_at and (fact.finished_at - fact.started_at).total_seconds()
    assert ended == seconds


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("github-actions", b"{", 400, "the body of 1 bytes is not JSON"),
        ("github-actions", b"[]", 400, "the body is JSON, but no object"),
        ("github-actions", b"{}", 422, "pipeline: Field required"),
        ("github-actions", b'{"workflow_run": {}}', 422, "pipeline: "),
        ("jenkins", b'{"name": "x", "build": {}}', 422, "started_at: "),
        ("jenkins", b'{"name": "x", "build": {"timestamp": 1e300, "result": "OK"}}', 422, "started_at: "),
        (
            "jenkins",
            b'{"name": "x", "build": {"timestamp": 99999999999999999999, "result": "OK"}}',
            422,
            "started_at",
        ),
        ("jenkins", json.dumps({"a": "x" * 9_000_000}).encode(), 413, "a webhook may have 8,388,608 bytes"),
    ],
)
async def test_older_bodies_that_are_refused(
    door: Address, intake: Intake, path: str, body: bytes, status: int, message: str
) -> None:
    """With what is wrong; the field by name where there is one."""
    headers = KEY | {"content-type": "application/json"}
    answer = await door.http.post(f"/api/webhook/{path}", content=body, headers=headers)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)
    await intake.settle()
    assert intake.envelopes == []


async def test_older_paths_want_a_key_unless_opened_by_name(
    database_url: str, amqp_url: str, refreshes: Refreshes
) -> None:
    """As X-API-Key or as Bearer; the operator may open one path and not the other."""
    async with open_door(database_url, amqp_url, open_paths=("/api/webhook/jenkins",)) as door:

        async def status(path: str, **headers: str) -> int:
            return (await door.http.post(f"/api/webhook/{path}", json=SHORT, headers=headers)).status_code

        assert await status("github-actions") == 401
        assert await status("github-actions", **{"x-api-key": "read"}) == 403
        assert await status("github-actions", **{"x-api-key": "write"}) == 202
        assert await status("github-actions", authorization="Bearer write") == 202
        assert await status("jenkins") == 202
