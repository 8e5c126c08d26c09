"""Every route of the API on a small history, with exact answers."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildRef
from chassis.keys import digest
from tests.api_stage import KEY, NOON, Running, Stage, running, staged

GONE = BuildRef(provider="github", instance="api.github.com", repository_id="895", run_id="2", attempt=1)


@pytest_asyncio.fixture
async def stage(database_url: str) -> AsyncIterator[Stage]:
    async with staged(database_url) as prepared:
        yield prepared


@pytest_asyncio.fixture
async def api(stage: Stage, database_url: str, amqp_url: str) -> AsyncIterator[Running]:
    async with running(database_url, amqp_url) as started:
        yield started


@pytest_asyncio.fixture
async def client(api: Running) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as opened:
        yield opened


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The one shape of error, checked; its timestamp left out."""
    body = answer.json()
    assert list(body) == ["error"]
    error: dict[str, Any] = body["error"]
    assert set(error) == {"message", "type", "details", "timestamp", "path"}
    assert datetime.fromisoformat(error.pop("timestamp")).tzinfo is not None
    return error


def minutes(number: float) -> datetime:
    return NOON + timedelta(minutes=number)


async def test_every_read_works_on_a_migrated_database_with_nothing_in_it(
    database_url: str, amqp_url: str
) -> None:
    """The views as their owners publish them have what the API reads."""
    async with (
        running(database_url, amqp_url) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=10) as client,
    ):
        assert (await client.get("/api/v1/builds/")).json() == {
            "builds": [],
            "page": 1,
            "per_page": 20,
            "total": 0,
            "total_is_exact": True,
            "next_cursor": None,
        }
        assert (await client.get("/api/v1/pipeline/overview")).json() == {
            "window": "24h",
            "total": 0,
            "states": {},
            "success_rate": None,
            "failure_rate": None,
            "median_duration_seconds": None,
            "mean_duration_seconds": None,
            "live": {"running": 0, "queued": 0, "builds": []},
            "pipelines": [],
            "recent_builds": [],
        }
        assert (await client.get("/api/v1/notifications/history")).json() == {
            "notifications": [],
            "next_cursor": None,
        }
        assert (await client.get("/api/v1/provisioning/runs/none")).status_code == 404
        assert (await client.get("/builds")).json() == []
        assert (await client.get("/metrics/summary")).json() == {
            "window": "7d",
            "success_rate": 0.0,
            "failure_rate": 0.0,
            "avg_build_time": 0.0,
            "last_status_by_pipeline": {},
        }
        for page in ("/", "/builds"):
            answer = await client.get(page, headers={"Accept": "text/html"})
            assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


async def test_a_build_is_listed_with_all_its_fields(stage: Stage, client: httpx.AsyncClient) -> None:
    """One item an attempt, under both spellings of the path."""
    build_id = await stage.build(1, "failure")
    pipeline_id = await stage.connection.fetchval("SELECT pipeline_id FROM analytics.builds")
    expected = {
        "build_id": str(build_id),
        "pipeline_id": str(pipeline_id),
        "provider": "github",
        "instance": "api.github.com",
        "repository_id": "895",
        "repository": "acme/shop",
        "workflow_id": "140",
        "workflow": "CI",
        "run_id": "1",
        "attempt": 1,
        "run_number": 1,
        "title": "Take cards with a long number",
        "event": "push",
        "branch": "main",
        "commit_sha": await stage.connection.fetchval("SELECT commit_sha FROM analytics.builds"),
        "commit_message": "Take cards with a long number",
        "author": "ada",
        "actor": "ada",
        "pull_request": None,
        "url": "https://github.example/acme/shop/actions/runs/1",
        "state": "failure",
        "raw_status": "completed",
        "raw_conclusion": "failure",
        "created_at": "2026-03-02T12:00:00Z",
        "started_at": "2026-03-02T12:00:05Z",
        "finished_at": "2026-03-02T12:01:05Z",
        "updated_at": "2026-03-02T12:01:05Z",
        "ordered_at": "2026-03-02T12:00:00Z",
        "duration_seconds": 60.0,
        "queue_seconds": 5.0,
        "position": 1,
    }
    for path in ("/api/v1/builds", "/api/v1/builds/"):
        answer = await client.get(path)
        assert answer.json()["builds"] == [expected]


async def test_lists_are_paged_and_filtered(stage: Stage, client: httpx.AsyncClient) -> None:
    """Each filter narrows to exactly its builds; pages do not overlap."""
    await stage.build(1, "success", at=minutes(1))
    await stage.build(2, "failure", at=minutes(2), branch="next", author="grace")
    await stage.build(3, "timed_out", at=minutes(3), repository="acme/web")
    await stage.build(4, "running", at=minutes(4), workflow="Deploy")

    async def runs(**query: Any) -> list[int]:
        answer = await client.get("/api/v1/builds/", params=query)
        assert answer.status_code == 200, answer.text
        return [build["run_number"] for build in answer.json()["builds"]]

    assert await runs() == [4, 3, 2, 1]
    assert await runs(page=1, per_page=3) == [4, 3, 2]
    assert await runs(page=2, per_page=3) == [1]
    assert await runs(page=3, per_page=3) == []
    assert await runs(repository="acme/web") == [3]
    assert await runs(branch="next") == [2]
    assert await runs(workflow="Deploy") == [4]
    assert await runs(state="failure,timed_out") == [3, 2]
    assert await runs(status="running") == [4]
    assert await runs(author="grace", state="failure") == [2]
    assert await runs(author="grace", state="success") == []
    assert await runs(provider="gitlab") == []
    assert await runs(since=minutes(2).isoformat(), until=minutes(4).isoformat()) == [3, 2]
    assert await runs(since="2026-03-02T12:03:00") == [4, 3]


async def test_following_the_cursor_meets_every_build_once_while_new_ones_arrive(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    """Builds with the same time, and builds that arrive between two pages, neither repeat nor hide another."""
    there = {await stage.build(run, at=minutes(run // 4)) for run in range(1, 42)}
    met: list[UUID] = []
    cursor, arriving = None, 1000
    while True:
        query = {"per_page": 7, **({"cursor": cursor} if cursor else {})}
        answer = (await client.get("/api/v1/builds/", params=query)).json()
        met += [UUID(build["build_id"]) for build in answer["builds"]]
        cursor = answer["next_cursor"]
        if cursor is None:
            break
        arriving += 1
        await stage.build(arriving, at=minutes(arriving))
    assert len(met) == 41
    assert set(met) == there


async def test_one_build_comes_with_jobs_attempts_pipeline_and_links(
    stage: Stage, client: httpx.AsyncClient
) -> None:
    """Jobs are in the order they began, attempts by number, one that is gone among them."""
    build_id = await stage.build(2, "failure", attempt=2)
    third = await stage.build(2, "success", attempt=3, at=minutes(9))
    step = {
        "number": 1,
        "name": "Test",
        "state": "failure",
        "raw_status": "completed",
        "raw_conclusion": "failure",
    }
    await stage.job(build_id, 8, "unit", "failure", steps=[step], started_at=minutes(2))
    await stage.job(build_id, 9, "lint", "success", started_at=minutes(1))
    await stage.put(
        "analytics.unavailable_attempts",
        "build_id",
        {
            "build_id": GONE.build_id,
            "subject": GONE.subject,
            "attempt": 1,
            "repository": "acme/shop",
            "status": 404,
            "noticed_at": NOON,
        },
    )
    answer = (await client.get(f"/api/v1/builds/{build_id}")).json()
    assert answer["build"]["build_id"] == str(build_id)
    assert [(job["name"], job["state"]) for job in answer["jobs"]] == [
        ("lint", "success"),
        ("unit", "failure"),
    ]
    assert answer["jobs"][1]["steps"] == [{**step, "started_at": None, "finished_at": None}]
    assert [(a["attempt"], a["build_id"], a["state"], a["available"]) for a in answer["attempts"]] == [
        (1, str(GONE.build_id), "unknown", False),
        (2, str(build_id), "failure", True),
        (3, str(third), "success", True),
    ]
    assert (answer["pipeline"]["state"], answer["pipeline"]["latest_build_id"]) == ("success", str(third))
    pipeline = answer["build"]["pipeline_id"]
    assert answer["links"] == {
        "self": f"/api/v1/builds/{build_id}",
        "page": f"/builds/{build_id}",
        "pipeline": f"/api/v1/builds/?pipeline_id={pipeline}",
        "provider": "https://github.example/acme/shop/actions/runs/2",
    }


async def test_the_overview_counts_what_lies_in_the_window(stage: Stage, client: httpx.AsyncClient) -> None:
    """Rates are of the builds that say whether code is good; a cancelled one counts, and says nothing."""
    now = datetime.now(UTC)
    for run, state, seconds in (
        (1, "success", 10),
        (2, "success", 20),
        (3, "failure", 60),
        (4, "cancelled", 900),
    ):
        await stage.build(run, state, at=now - timedelta(minutes=50 - run), seconds=seconds)
    await stage.build(5, "running", at=now - timedelta(minutes=2), workflow="Deploy")
    await stage.build(6, "waiting", at=now - timedelta(minutes=1), workflow="Deploy")
    await stage.build(7, "failure", at=now - timedelta(hours=3))
    answer = (await client.get("/api/v1/pipeline/overview", params={"window": "1h"})).json()
    assert {k: v for k, v in answer.items() if k not in {"live", "pipelines", "recent_builds"}} == {
        "window": "1h",
        "total": 6,
        "states": {"success": 2, "failure": 1, "cancelled": 1, "running": 1, "waiting": 1},
        "success_rate": 66.7,
        "failure_rate": 33.3,
        "median_duration_seconds": 20.0,
        "mean_duration_seconds": 30.0,
    }
    assert (answer["live"]["running"], answer["live"]["queued"]) == (1, 1)
    assert [build["run_number"] for build in answer["live"]["builds"]] == [6, 5]
    assert [(p["workflow"], p["state"]) for p in answer["pipelines"]] == [
        ("Deploy", "unknown"),
        ("CI", "failure"),
    ]
    assert [build["run_number"] for build in answer["recent_builds"]] == [6, 5, 4, 3, 2, 1, 7]
    assert (await client.get("/api/v1/pipeline/overview", params={"window": "7d"})).json()["total"] == 7


async def test_the_older_paths_answer_in_their_own_shapes(stage: Stage, client: httpx.AsyncClient) -> None:
    """`/metrics/summary` has the older fields and no others; lists use the older words for states."""
    now = datetime.now(UTC)
    await stage.build(1, "success", at=now - timedelta(hours=2), seconds=100)
    build_id = await stage.build(2, "timed_out", at=now - timedelta(hours=1), seconds=50, started_at=NOON)
    await stage.build(3, "running", at=now, workflow="deploy-staging")
    assert (await client.get("/metrics/summary", params={"window": "7d"})).json() == {
        "window": "7d",
        "success_rate": 50.0,
        "failure_rate": 50.0,
        "avg_build_time": 75.0,
        "last_status_by_pipeline": {"CI": "failure", "deploy-staging": "in_progress"},
    }
    latest = (await client.get("/builds/latest", params={"pipeline": "CI"})).json()
    assert {**latest, "completed_at": None, "created_at": None} == {
        "id": str(build_id),
        "provider": "github",
        "pipeline": "CI",
        "repo": "acme/shop",
        "branch": "main",
        "status": "failure",
        "started_at": "2026-03-02T12:00:00Z",
        "completed_at": None,
        "duration_seconds": 50.0,
        "url": "https://github.example/acme/shop/actions/runs/2",
        "logs": None,
        "created_at": None,
    }
    listed = (await client.get("/builds", params={"limit": 2})).json()
    assert [(build["pipeline"], build["status"]) for build in listed] == [
        ("deploy-staging", "in_progress"),
        ("CI", "failure"),
    ]
    assert error_of(await client.get("/builds/latest", params={"pipeline": "none"}))["type"] == "NotFound"


async def test_notifications_are_listed_with_their_fate(stage: Stage, client: httpx.AsyncClient) -> None:
    """Newest first, by status when asked, page by page."""
    for number, status in enumerate(("sent", "failed", "sent")):
        await stage.put(
            "notifier.published_history",
            "delivery_id",
            {
                "delivery_id": UUID(int=number),
                "rule": "main-is-red",
                "channel": "slack",
                "title": f"title {number}",
                "status": status,
                "reason": "Slack says channel_not_found" if status == "failed" else None,
                "fact_type": "pipeline.broke.v1",
                "fact_id": "f",
                "created_at": minutes(number),
                "sent_at": minutes(number) if status == "sent" else None,
            },
        )
    first = (await client.get("/api/v1/notifications/history", params={"limit": 2})).json()
    assert [told["title"] for told in first["notifications"]] == ["title 2", "title 1"]
    rest = await client.get(
        "/api/v1/notifications/history", params={"limit": 2, "cursor": first["next_cursor"]}
    )
    assert [told["title"] for told in rest.json()["notifications"]] == ["title 0"]
    assert rest.json()["next_cursor"] is None
    failed = (await client.get("/api/v1/notifications/history", params={"status": "failed"})).json()
    assert [told["reason"] for told in failed["notifications"]] == ["Slack says channel_not_found"]


async def test_errors_have_one_shape(stage: Stage, client: httpx.AsyncClient) -> None:
    """Whatever is wrong with a request, the answer says what, where and what to do."""
    missing = UUID(int=7)
    answer = await client.get(f"/api/v1/builds/{missing}")
    assert answer.status_code == 404
    assert error_of(answer) == {
        "message": f"No build {missing} was observed",
        "type": "NotFound",
        "details": {"build_id": str(missing)},
        "path": f"/api/v1/builds/{missing}",
    }
    for path, field in (
        ("/api/v1/builds/not-a-uuid", "build_id"),
        ("/api/v1/builds/?per_page=101", "per_page"),
        ("/api/v1/builds/?page=0", "page"),
        ("/api/v1/builds/?page=501", "page"),
        ("/api/v1/builds/?state=red", "state"),
        ("/api/v1/builds/?cursor=nonsense", "cursor"),
        ("/api/v1/pipeline/overview?window=31d", "window"),
        ("/api/v1/pipeline/overview?window=5", "window"),
        ("/api/v1/builds/?repository=%00", "value"),
        ("/api/v1/builds/?since=0001-01-01T00:00:00%2B14:00", "value"),
        ("/api/v1/provisioning/runs/%00", "value"),
        ("/builds/latest?pipeline=%00", "value"),
    ):
        answer = await client.get(path)
        assert answer.status_code == 422, path
        error = error_of(answer)
        assert error["type"] == "ValidationError"
        assert field in error["message"]
    assert error_of(await client.get("/api/v1/nothing"))["type"] == "NotFound"
    answer = await client.post("/api/v1/builds/")
    assert (answer.status_code, error_of(answer)["type"]) == (405, "MethodNotAllowed")


async def test_an_unchanged_answer_is_not_sent_again(stage: Stage, client: httpx.AsyncClient) -> None:
    """304 while nothing changed; 200 with another tag when something did."""
    await stage.build(1)
    first = await client.get("/api/v1/builds/")
    tag = first.headers["etag"]
    again = await client.get("/api/v1/builds/", headers={"If-None-Match": f'"other", {tag}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    await stage.build(2, at=minutes(2))
    changed = await client.get("/api/v1/builds/", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


JOB: dict[str, Any] = {
    "run_id": "prov-1",
    "type": "component",
    "blueprint": {
        "template": "go-backend",
        "name": "my-service",
        "namespace": "my-team",
        "values": {"port": 8080},
    },
    "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
}


def changed(part: str, **changes: Any) -> dict[str, Any]:
    return {**JOB, part: {**JOB[part], **changes}}


@pytest_asyncio.fixture
async def commands(api: Running) -> AsyncIterator[Any]:
    """The provisioner's place: a queue that gets its commands."""
    import aio_pika

    connection = await aio_pika.connect(api.service.broker.url)
    channel = await connection.channel()
    queue = await channel.declare_queue(exclusive=True)
    await queue.bind("buildlight.commands", "repository.provision.v1")
    yield queue
    await connection.close()


async def test_a_provisioning_run_is_asked_for_and_followed(
    stage: Stage, client: httpx.AsyncClient, commands: Any
) -> None:
    """202 with a Location that answers at once; the command is the plain job, complete."""
    headers = {"Authorization": f"Bearer {KEY}"}
    answer = await client.post("/api/v1/provisioning/runs", json=JOB, headers=headers)
    assert answer.status_code == 202, answer.text
    location = "/api/v1/provisioning/runs/prov-1"
    assert answer.json() == {"run_id": "prov-1", "status": "queued", "location": location}
    assert answer.headers["location"] == location
    from buildlight_contracts.catalogue import command_of, parse

    message = await commands.get(timeout=30)
    command = command_of(parse(message.body))
    assert command.model_dump() == {
        "run_id": "prov-1",
        "kind": "component",
        "blueprint": JOB["blueprint"],
        "git_config": JOB["git_config"],
    }
    followed = (await client.get(location)).json()
    assert (followed["status"], followed["steps"]) == ("queued", [])
    await stage.put(
        "provisioner.published_runs",
        "run_id",
        {
            "run_id": "prov-1",
            "status": "running",
            "kind": "component",
            "template": "go-backend",
            "name": "my-service",
            "namespace": "my-team",
            "group_id": "123",
            "visibility": "private",
            "created_at": NOON,
        },
    )
    await stage.put(
        "provisioner.published_steps",
        "run_id",
        {"run_id": "prov-1", "number": 1, "step": "validate", "status": "running", "started_at": NOON},
    )
    followed = (await client.get(location)).json()
    assert followed["status"] == "running"
    assert followed["steps"] == [
        {
            "number": 1,
            "step": "validate",
            "status": "running",
            "detail": None,
            "started_at": "2026-03-02T12:00:00Z",
            "finished_at": None,
            "duration_seconds": None,
        }
    ]
    again = await client.post("/api/v1/provisioning/runs", json=JOB, headers=headers)
    assert (again.status_code, again.json()["status"]) == (202, "running")
    for other in (
        changed("blueprint", name="other"),
        changed("git_config", group_id="124"),
        changed("git_config", visibility="public"),
    ):
        answer = await client.post("/api/v1/provisioning/runs", json=other, headers=headers)
        assert (answer.status_code, error_of(answer)["type"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("blueprint", "template", "a\0b"),
        ("blueprint", "name", "x.git"),
        ("blueprint", "namespace", "a/../b"),
        ("blueprint", "values", {"port": float("inf")}),
        ("blueprint", "values", {"half": "\ud800"}),
        ("blueprint", "values", {"deep": json.loads("[" * 300 + "]" * 300)}),
        ("git_config", "group_id", "../1"),
    ],
)
async def test_a_job_the_provisioner_would_refuse_is_refused_at_the_door(
    client: httpx.AsyncClient, commands: Any, part: str, field: str, value: Any
) -> None:
    """422 with the field's name, and no command."""
    headers = {"X-API-Key": KEY, "Content-Type": "application/json"}
    body = json.dumps(changed(part, **{field: value}))
    answer = await client.post("/api/v1/provisioning/runs", content=body, headers=headers)
    assert (answer.status_code, error_of(answer)["type"]) == (422, "ValidationError")
    assert f"body.{part}.{field}" in answer.json()["error"]["message"]
    assert await commands.get(fail=False) is None


async def test_a_job_too_large_for_a_message_is_refused(client: httpx.AsyncClient, commands: Any) -> None:
    """413, and no command."""
    job = changed("blueprint", values={"text": "x" * 1_048_576})
    answer = await client.post("/api/v1/provisioning/runs", json=job, headers={"X-API-Key": KEY})
    assert (answer.status_code, error_of(answer)["type"]) == (413, "TooLarge")
    assert await commands.get(fail=False) is None


async def test_a_run_without_an_id_is_given_one(client: httpx.AsyncClient, commands: Any) -> None:
    """Two jobs without ids are two runs."""
    job = {key: value for key, value in JOB.items() if key != "run_id"}
    ids = set()
    for _ in range(2):
        answer = await client.post("/api/v1/provisioning/runs", json=job, headers={"X-API-Key": KEY})
        ids.add(UUID(answer.json()["run_id"]))
    assert len(ids) == 2


async def test_writing_needs_a_key_with_the_right(
    stage: Stage, client: httpx.AsyncClient, commands: Any
) -> None:
    """401 without a key, with an unknown or a revoked one; 403 with one that may only read; nothing is published."""
    await stage.connection.executemany(
        "INSERT INTO api.keys (name, digest, scopes, revoked_at) VALUES ($1, $2, $3, $4)",
        [
            ("reader", digest("a-key-that-may-read"), ["read"], None),
            ("gone", digest("a-key-that-is-revoked"), ["write"], NOON),
        ],
    )
    for headers, status, kind in (
        ({}, 401, "Unauthorized"),
        ({"X-API-Key": "unknown"}, 401, "Unauthorized"),
        ({"X-API-Key": "a-key-that-is-revoked"}, 401, "Unauthorized"),
        ({"Cookie": f"buildlight_key={KEY}"}, 401, "Unauthorized"),
        ({"X-API-Key": "a-key-that-may-read"}, 403, "Forbidden"),
    ):
        answer = await client.post("/api/v1/provisioning/runs", json=JOB, headers=headers)
        assert (answer.status_code, error_of(answer)["type"]) == (status, kind), headers
        assert ("www-authenticate" in answer.headers) == (status == 401)
    for job in ({}, {**JOB, "run_id": "../x"}, {**JOB, "type": "planet"}):
        answer = await client.post("/api/v1/provisioning/runs", json=job, headers={"X-API-Key": KEY})
        assert (answer.status_code, error_of(answer)["type"]) == (422, "ValidationError")
    assert await commands.get(fail=False) is None


async def test_the_newest_admin_key_is_the_only_one(stage: Stage, database_url: str, amqp_url: str) -> None:
    """Rotating it revokes the one before; a start with that one changes nothing, and other keys stay."""
    await stage.connection.execute(
        "INSERT INTO api.keys (name, digest, scopes) VALUES ('script', $1, $2)",
        digest("a-key-of-a-script"),
        ["admin"],
    )
    keys = ("the-first-admin-key", "the-second-admin-key", "a-key-of-a-script")
    for admin_key, good in (
        (keys[0], [True, False, True]),
        (keys[0], [True, False, True]),
        (keys[1], [False, True, True]),
        (keys[0], [False, True, True]),
    ):
        async with running(database_url, amqp_url, admin_key=admin_key):
            pass
        known = [
            await stage.connection.fetchval("SELECT api.check_key($1)", digest(key)) is not None
            for key in keys
        ]
        assert known == good


async def test_a_body_over_the_limit_is_refused(client: httpx.AsyncClient) -> None:
    """413, whether the length is told or the body comes in chunks."""

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1_048_576

    for content in (b" " * (10 * 1_048_576 + 1), chunks()):
        answer = await client.post(
            "/api/v1/provisioning/runs",
            content=content,
            headers={"X-API-Key": KEY, "Content-Type": "application/json"},
        )
        assert (answer.status_code, error_of(answer)["type"]) == (413, "TooLarge")


async def test_without_a_provisioner_asking_is_refused_in_words(client: httpx.AsyncClient) -> None:
    """A command nobody would get is not accepted."""
    answer = await client.post("/api/v1/provisioning/runs", json=JOB, headers={"X-API-Key": KEY})
    assert answer.status_code == 503
    assert "No provisioner has run here yet" in error_of(answer)["message"]


async def test_reads_can_be_made_to_need_a_key(stage: Stage, database_url: str, amqp_url: str) -> None:
    """With the setting on, pages and API ask for a key, by header or cookie; health does not."""
    async with (
        running(database_url, amqp_url, reads_need_key=True) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False) as client,
    ):
        for path in ("/api/v1/builds", "/", "/builds", "/metrics/summary", "/api/v1/provisioning/runs/x"):
            assert (await client.get(path)).status_code == 401, path
        for headers in ({"X-API-Key": KEY}, {"Cookie": f"buildlight_key={KEY}"}):
            assert (await client.get("/api/v1/builds", headers=headers)).status_code == 200
        assert (await client.get("/health")).status_code == 200


async def test_other_sites_may_read_only_when_named(stage: Stage, database_url: str, amqp_url: str) -> None:
    """CORS headers for an allowed origin and none for another."""
    async with (
        running(database_url, amqp_url, allowed_origins=("https://dash.example",)) as api,
        httpx.AsyncClient(base_url=api.url, trust_env=False) as client,
    ):
        ours = await client.get("/api/v1/builds", headers={"Origin": "https://dash.example"})
        assert ours.headers["access-control-allow-origin"] == "https://dash.example"
        other = await client.get("/api/v1/builds", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in other.headers


async def test_the_root_is_a_page_for_browsers_and_information_for_programs(
    client: httpx.AsyncClient,
) -> None:
    """By the Accept header; nothing of the page comes from elsewhere."""
    told = await client.get("/", headers={"Accept": "application/json"})
    assert told.json()["endpoints"]["websocket"] == "/ws"
    page = await client.get("/", headers={"Accept": "text/html,*/*;q=0.8"})
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert (await client.get("/static/vendor/../../service.py")).status_code == 404
    health = await client.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    schema = (await client.get("/openapi.json")).json()
    assert "/api/v1/provisioning/runs" in schema["paths"]


async def test_what_people_wrote_is_shown_as_text(stage: Stage, client: httpx.AsyncClient) -> None:
    """A commit message that is markup, and an address that is a script, do nothing."""
    build_id = await stage.build(
        1, "failure", message="<img src=x onerror=alert(1)>", url="javascript:alert(1)", branch='"><script>'
    )
    for path in ("/", "/builds", f"/builds/{build_id}"):
        page = (await client.get(path, headers={"Accept": "text/html"})).text
        assert "&lt;img src=x onerror=alert(1)&gt;" in page
        assert "<img" not in page
        assert "javascript:" not in page
        assert '"><script>' not in page
    missing = await client.get("/builds/none", headers={"Accept": "text/html"})
    assert (missing.status_code, "There is no build none" in missing.text) == (404, True)
