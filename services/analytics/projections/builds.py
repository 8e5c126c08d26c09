"""Builds: each attempt as it was last seen, and the attempts a provider has lost."""

from collections.abc import Sequence
from typing import Any, ClassVar, Final
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1, BuildUnavailableV1
from chassis.database import Connection
from chassis.follower import Recorded
from services.analytics.durations import duration_seconds, seconds_between
from services.analytics.newness import ordered_at, run_order
from services.analytics.projection import Projection, arrays, fact_in, newest_of, newest_wins
from services.analytics.projections import pipelines

COLUMNS: Final = {
    "build_id": "uuid",
    "pipeline_id": "uuid",
    "provider": "text",
    "instance": "text",
    "repository_id": "text",
    "repository": "text",
    "workflow_id": "text",
    "workflow": "text",
    "run_id": "text",
    "attempt": "integer",
    "run_number": "bigint",
    "title": "text",
    "event": "text",
    "branch": "text",
    "commit_sha": "text",
    "commit_message": "text",
    "author": "text",
    "actor": "text",
    "pull_request": "bigint",
    "url": "text",
    "raw_status": "text",
    "raw_conclusion": "text",
    "state": "text",
    "created_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "updated_at": "timestamptz",
    "ordered_at": "timestamptz",
    "run_order": "bigint",
    "duration_seconds": "double precision",
    "queue_seconds": "double precision",
    "state_rank": "smallint",
    "event_id": "uuid",
    "position": "bigint",
}
NEWEST: Final = ("updated_at", "state_rank", "event_id")
UPSERT: Final = newest_wins("analytics.builds", COLUMNS, key="build_id", newest=NEWEST)
PIPELINES_UNTIL_NOW: Final = "SELECT DISTINCT pipeline_id FROM analytics.builds WHERE build_id = ANY($1)"

UNAVAILABLE: Final = """
    INSERT INTO analytics.unavailable_attempts AS known
    SELECT DISTINCT ON (build_id) *
      FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::text[], $5::integer[], $6::timestamptz[])
        AS notice (build_id, subject, attempt, repository, status, noticed_at)
     ORDER BY build_id, noticed_at, status, repository
    ON CONFLICT (build_id) DO UPDATE
       SET repository = excluded.repository, status = excluded.status, noticed_at = excluded.noticed_at
     WHERE (excluded.noticed_at, excluded.status, excluded.repository)
         < (known.noticed_at, known.status, known.repository)
"""


class Builds(Projection):
    """The tables builds and unavailable_attempts, and with them, in one transaction, pipelines."""

    name: ClassVar = "builds"
    version: ClassVar = 1
    reads: ClassVar = (BuildObservedV1, BuildUnavailableV1)
    definitions: ClassVar = ("builds.sql", "pipelines.sql")

    async def apply(self, events: Sequence[Recorded], connection: Connection) -> None:
        observed: list[dict[str, Any]] = []
        unavailable: list[BuildUnavailableV1] = []
        for event in events:
            fact = fact_in(event)
            if isinstance(fact, BuildObservedV1):
                observed.append(row_of(fact, event))
            elif isinstance(fact, BuildUnavailableV1):
                unavailable.append(fact)
        if observed:
            rows = newest_of(observed, key="build_id", newest=NEWEST)
            touched = {row["pipeline_id"] for row in rows}
            # A build may move: one seen without its branch at first, then with it.
            left = await connection.fetch(PIPELINES_UNTIL_NOW, [row["build_id"] for row in rows])
            await connection.execute(UPSERT, *arrays(rows, COLUMNS))
            await pipelines.refresh(touched | {row["pipeline_id"] for row in left}, connection)
        if unavailable:
            await connection.execute(
                UNAVAILABLE,
                [notice.build.build_id for notice in unavailable],
                [notice.build.subject for notice in unavailable],
                [notice.build.attempt for notice in unavailable],
                [notice.repository for notice in unavailable],
                [notice.status for notice in unavailable],
                [notice.noticed_at for notice in unavailable],
            )


def row_of(build: BuildObservedV1, event: Recorded) -> dict[str, Any]:
    """The row of `analytics.builds` that `build` alone would make."""
    first_attempt = build.build.attempt == 1
    return build.model_dump(exclude={"build", "state"}) | {
        "build_id": build.build.build_id,
        "pipeline_id": build.pipeline.pipeline_id,
        "provider": build.build.provider,
        "instance": build.build.instance,
        "repository_id": build.build.repository_id,
        "run_id": build.build.run_id,
        "attempt": build.build.attempt,
        "state": build.state.value,
        "ordered_at": ordered_at(build),
        "run_order": run_order(build),
        "duration_seconds": duration_seconds(build.state, build.started_at, build.finished_at),
        "queue_seconds": seconds_between(build.created_at, build.started_at) if first_attempt else None,
        "state_rank": build.state.rank,
        "event_id": UUID(event.id),
        "position": event.position,
    }
