-- The pages of listings as they were when all on them had been published.
CREATE TABLE poller.pages (
    target_id uuid NOT NULL REFERENCES poller.targets,
    address text NOT NULL,
    etag text NOT NULL,
    following text,
    capped boolean NOT NULL,
    kept_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (target_id, address)
);
