CREATE TABLE poller.targets (
    target_id uuid PRIMARY KEY,
    provider text NOT NULL,
    instance text NOT NULL,
    target text NOT NULL,
    -- The due time of the newest poll that was asked for, and of the newest that was carried out.
    scheduled_for timestamptz,
    polled_for timestamptz,
    -- No poll is asked for before this: the provider wants a pause.
    not_before timestamptz,
    polled_at timestamptz,
    succeeded_at timestamptz,
    -- Every build created before this has been listed once.
    listed_through timestamptz,
    swept_at timestamptz,
    failing_since timestamptz,
    failing_reason text,
    failing_detail text,
    UNIQUE (provider, instance, target)
);
