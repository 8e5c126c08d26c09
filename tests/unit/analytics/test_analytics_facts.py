"""The fold from observed builds to facts."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from buildlight_contracts.builds import (
    BuildFinishedV1,
    BuildObservedV1,
    PipelineBrokeV1,
    PipelineRecoveredV1,
)
from buildlight_contracts.envelope import Fact
from services.analytics.facts import Fold
from tests.observations import NOON, a_build, at


def told(fact: Fact) -> str:
    """A fact in one word a thing: kind, run.attempt, and what else matters."""
    match fact:
        case BuildFinishedV1():
            return f"finished {fact.build.run_id}.{fact.build.attempt} {fact.state}"
        case PipelineBrokeV1():
            good = f"{fact.last_good.run_id}.{fact.last_good.attempt}" if fact.last_good else "nothing"
            return f"broke {fact.build.run_id}.{fact.build.attempt} on {fact.branch} after {good}"
        case PipelineRecoveredV1():
            since = (
                "ever"
                if fact.broken_since is None
                else f"{(fact.broken_since - NOON).total_seconds() / 60:g}"
            )
            return f"recovered {fact.build.run_id}.{fact.build.attempt} on {fact.branch} bad since {since}"
    raise AssertionError(f"not a fact of this fold: {fact}")


def concluded(observations: Sequence[BuildObservedV1]) -> list[str]:
    fold = Fold({}, {})
    return [told(fact) for build in observations for fact in fold.observe(build, build.identity())]


@dataclass(frozen=True)
class Case:
    name: str
    observations: tuple[BuildObservedV1, ...]
    facts: tuple[str, ...]


CASES = [
    Case("an unfinished build says nothing", (a_build(1, "queued"), a_build(1, "running", minute=2)), ()),
    Case(
        "the first failure is no break: nothing was known good",
        (a_build(1, "failure"),),
        ("finished 1.1 failure",),
    ),
    Case(
        "a good build, then a bad one: it broke",
        (a_build(1, "success"), a_build(2, "failure")),
        ("finished 1.1 success", "finished 2.1 failure", "broke 2.1 on main after 1.1"),
    ),
    Case(
        "a break and a recovery, each told once",
        (
            a_build(1, "success"),
            a_build(2, "failure"),
            a_build(3, "failure"),
            a_build(4, "success"),
            a_build(5, "success"),
        ),
        (
            "finished 1.1 success",
            "finished 2.1 failure",
            "broke 2.1 on main after 1.1",
            "finished 3.1 failure",
            "finished 4.1 success",
            "recovered 4.1 on main bad since 2.5",
            "finished 5.1 success",
        ),
    ),
    Case(
        "bad at first sight, then good: it recovered",
        (a_build(1, "failure"), a_build(2, "success")),
        ("finished 1.1 failure", "finished 2.1 success", "recovered 2.1 on main bad since 1.5"),
    ),
    Case(
        "a late older build changes nothing",
        (a_build(1, "success"), a_build(3, "success"), a_build(2, "failure", minute=9)),
        ("finished 1.1 success", "finished 3.1 success", "finished 2.1 failure"),
    ),
    Case(
        "a rerun that passes recovers",
        (a_build(1, "success"), a_build(2, "failure"), a_build(2, "success", attempt=2, minute=9)),
        (
            "finished 1.1 success",
            "finished 2.1 failure",
            "broke 2.1 on main after 1.1",
            "finished 2.2 success",
            "recovered 2.2 on main bad since 2.5",
        ),
    ),
    Case(
        "a rerun of an older run does not overtake a newer run",
        (a_build(1, "failure"), a_build(2, "failure"), a_build(1, "success", attempt=2, minute=9)),
        ("finished 1.1 failure", "finished 2.1 failure", "finished 1.2 success"),
    ),
    Case(
        "cancelled, skipped, neutral and stale builds in between say nothing of the pipeline",
        (
            a_build(1, "success"),
            a_build(2, "cancelled"),
            a_build(3, "skipped"),
            a_build(4, "failure"),
            a_build(5, "neutral"),
            a_build(6, "stale"),
            a_build(7, "success"),
        ),
        (
            "finished 1.1 success",
            "finished 2.1 cancelled",
            "finished 3.1 skipped",
            "finished 4.1 failure",
            "broke 4.1 on main after 1.1",
            "finished 5.1 neutral",
            "finished 6.1 stale",
            "finished 7.1 success",
            "recovered 7.1 on main bad since 4.5",
        ),
    ),
    Case(
        "two branches are two pipelines",
        (
            a_build(1, "success"),
            a_build(2, "failure", branch="topic"),
            a_build(3, "failure"),
            a_build(4, "success", branch="topic"),
        ),
        (
            "finished 1.1 success",
            "finished 2.1 failure",
            "finished 3.1 failure",
            "broke 3.1 on main after 1.1",
            "finished 4.1 success",
            "recovered 4.1 on topic bad since 2.5",
        ),
    ),
    Case(
        "timed out and failed to start count as bad, and from one to the other is no news",
        (a_build(1, "success"), a_build(2, "timed_out"), a_build(3, "startup_failure")),
        (
            "finished 1.1 success",
            "finished 2.1 timed_out",
            "broke 2.1 on main after 1.1",
            "finished 3.1 startup_failure",
        ),
    ),
    Case(
        "the same observation again says nothing again",
        (
            a_build(1, "success"),
            a_build(1, "success"),
            a_build(2, "failure"),
            a_build(2, "failure"),
            a_build(1, "success"),
        ),
        ("finished 1.1 success", "finished 2.1 failure", "broke 2.1 on main after 1.1"),
    ),
    Case(
        "a state of an earlier moment does not bring an ended build back",
        (a_build(1, "success"), a_build(1, "running", minute=1.2), a_build(1, "queued", minute=1.1)),
        ("finished 1.1 success",),
    ),
    Case(
        "at one moment the later stage wins",
        (a_build(1, "running", minute=2), a_build(1, "success", minute=2), a_build(1, "running", minute=2)),
        ("finished 1.1 success",),
    ),
    Case(
        "an end that changes is told again, and may break the pipeline",
        (a_build(1, "success"), a_build(2, "success"), a_build(2, "failure", minute=3)),
        (
            "finished 1.1 success",
            "finished 2.1 success",
            "finished 2.1 failure",
            "broke 2.1 on main after nothing",
        ),
    ),
    Case(
        "an attempt that went on and ended as before is no news",
        (a_build(1, "failure"), a_build(1, "running", minute=2), a_build(1, "failure", minute=3)),
        ("finished 1.1 failure",),
    ),
    Case(
        "a build without a creation time is ordered by its start",
        (
            a_build(1, "success"),
            a_build(2, "failure", created_at=None),
            a_build(3, "success", created_at=None),
        ),
        (
            "finished 1.1 success",
            "finished 2.1 failure",
            "broke 2.1 on main after 1.1",
            "finished 3.1 success",
            "recovered 3.1 on main bad since 2.5",
        ),
    ),
    Case(
        "runs of one moment are ordered by number, not as text",
        (
            a_build(10, "success", created_at=at(0)),
            a_build(9, "failure", created_at=at(0)),
            a_build(11, "failure", created_at=at(0)),
        ),
        (
            "finished 10.1 success",
            "finished 9.1 failure",
            "finished 11.1 failure",
            "broke 11.1 on main after 10.1",
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_facts(case: Case) -> None:
    """These observations, in this order, lead to exactly these facts."""
    assert concluded(case.observations) == list(case.facts)


def test_a_finished_build_is_told_in_full() -> None:
    """Everything the observation says is in the facts, with seconds from start to end."""
    fold = Fold({}, {})
    good, bad = a_build(1, "success"), a_build(2, "failure", author="ada", commit_message="Break it")
    fold.observe(good, good.identity())
    assert fold.observe(bad, bad.identity()) == [
        BuildFinishedV1(
            build=bad.build,
            pipeline=bad.pipeline,
            repository="acme/shop",
            workflow="CI",
            branch="main",
            commit_sha="009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
            author="ada",
            url="https://github.com/acme/shop/actions/runs/30433642",
            state=bad.state,
            duration_seconds=30.0,
            finished_at=at(2.5),
        ),
        PipelineBrokeV1(
            pipeline=bad.pipeline,
            build=bad.build,
            repository="acme/shop",
            workflow="CI",
            branch="main",
            state=bad.state,
            commit_sha="009b8a3a9ccbb128af87f9b1c0f4c62e8a304f6d",
            commit_message="Break it",
            author="ada",
            url="https://github.com/acme/shop/actions/runs/30433642",
            last_good=good.build,
            broke_at=at(2.5),
        ),
    ]
