"""What providers say exists, compared with what the log has."""

from alembic import op

revision = "poller_0005"
down_revision = "poller_0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("SELECT 1")
