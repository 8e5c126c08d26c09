"""A job becomes one project with one commit, and everybody who should hear of it does."""

import asyncio
import json
import socket
from typing import Any

import aio_pika
import asyncpg
import pytest

from buildlight_contracts.commands import ProvisionV1
from buildlight_contracts.provisioning import STEPS
from chassis.broker import Broker
from tests.integration.provisioner.conftest import RUNGS, Company, Eventually, Rig

SUCCEEDED = [(step, "succeeded") for step in STEPS]


def one_of_each(rig: Rig) -> list[tuple[str, str]]:
    return [("project_created", rig.path), ("commit_created", rig.path)]


async def test_the_plain_job_becomes_a_repository(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """Plain JSON in; one project with one commit and all files out; steps, facts and call-backs in order."""
    async with rig.running() as service:
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
        await eventually(lambda: _told(sandbox, "succeeded"))
        run, steps = await rig.run(), await rig.steps()
        ready = await service.ready()
    assert run is not None
    assert await sandbox.made() == one_of_each(rig)
    project = await sandbox.gitlab("GET", f"/projects/{run['project_id']}")
    assert (project["path_with_namespace"], project["visibility"]) == (rig.path, "private")
    commits = await sandbox.gitlab("GET", f"/projects/{run['project_id']}/repository/commits")
    assert [commit["id"] for commit in commits] == [run["commit_sha"]]
    assert commits[0]["message"] == (
        f"Start {rig.name} from the blueprint go-backend\n\nBuildlight-Run: {rig.name}\n"
    )
    tree = await sandbox.gitlab(
        "GET", f"/projects/{run['project_id']}/repository/tree", params={"recursive": "true", "per_page": 100}
    )
    files = {entry["path"] for entry in tree if entry["type"] == "blob"}
    assert {"README.md", ".gitlab-ci.yml", "Dockerfile", "compose.yaml", "cmd/server/main.go"} < files
    assert len(files) == 10

    assert steps == SUCCEEDED
    asked = {"kind": "component", "template": "go-backend", "name": rig.name, "namespace": "my-team"}
    assert asked.items() <= run.items()
    assert (run["group_id"], run["visibility"], run["error"]) == ("123", "private", None)
    assert run["project_url"] == project["web_url"]
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]

    facts = await rig.facts()
    assert [fact.routing_key for fact in facts] == [
        "provisioning.requested.v1",
        *["provisioning.step_completed.v1"] * 7,
        "provisioning.succeeded.v1",
    ]
    assert [fact.data["step"] for fact in facts[1:-1]] == list(STEPS)
    assert [fact.data["detail"] for fact in facts[1:-1]] == [
        f"go-backend for {rig.path}",
        "an empty folder, readable by the provisioner alone",
        facts[3].data["detail"],
        f"{rig.path} created",
        f"10 files in commit {run['commit_sha'][:12]}",
        "the control plane will be told",
        "the workspace is gone",
    ]
    assert facts[3].data["detail"].startswith("10 files, ")
    assert facts[-1].data["commit_sha"] == run["commit_sha"]
    assert {fact.correlationid for fact in facts} == {facts[0].id}
    assert {fact.subject for fact in facts} == {f"provisioning/{rig.name}"}

    told = await sandbox.told()
    assert [call["body"]["status"] for call in told] == ["running", "succeeded"]
    assert {(call["method"], call["path"]) for call in told} == {
        ("PATCH", f"/api/v1/provisioning/runs/{rig.name}")
    }
    assert [call["idempotency_key"] for call in told] == [f"{rig.name}/1", f"{rig.name}/2"]
    last = told[-1]["body"]
    assert (last["repository_url"], last["commit_sha"], last["worker_id"], last["error"]) == (
        run["project_url"],
        run["commit_sha"],
        "worker-001",
        None,
    )
    assert [step["step"] for step in last["steps"]][:6] == list(STEPS)[:6]
    assert ready == {
        "provisioner.database": "ok",
        "provisioner.consumers": "ok",
        "provisioner.blueprints": "ok",
    }


async def _told(sandbox: Company, status: str) -> bool:
    return any(call["body"]["status"] == status for call in await sandbox.told())


async def test_our_command_does_the_same(
    rig: Rig, sandbox: Company, amqp_url: str, eventually: Eventually
) -> None:
    """The command's own ids are the story and the cause of what is recorded."""
    broker = Broker(amqp_url, service="test", rungs=RUNGS)
    await broker.start()
    try:
        async with rig.running():
            sent = await broker.command(
                ProvisionV1.model_validate(rig.job(template="python-service", values={}))
            )
            await eventually(lambda: rig.is_("succeeded"), timeout=60)
    finally:
        await broker.stop()
    assert await sandbox.made() == one_of_each(rig)
    facts = await rig.facts()
    assert facts[0].causationid == sent.id
    assert {fact.correlationid for fact in facts} == {sent.id}
    assert facts[-1].routing_key == "provisioning.succeeded.v1"


async def test_the_same_job_thrice_is_one_project(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """Asked again while it is queued, at work, or done: answered again, not done again."""
    async with rig.running():
        await rig.ask(rig.job())
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
        await rig.ask(rig.job())
        await rig.ask(b"{}")  # when this one is dead, the one before it was handled
        await eventually(lambda: rig.dead_letter("provisioning-jobs"))
        await eventually(lambda: _is_empty(rig, "provisioner.work"))
    assert await sandbox.made() == one_of_each(rig)
    names = [fact.routing_key for fact in await rig.facts()]
    assert (names.count("provisioning.requested.v1"), names.count("provisioning.succeeded.v1")) == (1, 1)


async def _is_empty(rig: Rig, queue: str) -> bool:
    return await rig.depth(queue) == 0


async def test_a_run_id_is_for_one_job(rig: Rig, eventually: Eventually) -> None:
    """The same run_id with other content is a dead letter that says so."""
    async with rig.running():
        await rig.ask(rig.job())
        await eventually(rig.run)
        await rig.ask(rig.job(values={"port": 9999}))
        dead = await eventually(lambda: rig.dead_letter("provisioning-jobs"))
    assert dead.headers["buildlight-reason"] == (
        f"run_id {rig.name!r} was already used for another job: send this one with a run_id of its own"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"run_id": ', "not JSON at character 11"),
        (
            b'{"run_id": "x", "type": "component"}',
            "not a valid repository.provision.v1: blueprint: Field required",
        ),
    ],
)
async def test_a_bad_job_is_a_dead_letter(rig: Rig, eventually: Eventually, body: bytes, reason: str) -> None:
    """At once, with the reason; nothing is noted of it."""
    async with rig.running():
        await rig.ask(body)
        dead = await eventually(lambda: rig.dead_letter("provisioning-jobs"))
    assert (dead.body, dead.headers["buildlight-reason"]) == (body, reason)
    assert await rig.row("SELECT count(*) AS n FROM provisioner.runs") == {"n": 0}


async def failed(rig: Rig, eventually: Eventually, job: dict[str, Any], **settings: Any) -> dict[str, Any]:
    """The run of a job that fails; and that it is an answer: no dead letter, nothing retried."""
    async with rig.running(**settings):
        await rig.ask(job)
        await eventually(lambda: rig.is_("failed"), timeout=60)
        await eventually(lambda: _is_empty(rig, "provisioner.work"))
    assert await rig.dead_letter("provisioner.work") is None
    run = await rig.run()
    assert run is not None
    facts = await rig.facts()
    assert facts[-1].routing_key == "provisioning.failed.v1"
    assert facts[-1].data["reason"] == run["error"]
    return run | {"step": facts[-1].data["step"]}


async def test_an_unknown_blueprint_fails_with_the_list(
    rig: Rig, sandbox: Company, eventually: Eventually
) -> None:
    """Nothing is made; the control plane hears why."""
    async with rig.running():
        await rig.ask(rig.job(template="https://evil.example/x.git"))
        await eventually(lambda: _told(sandbox, "failed"), timeout=60)
    reason = "There is no blueprint 'https://evil.example/x.git'. Known are go-backend, python-service"
    run = await rig.run()
    assert run is not None
    assert (run["status"], run["error"]) == ("failed", reason)
    assert (await sandbox.told())[-1]["body"]["error"] == reason
    assert await rig.steps() == [("validate", "failed")]
    assert await sandbox.made() == []


async def test_bad_values_fail_by_name(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """Ours and the blueprint's own checks; no value is in the reason, on a view, or in an event."""
    run = await failed(rig, eventually, rig.job(values={"port": "hunter22", "extra": "hunter22"}))
    assert run["error"] == (
        "values.extra: go-backend does not ask for it; it asks for description, port, database; "
        "values.port: must be a whole number"
    )
    assert await sandbox.made() == []


async def test_a_value_its_question_refuses_fails_in_render(rig: Rig, eventually: Eventually) -> None:
    """The blueprint's validator is heard."""
    run = await failed(rig, eventually, rig.job(values={"port": 70000}))
    assert (run["step"], run["error"]) == (
        "render",
        "The blueprint go-backend cannot be rendered: ValueError: Validation error for question 'port': "
        "must be from 1 to 65535",
    )


async def test_a_taken_path_is_nobodys_to_use(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """A project of another's at the path is left alone, and the run fails saying what to do."""
    theirs = await sandbox.gitlab("POST", "/projects", json={"name": rig.name, "namespace_id": 123})
    await sandbox.control("DELETE", "/effects")
    run = await failed(rig, eventually, rig.job())
    assert (run["step"], run["error"]) == (
        "create",
        f"The path {rig.path} is taken: {theirs['web_url']} exists and is not of this run. "
        "Choose another name, or remove that project, and ask again with a new run_id",
    )
    assert await sandbox.made() == []


async def test_a_refused_token_fails_with_advice(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """401 is an answer: no retry, and what to do."""
    run = await failed(rig, eventually, rig.job(), gitlab_token="wrong")
    assert (run["step"], run["error"]) == (
        "validate",
        "GitLab refuses the token (401): make a new one with the scope api and set GITLAB_TOKEN",
    )


async def test_no_token_fails_with_advice(rig: Rig, eventually: Eventually, monkeypatch: Any) -> None:
    """The service runs without a token, and each run says what is missing."""
    monkeypatch.delenv("GITLAB_TOKEN", raising=False)
    run = await failed(rig, eventually, rig.job(), gitlab_token=None)
    assert run["error"] == ("GITLAB_TOKEN is not set: give the provisioner a token that may create projects")


async def test_a_group_that_is_not_there(rig: Rig, eventually: Eventually) -> None:
    """404 of the group is an answer."""
    job = rig.job()
    job["git_config"]["group_id"] = "999"
    run = await failed(rig, eventually, job)
    assert run["error"] == (
        "GitLab has no group 999 that the token may see (404): set git_config.group_id in the job, or "
        "GITLAB_GROUP_ID, to the id of a group whose member the token's user is"
    )


@pytest.mark.parametrize(("default", "path"), [("100", "acme"), (None, "my-team")])
async def test_a_job_without_a_group(
    rig: Rig, sandbox: Company, eventually: Eventually, default: str | None, path: str
) -> None:
    """The configured group is used; without one, the namespace is the group's path."""
    job = rig.job()
    del job["git_config"]
    async with rig.running(gitlab_group_id=default):
        await rig.ask(job)
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert (await sandbox.made())[0] == ("project_created", f"{path}/{rig.name}")


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 503},
        {"kind": "nonsense"},
        {"kind": "rate_limit", "seconds": 1},
        {"kind": "status", "status": 502, "path": "repository/commits", "after": True},
        {"kind": "status", "status": 502, "path": "^/api/v4/projects$", "after": True},
    ],
)
async def test_a_passing_fault_of_gitlab_is_retried(
    rig: Rig, sandbox: Company, eventually: Eventually, fault: dict[str, Any]
) -> None:
    """5xx, rubbish, a rate limit, and answers that got lost after their effect: one project, one commit."""
    await sandbox.fault(target="gitlab", times=1, **fault)
    async with rig.running():
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert await sandbox.made() == one_of_each(rig)
    assert await rig.steps() == SUCCEEDED
    names = [fact.routing_key for fact in await rig.facts()]
    assert names.count("provisioning.step_completed.v1") == 7


async def test_every_try_used_up_and_replayed(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """The run fails and the message dies; put back on its queue when GitLab is well, it ends in success."""
    await sandbox.fault(target="gitlab", kind="status", status=500, path="repository/commits")
    async with rig.running():
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("failed"), timeout=60)
        dead = await eventually(lambda: rig.dead_letter("provisioner.work"))
        run = await rig.run()
        assert run is not None
        assert run["error"] == (
            "Given up after 3 tries: GitLab answered 500 about the commits: 500 Sandbox fault"
        )
        assert dead.headers["buildlight-kind"] == "exhausted"
        assert json.loads(dead.body) == {"run_id": rig.name}
        await eventually(lambda: _told(sandbox, "failed"))
        await sandbox.control("DELETE", "/faults")
        await rig.ask(dead.body, queue="provisioner.work")
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
        await eventually(lambda: _told(sandbox, "succeeded"))
        await rig.ask(dead.body, queue="provisioner.work")
        await eventually(lambda: _is_empty(rig, "provisioner.work"))
    assert await sandbox.made() == one_of_each(rig)
    assert await rig.steps() == SUCCEEDED
    names = [fact.routing_key for fact in await rig.facts()]
    assert names.count("provisioning.step_completed.v1") == 7
    assert names.count("provisioning.failed.v1") == 1


async def test_a_push_refused_for_good_says_what_is_left(
    rig: Rig, sandbox: Company, eventually: Eventually
) -> None:
    """The project exists and is empty, and the reason says so and what to do."""
    await sandbox.fault(target="gitlab", kind="status", status=413, path="repository/commits$")
    run = await failed(rig, eventually, rig.job())
    assert (run["step"], run["error"]) == (
        "push",
        f"GitLab refused the commits (413): 413 Sandbox fault. The project {run['project_url']} exists and is "
        "empty: remove it, and ask again with a new run_id when the reason is mended",
    )
    assert await sandbox.made() == [("project_created", rig.path)]


async def test_gitlab_away_spends_no_try(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """While no connection to GitLab can be made the run is held: more often than there are tries."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and does not listen
        async with rig.running(gitlab_url=f"http://127.0.0.1:{closed.getsockname()[1]}"):
            await rig.ask(rig.job())
            await eventually(lambda: rig.is_("running"))
            await asyncio.sleep(2)  # several times both rungs
            assert await rig.is_("running")
            assert await rig.dead_letter("provisioner.work") is None
    async with rig.running():
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert await sandbox.made() == one_of_each(rig)


async def test_a_gitlab_that_does_not_answer_one_run_ends_that_run(
    rig: Rig, sandbox: Company, eventually: Eventually
) -> None:
    """A slow answer spends a try, so that a run that GitLab chokes on is not held for ever."""
    await sandbox.fault(target="gitlab", kind="hang", seconds=30, path="repository/commits")
    async with rig.running(gitlab_timeout_seconds=0.5):
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("failed"), timeout=60)
        await eventually(lambda: rig.dead_letter("provisioner.work"))
    run = await rig.run()
    assert run is not None
    assert run["error"] == (
        "Given up after 3 tries: GitLab did not answer about the commits, and may have done it: ReadTimeout"
    )


async def test_a_control_plane_that_is_away_delays_nothing(
    rig: Rig, sandbox: Company, eventually: Eventually
) -> None:
    """The run succeeds; the call-back comes when the control plane is back: the newest, once."""
    await sandbox.fault(target="control_plane", kind="status", status=503)
    async with rig.running(retry_rungs=("1s", "1s", "1s", "1s", "1s", "1s")):
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
        assert await sandbox.told() == []
        await sandbox.control("DELETE", "/faults")
        await eventually(lambda: _told(sandbox, "succeeded"))
        await asyncio.sleep(1.5)  # a second one would come within a rung
    assert [call["body"]["status"] for call in await sandbox.told()] == ["succeeded"]


async def test_no_control_plane_no_call_backs(rig: Rig, sandbox: Company, eventually: Eventually) -> None:
    """Without an address nobody is told, and the step says so."""
    async with rig.running(control_plane_url=None):
        await rig.ask(rig.job())
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert await sandbox.told() == []
    detail = await rig.row(
        "SELECT detail FROM provisioner.published_steps WHERE run_id = $1 AND step = 'report'", rig.name
    )
    assert detail == {"detail": "no control plane is configured"}


async def test_values_are_kept_from_readers(rig: Rig, database_url: str, eventually: Eventually) -> None:
    """A value is in the job, which a restart needs, and in no event, no view, and nothing a reader may read."""
    async with rig.running():
        await rig.ask(rig.job(values={"description": "hunter22"}))
        await eventually(lambda: rig.is_("succeeded"), timeout=60)
    assert not [fact for fact in await rig.facts() if "hunter22" in fact.model_dump_json()]
    reader = await asyncpg.connect(database_url)
    try:
        await reader.execute("SET ROLE buildlight_reader")
        seen = await reader.fetch("SELECT * FROM provisioner.published_runs")
        seen += await reader.fetch("SELECT * FROM provisioner.published_steps")
        assert len(seen) == 8
        assert "hunter22" not in str(seen)
        for table in ("runs", "steps", "outbox"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.fetch(f"SELECT * FROM provisioner.{table}")
        undescribed = await reader.fetch(
            """
            SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
             WHERE relnamespace = 'provisioner'::regnamespace AND relkind = 'v' AND attnum > 0
               AND col_description(attrelid, attnum) IS NULL
            """
        )
        assert undescribed == []
    finally:
        await reader.close()


async def test_the_jobs_queue_may_have_another_name(rig: Rig, amqp_url: str, eventually: Eventually) -> None:
    """RABBITMQ_QUEUE names it; another team's own declaration of it is left as it is."""
    async with await aio_pika.connect(amqp_url) as connection:
        await (await connection.channel()).declare_queue("their-jobs", arguments={"x-max-length": 50})
        async with rig.running(jobs_queue="their-jobs"):
            await rig.ask(rig.job(template="none"), queue="their-jobs")
            await eventually(lambda: rig.is_("failed"))
