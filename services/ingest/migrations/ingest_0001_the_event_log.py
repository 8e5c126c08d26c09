"""The event log."""

from pathlib import Path

from alembic import op

revision = "ingest_0001"
down_revision = None
branch_labels = ("ingest",)
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("CREATE SCHEMA log")
    for name in (
        "events",
        "compression",
        "dedup",
        "head",
        "refuse",
        "make_partitions",
        "append",
        "integrity",
    ):
        op.execute((SQL / f"{name}.sql").read_text(encoding="utf-8"))
    # What a follower of few types reads by; followers of all types read by the primary key.
    op.execute("CREATE INDEX events_type_position ON log.events (type, position)")
    for table in ("events", "dedup"):
        op.execute(
            f"CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.{table} "
            "EXECUTE FUNCTION log.refuse()"
        )
    op.execute("INSERT INTO log.head DEFAULT VALUES")

    op.execute("REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA log FROM PUBLIC")
    op.execute("GRANT USAGE ON SCHEMA log TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT ON log.events, log.head TO buildlight_app, buildlight_reader")
    op.execute("GRANT EXECUTE ON FUNCTION log.append, log.make_partitions TO buildlight_app")
    op.execute("GRANT EXECUTE ON FUNCTION log.integrity TO buildlight_app, buildlight_reader")
