"""What follows from builds: a fold over their observations in the log's order.

The same prefix of the log gives the same facts, however it is cut into batches. An observation older than what
is known of its attempt changes nothing, nor does a build older than the newest conclusive one of its pipeline.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from buildlight_contracts.builds import (
    BuildFinishedV1,
    BuildObservedV1,
    BuildRef,
    PipelineBrokeV1,
    PipelineRecoveredV1,
)
from buildlight_contracts.envelope import Fact
from buildlight_contracts.states import State
from services.analytics.durations import duration_seconds
from services.analytics.newness import ordered_at, run_order


class Seen(NamedTuple):
    """Orders the observations of one attempt: the provider's time, then the state's rank, then the event's id."""

    updated_at: datetime
    state_rank: int
    event_id: UUID


class Place(NamedTuple):
    """Orders the builds of one pipeline."""

    ordered_at: datetime
    run_order: int
    run_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is remembered of an attempt: its newest observation, and the end that was announced last."""

    seen: Seen
    end_state: State | None


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What is remembered of a pipeline: its newest conclusive build, and since when it is so good or bad."""

    newest: Place
    good: bool
    since: datetime
    last_good: tuple[str, int] | None
    """Run id and attempt of the newest build known to be good."""


class Fold:
    """Attempts and pipelines as remembered, by id; `observe` changes them. Give it those of a batch."""

    def __init__(self, attempts: dict[UUID, Attempt], pipelines: dict[UUID, Pipeline]) -> None:
        self.attempts = attempts
        self.pipelines = pipelines

    def observe(self, build: BuildObservedV1, event_id: UUID) -> list[Fact]:
        """Remember one observation, and return what follows from it."""
        seen = Seen(build.updated_at, build.state.rank, event_id)
        known = self.attempts.get(build.build.build_id)
        if known is not None and seen <= known.seen:
            return []
        announced = known.end_state if known is not None else None
        if not build.state.is_terminal:
            self.attempts[build.build.build_id] = Attempt(seen, announced)
            return []
        self.attempts[build.build.build_id] = Attempt(seen, build.state)
        finished = [] if build.state is announced else [_finished(build)]
        return [*finished, *self._conclude(build)]

    def _conclude(self, build: BuildObservedV1) -> Iterable[Fact]:
        """Move the pipeline on to `build`; a fact when that turns it from good to bad or back."""
        if not build.state.is_conclusive:
            return []
        pipeline_id = build.pipeline.pipeline_id
        known = self.pipelines.get(pipeline_id)
        place = Place(ordered_at(build), run_order(build), build.build.run_id, build.build.attempt)
        this = (place.run_id, place.attempt)
        if known is not None and place < known.newest and this != (known.newest.run_id, known.newest.attempt):
            return []
        good = not build.state.is_bad
        last_good = known.last_good if known is not None else None
        if not good and last_good == this:
            last_good = None  # its end changed: it is not good after all
        turned = known is None or known.good is not good
        self.pipelines[pipeline_id] = now = Pipeline(
            newest=place,
            good=good,
            since=_end(build) if known is None or turned else known.since,
            last_good=this if good else last_good,
        )
        if known is None or not turned:
            return []
        return [_recovered(build, known) if good else _broke(build, now)]


def _end(build: BuildObservedV1) -> datetime:
    return build.finished_at or build.updated_at


def _finished(build: BuildObservedV1) -> BuildFinishedV1:
    return BuildFinishedV1(
        build=build.build,
        pipeline=build.pipeline,
        repository=build.repository,
        workflow=build.workflow,
        branch=build.branch,
        commit_sha=build.commit_sha,
        author=build.author,
        url=build.url,
        state=build.state,
        duration_seconds=duration_seconds(build.state, build.started_at, build.finished_at),
        finished_at=_end(build),
    )


def _broke(build: BuildObservedV1, now: Pipeline) -> PipelineBrokeV1:
    return PipelineBrokeV1(
        pipeline=build.pipeline,
        build=build.build,
        repository=build.repository,
        workflow=build.workflow,
        branch=build.branch,
        state=build.state,
        commit_sha=build.commit_sha,
        commit_message=build.commit_message,
        author=build.author,
        url=build.url,
        last_good=_sibling(build.build, now.last_good),
        broke_at=_end(build),
    )


def _recovered(build: BuildObservedV1, before: Pipeline) -> PipelineRecoveredV1:
    return PipelineRecoveredV1(
        pipeline=build.pipeline,
        build=build.build,
        repository=build.repository,
        workflow=build.workflow,
        branch=build.branch,
        commit_sha=build.commit_sha,
        commit_message=build.commit_message,
        author=build.author,
        url=build.url,
        broken_since=before.since,
        recovered_at=_end(build),
    )


def _sibling(build: BuildRef, run: tuple[str, int] | None) -> BuildRef | None:
    if run is None:
        return None
    return BuildRef.model_validate(build.model_dump() | {"run_id": run[0], "attempt": run[1]})
