"""Pipelines: is each good or bad, since when, by which build. Computed from builds, in their transaction."""

from collections.abc import Iterable
from typing import Final
from uuid import UUID

from chassis.database import Connection

# Every look-up below reads one row at an end of an index: builds_pipeline, builds_good or builds_bad.
REFRESH: Final = """
    INSERT INTO analytics.pipelines (
        pipeline_id, provider, instance, repository_id, repository, workflow_id, workflow, branch,
        state, latest_build_id, conclusive_build_id, state_since, ordered_at
    )
    SELECT newest.pipeline_id, newest.provider, newest.instance, newest.repository_id, newest.repository,
           newest.workflow_id, newest.workflow, newest.branch,
           coalesce(conclusive.state, 'unknown'), newest.build_id, conclusive.build_id,
           CASE WHEN conclusive.good THEN good_since.at ELSE bad_since.at END, newest.ordered_at
      FROM unnest($1::uuid[]) AS touched (pipeline_id)
     CROSS JOIN LATERAL (
        SELECT build.* FROM analytics.builds AS build
         WHERE build.pipeline_id = touched.pipeline_id
         ORDER BY build.ordered_at DESC, build.run_order DESC, build.run_id DESC, build.attempt DESC
         LIMIT 1
     ) AS newest
      LEFT JOIN LATERAL (
        SELECT build.* FROM analytics.builds AS build
         WHERE build.pipeline_id = touched.pipeline_id AND build.state = 'success'
         ORDER BY build.ordered_at DESC, build.run_order DESC, build.run_id DESC, build.attempt DESC
         LIMIT 1
     ) AS good ON true
      LEFT JOIN LATERAL (
        SELECT build.* FROM analytics.builds AS build
         WHERE build.pipeline_id = touched.pipeline_id
           AND build.state IN ('failure', 'timed_out', 'startup_failure')
         ORDER BY build.ordered_at DESC, build.run_order DESC, build.run_id DESC, build.attempt DESC
         LIMIT 1
     ) AS bad ON true
      LEFT JOIN LATERAL (
        SELECT either.build_id, either.state, either.good
          FROM (VALUES
            (good.build_id, good.state, true, good.ordered_at, good.run_order, good.run_id, good.attempt),
            (bad.build_id, bad.state, false, bad.ordered_at, bad.run_order, bad.run_id, bad.attempt)
          ) AS either (build_id, state, good, ordered_at, run_order, run_id, attempt)
         WHERE either.build_id IS NOT NULL
         ORDER BY either.ordered_at DESC, either.run_order DESC, either.run_id DESC, either.attempt DESC
         LIMIT 1
     ) AS conclusive ON true
      LEFT JOIN LATERAL (
        SELECT coalesce(build.finished_at, build.updated_at) AS at FROM analytics.builds AS build
         WHERE build.pipeline_id = touched.pipeline_id AND build.state = 'success'
           AND (build.ordered_at, build.run_order, build.run_id, build.attempt)
             > (coalesce(bad.ordered_at, '-infinity'), coalesce(bad.run_order, 0),
                coalesce(bad.run_id, ''), coalesce(bad.attempt, 0))
         ORDER BY build.ordered_at, build.run_order, build.run_id, build.attempt
         LIMIT 1
     ) AS good_since ON conclusive.good
      LEFT JOIN LATERAL (
        SELECT coalesce(build.finished_at, build.updated_at) AS at FROM analytics.builds AS build
         WHERE build.pipeline_id = touched.pipeline_id
           AND build.state IN ('failure', 'timed_out', 'startup_failure')
           AND (build.ordered_at, build.run_order, build.run_id, build.attempt)
             > (coalesce(good.ordered_at, '-infinity'), coalesce(good.run_order, 0),
                coalesce(good.run_id, ''), coalesce(good.attempt, 0))
         ORDER BY build.ordered_at, build.run_order, build.run_id, build.attempt
         LIMIT 1
     ) AS bad_since ON NOT conclusive.good
    ON CONFLICT (pipeline_id) DO UPDATE SET
        repository = excluded.repository, workflow = excluded.workflow, state = excluded.state,
        latest_build_id = excluded.latest_build_id, conclusive_build_id = excluded.conclusive_build_id,
        state_since = excluded.state_since, ordered_at = excluded.ordered_at
"""
# Its only build turned out to be of another branch.
DROP_EMPTY: Final = """
    DELETE FROM analytics.pipelines AS pipeline
     WHERE pipeline.pipeline_id = ANY($1)
       AND NOT EXISTS (SELECT FROM analytics.builds AS build WHERE build.pipeline_id = pipeline.pipeline_id)
"""


async def refresh(pipeline_ids: Iterable[UUID], connection: Connection) -> None:
    """Compute the pipelines anew from `analytics.builds`; what it costs does not grow with their history."""
    touched = list(pipeline_ids)
    await connection.execute(REFRESH, touched)
    await connection.execute(DROP_EMPTY, touched)
