"""Reports and logs that are to be collected, and what was asked of providers."""

from pathlib import Path

from alembic import op

revision = "poller_0004"
down_revision = "poller_0003"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    for name in ("collections", "actions"):
        # The driver takes one statement at a time.
        for statement in (SQL / f"{name}.sql").read_text(encoding="utf-8").strip().split(";\n"):
            op.execute(statement)
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON poller.collections, poller.actions TO buildlight_app")
    op.execute("GRANT SELECT ON poller.published_collections, poller.published_actions TO buildlight_reader")
