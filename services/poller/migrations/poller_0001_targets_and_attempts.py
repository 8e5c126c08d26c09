"""What is polled, what has been seen, and what is still open."""

from pathlib import Path

from alembic import op

revision = "poller_0001"
down_revision = None
branch_labels = ("poller",)
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("CREATE SCHEMA poller")
    for name in ("targets", "attempts", "pages", "budgets", "infrastructure", "published"):
        # The driver takes one statement at a time.
        for statement in (SQL / f"{name}.sql").read_text(encoding="utf-8").strip().split(";\n"):
            op.execute(statement)
    op.execute("GRANT USAGE ON SCHEMA poller TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA poller TO buildlight_app")
    op.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA poller TO buildlight_app")
    op.execute("GRANT SELECT ON poller.published_targets TO buildlight_reader")
