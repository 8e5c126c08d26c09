-- Makes the log's partitions as far as a position, and two more beyond it; returns how many it made.
-- log.append calls it when less than one whole partition lies ahead, so nobody else has to.
--
-- A table is made and then attached: CREATE TABLE ... PARTITION OF would lock all readers and writers out.
CREATE FUNCTION log.make_partitions(up_to bigint DEFAULT NULL) RETURNS integer
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    ahead CONSTANT integer := 2;
    tip log.head%ROWTYPE;
    made integer := 0;
    name text;
    below bigint;
BEGIN
    -- The head's lock also keeps two makers apart.
    SELECT * INTO STRICT tip FROM log.head FOR NO KEY UPDATE;
    WHILE tip.partitioned_to < greatest(up_to, tip.position) + ahead * tip.partition_size LOOP
        name := format('events_%s', tip.partitioned_to + 1);
        below := tip.partitioned_to + tip.partition_size + 1;
        EXECUTE format('CREATE TABLE log.%I (LIKE log.events INCLUDING ALL)', name);
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON log.%I EXECUTE FUNCTION log.refuse()',
            name
        );
        EXECUTE format(
            'ALTER TABLE log.events ATTACH PARTITION log.%I FOR VALUES FROM (%s) TO (%s)',
            name, tip.partitioned_to + 1, below
        );
        tip.partitioned_to := below - 1;
        made := made + 1;
    END LOOP;
    UPDATE log.head SET partitioned_to = tip.partitioned_to WHERE made > 0;
    RETURN made;
END
$$
