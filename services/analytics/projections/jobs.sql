CREATE TABLE analytics.jobs (
    job_key uuid NOT NULL PRIMARY KEY,
    build_id uuid NOT NULL,
    job_id text NOT NULL,
    name text NOT NULL,
    runner text,
    url text,
    raw_status text,
    raw_conclusion text,
    state text NOT NULL,
    created_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    observed_at timestamptz NOT NULL,
    duration_seconds double precision,
    queue_seconds double precision,
    steps jsonb NOT NULL,
    state_rank smallint NOT NULL,
    event_id uuid NOT NULL,
    position bigint NOT NULL
);

COMMENT ON TABLE analytics.jobs IS
    'One row a job of an attempt: its newest observation by the provider''s time, then by the state''s rank';
COMMENT ON COLUMN analytics.jobs.job_key IS 'The job within this attempt, in the API and in links';
COMMENT ON COLUMN analytics.jobs.build_id IS 'The attempt it belongs to: analytics.builds, where it may come later';
COMMENT ON COLUMN analytics.jobs.job_id IS 'The provider''s own id of the job';
COMMENT ON COLUMN analytics.jobs.name IS 'The job''s name when it was observed';
COMMENT ON COLUMN analytics.jobs.runner IS 'The machine it ran on';
COMMENT ON COLUMN analytics.jobs.url IS 'The job''s page at the provider';
COMMENT ON COLUMN analytics.jobs.raw_status IS 'The provider''s own status, unchanged';
COMMENT ON COLUMN analytics.jobs.raw_conclusion IS 'The provider''s own conclusion, unchanged';
COMMENT ON COLUMN analytics.jobs.state IS 'One vocabulary over all providers, as in analytics.builds';
COMMENT ON COLUMN analytics.jobs.created_at IS 'When the provider made the job';
COMMENT ON COLUMN analytics.jobs.started_at IS 'When it started';
COMMENT ON COLUMN analytics.jobs.finished_at IS 'When it ended';
COMMENT ON COLUMN analytics.jobs.observed_at IS 'The newest time the provider gives for the job';
COMMENT ON COLUMN analytics.jobs.duration_seconds IS 'From start to end, once it has ended';
COMMENT ON COLUMN analytics.jobs.queue_seconds IS 'From creation to start';
COMMENT ON COLUMN analytics.jobs.steps IS 'An array of {number, name, raw_status, raw_conclusion, state, started_at, finished_at}';
COMMENT ON COLUMN analytics.jobs.state_rank IS 'How late in a job''s life the state is; decides between observations of one moment';
COMMENT ON COLUMN analytics.jobs.event_id IS 'The event this row comes from; decides between observations of one moment and rank';
COMMENT ON COLUMN analytics.jobs.position IS 'That event''s position in the log';

CREATE INDEX jobs_build ON analytics.jobs (build_id)
