"""GitLab's and Jenkins' webhooks as the sandbox makes them, beside recorded ones."""

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from sandbox.clock import Clock
from sandbox.gitlab_ci import CI
from sandbox.gitlab_hooks import WATCHED_PIPELINES, GitLabHooks
from sandbox.gitlab_story import LivingPipelines
from sandbox.gitlab_story import living as living_projects
from sandbox.jenkins_hooks import WATCHED_BUILDS, JenkinsHooks
from sandbox.jenkins_scripted import Scripted
from sandbox.ledger import Ledger
from sandbox.webhooks import Source
from tests.corpora import corpus

BASE = "http://127.0.0.1:1/gitlab"
LONG_AGO = "2026-03-02T09:00:00.734Z"
Told = tuple[str, dict[str, Any]]


def ci_of(projects: int = 0, *, backlog_hours: float = 5.0) -> CI:
    start = time.time()
    clock = Clock(start, backlog_seconds=backlog_hours * 3600, speed=60)
    stories = living_projects(projects, start)
    pipelines = LivingPipelines(1, stories, first_id=1, stamp=clock.real)
    return CI(pipelines, clock, Ledger(), [project for _, project in stories])


def heard(source: Source) -> list[Told]:
    return [(one.event, json.loads(one.body)) for one in source(BASE)]


def states(told: list[Told]) -> list[tuple[Any, ...]]:
    """What GitLab's hooks tell: a pipeline's status, or a job's with its count of retries."""
    return [
        ("pipeline", body["object_attributes"]["status"])
        if event == "Pipeline Hook"
        else (body["build_name"], body["build_status"], body["retries_count"])
        for event, body in told
    ]


def test_gitlab_tells_each_change_once() -> None:
    """Of jobs and pipeline; and nothing when nothing has changed."""
    ci = ci_of()
    hooks = GitLabHooks(ci)
    assert heard(hooks) == []
    run = ci.scripted.create({"project": "acme/shop", "status": "pending"}).id
    assert states(heard(hooks)) == [("test", "pending", 0), ("pipeline", "pending")]
    assert heard(hooks) == []
    ci.scripted.advance(run, {"status": "failed", "jobs": [{"name": "test", "status": "failed"}]})
    assert states(heard(hooks)) == [("test", "failed", 0), ("pipeline", "failed")]
    assert heard(hooks) == []


def test_gitlab_leaves_out_what_was_retried() -> None:
    """The hook of a retried pipeline has the new job alone; the job's own hook counts the old one."""
    ci = ci_of()
    hooks = GitLabHooks(ci)
    script = {"project": "acme/shop", "status": "failed", "created_at": LONG_AGO}
    run = ci.scripted.create(script).id
    [(_, old), _] = heard(hooks)
    ci.scripted.advance(run, {"status": "running", "retry": ["test"]})
    told = heard(hooks)
    assert states(told) == [("test", "pending", 1), ("pipeline", "running")]
    [build] = told[1][1]["builds"]
    assert build["id"] == told[0][1]["build_id"] != old["build_id"]


def test_gitlab_times_are_cut_to_the_second() -> None:
    """And written as in hooks, not as in the API."""
    ci = ci_of()
    hooks = GitLabHooks(ci)
    ci.scripted.create({"project": "acme/shop", "status": "success", "created_at": LONG_AGO})
    (_, job), (_, pipeline) = heard(hooks)
    at = "2026-03-02 09:00:00 UTC"
    assert (job["build_created_at"], job["build_finished_at"], pipeline["builds"][0]["started_at"]) == (
        at,
    ) * 3
    attributes = pipeline["object_attributes"]
    assert (attributes["created_at"], attributes["finished_at"]) == (at, at)


def test_gitlab_names_what_started_a_child() -> None:
    """The parent's hook does not show its trigger job; the child's names the parent."""
    ci = ci_of()
    hooks = GitLabHooks(ci)
    parent = ci.scripted.create({"project": "acme/shop"}).id
    heard(hooks)
    ci.scripted.create({"project": "acme/shop", "parent": parent})
    told = [body for event, body in heard(hooks) if event == "Pipeline Hook"]
    assert [body["source_pipeline"]["pipeline_id"] for body in told] == [parent]


def test_gitlab_compares_the_newest_alone() -> None:
    """Of each project, so many: an older one may change, and is not told of."""
    ci = ci_of()
    hooks = GitLabHooks(ci)
    runs = [ci.scripted.create({"project": "acme/shop"}).id for _ in range(WATCHED_PIPELINES + 1)]
    heard(hooks)
    for run in runs[:2]:
        ci.scripted.advance(run, {"status": "success"})
    assert [body["object_attributes"]["id"] for _, body in heard(hooks)] == [runs[1]]


def test_the_living_gitlab_tells_what_it_shows() -> None:
    """Children, merge requests and retries too: each pipeline hook says what the API would."""
    ci = ci_of(2)
    told = heard(GitLabHooks(ci))
    shown = {run: status for _, run, status, _ in ci.served()}
    pipelines = [body for event, body in told if event == "Pipeline Hook"]
    assert len(pipelines) > 20
    now = time.time()
    for body in pipelines:
        attributes = body["object_attributes"]
        assert attributes["status"] == shown[attributes["id"]]
        created = datetime.strptime(attributes["created_at"], "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
        assert created.timestamp() <= now
    assert any(body["merge_request"] for body in pipelines)
    assert any("source_pipeline" in body for body in pipelines)


@pytest.mark.parametrize(
    ("event", "path"),
    [
        ("Pipeline Hook", "webhooks/go-playground/gitlab/pipeline-event.json"),
        ("Pipeline Hook", "webhooks/gitlab/go-gitlab/pipeline.json"),
        ("Job Hook", "webhooks/go-playground/gitlab/job-event.json"),
        ("Job Hook", "webhooks/gitlab/go-gitlab/job.json"),
    ],
)
def test_gitlab_hooks_have_what_recorded_ones_have(event: str, path: str) -> None:
    """Every field of a recorded hook is in ours, of the same kind where both have a value."""
    recorded = json.loads(corpus(path).read_text(encoding="utf-8"))
    ci = ci_of()
    hooks = GitLabHooks(ci)
    job = {"name": "production", "stage": "deploy", "status": "success", "archive": True}
    parent = ci.scripted.create({"project": "acme/shop", "merge_request": 7}).id
    ci.scripted.create(
        {"project": "acme/shop", "merge_request": 7, "parent": parent, "status": "success", "jobs": [job]}
    )
    ours = [body for told, body in heard(hooks) if told == event][-1]
    assert missing(recorded, ours) == []


def missing(recorded: Any, ours: Any, place: str = "") -> list[str]:
    """Where a recorded value has no counterpart, or one of another kind."""
    if recorded is None or ours is None:
        return []
    if isinstance(recorded, dict) and isinstance(ours, dict):
        gone = [f"{place}.{key}" for key in recorded if key not in ours]
        return gone + [
            m for key in recorded if key in ours for m in missing(recorded[key], ours[key], f"{place}.{key}")
        ]
    if isinstance(recorded, list) and isinstance(ours, list):
        return [found for one in recorded if ours for found in missing(one, ours[0], f"{place}[]")]
    numbers = (int, float)
    alike = type(recorded) is type(ours) or (isinstance(recorded, numbers) and isinstance(ours, numbers))
    return [] if alike else [f"{place}: {type(recorded).__name__} here {type(ours).__name__}"]


# -- Jenkins


def phases(told: list[Told]) -> list[tuple[str, str | None]]:
    return [(event, body["build"].get("status")) for event, body in told]


def test_jenkins_tells_when_a_build_begins_and_when_it_is_over() -> None:
    """Four phases, the result in the last two; and nothing between."""
    shelf = Scripted()
    hooks = JenkinsHooks([shelf])
    shelf.make_build({"job": "acme/shop/feature%2Fcards", "kind": "branch", "sha": "ab" * 20})
    told = heard(hooks)
    assert phases(told) == [("QUEUED", None), ("STARTED", None)]
    assert heard(hooks) == []
    shelf.advance("acme/shop/feature%2Fcards", 1, {"building": False, "result": "UNSTABLE"})
    told += heard(hooks)
    assert phases(told[2:]) == [("COMPLETED", "UNSTABLE"), ("FINALIZED", "UNSTABLE")]
    assert heard(hooks) == []
    _, body = told[-1]
    place = "job/acme/job/shop/job/feature%252Fcards/"
    assert (body["name"], body["display_name"], body["url"]) == ("feature%2Fcards", "feature/cards", place)
    assert (body["build"]["url"], body["build"]["full_url"]) == (f"{place}1/", f"{BASE}/{place}1/")
    assert body["build"]["scm"]["url"] == "https://git.acme.example/acme.git"


def test_jenkins_tells_of_a_job_that_is_made_again() -> None:
    """It counts from 1 again, and its first build is another."""
    shelf = Scripted()
    hooks = JenkinsHooks([shelf])
    for timestamp in (1_772_442_000_000, 1_772_442_060_000):
        shelf.make_build({"job": "nightly", "timestamp": timestamp, "building": False, "result": "SUCCESS"})
        assert [event for event, _ in heard(hooks)] == ["QUEUED", "STARTED", "COMPLETED", "FINALIZED"]
        shelf.delete_job("nightly")


def test_jenkins_compares_the_newest_alone() -> None:
    """Of all jobs, so many: an older build may end, and is not told of."""
    shelf = Scripted()
    hooks = JenkinsHooks([shelf])
    for number in range(WATCHED_BUILDS + 1):
        shelf.make_build({"job": "nightly", "timestamp": 1_772_442_000_000 + number})
    heard(hooks)
    for number in (1, 2):
        shelf.advance("nightly", number, {"building": False, "result": "SUCCESS"})
    assert {body["build"]["number"] for _, body in heard(hooks)} == {2}


def test_jenkins_posts_have_what_recorded_ones_have() -> None:
    """Every field of a recorded post is in ours."""
    recorded = json.loads(corpus("webhooks/jenkins/public-samples.json").read_text(encoding="utf-8"))
    shelf = Scripted()
    hooks = JenkinsHooks([shelf])
    shelf.make_build(
        {"job": "nightly", "sha": "ab" * 20, "branch": "main", "building": False, "result": "SUCCESS"}
    )
    _, ours = heard(hooks)[-1]
    for sample in recorded:
        assert missing(sample["payload"], ours) == []
