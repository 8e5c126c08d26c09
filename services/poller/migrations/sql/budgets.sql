-- What each account's provider last said is left, for all replicas.
CREATE TABLE poller.budgets (
    account text PRIMARY KEY,
    allowed integer,
    remaining integer,
    resets_at timestamptz,
    blocked_until timestamptz
);
