"""Targets that were discovered, and backfills on their way."""

from pathlib import Path

from alembic import op

revision = "poller_0003"
down_revision = "poller_0002"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "sql" / "lanes.sql"


def upgrade() -> None:
    # The driver takes one statement at a time.
    for statement in SQL.read_text(encoding="utf-8").strip().split(";\n"):
        op.execute(statement)
