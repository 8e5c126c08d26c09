-- One row: the last position given out, the last one that has a partition, and how many a partition holds.
-- A new size holds for the partitions made from then on.  The page is left nearly empty, so that the row is
-- always updated in place and its old versions are pruned by the next writer.
CREATE TABLE log.head (
    only_row boolean NOT NULL PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL DEFAULT 0,
    partitioned_to bigint NOT NULL DEFAULT 0,
    partition_size bigint NOT NULL DEFAULT 1000000 CHECK (partition_size > 0)
) WITH (fillfactor = 10)
