-- The trigger that makes a table append-only.  A statement's, not a row's: a row trigger lets TRUNCATE through.
CREATE FUNCTION log.refuse() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: the log is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'insufficient_privilege', HINT = 'Record another event that corrects the first.';
END
$$
