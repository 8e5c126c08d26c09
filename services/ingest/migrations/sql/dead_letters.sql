-- Every message that a service gave up, kept with all it takes to put it back.  The id is derived from the queue,
-- the message's id and the time of its death, so that archiving one twice keeps one.
CREATE TABLE ingest.dead_letters (
    dead_letter_id uuid PRIMARY KEY,
    queue text NOT NULL,
    message_id text NOT NULL,
    message_type text,
    kind text NOT NULL,
    reason text NOT NULL,
    error_class text,
    fingerprint text NOT NULL,
    attempts integer NOT NULL,
    died_at timestamptz NOT NULL,
    archived_at timestamptz NOT NULL DEFAULT now(),
    headers jsonb NOT NULL,
    content_type text,
    body bytea NOT NULL,
    replays integer NOT NULL DEFAULT 0,
    replayed_at timestamptz
);
CREATE INDEX dead_letters_newest ON ingest.dead_letters (died_at DESC, dead_letter_id DESC);
CREATE INDEX dead_letters_queue ON ingest.dead_letters (queue, died_at DESC, dead_letter_id DESC);
CREATE INDEX dead_letters_fingerprint ON ingest.dead_letters (fingerprint, died_at DESC, dead_letter_id DESC);

-- What a request has put back already, so that a request that comes twice replays once.
CREATE TABLE ingest.replays (
    request_id uuid NOT NULL,
    dead_letter_id uuid NOT NULL REFERENCES ingest.dead_letters,
    replay integer NOT NULL,
    asked_by text NOT NULL,
    replayed_at timestamptz NOT NULL,
    PRIMARY KEY (request_id, dead_letter_id)
);
CREATE INDEX replays_dead_letter ON ingest.replays (dead_letter_id)
