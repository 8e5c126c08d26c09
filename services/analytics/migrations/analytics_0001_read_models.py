"""The read models, and what the followers keep."""

from alembic import op

from services.analytics.projections import PROJECTIONS

revision = "analytics_0001"
down_revision = None
branch_labels = ("analytics",)
depends_on = "ingest_0001"

READ_MODELS = "analytics.builds, analytics.unavailable_attempts, analytics.pipelines, analytics.jobs"


def upgrade() -> None:
    op.execute("CREATE SCHEMA analytics")
    # A projection owns its tables' shape: a new database gets today's, an old one by a rebuild beside the old.
    for projection in PROJECTIONS:
        for statement in projection.ddl():
            op.execute(statement)

    op.execute(
        "CREATE TABLE analytics.checkpoints (follower text NOT NULL PRIMARY KEY, position bigint NOT NULL)"
    )
    op.execute("""
        CREATE TABLE analytics.parked (
            follower text NOT NULL,
            position bigint NOT NULL,
            reason text NOT NULL,
            parked_at timestamptz NOT NULL,
            PRIMARY KEY (follower, position)
        )
    """)
    op.execute("CREATE TABLE analytics.outbox (seq bigserial NOT NULL PRIMARY KEY, envelope text NOT NULL)")
    # What the fold over builds remembers: of each attempt its newest observation and announced end, of each
    # pipeline its newest conclusive build.
    op.execute("""
        CREATE TABLE analytics.fact_attempts (
            build_id uuid NOT NULL PRIMARY KEY,
            updated_at timestamptz NOT NULL,
            state_rank smallint NOT NULL,
            event_id uuid NOT NULL,
            end_state text
        )
    """)
    op.execute("""
        CREATE TABLE analytics.fact_pipelines (
            pipeline_id uuid NOT NULL PRIMARY KEY,
            ordered_at timestamptz NOT NULL,
            run_order bigint NOT NULL,
            run_id text NOT NULL,
            attempt integer NOT NULL,
            good boolean NOT NULL,
            since timestamptz NOT NULL,
            good_run_id text,
            good_attempt integer
        )
    """)

    op.execute("GRANT USAGE ON SCHEMA analytics TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA analytics TO buildlight_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA analytics TO buildlight_app")
    op.execute(f"GRANT SELECT ON {READ_MODELS} TO buildlight_reader")
