"""The relay's checkpoint, and the archive of dead letters."""

from pathlib import Path

from alembic import op

revision = "ingest_0002"
down_revision = "ingest_0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("CREATE SCHEMA ingest")
    for name in ("bookkeeping", "dead_letters", "published_dead_letters"):
        for statement in (SQL / f"{name}.sql").read_text(encoding="utf-8").split(";\n"):
            op.execute(statement)  # the driver takes one at a time
    op.execute("GRANT USAGE ON SCHEMA ingest TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ingest TO buildlight_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA ingest TO buildlight_app")
    op.execute("GRANT SELECT ON ingest.published_dead_letters TO buildlight_reader")
