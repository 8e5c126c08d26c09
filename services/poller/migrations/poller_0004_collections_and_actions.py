"""Reports and logs that are to be collected, and what was asked of providers."""

from alembic import op

revision = "poller_0004"
down_revision = "poller_0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")
