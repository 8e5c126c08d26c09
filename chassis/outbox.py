"""Publishing what a transaction concluded, surely and after it committed.

A row in the service's own `outbox` table is written in the transaction; one replica at a time publishes rows in
order, confirmed, and deletes them. A crash in between publishes again: facts have deterministic ids, so the log
records them once.
"""

import asyncio
import contextlib
from collections.abc import Sequence

import structlog
from prometheus_client import Counter

from buildlight_contracts.envelope import MAX_MESSAGE_BYTES, Envelope
from buildlight_contracts.routing import INTAKE
from chassis import crash
from chassis.broker import Broker
from chassis.database import Connection, Pool
from chassis.outage import outage_of
from chassis.retry import Permanent

_POLL_SECONDS = 1.0
_BATCH = 100
_LONGEST_SECONDS = 10.0

PUBLISHED = Counter("buildlight_outbox_published_total", "Facts published, by type.", ["schema", "type"])

log = structlog.get_logger()


class Outbox:
    """The outbox of the service that owns `schema`: table `outbox(seq bigserial PRIMARY KEY, envelope text)`."""

    def __init__(self, pool: Pool, broker: Broker, *, schema: str) -> None:
        self._pool = pool
        self._broker = broker
        self._schema = schema
        self._woken = asyncio.Event()
        self._insert = f"INSERT INTO {schema}.outbox (envelope) SELECT unnest($1::text[])"
        # Two replicas at work on neighbouring rows would mix up their order.
        self._alone = f"SELECT pg_try_advisory_xact_lock('{schema}.outbox'::regclass::oid::bigint)"
        self._take = f"SELECT seq, envelope FROM {schema}.outbox ORDER BY seq LIMIT {_BATCH}"
        self._drop = f"DELETE FROM {schema}.outbox WHERE seq = ANY($1)"

    async def add(self, envelopes: Sequence[Envelope], connection: Connection) -> None:
        """Put `envelopes` into the outbox, inside the caller's transaction.

        Raises:
            Permanent: one is larger than any queue accepts, and would hold up all that come after it.
        """
        bodies = [envelope.to_json() for envelope in envelopes]
        for envelope, body in zip(envelopes, bodies, strict=True):
            if len(body) > MAX_MESSAGE_BYTES:
                raise Permanent(
                    f"{envelope.type} {envelope.id}: {len(body):,} bytes; a message may have "
                    f"{MAX_MESSAGE_BYTES:,}"
                )
        if bodies:
            await connection.execute(self._insert, [body.decode() for body in bodies])
            # Looks a moment too early when the caller commits late; the poll makes up for it.
            asyncio.get_running_loop().call_later(0.01, self._woken.set)

    async def run(self) -> None:
        """Publish until cancelled, through outages of database and broker."""
        while True:
            try:
                while await self._publish_some():
                    pass
            except Exception as error:
                log.warning(
                    "outbox interrupted",
                    error=f"{type(error).__name__}: {error}",
                    exc_info=None if outage_of(error) else error,
                )
                await asyncio.sleep(1.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_POLL_SECONDS):
                    await self._woken.wait()
            self._woken.clear()

    async def _publish_some(self) -> bool:
        """Publish some rows, in order; what was confirmed leaves the table. True when there may be more."""
        loop = asyncio.get_running_loop()
        # Well before the server ends a transaction that stands idle: a slow RabbitMQ must not undo the deleting.
        until = loop.time() + _LONGEST_SECONDS
        published: list[int] = []
        async with self._pool.acquire() as connection, connection.transaction():
            if not await connection.fetchval(self._alone):
                return False
            rows = await connection.fetch(self._take)
            for row in rows:
                envelope = Envelope.model_validate_json(row["envelope"])
                await self._broker.publish(envelope, INTAKE)
                crash.point(f"{self._schema}.outbox.after_publish")
                published.append(row["seq"])
                PUBLISHED.labels(self._schema, envelope.type).inc()
                if loop.time() > until:
                    break
            await connection.execute(self._drop, published)
        return len(rows) == _BATCH or len(published) < len(rows)
