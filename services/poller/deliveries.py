"""The webhooks taken, by key: all the SQL of `poller.deliveries`. Old ones are forgotten by `Store.forget`."""

from chassis.database import Pool


class Deliveries:
    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def has(self, key: bytes) -> bool:
        """Whether what has this key was taken before."""
        return bool(
            await self._pool.fetchval("SELECT EXISTS (SELECT FROM poller.deliveries WHERE key = $1)", key)
        )

    async def keep(self, key: bytes, provider: str) -> None:
        """Remember one whose facts have been published."""
        await self._pool.execute(
            "INSERT INTO poller.deliveries (key, provider) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            key,
            provider,
        )
