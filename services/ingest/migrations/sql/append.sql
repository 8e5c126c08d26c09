-- Appends a batch to the log, in the order given, and tells each entry's fate:
--   recorded   it is new and has this position;
--   duplicate  its id is known with the same digest; the position is the one it has had since;
--   conflict   its id is known with another digest; nothing was written; the position is the known one's.
--
-- Every append takes one lock, the head's row, and holds it until its transaction ends.  So positions have no
-- gaps, become visible in their own order, and no set of batches can deadlock, whatever ids they share.  What
-- may be slow comes before the lock: parsing the JSON, and looking for known ids (it also brings their index
-- pages into memory).  Call it in autocommit: a client's open transaction would keep every other writer waiting.
CREATE FUNCTION log.append(
    ids uuid[],
    digests bytea[],
    types text[],
    subjects text[],
    sources text[],
    occurred_at timestamptz[],
    correlation_ids text[],
    causation_ids text[],
    traceparents text[],
    data text[]
) RETURNS TABLE (ordinal integer, fate text, "position" bigint)
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
-- A plan is kept for a connection's life.  One made while the log is young must not scan it when it is old.
SET enable_seqscan = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    size CONSTANT integer NOT NULL := cardinality(ids);
    documents CONSTANT jsonb[] NOT NULL := data::jsonb[];
    tip log.head%ROWTYPE;
    now_recorded timestamptz;
BEGIN
    IF (size, size, size, size, size, size, size, size, size) IS DISTINCT FROM (
        cardinality(digests), cardinality(types), cardinality(subjects), cardinality(sources),
        cardinality(occurred_at), cardinality(correlation_ids), cardinality(causation_ids),
        cardinality(traceparents), cardinality(data)
    ) THEN
        RAISE EXCEPTION 'log.append: the arrays differ in length'
            USING ERRCODE = 'array_subscript_error', HINT = 'Give one element of each array an event.';
    END IF;

    IF EXISTS (
        SELECT FROM unnest(ids) AS given (id)
        WHERE (SELECT known.position FROM log.dedup AS known WHERE known.id = given.id) IS NULL
    ) THEN
        SELECT * INTO STRICT tip FROM log.head FOR NO KEY UPDATE;
        IF tip.position + size > tip.partitioned_to - tip.partition_size THEN
            PERFORM log.make_partitions(tip.position + size);
        END IF;
    END IF;
    -- Known ids are never forgotten: when none was new, none is new below, and nothing is written.

    now_recorded := clock_timestamp();
    RETURN QUERY
    WITH given AS MATERIALIZED (
        SELECT
            entry.*,
            known.digest AS known_digest,
            known.position AS known_position
        FROM unnest(ids, digests) WITH ORDINALITY AS entry (id, digest, ordinal)
        -- A look-up an entry in a snapshot taken after the lock: it sees every id that was ever recorded.
        LEFT JOIN LATERAL (
            SELECT d.digest, d.position FROM log.dedup AS d WHERE d.id = entry.id OFFSET 0
        ) AS known ON true
    ),
    fresh AS MATERIALIZED (
        SELECT first.id, first.digest, first.ordinal,
            tip.position + row_number() OVER (ORDER BY first.ordinal) AS position
        FROM (
            SELECT DISTINCT ON (id) id, digest, ordinal FROM given WHERE known_position IS NULL ORDER BY id, ordinal
        ) AS first
    ),
    remembered AS (
        INSERT INTO log.dedup (id, digest, position)
        SELECT id, digest, position FROM fresh
    ),
    recorded AS (
        INSERT INTO log.events (
            position, id, type, subject, source, occurred_at, recorded_at,
            correlation_id, causation_id, traceparent, data
        )
        SELECT
            fresh.position, fresh.id, body.type, body.subject, body.source, body.occurred_at, now_recorded,
            body.correlation_id, body.causation_id, body.traceparent, body.data
        FROM unnest(
            types, subjects, sources, occurred_at, correlation_ids, causation_ids, traceparents, documents
        ) WITH ORDINALITY AS body (
            type, subject, source, occurred_at, correlation_id, causation_id, traceparent, data, ordinal
        )
        JOIN fresh ON fresh.ordinal = body.ordinal
        ORDER BY fresh.position
    ),
    advanced AS (
        UPDATE log.head SET position = head.position + (SELECT count(*) FROM fresh)
        WHERE EXISTS (SELECT FROM fresh)
    )
    SELECT
        given.ordinal::integer,
        CASE
            WHEN given.digest <> coalesce(given.known_digest, fresh.digest) THEN 'conflict'
            WHEN given.ordinal = fresh.ordinal THEN 'recorded'
            ELSE 'duplicate'
        END,
        coalesce(given.known_position, fresh.position)
    FROM given LEFT JOIN fresh ON fresh.id = given.id
    ORDER BY given.ordinal;
END
$$
