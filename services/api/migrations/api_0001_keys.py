"""The API's keys."""

from pathlib import Path

from alembic import op

revision = "api_0001"
down_revision = None
branch_labels = ("api",)
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("CREATE SCHEMA api")
    for name in ("keys", "check_key"):
        op.execute((SQL / f"{name}.sql").read_text(encoding="utf-8"))
    op.execute("GRANT USAGE ON SCHEMA api TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE ON api.keys TO buildlight_app")
    op.execute("REVOKE EXECUTE ON FUNCTION api.check_key FROM PUBLIC")
    op.execute("GRANT EXECUTE ON FUNCTION api.check_key TO buildlight_app, buildlight_reader")
