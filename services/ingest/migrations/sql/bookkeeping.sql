CREATE TABLE ingest.checkpoints (
    follower text PRIMARY KEY,
    position bigint NOT NULL
);
CREATE TABLE ingest.parked (
    follower text,
    position bigint,
    reason text NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (follower, position)
);
CREATE TABLE ingest.outbox (
    seq bigserial PRIMARY KEY,
    envelope text NOT NULL
)
