-- Who may use the API.  A key itself is shown once, when it is made; here is only its SHA-256.
CREATE TABLE api.keys (
    key_id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    digest bytea NOT NULL UNIQUE CHECK (octet_length(digest) = 32),
    scopes text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'admin']),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
)
