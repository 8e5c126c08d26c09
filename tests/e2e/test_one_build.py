"""One build, and one repository, followed through every station."""

import json
from collections import Counter
from typing import Any

import aio_pika
import pytest

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import derive_id
from buildlight_contracts.provisioning import STEPS
from tests.e2e.company import mail_subjects, slack_texts
from tests.e2e.fleet import Fleet, until
from tests.e2e.live import Watcher

pytestmark = pytest.mark.asyncio(loop_scope="session")

REPOSITORY = "acme/story"
RULE = "pipeline-state"
NOUNS = {"build": "builds", "job": "builds", "pipeline": "pipeline", "notification": "notifications"}


async def events(fleet: Fleet, prefix: str) -> list[tuple[str, str | None]]:
    """Type and state of what the log has of subjects that begin with `prefix`."""
    return [(event["type"], event["data"].get("state")) for event in await fleet.log(prefix=prefix)]


async def builds_finished(fleet: Fleet) -> list[Any]:
    finished = await fleet.log(type="dev.buildlight.build.finished.v1")
    return [event for event in finished if event["data"]["repository"] == REPOSITORY]


async def mine(fleet: Fleet, target: str) -> list[dict[str, Any]]:
    """What Slack or the mail server took about this file's repository."""
    effects = await fleet.company.effects(target)
    return [e for e in effects if (e.get("subject") or e["body"]["text"]).startswith(f"{REPOSITORY}: ")]


async def notifications(fleet: Fleet) -> list[Any]:
    sent = await fleet.log(type="dev.buildlight.notification.sent.v1")
    return [event for event in sent if event["data"]["title"].startswith(f"{REPOSITORY}: ")]


async def seen(fleet: Fleet, prefix: str, attempt: int, state: str) -> dict[str, Any]:
    """Wait for the observation of this state of an attempt; its event."""

    async def look() -> dict[str, Any] | None:
        for event in await fleet.log(prefix=prefix, type="dev.buildlight.build.observed.v1"):
            if (event["data"]["build"]["attempt"], event["data"]["state"]) == (attempt, state):
                return dict(event)
        return None

    found = await until(look, why=f"attempt {attempt} was not seen {state}")
    assert found is not None
    return found


async def test_a_build_is_followed_from_the_provider_to_everybody_who_is_told(fleet: Fleet) -> None:
    """queued, running, failed (the pipeline broke), run again, good (it recovered): each station agrees."""
    company = fleet.company
    [first] = await until(lambda: builds_finished(fleet))
    repository_id = first["data"]["build"]["repository_id"]
    pipeline = f"github/127.0.0.1/{repository_id}/workflows/{first['data']['pipeline']['workflow_id']}"

    async with Watcher(fleet.url("api"), "builds", "pipeline", "notifications") as watcher:
        run_id = await company.run(
            REPOSITORY,
            title="Take cards with a long number",
            jobs=[{"name": "lint"}, {"name": "unit tests"}],
        )
        run = f"github/127.0.0.1/{repository_id}/runs/{run_id}"
        await seen(fleet, run, 1, "queued")
        await company.advance(
            run_id,
            status="in_progress",
            jobs=[
                {"name": "lint", "status": "completed", "conclusion": "success"},
                {"name": "unit tests", "status": "in_progress"},
            ],
        )
        await seen(fleet, run, 1, "running")
        step = {"name": "Run the tests", "conclusion": "failure"}
        await company.advance(
            run_id,
            status="completed",
            conclusion="failure",
            jobs=[{"name": "unit tests", "status": "completed", "conclusion": "failure", "steps": [step]}],
        )
        failed = await seen(fleet, run, 1, "failure")
        await until(lambda: mine(fleet, "slack"))
        await until(lambda: mine(fleet, "smtp"))

        await company.advance(run_id, new_attempt=True)
        await seen(fleet, run, 2, "queued")
        await company.advance(run_id, status="in_progress")
        await seen(fleet, run, 2, "running")
        await company.advance(run_id, status="completed", conclusion="success")
        good = await seen(fleet, run, 2, "success")

        async def all_told() -> bool:
            sent = await notifications(fleet)
            return (
                len(sent) == 4
                and bool(watcher.frames)
                and watcher.frames[-1]["position"] >= sent[-1]["position"]
            )

        await until(all_told)

    # The log: what was observed and what follows, each once, in the order it happened.
    assert [state for kind, state in await events(fleet, run) if kind == "build.observed.v1"] == [
        *("queued", "running", "failure"),
        *("queued", "running", "success"),
    ]
    assert [state for kind, state in await events(fleet, run) if kind == "build.finished.v1"] == [
        "failure",
        "success",
    ]
    jobs = Counter(
        (e["data"]["build"]["attempt"], e["data"]["name"], e["data"]["state"])
        for e in await fleet.log(prefix=f"{run}/jobs/", type="dev.buildlight.job.observed.v1")
    )
    assert jobs == Counter(
        [
            *((1, "lint", "queued"), (1, "unit tests", "queued")),
            *((1, "lint", "success"), (1, "unit tests", "running"), (1, "unit tests", "failure")),
            *((2, "test", "queued"), (2, "test", "running"), (2, "test", "success")),
        ]
    )
    broke, recovered = await fleet.log(prefix=pipeline)
    assert (broke["type"], recovered["type"]) == ("pipeline.broke.v1", "pipeline.recovered.v1")
    assert broke["data"]["build"] == failed["data"]["build"]
    assert broke["data"]["last_good"] == first["data"]["build"]
    assert broke["causation_id"] == failed["id"]
    assert broke["correlation_id"] == failed["correlation_id"]
    assert recovered["data"]["build"] == good["data"]["build"]
    assert recovered["data"]["broken_since"] == broke["data"]["broke_at"]
    assert recovered["causation_id"] == good["id"]

    # People: one message and one mail for each fact, and the log says that they were sent.
    told = [f"{REPOSITORY}: ci broke on main", f"{REPOSITORY}: ci works again on main"]
    slack, mail = await mine(fleet, "slack"), await mine(fleet, "smtp")
    assert slack_texts(slack) == told
    assert mail_subjects(mail) == told
    deliveries = {
        (channel, fact["id"]): str(derive_id("delivery", RULE, channel, fact["id"]))
        for channel in ("slack", "mail")
        for fact in (broke, recovered)
    }
    sent = await notifications(fleet)
    assert {
        (s["data"]["channel"], s["data"]["fact_id"]): s["data"]["delivery_id"] for s in sent
    } == deliveries
    assert len(sent) == 4
    assert [effect["message_id"] for effect in mail] == [
        f"<{deliveries['mail', fact['id']]}@acme.example>" for fact in (broke, recovered)
    ]
    assert mail[1]["headers"]["in-reply-to"] == mail[0]["message_id"]

    # The live feed: every event of these nouns, in the log's order, once.
    last = watcher.frames[-1]["position"]
    assert watcher.told() == [
        (event["position"], event["type"])
        for event in await fleet.log()
        if watcher.position < event["position"] <= last and event["type"].partition(".")[0] in NOUNS
    ]
    assert {(f["event"].partition(".")[0], f["type"]) for f in watcher.frames} == set(NOUNS.items())
    frame = next(f for f in watcher.frames if f["position"] == broke["position"])
    build_id = BuildRef.model_validate(failed["data"]["build"]).build_id
    assert frame["type"] == "pipeline"
    assert frame["data"] == broke["data"] | {
        "build_id": str(build_id),
        "pipeline_id": str(derive_id("pipeline", pipeline, "main")),
    }

    await the_api_agrees(fleet, failed, good, first)


async def the_api_agrees(
    fleet: Fleet, failed: dict[str, Any], good: dict[str, Any], first: dict[str, Any]
) -> None:
    """The list, both attempts with their jobs, the overview, the history, and the older paths."""
    ids = [str(BuildRef.model_validate(event["data"]["build"]).build_id) for event in (good, failed, first)]
    listed = await fleet.get("/api/v1/builds/", repository=REPOSITORY)
    shown = [(b["build_id"], b["attempt"], b["state"]) for b in listed["builds"]]
    # Attempts of one run were created at one moment, and the list goes by that: either may be first.
    assert sorted(shown[:2]) == sorted([(ids[0], 2, "success"), (ids[1], 1, "failure")])
    assert shown[2:] == [(ids[2], 1, "success")]
    assert listed["total"] == 3

    bad = await fleet.get(f"/api/v1/builds/{ids[1]}")
    assert bad["build"]["position"] == failed["position"]
    assert bad["build"]["title"] == "Take cards with a long number"
    assert {(job["name"], job["state"]) for job in bad["jobs"]} == {
        ("lint", "success"),
        ("unit tests", "failure"),
    }
    [tests] = [job for job in bad["jobs"] if job["name"] == "unit tests"]
    assert [(step["name"], step["state"]) for step in tests["steps"]] == [("Run the tests", "failure")]
    assert [(a["attempt"], a["state"]) for a in bad["attempts"]] == [(1, "failure"), (2, "success")]
    again = await fleet.get(f"/api/v1/builds/{ids[0]}")
    assert [(job["name"], job["state"]) for job in again["jobs"]] == [("test", "success")]
    assert again["pipeline"]["state"] == "success"
    assert again["pipeline"]["conclusive_build_id"] == ids[0]

    overview = await fleet.get("/api/v1/pipeline/overview")
    [pipeline] = [p for p in overview["pipelines"] if p["repository"] == REPOSITORY]
    assert (pipeline["state"], pipeline["latest_build_id"]) == ("success", ids[0])
    assert ids[0] in [build["build_id"] for build in overview["recent_builds"]]

    history = await fleet.get("/api/v1/notifications/history", limit=100)
    mine = [n for n in history["notifications"] if n["title"].startswith(f"{REPOSITORY}: ")]
    assert Counter((n["channel"], n["status"]) for n in mine) == {("slack", "sent"): 2, ("mail", "sent"): 2}


def job(run_id: str, name: str, **values: Any) -> dict[str, Any]:
    """The plain job, with the fields it has always had."""
    return {
        "run_id": run_id,
        "type": "component",
        "blueprint": {"template": "go-backend", "name": name, "namespace": "my-team", "values": values},
        "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
    }


async def provisioned(fleet: Fleet, run_id: str) -> dict[str, Any]:
    """Wait until a run has come to its end, and everybody was told; how the API shows it."""

    async def look() -> dict[str, Any] | None:
        answer = await fleet.http.get(f"{fleet.url('api')}/api/v1/provisioning/runs/{run_id}")
        if answer.status_code != 200 or answer.json()["status"] not in ("succeeded", "failed"):
            return None
        told = [e for e in await fleet.company.effects("control_plane") if e["body"]["run_id"] == run_id]
        over = told and told[-1]["body"]["status"] == answer.json()["status"]
        return dict(answer.json()) if over else None

    run = await until(look, seconds=60, why=f"the run {run_id} did not end")
    assert run is not None
    return run


async def one_repository(fleet: Fleet, run_id: str, path: str) -> None:
    """Every station agrees that `run_id` made one project with one commit."""
    run = await provisioned(fleet, run_id)
    assert run["status"] == "succeeded", run["error"]
    assert [(step["step"], step["status"]) for step in run["steps"]] == [
        (step, "succeeded") for step in STEPS
    ]
    effects = [e for e in await fleet.company.effects("gitlab") if e["path"] == path]
    assert [effect["kind"] for effect in effects] == ["project_created", "commit_created"]
    assert run["project_id"] == effects[0]["id"]
    assert run["commit_sha"] == effects[1]["sha"]
    assert effects[1]["files"] > 3

    async def said() -> bool:
        kinds = [e["type"] for e in await fleet.log(prefix=f"provisioning/{run_id}")]
        assert kinds == [
            "provisioning.requested.v1",
            *["provisioning.step_completed.v1"] * len(STEPS),
            "provisioning.succeeded.v1",
        ]
        return True

    await until(said)
    told = [e for e in await fleet.company.effects("control_plane") if e["body"]["run_id"] == run_id]
    statuses = [effect["body"]["status"] for effect in told]
    assert statuses[-1] == "succeeded"
    assert set(statuses) <= {"running", "succeeded"}
    assert len({effect["idempotency_key"] for effect in told}) == len(told)
    assert told[-1]["body"]["commit_sha"] == run["commit_sha"]


async def test_the_plain_job_makes_one_repository(fleet: Fleet) -> None:
    """A job on the queue `provisioning-jobs`, published twice, is one project with one commit."""
    run_id, body = "story-1", job("story-1", "my-service", port=8080, database="postgres")
    connection = await aio_pika.connect(fleet.rabbitmq.url)
    async with connection:
        channel = await connection.channel()
        for _ in range(2):
            message = aio_pika.Message(json.dumps(body).encode(), content_type="application/json")
            await channel.default_exchange.publish(message, "provisioning-jobs", mandatory=True)
    await one_repository(fleet, run_id, "acme/platform/my-service")


async def test_a_repository_is_asked_for_by_http(fleet: Fleet) -> None:
    """POST with a key is 202 with a place to look; without one it is 401, and nothing is made."""
    address = f"{fleet.url('api')}/api/v1/provisioning/runs"
    wanted = job("story-2", "by-http")
    refused = await fleet.http.post(address, json=wanted)
    assert refused.status_code == 401
    assert refused.json()["error"]["type"] == "Unauthorized"

    taken = await fleet.http.post(address, json=wanted, headers=fleet.key)
    assert taken.status_code == 202
    assert taken.headers["location"] == taken.json()["location"] == "/api/v1/provisioning/runs/story-2"
    await one_repository(fleet, "story-2", "acme/platform/by-http")
