-- What was collected of each attempt of each build, so that a try that is repeated takes up what is left.
CREATE TABLE poller.collections (
    build_id uuid PRIMARY KEY,
    provider text NOT NULL,
    instance text NOT NULL,
    target text NOT NULL,
    -- The end of the attempt for which this was collected: with another end it is collected anew.
    ended_at timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done')),
    -- What is published: documents by source, logs by job.
    documents uuid[] NOT NULL DEFAULT '{}',
    jobs uuid[] NOT NULL DEFAULT '{}',
    reports integer NOT NULL DEFAULT 0,
    cases bigint NOT NULL DEFAULT 0,
    refused integer NOT NULL DEFAULT 0,
    logs integer NOT NULL DEFAULT 0,
    detail text,
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz
);
CREATE INDEX collections_by_age ON poller.collections (started_at);
CREATE VIEW poller.published_collections AS
SELECT build_id, provider, instance, target, ended_at, status, reports, cases, refused, logs, detail, started_at,
       finished_at
FROM poller.collections;
COMMENT ON VIEW poller.published_collections IS 'What of an attempt of a build was collected beside watching it.';
COMMENT ON COLUMN poller.published_collections.build_id IS 'The attempt''s, as in builds.';
COMMENT ON COLUMN poller.published_collections.provider IS 'github, gitlab or jenkins.';
COMMENT ON COLUMN poller.published_collections.instance IS 'Which installation of the provider.';
COMMENT ON COLUMN poller.published_collections.target IS 'In the provider''s words, such as acme/shop.';
COMMENT ON COLUMN poller.published_collections.ended_at IS 'When the attempt ended.';
COMMENT ON COLUMN poller.published_collections.status IS 'running: under way or waiting for another try; done.';
COMMENT ON COLUMN poller.published_collections.reports IS 'Test reports that were read.';
COMMENT ON COLUMN poller.published_collections.cases IS 'Tests in them.';
COMMENT ON COLUMN poller.published_collections.refused IS 'Documents that should be reports and cannot be read.';
COMMENT ON COLUMN poller.published_collections.logs IS 'Failed jobs of whose logs an excerpt is kept.';
COMMENT ON COLUMN poller.published_collections.detail IS 'What was left out, or why it is tried again; for a person.';
COMMENT ON COLUMN poller.published_collections.started_at IS 'The beginning of the first try.';
COMMENT ON COLUMN poller.published_collections.finished_at IS 'The end of the last one.';
