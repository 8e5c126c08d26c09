"""What providers say exists, compared with what the log has."""

from pathlib import Path

from alembic import op

revision = "poller_0005"
down_revision = "poller_0004"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "sql" / "completeness.sql"
TABLES = "poller.completeness, poller.completeness_days, poller.completeness_gaps"
VIEWS = (
    "poller.published_completeness, poller.published_completeness_days, poller.published_completeness_gaps"
)


def upgrade() -> None:
    # The driver takes one statement at a time.
    for statement in SQL.read_text(encoding="utf-8").strip().split(";\n"):
        op.execute(statement)
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {TABLES} TO buildlight_app")
    op.execute(f"GRANT SELECT ON {VIEWS} TO buildlight_reader")
