"""GitLab's hooks and GitLab's API on pipelines that live: whoever looks, the same facts."""

import json
import time
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.envelope import Fact
from sandbox import gitlab_ci, gitlab_hooks
from sandbox import gitlab_ci_shapes as shapes
from sandbox.clock import Clock
from sandbox.gitlab_ci import CI
from sandbox.gitlab_hooks import GitLabHooks
from sandbox.gitlab_story import LivingPipelines, living
from sandbox.ledger import Ledger
from services.poller.providers.gitlab.executions import executions_of, latest_attempt
from services.poller.providers.gitlab.mapping import build_of, job_of
from services.poller.providers.gitlab.webhook import facts_of

BASE = "http://lab.test/gitlab"
TICKS, TICK_SECONDS = 600, 0.25
LOOK_EVERY = 7


def test_hooks_and_looks_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two and a half hours of two projects: one id for each state of each attempt and job."""
    start = time.time()
    now = [start]
    monkeypatch.setattr(gitlab_hooks, "time", lambda: now[0])
    monkeypatch.setattr(gitlab_ci, "time", SimpleNamespace(time=lambda: now[0]))
    clock, stories = Clock(start, backlog_seconds=3600, speed=60), living(2, start)
    pipelines = LivingPipelines(1, stories, first_id=1, stamp=clock.real)
    ci = CI(pipelines, clock, Ledger(), [project for _, project in stories])
    hooks = GitLabHooks(ci)
    assert list(hooks(BASE))  # what there is already is no news
    ids: dict[tuple[Any, ...], dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for tick in range(TICKS):
        now[0] += TICK_SECONDS
        for delivery in hooks(BASE):
            seen = facts_of(delivery.event, json.loads(delivery.body), instance="lab.test")
            assert seen.ignored is None
            for fact in seen.facts:
                ids[_state(fact)]["hook"].add(str(fact.identity()))
        if tick % LOOK_EVERY == 0:
            for fact in _looked_at(ci, since=start, now=now[0]):
                ids[_state(fact)]["poll"].add(str(fact.identity()))
    by_both = [found for found in ids.values() if len(found) == 2]
    assert len(by_both) > 200
    assert [state for state, found in ids.items() if len(set().union(*found.values())) != 1] == []


def _state(fact: Fact) -> tuple[Any, ...]:
    if isinstance(fact, JobObservedV1):
        return fact.build.run_id, fact.build.attempt, fact.job_id, fact.raw_status
    assert isinstance(fact, BuildObservedV1)
    return fact.build.run_id, fact.build.attempt, fact.raw_status


def _looked_at(ci: CI, *, since: float, now: float) -> Iterator[Fact]:
    """What a poll makes of every pipeline that began since, attempt by attempt."""
    for pipeline in ci.all():
        if pipeline.created < since:
            continue
        jobs = [job for job in pipeline.known_jobs(now) if not job.is_trigger]
        executions, refused = executions_of(shapes.shown(pipeline, job, BASE, now) for job in jobs)
        assert refused == ()
        row = shapes.pipeline_named(pipeline, BASE, now)
        for attempt in range(1, latest_attempt(executions) + 1):
            build = build_of(row, executions, instance="lab.test", repository="acme/x", attempt=attempt)
            yield build
            for one in executions:
                if one.number == attempt:
                    yield job_of(one.row, build=build.build, otherwise=build.updated_at)
