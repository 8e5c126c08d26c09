"""Builds and jobs as a provider was seen to have them, and a log to put them in."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.envelope import TYPE_PREFIX, Fact
from buildlight_contracts.testing import example
from chassis.database import Pool
from services.ingest.log import Entry, append

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(minute: float) -> datetime:
    return NOON + timedelta(minutes=minute)


def ref(run: int, attempt: int = 1) -> dict[str, Any]:
    build = BuildRef(
        provider="github", instance="api.github.com", repository_id="1", run_id=str(run), attempt=attempt
    )
    return build.model_dump()


def a_build(
    run: int,
    state: str,
    *,
    minute: float | None = None,
    attempt: int = 1,
    branch: str | None = "main",
    **more: Any,
) -> BuildObservedV1:
    """Run `run`, created at that minute and seen in `state` half a minute (or at `minute`) later."""
    when = at(run + 0.5 if minute is None else minute)
    ended = state not in ("queued", "waiting", "running", "action_required")
    return example(
        BuildObservedV1,
        **{
            "build": ref(run, attempt),
            "run_number": run,
            "branch": branch,
            "state": state,
            "raw_status": "completed" if ended else state,
            "raw_conclusion": state if ended else None,
            "created_at": at(run),
            "started_at": at(run),
            "finished_at": when if ended else None,
            "updated_at": when,
        }
        | more,
    )


def a_job(
    run: int, state: str, *, job: int = 1, minute: float | None = None, attempt: int = 1
) -> JobObservedV1:
    """Job `job` of a run, created with it and seen in `state` 24 seconds (or at `minute`) later."""
    when = at(run + 0.4 if minute is None else minute)
    ended = state not in ("queued", "waiting", "running")
    return example(
        JobObservedV1,
        build=ref(run, attempt),
        job_id=str(job),
        state=state,
        raw_status="completed" if ended else state,
        raw_conclusion=state if ended else None,
        created_at=at(run),
        started_at=at(run),
        finished_at=when if ended else None,
        observed_at=when,
    )


def entry(fact: Fact, data: str | None = None) -> Entry:
    """`fact` ready for the log; `data` replaces its own."""
    identity = fact.identity()
    return Entry(
        id=identity,
        digest=b"the same",
        type=TYPE_PREFIX + fact.type,
        subject=fact.subject(),
        source="buildlight://tests",
        occurred_at=fact.occurred_at(),
        correlation_id=f"story of {identity}",
        causation_id=None,
        traceparent=None,
        data=data if data is not None else json.dumps(fact.model_dump(mode="json")),
    )


async def record(pool: Pool, facts: Iterable[Fact]) -> None:
    await append(pool, [entry(fact) for fact in facts])
