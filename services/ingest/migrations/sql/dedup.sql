-- Every id the log holds, kept for ever (about 120 MB a million).  Apart from the log, because a unique key of
-- a partitioned table must contain what it is partitioned by.
CREATE TABLE log.dedup (
    id uuid NOT NULL PRIMARY KEY,
    digest bytea NOT NULL,
    position bigint NOT NULL
)
