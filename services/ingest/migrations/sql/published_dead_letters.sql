CREATE VIEW ingest.published_dead_letters AS
SELECT
    dead_letter_id,
    queue,
    message_id,
    message_type,
    kind,
    reason,
    error_class,
    fingerprint,
    attempts,
    died_at,
    CASE WHEN replays > 0 THEN 'replayed' ELSE 'dead' END AS status,
    replays,
    replayed_at
FROM ingest.dead_letters;

COMMENT ON VIEW ingest.published_dead_letters IS
    'Messages that a service gave up. Their bodies are not published.';
COMMENT ON COLUMN ingest.published_dead_letters.dead_letter_id IS
    'Derived from the queue, the message''s id and the time of its death.';
COMMENT ON COLUMN ingest.published_dead_letters.queue IS 'The queue it died on, and would be replayed to.';
COMMENT ON COLUMN ingest.published_dead_letters.message_id IS
    'The message''s own id; of a message without one, a digest of its body.';
COMMENT ON COLUMN ingest.published_dead_letters.message_type IS
    'The CloudEvents type; null for what is no CloudEvent.';
COMMENT ON COLUMN ingest.published_dead_letters.kind IS
    'permanent, exhausted (every retry used up), delivery_limit (it kept killing its consumer), or unknown.';
COMMENT ON COLUMN ingest.published_dead_letters.reason IS 'Why it died, for a person.';
COMMENT ON COLUMN ingest.published_dead_letters.error_class IS 'The class of the last error, when there was one.';
COMMENT ON COLUMN ingest.published_dead_letters.fingerprint IS
    'Alike for deaths of one cause: what differs in ids and numbers alone.';
COMMENT ON COLUMN ingest.published_dead_letters.attempts IS 'How often handling it failed.';
COMMENT ON COLUMN ingest.published_dead_letters.died_at IS 'When it was given up.';
COMMENT ON COLUMN ingest.published_dead_letters.status IS
    'dead, or replayed once it was put back on its queue; should it die again, that is another dead letter.';
COMMENT ON COLUMN ingest.published_dead_letters.replays IS 'How often it was put back.';
COMMENT ON COLUMN ingest.published_dead_letters.replayed_at IS 'When it was put back last; null if never.'
