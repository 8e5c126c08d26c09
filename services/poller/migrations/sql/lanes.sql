-- The provider's time of what it showed; the beginning of our last look; the end for which reports were asked for.
ALTER TABLE poller.attempts
    ADD COLUMN shown_at timestamptz,
    ADD COLUMN looked_at timestamptz,
    ADD COLUMN collected_for uuid;
-- is_polled: in the settings, or found by a pattern of theirs and still there.
ALTER TABLE poller.targets
    ADD COLUMN discovered_by text,
    ADD COLUMN vanished_at timestamptz,
    ADD COLUMN is_polled boolean NOT NULL DEFAULT true,
    -- When deployments were last asked for; the newest change seen; the facts published from that time on.
    ADD COLUMN deployments_asked_at timestamptz,
    ADD COLUMN deployments_through timestamptz,
    ADD COLUMN deployments_known uuid[] NOT NULL DEFAULT '{}',
    ADD COLUMN deployments_refused text;
CREATE INDEX targets_by_name ON poller.targets (provider, instance, lower(target));
-- What each pattern of the settings was last found to stand for, and how finding it goes.
CREATE TABLE poller.discoveries (
    provider text NOT NULL,
    instance text NOT NULL,
    pattern text NOT NULL,
    tried_at timestamptz,
    found_at timestamptz,
    targets integer,
    not_before timestamptz,
    failing_since timestamptz,
    failing_reason text,
    failing_detail text,
    PRIMARY KEY (provider, instance, pattern)
);
-- Past builds that were asked for: one row a target of a request.
CREATE TABLE poller.backfills (
    request_id uuid NOT NULL,
    target_id uuid NOT NULL,
    provider text NOT NULL,
    instance text NOT NULL,
    target text NOT NULL,
    targets integer NOT NULL,
    since timestamptz NOT NULL,
    until timestamptz NOT NULL,
    -- Every build created before this has been published.
    through timestamptz NOT NULL,
    status text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'done', 'failed')),
    builds bigint NOT NULL DEFAULT 0,
    facts bigint NOT NULL DEFAULT 0,
    unreadable bigint NOT NULL DEFAULT 0,
    waits_until timestamptz,
    failing_since timestamptz,
    reason text,
    detail text,
    started_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    PRIMARY KEY (request_id, target_id)
);
CREATE INDEX backfills_by_age ON poller.backfills (started_at);
CREATE OR REPLACE VIEW poller.published_targets AS
SELECT target_id, provider, instance, target, polled_at, succeeded_at, listed_through, not_before,
       failing_since, failing_reason, failing_detail, is_polled, discovered_by, vanished_at, deployments_asked_at,
       deployments_refused
FROM poller.targets;
COMMENT ON COLUMN poller.published_targets.is_polled IS 'In the settings, or found by a pattern of theirs and still there.';
COMMENT ON COLUMN poller.published_targets.discovered_by IS 'The pattern that found it, such as acme/*.';
COMMENT ON COLUMN poller.published_targets.vanished_at IS 'Since when the pattern no longer finds it.';
COMMENT ON COLUMN poller.published_targets.deployments_asked_at IS 'When its deployments were last asked for.';
COMMENT ON COLUMN poller.published_targets.deployments_refused IS 'Why its deployments may not be read; NULL when they may.';
CREATE VIEW poller.published_discoveries AS
SELECT provider, instance, pattern, tried_at, found_at, targets, not_before, failing_since, failing_reason, failing_detail
FROM poller.discoveries;
COMMENT ON VIEW poller.published_discoveries IS 'The patterns of the settings that stand for targets, and how finding those goes.';
CREATE VIEW poller.published_backfills AS
SELECT request_id, target_id, provider, instance, target, targets, since, until, through, status, builds, facts,
       unreadable, waits_until, failing_since, reason, detail, started_at, updated_at, finished_at
FROM poller.backfills;
COMMENT ON VIEW poller.published_backfills IS 'Past builds that were asked for: one row a target of a request.';
COMMENT ON COLUMN poller.published_backfills.targets IS 'How many targets the request has; each has a row once it has begun.';
COMMENT ON COLUMN poller.published_backfills.through IS 'Every build created before this has been published.';
COMMENT ON COLUMN poller.published_backfills.builds IS 'Attempts looked at, those that were known already left out.';
COMMENT ON COLUMN poller.published_backfills.facts IS 'Facts published.';
COMMENT ON COLUMN poller.published_backfills.unreadable IS 'Rows and runs that could not be read and were left out.';
COMMENT ON COLUMN poller.published_backfills.waits_until IS 'It goes on then: the provider''s allowance is spent, or it fails.';
COMMENT ON COLUMN poller.published_backfills.reason IS 'Why it failed, or fails for now, for machines.';
COMMENT ON COLUMN poller.published_backfills.detail IS 'And for a person.';
GRANT SELECT, INSERT, UPDATE, DELETE ON poller.discoveries, poller.backfills TO buildlight_app;
GRANT SELECT ON poller.published_discoveries, poller.published_backfills TO buildlight_reader
