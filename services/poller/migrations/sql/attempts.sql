-- What was seen of each attempt of each build, so that only changes are published. A memory, not the record.
CREATE TABLE poller.attempts (
    build_id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES poller.targets,
    repository_id text NOT NULL,
    run_id text NOT NULL,
    attempt integer NOT NULL,
    created_at timestamptz NOT NULL,
    -- The HTTP status with which the provider said that it does not have it.
    unavailable smallint,
    version text,
    fact_id uuid,
    -- Of an attempt not yet settled: the jobs already published, by the ids of their facts.
    job_facts uuid[] NOT NULL DEFAULT '{}',
    ended boolean NOT NULL,
    settled boolean NOT NULL,
    etag text,
    unchanged integer NOT NULL DEFAULT 0,
    due_at timestamptz,
    seen_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX attempts_of_run ON poller.attempts (target_id, run_id, attempt);
CREATE INDEX attempts_open ON poller.attempts (target_id, due_at) WHERE NOT settled;
CREATE INDEX attempts_by_age ON poller.attempts (seen_at) WHERE settled;
