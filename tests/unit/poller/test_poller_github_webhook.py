"""GitHub's webhooks as facts."""

import json
import random
from collections.abc import Iterator
from copy import deepcopy
from itertools import islice
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.catalogue import fact_of, parse
from buildlight_contracts.deployments import (
    CheckObservedV1,
    DeploymentObservedV1,
    DeploymentState,
    PullRequestObservedV1,
)
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.states import State
from sandbox import catalogue
from sandbox.clock import Clock
from sandbox.github_hooks import WATCHED_RUNS, GitHubHooks
from sandbox.history import History
from sandbox.shelves import Living
from sandbox.story import Story
from services.poller.providers.github.mapping import BadRowError, build_of, job_of
from services.poller.providers.github.webhook import EVENTS, facts_of
from services.poller.seen import Seen
from tests.corpora import corpus

INSTANCE = "api.github.com"
REPOSITORY = {"id": 1296269, "full_name": "acme/shop"}
RUN: dict[str, Any] = {
    "id": 30433642,
    "name": "CI",
    "run_attempt": 2,
    "status": "completed",
    "conclusion": "failure",
    "workflow_id": 159038,
    "created_at": "2026-03-02T09:00:00Z",
    "run_started_at": "2026-03-02T09:30:00Z",
    "updated_at": "2026-03-02T09:34:12Z",
    "repository": REPOSITORY,
}
JOB: dict[str, Any] = {
    "id": 399444496,
    "run_id": 30433642,
    "run_attempt": 2,
    "name": "unit (1)",
    "status": "completed",
    "conclusion": "failure",
    "created_at": "2026-03-02T09:30:02Z",
    "started_at": "2026-03-02T09:30:20Z",
    "completed_at": "2026-03-02T09:34:00Z",
}
CHECK: dict[str, Any] = {
    "id": 4,
    "name": "coverage",
    "head_sha": "d6fde929",
    "status": "completed",
    "conclusion": "neutral",
    "started_at": "2026-03-02T09:30:20Z",
    "completed_at": "2026-03-02T09:31:00Z",
    "html_url": "https://github.com/acme/shop/runs/4",
    "app": {"slug": "codecov", "name": "Codecov"},
    "check_suite": {"head_branch": "main"},
}
DEPLOYMENT: dict[str, Any] = {
    "id": 710692,
    "sha": "9049f126",
    "ref": "main",
    "environment": "production",
    "production_environment": True,
    "creator": {"login": "mona"},
    "created_at": "2026-03-02T09:40:00Z",
    "updated_at": "2026-03-02T09:44:00Z",
}
STATUS: dict[str, Any] = {
    "id": 1115122,
    "state": "success",
    "environment": "production",
    "log_url": "https://github.com/acme/shop/actions/runs/30433642/job/399444497",
    "created_at": "2026-03-02T09:44:00Z",
}
PULL: dict[str, Any] = {
    "number": 41,
    "state": "closed",
    "title": "Take long cards",
    "user": {"login": "mona"},
    "draft": False,
    "merged": True,
    "merge_commit_sha": "acb5820c",
    "head": {"ref": "cards", "sha": "0a1b2c"},
    "base": {"ref": "main"},
    "html_url": "https://github.com/acme/shop/pull/41",
    "created_at": "2026-03-01T09:00:00Z",
    "merged_at": "2026-03-02T10:00:00Z",
    "closed_at": "2026-03-02T10:00:00Z",
    "updated_at": "2026-03-02T10:00:01Z",
}
DELIVERIES: dict[str, dict[str, Any]] = {
    "workflow_run": {"action": "completed", "workflow_run": RUN, "repository": REPOSITORY},
    "workflow_job": {"action": "completed", "workflow_job": JOB, "repository": REPOSITORY},
    "check_run": {"action": "completed", "check_run": CHECK, "repository": REPOSITORY},
    "deployment": {"action": "created", "deployment": DEPLOYMENT, "repository": REPOSITORY},
    "deployment_status": {
        "action": "created",
        "deployment": DEPLOYMENT,
        "deployment_status": STATUS,
        "workflow_run": RUN,
        "repository": REPOSITORY,
    },
    "pull_request": {"action": "closed", "number": 41, "pull_request": PULL, "repository": REPOSITORY},
}


def seen(event: str, **changes: Any) -> Seen:
    """A delivery of `event`, its own object changed."""
    body = deepcopy(DELIVERIES[event])
    body[event] = body[event] | changes
    return facts_of(event, body, instance=INSTANCE)


def polled() -> BuildObservedV1:
    return build_of(RUN, instance=INSTANCE, repository="acme/shop")


def test_a_run_is_the_fact_a_poll_makes() -> None:
    """The hook's run has the id the poll's has; at its end the rest of the build is asked for."""
    assert seen("workflow_run").facts == (polled(),)
    assert seen("workflow_run").facts[0].identity() == polled().identity()
    assert seen("workflow_run").refresh == (("acme/shop", "30433642"),)
    assert seen("workflow_run", status="in_progress", conclusion=None).refresh == ()


def test_a_job_is_the_fact_a_poll_makes() -> None:
    """Though a hook does not bring the run of its job: the attempt is the job's own."""
    [job] = seen("workflow_job").facts
    assert job == job_of(JOB, build=polled())
    assert isinstance(job, JobObservedV1)
    assert (job.build, job.build.attempt) == (polled().build, 2)


def test_a_run_without_its_repository() -> None:
    """It is the delivery's."""
    assert seen("workflow_run", repository={}).facts == (polled(),)


def test_a_check_of_another_system() -> None:
    """It is told with who made it."""
    [check] = seen("check_run").facts
    assert isinstance(check, CheckObservedV1)
    assert (check.check_id, check.app, check.state, check.branch) == ("4", "Codecov", State.NEUTRAL, "main")
    assert (check.commit_sha, check.repository_id) == ("d6fde929", "1296269")


def test_a_check_of_actions_is_a_job() -> None:
    """At its end the run is looked at, where the check's page names it; else the job's own hook has to do."""
    app = {"slug": "github-actions"}
    page = "https://github.com/acme/shop/actions/runs/30433642/job/399444496"
    assert seen("check_run", app=app, details_url=page) == Seen(refresh=(("acme/shop", "30433642"),))
    for status in ("queued", "in_progress"):
        going = seen("check_run", app=app, details_url=page, status=status, conclusion=None)
        assert "goes on" in (going.ignored or "")
        assert going.refresh == ()
    assert "does not say" in (seen("check_run", app=app).ignored or "")


def test_a_deployment() -> None:
    """It is pending until a status says more; the status brings the build where a workflow deploys."""
    [made] = seen("deployment").facts
    [done] = seen("deployment_status").facts
    assert isinstance(made, DeploymentObservedV1)
    assert isinstance(done, DeploymentObservedV1)
    assert (made.state, made.raw_status, made.build) == (DeploymentState.PENDING, None, None)
    assert (done.state, done.raw_status, done.is_production) == (DeploymentState.SUCCESS, "success", True)
    assert done.build == polled().build
    assert done.subject() == made.subject()
    assert done.finished_at == done.updated_at
    assert made.updated_at == made.created_at
    assert (done.environment, done.actor, done.ref) == ("production", "mona", "main")


@pytest.mark.parametrize(
    ("raw", "state"),
    [
        ("queued", DeploymentState.PENDING),
        ("waiting", DeploymentState.PENDING),
        ("in_progress", DeploymentState.RUNNING),
        ("error", DeploymentState.FAILURE),
        ("inactive", DeploymentState.INACTIVE),
        ("sleeping", DeploymentState.UNKNOWN),
    ],
)
def test_a_deployments_states(raw: str, state: DeploymentState) -> None:
    """GitHub's words are kept beside ours."""
    [fact] = seen("deployment_status", state=raw).facts
    assert isinstance(fact, DeploymentObservedV1)
    assert (fact.raw_status, fact.state) == (raw, state)


def test_a_pull_request() -> None:
    """Merged is a state of its own; a trial merge of an open one is not its commit."""
    [merged] = seen("pull_request").facts
    [still_open] = seen("pull_request", state="open", merged=False, merged_at=None).facts
    assert isinstance(merged, PullRequestObservedV1)
    assert isinstance(still_open, PullRequestObservedV1)
    assert (merged.raw_status, merged.merge_commit_sha, merged.author) == ("merged", "acb5820c", "mona")
    assert (still_open.raw_status, still_open.merge_commit_sha) == ("open", None)
    assert (merged.head_branch, merged.head_sha, merged.base_branch) == ("cards", "0a1b2c", "main")


def test_what_tells_nothing_is_ignored_with_a_reason() -> None:
    """A ping and events of no interest, whatever they hold."""
    assert facts_of("ping", {"zen": "Keep it logically awesome."}, instance=INSTANCE) == Seen(
        ignored="a ping"
    )
    assert facts_of("gollum", {}, instance=INSTANCE).ignored == "gollum tells nothing of builds"


ODD: tuple[Any, ...] = (None, "", "x", -1, 0, 1.5, True, [], {}, [None], 2**80, "\ud800", "9999-99-99")


@pytest.mark.parametrize("event", sorted(EVENTS))
def test_whatever_stands_in_a_delivery(event: str) -> None:
    """Any field with anything in it makes facts that can be written, or a BadRowError; never another error."""
    facts = refused = 0
    for body in _spoilt(DELIVERIES[event]):
        try:
            got = facts_of(event, body, instance=INSTANCE)
        except BadRowError as error:
            refused += 1
            assert str(error)
        else:
            facts += len(got.facts)
            for fact in got.facts:
                assert again(fact) == fact
    assert facts
    assert refused


def _spoilt(body: dict[str, Any]) -> Iterator[Any]:
    """The body with each of its fields, at two levels, replaced by each odd thing, and by nothing."""
    for odd in ODD:
        yield odd
    for key, value in body.items():
        for odd in ODD:
            yield body | {key: odd}
        for inner in value if isinstance(value, dict) else ():
            yield body | {key: {name: one for name, one in value.items() if name != inner}}
            for odd in ODD:
                yield body | {key: value | {inner: odd}}


def again(fact: Fact) -> Fact:
    """The fact as somebody reads it who received it."""
    envelope = Envelope.of(fact, source="buildlight://poller")
    read = fact_of(parse(envelope.to_json()))
    assert read is not None
    return read


KINDS: dict[str, type[Fact]] = {
    "workflow_run": BuildObservedV1,
    "workflow_job": JobObservedV1,
    "check_run": CheckObservedV1,
    "deployment": DeploymentObservedV1,
    "deployment_status": DeploymentObservedV1,
    "pull_request": PullRequestObservedV1,
}


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    """GitHub's own examples of deliveries, event by event."""
    file = corpus("webhooks/github/webhooks-examples-api.github.com.json")
    for event in json.loads(file.read_text(encoding="utf-8")):
        for body in event["examples"]:
            yield event["name"], body


def test_every_example_of_githubs_is_read() -> None:
    """Each becomes the fact its event is about, with a state that is known; the others are ignored."""
    counted = dict.fromkeys(EVENTS, 0)
    for event, body in recorded():
        got = facts_of(event, body, instance=INSTANCE)
        if event not in EVENTS:
            assert got.ignored, event
            continue
        counted[event] += 1
        if event == "check_run" and (body["check_run"]["app"] or {}).get("slug") == "github-actions":
            assert not got.facts
            continue
        [fact] = got.facts
        assert type(fact) is KINDS[event]
        assert again(fact) == fact
        if isinstance(fact, BuildObservedV1):
            assert fact.state is not State.UNKNOWN
            run = build_of(body["workflow_run"], instance=INSTANCE, repository="x/y")
            assert fact.identity() == run.identity()
        if isinstance(fact, JobObservedV1):
            assert fact.state is not State.UNKNOWN
        if isinstance(fact, DeploymentObservedV1):
            assert fact.state is not DeploymentState.UNKNOWN
    assert counted == {
        "workflow_run": 5,
        "workflow_job": 8,
        "check_run": 9,
        "deployment": 4,
        "deployment_status": 4,
        "pull_request": 29,
    }


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is anything in a body, at any depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield (*path, key)
        yield from _places(one, (*path, key))


def _with(body: Any, path: tuple[Any, ...], odd: Any) -> Any:
    changed = deepcopy(body)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = odd
    return changed


def test_a_spoilt_example_is_a_fact_or_refused() -> None:
    """Whatever stands anywhere in a real delivery."""
    rng = random.Random(7)
    facts = 0
    for event, body in recorded():
        if event not in EVENTS:
            continue
        places = list(_places(body))
        near = [
            place for place in places if place[0] in (event, "repository", "deployment") and len(place) < 4
        ]
        for place in rng.sample(places, 15) + rng.sample(near, 40):
            try:
                got = facts_of(event, _with(body, place, rng.choice(ODD)), instance=INSTANCE)
            except BadRowError:
                continue
            for fact in got.facts:
                facts += 1
                assert again(fact) == fact
    assert facts > 1000


@pytest.mark.parametrize(
    ("name", "event"),
    [
        ("workflow_run", "workflow_run"),
        ("workflow_job", "workflow_job"),
        ("check-run", "check_run"),
        ("deployment", "deployment"),
        ("deployment-status", "deployment_status"),
        ("pull-request", "pull_request"),
    ],
)
def test_other_peoples_recordings_are_read(name: str, event: str) -> None:
    """The deliveries another library is tested with."""
    file = corpus("webhooks/go-playground/github") / f"{name}.json"
    [fact] = facts_of(event, json.loads(file.read_text(encoding="utf-8")), instance=INSTANCE).facts
    assert type(fact) is KINDS[event]
    assert again(fact) == fact


def test_a_company_tells_what_a_poll_finds() -> None:
    """Whatever the hooks of two days say of the runs and jobs there are now is what the API says of them."""
    clock = Clock(1_800_000_000.0, backlog_seconds=172_800.0, speed=0.0)
    repositories = catalogue.repositories(2)
    stories = [iter(Story(1, repository)) for repository in repositories]
    living = Living(History(1, repositories, first_id=1, stamp=clock.real, stories=stories), clock)
    base = "http://github.test"
    told = {
        fact.identity()
        for delivery in GitHubHooks([living])(base)
        for fact in facts_of(delivery.event, json.loads(delivery.body), instance=INSTANCE).facts
    }
    found = set()
    for name, _ in living.repositories():
        for row in islice(living.runs(name), WATCHED_RUNS):
            build = build_of(row.body(base), instance=INSTANCE, repository=name)
            found.add(build.identity())
            jobs = living.jobs(name, row.id, row.attempt, base) or []
            found |= {job_of(job, build=build).identity() for job in jobs}
    assert told == found
    assert len(found) > 100
