CREATE TABLE analytics.builds (
    build_id uuid NOT NULL PRIMARY KEY,
    pipeline_id uuid NOT NULL,
    provider text NOT NULL,
    instance text NOT NULL,
    repository_id text NOT NULL,
    repository text NOT NULL,
    workflow_id text NOT NULL,
    workflow text NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    attempt integer NOT NULL,
    run_number bigint,
    title text,
    event text,
    branch text,
    commit_sha text,
    commit_message text,
    author text,
    actor text,
    pull_request bigint,
    url text,
    raw_status text,
    raw_conclusion text,
    state text NOT NULL,
    created_at timestamptz,
    started_at timestamptz,
    finished_at timestamptz,
    updated_at timestamptz NOT NULL,
    ordered_at timestamptz NOT NULL,
    run_order bigint NOT NULL,
    duration_seconds double precision,
    queue_seconds double precision,
    state_rank smallint NOT NULL,
    event_id uuid NOT NULL,
    position bigint NOT NULL
);

COMMENT ON TABLE analytics.builds IS
    'One row an attempt of a build: its newest observation by the provider''s time, then by the state''s rank';
COMMENT ON COLUMN analytics.builds.build_id IS 'This attempt, in the API and in links';
COMMENT ON COLUMN analytics.builds.pipeline_id IS 'The workflow on this branch: analytics.pipelines';
COMMENT ON COLUMN analytics.builds.provider IS 'github, gitlab or jenkins';
COMMENT ON COLUMN analytics.builds.instance IS 'Which installation of the provider';
COMMENT ON COLUMN analytics.builds.repository_id IS 'The provider''s own id of the repository, which never changes';
COMMENT ON COLUMN analytics.builds.repository IS 'The repository''s name when the build was observed';
COMMENT ON COLUMN analytics.builds.workflow_id IS 'The provider''s own id of the workflow or job';
COMMENT ON COLUMN analytics.builds.workflow IS 'Its display name when the build was observed';
COMMENT ON COLUMN analytics.builds.run_id IS 'The provider''s own id of the run; its attempts share it';
COMMENT ON COLUMN analytics.builds.attempt IS 'Which try of the run, from 1';
COMMENT ON COLUMN analytics.builds.run_number IS 'The number people see, counted by workflow';
COMMENT ON COLUMN analytics.builds.title IS 'What the provider shows as the run''s title';
COMMENT ON COLUMN analytics.builds.event IS 'What triggered it, in the provider''s words';
COMMENT ON COLUMN analytics.builds.branch IS 'The branch it ran on';
COMMENT ON COLUMN analytics.builds.commit_sha IS 'The commit it ran on';
COMMENT ON COLUMN analytics.builds.commit_message IS 'The first line of the commit''s message';
COMMENT ON COLUMN analytics.builds.author IS 'Who wrote the commit';
COMMENT ON COLUMN analytics.builds.actor IS 'Who started the run';
COMMENT ON COLUMN analytics.builds.pull_request IS 'The number of the pull or merge request';
COMMENT ON COLUMN analytics.builds.url IS 'The run''s page at the provider';
COMMENT ON COLUMN analytics.builds.raw_status IS 'The provider''s own status, unchanged';
COMMENT ON COLUMN analytics.builds.raw_conclusion IS 'The provider''s own conclusion, unchanged';
COMMENT ON COLUMN analytics.builds.state IS 'One vocabulary over all providers: queued, waiting, action_required, running, success, failure, cancelled, skipped, timed_out, startup_failure, neutral, stale, unknown';
COMMENT ON COLUMN analytics.builds.created_at IS 'When the provider made the run; later attempts keep the first one''s on some';
COMMENT ON COLUMN analytics.builds.started_at IS 'When the attempt started';
COMMENT ON COLUMN analytics.builds.finished_at IS 'When the attempt ended';
COMMENT ON COLUMN analytics.builds.updated_at IS 'The provider''s time of this state';
COMMENT ON COLUMN analytics.builds.ordered_at IS 'What builds are ordered by: created_at, else started_at, else updated_at';
COMMENT ON COLUMN analytics.builds.run_order IS 'Orders runs of one moment: the run''s number, else its id when that is a number, else 0';
COMMENT ON COLUMN analytics.builds.duration_seconds IS 'From start to end, once it has ended';
COMMENT ON COLUMN analytics.builds.queue_seconds IS 'From creation to start; null for later attempts, whose creation nobody tells';
COMMENT ON COLUMN analytics.builds.state_rank IS 'How late in an attempt''s life the state is; decides between observations of one moment';
COMMENT ON COLUMN analytics.builds.event_id IS 'The event this row comes from; decides between observations of one moment and rank';
COMMENT ON COLUMN analytics.builds.position IS 'That event''s position in the log';

CREATE INDEX builds_newest ON analytics.builds (ordered_at DESC, build_id DESC);
CREATE INDEX builds_repository ON analytics.builds (repository, ordered_at DESC, build_id DESC);
CREATE INDEX builds_state ON analytics.builds (state, ordered_at DESC, build_id DESC);
CREATE INDEX builds_branch ON analytics.builds (branch, ordered_at DESC, build_id DESC);
CREATE INDEX builds_pipeline ON analytics.builds (pipeline_id, ordered_at, run_order, run_id, attempt);
CREATE INDEX builds_good ON analytics.builds (pipeline_id, ordered_at, run_order, run_id, attempt)
    WHERE state = 'success';
CREATE INDEX builds_bad ON analytics.builds (pipeline_id, ordered_at, run_order, run_id, attempt)
    WHERE state IN ('failure', 'timed_out', 'startup_failure');

CREATE TABLE analytics.unavailable_attempts (
    build_id uuid NOT NULL PRIMARY KEY,
    subject text NOT NULL,
    attempt integer NOT NULL,
    repository text NOT NULL,
    status integer NOT NULL,
    noticed_at timestamptz NOT NULL
);

COMMENT ON TABLE analytics.unavailable_attempts IS
    'Attempts of builds that a provider no longer has and must once have had; the first notice of each';
COMMENT ON COLUMN analytics.unavailable_attempts.build_id IS 'The attempt, as in analytics.builds';
COMMENT ON COLUMN analytics.unavailable_attempts.subject IS 'The run: provider, instance, repository id, run id';
COMMENT ON COLUMN analytics.unavailable_attempts.attempt IS 'Which try of the run, from 1';
COMMENT ON COLUMN analytics.unavailable_attempts.repository IS 'The repository''s name when it was noticed';
COMMENT ON COLUMN analytics.unavailable_attempts.status IS 'The provider''s HTTP status, 404 or 410';
COMMENT ON COLUMN analytics.unavailable_attempts.noticed_at IS 'When the provider was asked'
