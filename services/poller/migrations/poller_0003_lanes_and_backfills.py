"""Targets that were discovered, and backfills on their way."""

from alembic import op

revision = "poller_0003"
down_revision = "poller_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")
