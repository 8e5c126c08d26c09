"""What webhooks were delivered, so that each is taken once."""

from alembic import op

revision = "poller_0002"
down_revision = "poller_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The key is a digest over the provider's delivery id and the body: ids are unsigned, and of any length.
    op.execute(
        """
        CREATE TABLE poller.deliveries (
            key bytea PRIMARY KEY CHECK (octet_length(key) = 32),
            provider text NOT NULL,
            received_at timestamptz NOT NULL DEFAULT now()
        )
        """
    )
    op.execute("CREATE INDEX ON poller.deliveries (received_at)")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON poller.deliveries TO buildlight_app")
