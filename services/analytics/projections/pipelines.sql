CREATE TABLE analytics.pipelines (
    pipeline_id uuid NOT NULL PRIMARY KEY,
    provider text NOT NULL,
    instance text NOT NULL,
    repository_id text NOT NULL,
    repository text NOT NULL,
    workflow_id text NOT NULL,
    workflow text NOT NULL,
    branch text,
    state text NOT NULL,
    latest_build_id uuid NOT NULL,
    conclusive_build_id uuid,
    state_since timestamptz,
    ordered_at timestamptz NOT NULL
);

COMMENT ON TABLE analytics.pipelines IS
    'One row a workflow and branch: is it good or bad, since when, and by which build';
COMMENT ON COLUMN analytics.pipelines.pipeline_id IS 'The pipeline, in the API and in links';
COMMENT ON COLUMN analytics.pipelines.provider IS 'github, gitlab or jenkins';
COMMENT ON COLUMN analytics.pipelines.instance IS 'Which installation of the provider';
COMMENT ON COLUMN analytics.pipelines.repository_id IS 'The provider''s own id of the repository, which never changes';
COMMENT ON COLUMN analytics.pipelines.repository IS 'The repository''s name in the newest build';
COMMENT ON COLUMN analytics.pipelines.workflow_id IS 'The provider''s own id of the workflow or job';
COMMENT ON COLUMN analytics.pipelines.workflow IS 'Its display name in the newest build';
COMMENT ON COLUMN analytics.pipelines.branch IS 'The branch; null where the provider names none';
COMMENT ON COLUMN analytics.pipelines.state IS 'State of the newest conclusive build (success, failure, timed_out, startup_failure), else unknown';
COMMENT ON COLUMN analytics.pipelines.latest_build_id IS 'The newest build, whatever its state';
COMMENT ON COLUMN analytics.pipelines.conclusive_build_id IS 'The newest build whose end says whether the code is good';
COMMENT ON COLUMN analytics.pipelines.state_since IS 'The end of the first of the unbroken row of good, or of bad, conclusive builds that the newest one closes';
COMMENT ON COLUMN analytics.pipelines.ordered_at IS 'ordered_at of the newest build';

CREATE INDEX pipelines_newest ON analytics.pipelines (ordered_at DESC, pipeline_id DESC);
CREATE INDEX pipelines_repository ON analytics.pipelines (repository, ordered_at DESC, pipeline_id DESC);
CREATE INDEX pipelines_state ON analytics.pipelines (state, ordered_at DESC, pipeline_id DESC)
