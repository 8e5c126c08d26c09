-- Whose the key with this SHA-256 is, and its scopes; no row when there is none, or it was revoked.
CREATE FUNCTION api.identify_key(digest bytea) RETURNS TABLE (name text, scopes text[])
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT known.name, known.scopes FROM api.keys AS known WHERE known.digest = $1 AND known.revoked_at IS NULL
$$
