-- What was asked of providers, and what came of it: asking again with the same id is answered again, not done again.
CREATE TABLE poller.actions (
    request_id uuid PRIMARY KEY,
    action text NOT NULL CHECK (action IN ('rerun', 'rerun_failed', 'cancel', 'publish_check')),
    build_id uuid NOT NULL,
    repository text NOT NULL,
    asked_by text NOT NULL,
    status text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'done', 'refused', 'failed')),
    detail text,
    url text,
    -- Set before the provider is asked, and taken back when it is known that it did nothing. With it set and no
    -- result, whether the provider did it is to be looked up.
    begun_at timestamptz,
    asked_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    finished_at timestamptz
);
CREATE INDEX actions_by_age ON poller.actions (asked_at);
CREATE VIEW poller.published_actions AS
SELECT request_id, action, build_id, repository, asked_by, status, detail, url, asked_at, expires_at, finished_at
FROM poller.actions;
COMMENT ON VIEW poller.published_actions IS 'What providers were asked to do with builds, and what came of it.';
COMMENT ON COLUMN poller.published_actions.request_id IS 'The asker''s own, or made for them.';
COMMENT ON COLUMN poller.published_actions.action IS 'rerun, rerun_failed, cancel or publish_check.';
COMMENT ON COLUMN poller.published_actions.build_id IS 'The attempt it was asked for.';
COMMENT ON COLUMN poller.published_actions.repository IS 'By name, as the asker saw it.';
COMMENT ON COLUMN poller.published_actions.asked_by IS 'The name of the API key.';
COMMENT ON COLUMN poller.published_actions.status IS
    'queued; done; refused: the provider will not, or it was too late; failed: it is not known, or all tries failed.';
COMMENT ON COLUMN poller.published_actions.detail IS 'What the provider answered, for a person.';
COMMENT ON COLUMN poller.published_actions.url IS 'Where to see what came of it.';
COMMENT ON COLUMN poller.published_actions.asked_at IS 'When the poller had it in hand for the first time.';
COMMENT ON COLUMN poller.published_actions.expires_at IS 'Not carried out after this.';
COMMENT ON COLUMN poller.published_actions.finished_at IS 'When it was settled.';
