-- Whether the log is whole: as many events as its last position, which is the head's, and as many known ids.
-- It counts every row, in one snapshot.
CREATE FUNCTION log.integrity(OUT events bigint, OUT known bigint, OUT last bigint, OUT head bigint, OUT intact boolean)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
    SELECT events, known, last, head, events = last AND last = head AND known = head
    FROM
        (SELECT count(*) AS events, coalesce(max(position), 0) AS last FROM log.events) AS counted,
        (SELECT count(*) AS known FROM log.dedup) AS remembered,
        (SELECT position AS head FROM log.head) AS at
$$
