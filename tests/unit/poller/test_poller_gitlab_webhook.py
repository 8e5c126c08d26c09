"""GitLab's hooks as facts, and the same facts by a poll."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState, PullRequestObservedV1
from buildlight_contracts.envelope import Fact
from buildlight_contracts.states import State
from services.poller.providers.gitlab.executions import executions_of
from services.poller.providers.gitlab.mapping import build_of, job_of
from services.poller.providers.gitlab.webhook import facts_of
from services.poller.seen import Seen
from tests.corpora import corpus
from tests.unit.poller.test_poller_gitlab_mapping import ODD

PIPELINE = "go-playground/gitlab/pipeline-event.json"


def recorded(path: str) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(corpus(f"webhooks/{path}").read_text(encoding="utf-8"))
    return body


def seen(body: dict[str, Any], event: str = "") -> Seen:
    return facts_of(event, body, instance="gitlab.test")


def by_poll(hook: dict[str, Any]) -> tuple[BuildObservedV1, list[JobObservedV1]]:
    """What a poll makes of the pipeline that a hook is about: the API's fields, formats, and finer times."""
    told = hook["object_attributes"]

    def exact(text: str | None) -> str | None:
        return text and text.replace(" UTC", ".734Z").replace(" ", "T")

    row = {
        "id": told["id"],
        "iid": told["iid"],
        "project_id": hook["project"]["id"],
        "status": told["status"],
        "source": told["source"],
        "ref": f"refs/merge-requests/{hook['merge_request']['iid']}/head",
        "sha": told["sha"],
        "tag": told["tag"],
        "created_at": exact(told["created_at"]),
        "updated_at": exact(told["finished_at"]),
        "started_at": exact("2016-08-12 15:24:56 UTC"),
        "finished_at": exact(told["finished_at"]),
        "duration": told["duration"],
    }
    times = ("created_at", "started_at", "finished_at")
    jobs = [build | {key: exact(build[key]) for key in times} for build in hook["builds"]]
    executions, refused = executions_of(jobs)
    assert refused == ()
    build = build_of(row, executions, instance="gitlab.test", repository="gitlab-org/gitlab-test")
    return build, [job_of(one.row, build=build.build, otherwise=build.updated_at) for one in executions]


def test_a_recorded_pipeline_hook() -> None:
    """A pipeline none of whose jobs is younger than itself: a fact of it, and one of each job that has ended."""
    found = seen(recorded(PIPELINE), "Pipeline Hook")
    build, *jobs = found.facts
    assert isinstance(build, BuildObservedV1)
    assert (build.build.run_id, build.build.attempt, build.state) == ("31", 1, State.SUCCESS)
    assert (build.pull_request, build.branch) == (1, "refs/merge-requests/1/head")
    assert (build.repository, build.actor, build.title) == ("gitlab-org/gitlab-test", "root", "pipeline_name")
    assert build.finished_at == datetime(2016, 8, 12, 15, 26, 29, tzinfo=UTC)
    assert build.started_at == datetime(2016, 8, 12, 15, 24, 56, tzinfo=UTC)
    assert sorted(job.name for job in jobs if isinstance(job, JobObservedV1)) == [
        "build-image",
        "production",
        "test-build",
        "test-image",
    ]
    assert (found.refresh, found.ignored) == ((), None)


def test_a_poll_and_a_hook_of_one_pipeline_make_the_same_ids() -> None:
    """The build's, and those of its jobs."""
    hook = recorded(PIPELINE)
    build, jobs = by_poll(hook)
    told, *told_jobs = seen(hook).facts
    assert told.identity() == build.identity()
    assert {job.identity() for job in told_jobs} <= {job.identity() for job in jobs}
    assert told.model_dump(exclude={"url", "title", "author", "actor", "commit_message", "queued_at"}) == (
        build.model_dump(exclude={"url", "title", "author", "actor", "commit_message", "queued_at"})
    )


def test_a_pipeline_with_a_younger_job_is_looked_at() -> None:
    """It was run again, and how often, no hook can tell."""
    hook = recorded(PIPELINE)
    hook["builds"][2]["created_at"] = "2016-08-12 15:40:00 UTC"
    assert seen(hook) == Seen(refresh=(("gitlab-org/gitlab-test", "31"),))
    hook["builds"][2]["created_at"] = None
    assert seen(hook) == Seen(refresh=(("gitlab-org/gitlab-test", "31"),))


def test_a_pipeline_that_another_started_is_looked_at() -> None:
    """Which job of the other did, the hook does not name."""
    found = seen(recorded("gitlab/go-gitlab/pipeline.json"))
    assert found == Seen(refresh=(("gitlab-org/gitlab-test", "31"),))


def test_a_pipeline_that_failed_without_a_job_is_looked_at() -> None:
    """Its configuration may be at fault, which only the API tells."""
    hook = recorded(PIPELINE)
    hook |= {"builds": [], "object_attributes": hook["object_attributes"] | {"status": "failed"}}
    assert seen(hook).refresh == (("gitlab-org/gitlab-test", "31"),)


def test_recorded_job_hooks() -> None:
    """Without a count of retries, or with one, the pipeline is looked at; its project is found all the same."""
    for path, run in (
        ("gitlab/go-gitlab/build.json", ("gitlab-org/gitlab-test", "2366")),
        ("go-playground/gitlab/build-event.json", ("gitlab-org/gitlab-test", "2366")),
        ("go-playground/gitlab/job-event.json", ("gitlab-org/gitlab-test", "2366")),
        ("gitlab/go-gitlab/job.json", ("jsmithy2/release-tools-fake", "743121198")),
    ):
        assert seen(recorded(path)) == Seen(refresh=(run,))


def test_a_job_hook_of_a_first_execution_is_a_fact() -> None:
    """The same as by a poll, id and all."""
    hook = recorded("gitlab/go-gitlab/job.json") | {"retries_count": 0}
    (job,) = seen(hook).facts
    assert isinstance(job, JobObservedV1)
    assert (job.name, job.stage, job.state, job.build.attempt) == (
        "auto_deploy:start",
        "coordinated:tag",
        State.SUCCESS,
        1,
    )
    assert job.failure_reason is None
    row = {
        "id": 3580121225,
        "name": "auto_deploy:start",
        "status": "success",
        "created_at": "2023-01-10T13:50:02.118Z",
        "started_at": "2023-01-10T13:50:05.311Z",
        "finished_at": "2023-01-10T13:50:54.815Z",
    }
    assert job.identity() == job_of(row, build=job.build, otherwise=job.observed_at).identity()


@pytest.mark.parametrize(
    "path", ["gitlab/go-gitlab/deployment.json", "go-playground/gitlab/deployment-event.json"]
)
def test_recorded_deployment_hooks(path: str) -> None:
    """The commit is in its address."""
    (fact,) = seen(recorded(path), "Deployment Hook").facts
    assert isinstance(fact, DeploymentObservedV1)
    assert (fact.environment, fact.state, fact.deployment_id) == ("staging", DeploymentState.SUCCESS, "15")
    assert fact.commit_sha == "279484c09fbe69ededfced8c1bb6e6d24616b468"
    assert fact.updated_at == datetime(2021, 4, 28, 19, 50, tzinfo=UTC)


@pytest.mark.parametrize(
    "path",
    [
        "gitlab/go-gitlab/merge_request.json",
        "go-playground/gitlab/merge-request-event.json",
        "go-playground/gitlab/system-merge-request-event.json",
    ],
)
def test_recorded_merge_request_hooks(path: str) -> None:
    """Open ones, with the commit at their head."""
    (fact,) = seen(recorded(path)).facts
    assert isinstance(fact, PullRequestObservedV1)
    assert (fact.number, fact.raw_status, fact.base_branch) == (1, "opened", "master")
    assert fact.head_sha is not None


def test_every_other_recorded_hook_is_left_with_a_reason() -> None:
    """None is an error, none is lost in silence."""
    folders = ("webhooks/gitlab/go-gitlab", "webhooks/go-playground/gitlab")
    files = [path for folder in folders for path in sorted(corpus(folder).glob("*.json"))]
    assert len(files) > 50
    unreadable = []
    for path in files:
        body = json.loads(path.read_text(encoding="utf-8"))
        found = seen(body)
        assert bool(found.facts or found.refresh) is (found.ignored is None), path
        used = body.get("object_kind") in ("pipeline", "build", "deployment", "merge_request")
        if used and found.ignored is not None:
            unreadable.append((path.name, found.ignored))
        assert used or found.ignored is not None
    # This one was written with its times left out.
    assert [name for name, _ in unreadable] == ["group_merge_request.json"]


HOOKS = (
    PIPELINE,
    "gitlab/go-gitlab/job.json",
    "gitlab/go-gitlab/deployment.json",
    "gitlab/go-gitlab/merge_request.json",
)


@pytest.mark.parametrize("path", HOOKS)
def test_no_odd_field_breaks_a_hook(path: str) -> None:
    """It is used, or left with a reason; and what comes of it can be written."""
    hook = recorded(path) | {"retries_count": 0}

    def check(body: dict[str, Any]) -> None:
        found = seen(body)
        assert bool(found.facts or found.refresh) is (found.ignored is None)
        facts: tuple[Fact, ...] = found.facts
        for fact in facts:
            assert fact.model_dump_json()
            fact.identity()

    for name, value in hook.items():
        for odd in ODD:
            check(hook | {name: odd})
            for inner in value if isinstance(value, dict) else ():
                check(hook | {name: value | {inner: odd}})
            if name == "builds":
                for key in value[0]:
                    check(hook | {name: [*value[1:], value[0] | {key: odd}]})
