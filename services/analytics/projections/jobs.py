"""Jobs: each job of an attempt as it was last seen, with its steps."""

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from buildlight_contracts.builds import JobObservedV1
from buildlight_contracts.envelope import derive_id
from chassis.database import Connection
from chassis.follower import Recorded
from services.analytics.durations import duration_seconds, seconds_between
from services.analytics.projection import Projection, arrays, fact_in, newest_of, newest_wins

COLUMNS: Final = {
    "job_key": "uuid",
    "build_id": "uuid",
    "job_id": "text",
    "name": "text",
    "runner": "text",
    "url": "text",
    "raw_status": "text",
    "raw_conclusion": "text",
    "state": "text",
    "created_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "observed_at": "timestamptz",
    "duration_seconds": "double precision",
    "queue_seconds": "double precision",
    "steps": "jsonb",
    "state_rank": "smallint",
    "event_id": "uuid",
    "position": "bigint",
}
NEWEST: Final = ("observed_at", "state_rank", "event_id")
UPSERT: Final = newest_wins("analytics.jobs", COLUMNS, key="job_key", newest=NEWEST)


class Jobs(Projection):
    """The table jobs."""

    name: ClassVar = "jobs"
    version: ClassVar = 1
    reads: ClassVar = (JobObservedV1,)
    definitions: ClassVar = ("jobs.sql",)

    async def apply(self, events: Sequence[Recorded], connection: Connection) -> None:
        facts = [(fact_in(event), event) for event in events]
        observed = [row_of(fact, event) for fact, event in facts if isinstance(fact, JobObservedV1)]
        rows = newest_of(observed, key="job_key", newest=NEWEST)
        await connection.execute(UPSERT, *arrays(rows, COLUMNS))


def row_of(job: JobObservedV1, event: Recorded) -> dict[str, Any]:
    """The row of `analytics.jobs` that `job` alone would make."""
    return job.model_dump(exclude={"build", "state", "steps"}) | {
        "job_key": derive_id("job", job.subject(), str(job.build.attempt)),
        "build_id": job.build.build_id,
        "state": job.state.value,
        "steps": json.dumps([step.model_dump(mode="json") for step in job.steps]),
        "duration_seconds": duration_seconds(job.state, job.started_at, job.finished_at),
        "queue_seconds": seconds_between(job.created_at, job.started_at),
        "state_rank": job.state.rank,
        "event_id": UUID(event.id),
        "position": event.position,
    }
