"""Provisioning runs and their steps."""

from pathlib import Path

from alembic import op

revision = "provisioner_0001"
down_revision = None
branch_labels = ("provisioner",)
depends_on = None

SQL = Path(__file__).parent / "sql"


def upgrade() -> None:
    op.execute("CREATE SCHEMA provisioner")
    for name in ("tables", "views"):
        # The driver takes one statement at a time.
        for statement in (SQL / f"{name}.sql").read_text(encoding="utf-8").strip().split(";\n"):
            op.execute(statement)

    op.execute("GRANT USAGE ON SCHEMA provisioner TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE ON provisioner.runs, provisioner.steps TO buildlight_app")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON provisioner.outbox TO buildlight_app")
    op.execute("GRANT USAGE ON SEQUENCE provisioner.outbox_seq_seq TO buildlight_app")
    # The views alone: the jobs in the tables may hold secrets.
    op.execute(
        "GRANT SELECT ON provisioner.published_runs, provisioner.published_steps "
        "TO buildlight_app, buildlight_reader"
    )
