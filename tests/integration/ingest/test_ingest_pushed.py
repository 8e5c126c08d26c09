"""What others push to ingest: CDEvents in every form, and builds in the older systems' words."""

import json
from typing import Any

import pytest
from aio_pika.abc import AbstractChannel

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import validate
from buildlight_contracts.cdevents import CONTENT_TYPE, in_cloudevent
from buildlight_contracts.envelope import Envelope, derive_id
from buildlight_contracts.states import State
from chassis.database import Pool
from tests.integration.ingest.conftest import Eventually, observe, running
from tests.integration.ingest.test_ingest_http import BATCH, STRUCTURED, client
from tests.unit.contracts.test_contract_cdevents import RUN, cdevent

EVENT = cdevent("pipelinerun.finished", RUN | {"outcome": "failure"})
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": EVENT["context"]["id"],
    "ce-source": EVENT["context"]["source"],
    "ce-type": EVENT["context"]["type"],
    "ce-subject": EVENT["subject"]["id"],
    "ce-time": EVENT["context"]["timestamp"],
    "content-type": f"{CONTENT_TYPE}; charset=utf-8",
}
OLDER = {
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


async def builds(pool: Pool) -> list[BuildObservedV1]:
    rows = await pool.fetch(
        "SELECT data FROM log.events WHERE type = 'dev.buildlight.build.observed.v1' ORDER BY position"
    )
    return [validate(BuildObservedV1, row["data"]) for row in rows]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (STRUCTURED, in_cloudevent(EVENT)),
        (BINARY, EVENT),
        (BATCH, [in_cloudevent(EVENT)]),
        (BATCH, [EVENT]),
        ({"content-type": CONTENT_TYPE}, EVENT),
    ],
)
async def test_a_cdevent_is_kept_and_its_fact_beside_it(
    amqp_url: str,
    database_url: str,
    service_pool: Pool,
    channel: AbstractChannel,
    eventually: Eventually,
    headers: dict[str, str],
    body: Any,
) -> None:
    """In each of the forms: the original as received, then the build it tells of, caused by it; once however often."""
    original = derive_id(EVENT["context"]["source"], EVENT["context"]["id"])
    async with client(amqp_url, database_url, "write") as http:
        for _ in range(2):
            answer = await http.post("/events", content=json.dumps(body).encode(), headers=headers)
            assert (answer.status_code, answer.json()) == (202, {"accepted": [str(original)]})
        await eventually(lambda: service_pool.fetchval("SELECT position >= 2 FROM log.head"))
        marker = Envelope(id="marker", source="test", type="com.acme.x")
        await observe(channel, marker)
        await eventually(
            lambda: service_pool.fetchval("SELECT EXISTS (SELECT FROM log.events WHERE type = 'com.acme.x')")
        )
    rows = await service_pool.fetch("SELECT * FROM log.events WHERE source <> 'test' ORDER BY position")
    assert [row["type"] for row in rows] == [EVENT["context"]["type"], "dev.buildlight.build.observed.v1"]
    kept, told = rows
    assert (kept["id"], kept["data"]) == (original, EVENT)
    assert (told["causation_id"], told["correlation_id"]) == (str(original), kept["correlation_id"])
    assert (told["data"]["state"], told["data"]["workflow"]) == ("failure", "myPipeline")


async def test_cdevents_on_intake(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Published among other events they are mapped likewise; one of which no fact is made is kept alone."""
    envelopes = [
        Envelope.model_validate(in_cloudevent(event))
        for event in (
            cdevent("pipelinerun.queued", RUN, id="1"),
            cdevent("artifact.signed", {}, id="2"),
            cdevent("taskrun.started", {"taskName": "lint", "pipelineRun": {"id": "mySubject123"}}, id="3"),
            cdevent("service.deployed", {"environment": {"id": "prod"}}, id="4"),
            cdevent("change.merged", {"repository": {"id": "acme/shop"}}, subject="acme/shop#7", id="5"),
        )
    ]
    async with running(amqp_url, database_url):
        await observe(channel, *envelopes, Envelope(id="6", source="test", type="com.acme.x"))
        await eventually(lambda: service_pool.fetchval("SELECT position = 10 FROM log.head"))
    rows = await service_pool.fetch("SELECT type FROM log.events WHERE causation_id IS NOT NULL")
    assert sorted(row["type"] for row in rows) == [
        "dev.buildlight.build.observed.v1",
        "dev.buildlight.deployment.observed.v1",
        "dev.buildlight.job.observed.v1",
        "dev.buildlight.pull_request.observed.v1",
    ]


@pytest.mark.parametrize(
    ("path", "status", "provider", "state"),
    [
        ("/ingest/github", "success", "github", State.SUCCESS),
        ("/ingest/github", "in_progress", "github", State.RUNNING),
        ("/ingest/jenkins", "UNSTABLE", "jenkins", State.FAILURE),
        ("/ingest/jenkins", "ABORTED", "jenkins", State.CANCELLED),
        ("/ingest/jenkins", "pondering", "jenkins", State.UNKNOWN),
    ],
)
async def test_the_older_ingest(
    amqp_url: str,
    database_url: str,
    service_pool: Pool,
    channel: AbstractChannel,
    eventually: Eventually,
    path: str,
    status: str,
    provider: str,
    state: State,
) -> None:
    """Its body is a build, under a name that no provider's can have; sent again it is the same."""
    async with client(amqp_url, database_url, "write") as http:
        answers = [await http.post(path, json=OLDER | {"status": status}) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202]
        assert answers[0].json() == answers[1].json()
        await eventually(lambda: builds(service_pool))
    [build] = await builds(service_pool)
    assert answers[0].json()["id"] == str(build.build.build_id)
    assert (build.build.provider, build.build.instance) == (provider, "posted.invalid")
    assert (build.repository, build.workflow, build.branch) == ("org/repository", "build-and-test", "main")
    assert (build.raw_status, build.state) == (status, state)
    assert (build.finished_at is not None) == state.is_terminal


async def test_the_states_of_one_older_build_are_one_build(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Begun and ended, the end without its time, times without a zone, the repository in other letters."""
    going = {k: v for k, v in OLDER.items() if k not in ("completed_at", "duration_seconds")}
    ended = {k: v for k, v in OLDER.items() if k != "completed_at"}
    async with client(amqp_url, database_url, "write") as http:
        for body in (
            going | {"status": "in_progress"},
            ended | {"repo": "Org/Repository", "started_at": "2025-08-24T10:30:00"},
        ):
            assert (await http.post("/ingest/github", json=body)).status_code == 202
        await eventually(lambda: service_pool.fetchval("SELECT position = 2 FROM log.head"))
    first, second = await builds(service_pool)
    assert first.build == second.build
    assert second.finished_at is not None
    assert second.started_at is not None
    assert (second.finished_at - second.started_at).total_seconds() == 330


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({k: v for k, v in OLDER.items() if k != "started_at"}, 422, "body.started_at: Field required"),
        (OLDER | {"status": ""}, 422, "body.status: "),
        (OLDER | {"pipeline": "x" * 256}, 422, "body.pipeline: "),
        (OLDER | {"started_at": "yesterday"}, 422, "body.started_at: "),
        (OLDER | {"started_at": "0001-01-01T00:00:00+14:00"}, 422, "body.started_at: "),
        (OLDER | {"duration_seconds": -1}, 422, "body.duration_seconds: "),
        ([], 422, "body: "),
    ],
)
async def test_older_bodies_that_are_refused(
    amqp_url: str, database_url: str, channel: AbstractChannel, body: Any, status: int, message: str
) -> None:
    """With the field and what is wrong with it."""
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post("/ingest/github", json=body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"].startswith(message)


async def test_the_older_ingest_wants_a_key_unless_opened_by_name(
    amqp_url: str, database_url: str, channel: AbstractChannel
) -> None:
    """As X-API-Key or as Bearer; the operator may open one path and not the other."""
    async with client(amqp_url, database_url, None, open_paths=("/ingest/jenkins",)) as http:
        assert (await http.post("/ingest/github", json=OLDER)).status_code == 401
        bearer = {"authorization": "Bearer write"}
        assert (await http.post("/ingest/github", json=OLDER, headers=bearer)).status_code == 202
        assert (
            await http.post("/ingest/github", json=OLDER, headers={"x-api-key": "read"})
        ).status_code == 403
        assert (await http.post("/ingest/jenkins", json=OLDER)).status_code == 202
