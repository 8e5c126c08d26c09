CREATE TABLE poller.outbox (seq bigserial PRIMARY KEY, envelope text NOT NULL);
CREATE TABLE poller.leases (name text PRIMARY KEY, holder uuid NOT NULL, expires_at timestamptz NOT NULL);
