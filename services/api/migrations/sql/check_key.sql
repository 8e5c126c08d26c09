-- The scopes of the key with this SHA-256; null when there is none, or it was revoked.
-- Every service asks this; only the API's own role can read the table.
CREATE FUNCTION api.check_key(digest bytea) RETURNS text[]
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT known.scopes FROM api.keys AS known WHERE known.digest = $1 AND known.revoked_at IS NULL
$$
