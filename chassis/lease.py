"""One leader among replicas, by a row in Postgres and the database's clock."""

from uuid import uuid4

from chassis.database import Pool


class Lease:
    """A lease called `name` in `schema.leases(name text PRIMARY KEY, holder uuid, expires_at timestamptz)`."""

    def __init__(self, name: str, pool: Pool, *, schema: str, seconds: float) -> None:
        self._name = name
        self._pool = pool
        self._seconds = seconds
        self._holder = uuid4()
        self._take = f"""
            INSERT INTO {schema}.leases AS lease VALUES ($1, $2, now() + make_interval(secs => $3))
            ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
             WHERE lease.holder = excluded.holder OR lease.expires_at < now()
            RETURNING true
        """
        self._drop = f"DELETE FROM {schema}.leases WHERE name = $1 AND holder = $2"

    async def hold(self) -> bool:
        """Take or renew the lease. True while it is ours, for `seconds` from now."""
        return bool(await self._pool.fetchval(self._take, self._name, self._holder, self._seconds))

    async def release(self) -> None:
        """Give the lease up, so that another need not wait for it to expire."""
        await self._pool.execute(self._drop, self._name, self._holder)
