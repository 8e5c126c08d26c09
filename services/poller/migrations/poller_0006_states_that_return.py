"""The state of each attempt, and when it resumed: so that a state that comes back is seen as news."""

from alembic import op

revision = "poller_0006"
down_revision = "poller_0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE poller.attempts ADD COLUMN state text, ADD COLUMN resumed_at timestamptz")
