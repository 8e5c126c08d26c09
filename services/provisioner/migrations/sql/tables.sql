-- `job` is all of it, with its values, which may be secret: no reader may see this table.
CREATE TABLE provisioner.runs (
    run_id text PRIMARY KEY,
    job text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed')),
    -- It failed because every try was used up, not because it has an answer: a replayed message goes on with it.
    resumable boolean NOT NULL DEFAULT false,
    correlation_id text NOT NULL,
    worker_id text,
    project_id bigint,
    project_url text,
    project_path text,
    commit_sha text,
    error text,
    -- What the control plane is told, from the step `report` on, while `status` waits for the last step.
    outcome text CHECK (outcome IN ('succeeded', 'failed')),
    -- Raised with each change that the control plane is to hear of, and the last one it took.
    version integer NOT NULL DEFAULT 0,
    told integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    started_at timestamptz,
    finished_at timestamptz
);

-- What the page of runs reads by.
CREATE INDEX runs_newest_first ON provisioner.runs (created_at DESC, run_id);

CREATE TABLE provisioner.steps (
    run_id text NOT NULL REFERENCES provisioner.runs,
    number integer NOT NULL,
    step text NOT NULL,
    status text NOT NULL CHECK (status IN ('running', 'succeeded', 'failed')),
    detail text,
    started_at timestamptz NOT NULL,
    finished_at timestamptz,
    PRIMARY KEY (run_id, number)
);

CREATE TABLE provisioner.outbox (seq bigserial PRIMARY KEY, envelope text NOT NULL);
