-- The log.  Partitioned by position and not by time: a read of its tail then touches one partition.
CREATE TABLE log.events (
    position bigint NOT NULL PRIMARY KEY,
    id uuid NOT NULL,
    type text NOT NULL,
    subject text NOT NULL,
    source text NOT NULL,
    occurred_at timestamptz NOT NULL,
    recorded_at timestamptz NOT NULL,
    correlation_id text,
    causation_id text,
    traceparent text,
    data jsonb NOT NULL
) PARTITION BY RANGE (position)
