"""Deliveries, their outbox, and the history that is published."""

from alembic import op

revision = "notifier_0001"
down_revision = None
branch_labels = ("notifier",)
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SCHEMA notifier")
    op.execute(
        """
        CREATE TABLE notifier.deliveries (
            delivery_id uuid PRIMARY KEY,
            rule text NOT NULL,
            channel text NOT NULL,
            fact_id text NOT NULL,
            fact_type text NOT NULL,
            pipeline_id uuid NOT NULL,
            occurred_at timestamptz NOT NULL,
            title text NOT NULL,
            envelope text NOT NULL,
            follows uuid REFERENCES notifier.deliveries,
            status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sent', 'failed')),
            reason text,
            attempts integer NOT NULL DEFAULT 0,
            claimed_until timestamptz,
            created_at timestamptz NOT NULL DEFAULT now(),
            sent_at timestamptz,
            CHECK ((status = 'sent') = (sent_at IS NOT NULL))
        )
        """
    )
    op.execute("CREATE INDEX deliveries_fact ON notifier.deliveries (fact_id)")
    op.execute("CREATE INDEX deliveries_newest ON notifier.deliveries (created_at DESC, delivery_id)")
    # A break has one recovery; and breaks are looked up by what follows them, and by their pipeline.
    op.execute(
        "CREATE UNIQUE INDEX deliveries_follows ON notifier.deliveries (follows) WHERE follows IS NOT NULL"
    )
    op.execute(
        "CREATE INDEX deliveries_breaks ON notifier.deliveries (pipeline_id, occurred_at) "
        "WHERE fact_type = 'pipeline.broke.v1'"
    )
    op.execute("CREATE TABLE notifier.outbox (seq bigserial PRIMARY KEY, envelope text NOT NULL)")
    op.execute("GRANT USAGE ON SCHEMA notifier TO buildlight_app, buildlight_reader")
    op.execute("GRANT SELECT, INSERT, UPDATE ON notifier.deliveries TO buildlight_app")
    op.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON notifier.outbox TO buildlight_app")
    op.execute("GRANT USAGE ON SEQUENCE notifier.outbox_seq_seq TO buildlight_app")

    op.execute(
        """
        CREATE VIEW notifier.published_history AS
        SELECT delivery_id, rule, channel, title, status, reason, fact_type, fact_id, created_at, sent_at
          FROM notifier.deliveries
        """
    )
    op.execute("GRANT SELECT ON notifier.published_history TO buildlight_app, buildlight_reader")
    op.execute(
        "COMMENT ON VIEW notifier.published_history IS "
        "'What people were told, or were to be told: one row for a rule, a channel and a fact'"
    )
    for column, comment in {
        "delivery_id": "Derived from rule, channel and fact: the same fact twice is one row",
        "rule": "The rule that wanted it told",
        "channel": "slack or mail",
        "title": "Its first line, as people see it",
        "status": "pending, sent or failed; a failed one becomes sent when its dead letter is replayed",
        "reason": "Why it is not sent yet, or why it was given up; null once sent",
        "fact_type": "The type of the fact told, such as pipeline.broke.v1",
        "fact_id": "The id of the fact told: log.events.id",
        "created_at": "When the rule matched",
        "sent_at": "When the channel accepted it; null until then",
    }.items():
        op.execute(f"COMMENT ON COLUMN notifier.published_history.{column} IS '{comment}'")
