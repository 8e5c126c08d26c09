"""A scope for acting on builds, and whose a key is."""

from pathlib import Path

from alembic import op

revision = "api_0002"
down_revision = "api_0001"
branch_labels = None
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("ALTER TABLE api.keys DROP CONSTRAINT keys_scopes_check")
    op.execute(
        """
        ALTER TABLE api.keys ADD CONSTRAINT keys_scopes_check
            CHECK (scopes <@ ARRAY['read', 'write', 'act', 'admin'])
        """
    )
    op.execute((SQL / "identify_key.sql").read_text(encoding="utf-8"))
    op.execute("REVOKE EXECUTE ON FUNCTION api.identify_key FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION api.identify_key TO buildlight_app")
