CREATE VIEW poller.published_targets AS
SELECT target_id, provider, instance, target, polled_at, succeeded_at, listed_through, not_before,
       failing_since, failing_reason, failing_detail
FROM poller.targets;
COMMENT ON VIEW poller.published_targets IS 'What is polled, and how that goes.';
COMMENT ON COLUMN poller.published_targets.target_id IS 'Derived from provider, instance and target.';
COMMENT ON COLUMN poller.published_targets.provider IS 'github, gitlab or jenkins.';
COMMENT ON COLUMN poller.published_targets.instance IS 'Which installation of the provider.';
COMMENT ON COLUMN poller.published_targets.target IS 'In the provider''s words, such as acme/shop.';
COMMENT ON COLUMN poller.published_targets.polled_at IS 'The end of the last poll, however it went.';
COMMENT ON COLUMN poller.published_targets.succeeded_at IS 'The end of the last poll that went well.';
COMMENT ON COLUMN poller.published_targets.listed_through IS
    'Every build created before this has been listed once.';
COMMENT ON COLUMN poller.published_targets.not_before IS 'Polled no sooner than this: the provider wants a pause.';
COMMENT ON COLUMN poller.published_targets.failing_since IS 'Since when every poll failed; NULL while they go well.';
COMMENT ON COLUMN poller.published_targets.failing_reason IS 'The reason of the fact poll.failed.';
COMMENT ON COLUMN poller.published_targets.failing_detail IS 'What happened and what to do, for a person.';
