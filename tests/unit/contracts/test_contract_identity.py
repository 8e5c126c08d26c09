"""One fact, one id: whoever observes it, whenever, whatever things are called by then."""

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1, PipelineBrokeV1, PipelineRef
from buildlight_contracts.commands import PollTargetV1, ReplayDeadLettersV1
from buildlight_contracts.deployments import DeploymentObservedV1, PullRequestObservedV1
from buildlight_contracts.envelope import Envelope, derive_id
from buildlight_contracts.operations import PollFailedV1
from buildlight_contracts.provisioning import ProvisioningStepCompletedV1
from buildlight_contracts.testing import example

BUILD = example(BuildRef)
END = datetime(2026, 3, 2, 9, 4, 10, tzinfo=UTC)


def test_the_id_is_computed_as_the_readme_says() -> None:
    """Another language can compute it: UUIDv5 over canonical JSON of type, subject and material."""
    fact = example(BuildObservedV1)
    material = (
        '{"attempt":1,"raw_conclusion":"failure","raw_status":"completed",'
        '"started_at":"2026-03-02T09:00:05Z"}'
    )
    digest = hashlib.sha256(material.encode()).hexdigest()
    name = f'["build.observed.v1","github/api.github.com/1296269/runs/30433642","{digest}"]'
    expected = uuid5(UUID("6f1dd2f0-5d0b-5c7e-9d7b-0a4b8f6f2c11"), name)
    assert fact.identity() == expected
    assert str(expected) == "5a560764-4684-5ee2-a8cd-21df460c6e99"


def test_two_observers_of_one_fact_compute_one_id() -> None:
    """A poll and a webhook differ in source, order and what else they know, not in the id."""
    polled = example(BuildObservedV1)
    hooked = BuildObservedV1.model_validate(
        {
            "updated_at": "2026-03-02T09:04:11Z",
            "state": "failure",
            "raw_conclusion": "failure",
            "raw_status": "completed",
            "started_at": "2026-03-02T09:00:05.000Z",
            "workflow": "CI",
            "workflow_id": "159038",
            "repository": "acme/shop",
            "build": BUILD,
        }
    )
    by_poll = Envelope.of(polled, source="buildlight://poller", correlation_id="a")
    by_hook = Envelope.of(hooked, source="buildlight://poller/webhooks", correlation_id="b")
    assert by_poll.id == by_hook.id


@pytest.mark.parametrize(
    "change",
    [
        {"raw_status": "in_progress"},
        {"raw_conclusion": "success"},
        {"raw_conclusion": None},
        {"started_at": "2026-03-02T09:00:06Z"},
        {"build": example(BuildRef, attempt=2)},
        {"build": example(BuildRef, run_id="30433643")},
        {"build": example(BuildRef, repository_id="1296270")},
        {"build": example(BuildRef, instance="github.acme.example")},
    ],
    ids=str,
)
def test_a_material_change_is_another_fact(change: dict[str, object]) -> None:
    """Status, conclusion, start, attempt and the provider's ids each make another id."""
    assert example(BuildObservedV1, **change).identity() != example(BuildObservedV1).identity()


@pytest.mark.parametrize(
    "change",
    [
        {"updated_at": "2026-05-31T00:00:00Z"},
        {"finished_at": "2026-03-02T09:04:12Z"},
        {"repository": "acme/store"},
        {"workflow": "Checks", "title": "Ünïcode ✓", "branch": "trunk"},
        {"author": None, "actor": None, "url": None, "run_number": None},
        {"state": "unknown"},
    ],
    ids=str,
)
def test_names_and_what_observers_see_differently_do_not_count(change: dict[str, object]) -> None:
    """A renamed repository, or `updated_at` moving when GitHub's logs expire, makes no new event."""
    assert example(BuildObservedV1, **change).identity() == example(BuildObservedV1).identity()


def test_an_end_time_counts_where_the_provider_gives_one() -> None:
    """GitHub gives runs no end, so it is material everywhere but there."""
    for provider, counts in (("github", False), ("gitlab", True), ("jenkins", True)):
        build = example(BuildRef, provider=provider)
        first = example(BuildObservedV1, build=build, finished_at=END)
        second = example(BuildObservedV1, build=build, finished_at=END + timedelta(seconds=1))
        assert (first.identity() != second.identity()) is counts, provider


@given(minutes=st.integers(-14 * 60, 14 * 60))
def test_an_instant_counts_whatever_zone_it_is_written_in(minutes: int) -> None:
    """One provider writes `Z`, another its own offset, and both mean one time."""
    there = END.astimezone(timezone(timedelta(minutes=minutes)))
    for message, field in (
        (JobObservedV1, "finished_at"),
        (PollFailedV1, "failed_at"),
        (PollTargetV1, "due_at"),
    ):
        here = example(message, **{field: END})
        assert example(message, **{field: there}).identity() == here.identity()
        assert example(message, **{field: there.isoformat()}) == here


def test_jobs_steps_and_polls_are_told_apart() -> None:
    """Each by what the table says."""
    ids = [
        example(JobObservedV1).identity(),
        example(JobObservedV1, job_id="2").identity(),
        example(JobObservedV1, build=example(BuildRef, attempt=2)).identity(),
        example(JobObservedV1, finished_at=None).identity(),
        example(ProvisioningStepCompletedV1).identity(),
        example(ProvisioningStepCompletedV1, step="push").identity(),
        example(PollFailedV1).identity(),
        example(PollFailedV1, reason="rate_limited").identity(),
        example(PollFailedV1, failed_at=END).identity(),
    ]
    assert len(set(ids)) == len(ids)


def test_a_state_that_comes_back_is_another_fact() -> None:
    """A deployment that succeeds again, and a pull request opened again on the same commit."""
    first = example(DeploymentObservedV1, raw_status="success", updated_at=END)
    again = example(DeploymentObservedV1, raw_status="success", updated_at=END + timedelta(hours=1))
    assert first.provider == "github"
    assert first.identity() != again.identity()
    opened = example(PullRequestObservedV1, raw_status="open", closed_at=None, updated_at=END)
    reopened = example(
        PullRequestObservedV1, raw_status="open", closed_at=None, updated_at=END + timedelta(hours=1)
    )
    assert opened.identity() != reopened.identity()


def test_a_build_that_resumed_is_another_fact_than_before() -> None:
    """Running, waiting for an approval, running again; without the time all ids are as they always were."""
    first = example(BuildObservedV1, raw_status="in_progress", raw_conclusion=None, state="running")
    again = first.model_copy(update={"resumed_at": END})
    assert first.resumed_at is None
    assert "resumed_at" not in first.material()
    assert first.identity() != again.identity()
    assert BuildObservedV1.model_validate_json(again.model_dump_json()).identity() == again.identity()


def test_a_gitlab_deployment_s_time_does_not_count() -> None:
    """Its hooks and its API tell different times of one state."""
    told = example(DeploymentObservedV1, provider="gitlab", updated_at=END)
    listed = example(DeploymentObservedV1, provider="gitlab", updated_at=END + timedelta(seconds=2))
    assert told.identity() == listed.identity()


def test_a_branch_tells_pipelines_apart() -> None:
    """One workflow on two branches is two pipelines, and none is not the empty name."""
    main, release = example(PipelineRef), example(PipelineRef, branch="release")
    assert main.subject == release.subject
    assert main.pipeline_id != release.pipeline_id
    on_main = example(PipelineBrokeV1, pipeline=main)
    assert on_main.identity() != example(PipelineBrokeV1, pipeline=release).identity()


def test_a_command_asked_again_is_the_same_command() -> None:
    """The idempotency key of a replay is its request, not what it lists."""
    asked = example(ReplayDeadLettersV1)
    assert example(ReplayDeadLettersV1, by="someone else").identity() == asked.identity()
    other = "00000000-0000-0000-0000-000000000001"
    assert example(ReplayDeadLettersV1, request_id=other).identity() != asked.identity()


def test_a_build_has_one_id_an_attempt() -> None:
    """The API's build id is of the attempt, not of its states."""
    assert BUILD.build_id == example(BuildRef).build_id
    assert BUILD.build_id != example(BuildRef, attempt=2).build_id


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_derived_ids_are_unambiguous(left: list[str], right: list[str]) -> None:
    """Moving a character from one part to the next makes another id, in any script."""
    assert (derive_id(*left) == derive_id(*right)) is (left == right)


@given(st.text(min_size=1, max_size=255))
def test_any_unicode_has_an_id(run_id: str) -> None:
    """Ids may hold any character, and come back from JSON with the same identity."""
    fact = example(BuildObservedV1, build=example(BuildRef, run_id=run_id))
    again = BuildObservedV1.model_validate(json.loads(fact.model_dump_json()))
    assert again.identity() == fact.identity()
