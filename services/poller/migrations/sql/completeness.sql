-- How complete the log is, target by target, as last measured. One row a target.
CREATE TABLE poller.completeness (
    target_id uuid PRIMARY KEY REFERENCES poller.targets,
    -- The due time of the newest measurement the schedule asked for.
    scheduled_for timestamptz,
    -- The newest measurement that was carried out.
    request_id uuid,
    since timestamptz,
    until timestamptz,
    measured_at timestamptz,
    took_seconds double precision,
    asked_again integer,
    -- Why a newer one could not be carried out, and when that may be tried again.
    postponed_until timestamptz,
    postponed_why text,
    postponed_request_id uuid
);
-- What each measurement found, by the UTC day on which the attempts' runs were created: a later one replaces it.
CREATE TABLE poller.completeness_days (
    target_id uuid NOT NULL REFERENCES poller.targets,
    day date NOT NULL,
    at_provider integer NOT NULL,
    recorded integer NOT NULL,
    unavailable integer NOT NULL,
    missing integer NOT NULL,
    open_but_ended integer NOT NULL,
    measured_at timestamptz NOT NULL,
    PRIMARY KEY (target_id, day)
);
-- What was missing, or open though it had ended, when last measured; the oldest few thousand of a target.
CREATE TABLE poller.completeness_gaps (
    target_id uuid NOT NULL REFERENCES poller.targets,
    run_id text NOT NULL,
    attempt integer NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    detail text NOT NULL,
    created_at timestamptz NOT NULL,
    noticed_at timestamptz NOT NULL,
    PRIMARY KEY (target_id, run_id, attempt)
);
CREATE INDEX completeness_gaps_by_age ON poller.completeness_gaps (target_id, created_at);
CREATE VIEW poller.published_completeness AS
SELECT one.target_id, target.provider, target.instance, target.target, one.since, one.until, one.measured_at,
       one.took_seconds, one.asked_again, one.request_id, one.postponed_until, one.postponed_why,
       one.postponed_request_id
FROM poller.completeness AS one JOIN poller.targets AS target USING (target_id);
COMMENT ON VIEW poller.published_completeness IS
    'When what a provider has of a target was last compared with what the log has; one row a target asked about.';
COMMENT ON COLUMN poller.published_completeness.target_id IS 'As in published_targets.';
COMMENT ON COLUMN poller.published_completeness.provider IS 'github, gitlab or jenkins.';
COMMENT ON COLUMN poller.published_completeness.instance IS 'Which installation of the provider.';
COMMENT ON COLUMN poller.published_completeness.target IS 'In the provider''s words, such as acme/shop.';
COMMENT ON COLUMN poller.published_completeness.since IS
    'The last measurement covers builds created from here; NULL before the first.';
COMMENT ON COLUMN poller.published_completeness.until IS 'And before this: younger ones are not judged yet.';
COMMENT ON COLUMN poller.published_completeness.measured_at IS 'When it was over; NULL before the first.';
COMMENT ON COLUMN poller.published_completeness.took_seconds IS 'How long it took, pauses included.';
COMMENT ON COLUMN poller.published_completeness.asked_again IS
    'How many runs it asked the provider for again, because the log lacked them or held them open.';
COMMENT ON COLUMN poller.published_completeness.request_id IS 'Of the command that asked for it.';
COMMENT ON COLUMN poller.published_completeness.postponed_until IS
    'A newer measurement could not be had and is asked for again after this; NULL when none is due.';
COMMENT ON COLUMN poller.published_completeness.postponed_why IS 'Why, for a person.';
COMMENT ON COLUMN poller.published_completeness.postponed_request_id IS
    'Of the command that could not be carried out.';
CREATE VIEW poller.published_completeness_days AS
SELECT target_id, day, at_provider, recorded, unavailable, missing, open_but_ended, measured_at
FROM poller.completeness_days;
COMMENT ON VIEW poller.published_completeness_days IS
    'What was found, one row a target and UTC day of creation, as last measured.';
COMMENT ON COLUMN poller.published_completeness_days.target_id IS 'As in published_targets.';
COMMENT ON COLUMN poller.published_completeness_days.day IS
    'The UTC day on which the runs were created; all attempts of a run count on that day.';
COMMENT ON COLUMN poller.published_completeness_days.at_provider IS
    'Attempts the provider says there are.';
COMMENT ON COLUMN poller.published_completeness_days.recorded IS
    'Of those, how many the log has; the unavailable ones among them.';
COMMENT ON COLUMN poller.published_completeness_days.unavailable IS
    'Of the recorded ones, those the provider counts but no longer has: recorded as build.unavailable.';
COMMENT ON COLUMN poller.published_completeness_days.missing IS 'at_provider less recorded.';
COMMENT ON COLUMN poller.published_completeness_days.open_but_ended IS
    'Of the recorded ones, those the log holds for running although they have ended.';
COMMENT ON COLUMN poller.published_completeness_days.measured_at IS 'When that was found.';
CREATE VIEW poller.published_completeness_gaps AS
SELECT target_id, run_id, attempt, kind, reason, detail, created_at, noticed_at FROM poller.completeness_gaps;
COMMENT ON VIEW poller.published_completeness_gaps IS
    'What was missing, or open though ended, when last measured; the oldest two thousand of a target.';
COMMENT ON COLUMN poller.published_completeness_gaps.target_id IS 'As in published_targets.';
COMMENT ON COLUMN poller.published_completeness_gaps.run_id IS 'The provider''s id of the run.';
COMMENT ON COLUMN poller.published_completeness_gaps.attempt IS 'Which try of it, from 1.';
COMMENT ON COLUMN poller.published_completeness_gaps.kind IS
    'missing: the log does not have it; open: the log holds it for running.';
COMMENT ON COLUMN poller.published_completeness_gaps.reason IS
    'never_listed, not_published, not_recorded, unreadable, gone, newer_than_poll, target_failing, end_not_seen.';
COMMENT ON COLUMN poller.published_completeness_gaps.detail IS 'What happened and what follows, for a person.';
COMMENT ON COLUMN poller.published_completeness_gaps.created_at IS 'When the provider created the run.';
COMMENT ON COLUMN poller.published_completeness_gaps.noticed_at IS 'When it was first found so.'
