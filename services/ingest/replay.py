"""Puts dead letters back on the queues they died on, when asked to."""

from datetime import UTC, datetime
from uuid import UUID

import structlog

from buildlight_contracts.catalogue import command_of, parse
from buildlight_contracts.commands import ReplayDeadLettersV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.operations import MessageReplayedV1
from chassis import crash
from chassis.broker import Broker
from chassis.database import Pool
from chassis.delivery import Delivery
from chassis.outbox import Outbox
from chassis.retry import Permanent, Transient
from services.ingest import store
from services.ingest.dead_letters import headers_for_replay

log = structlog.get_logger()


class Replay:
    """Serves `dead_letters.replay.v1`: each letter once a request, however often the request comes.

    Killed between publishing a letter and committing that it did, it publishes that one again.
    """

    def __init__(self, pool: Pool, broker: Broker, outbox: Outbox) -> None:
        self._pool = pool
        self._broker = broker
        self._outbox = outbox

    async def __call__(self, delivery: Delivery) -> None:
        envelope = parse(delivery.body)
        command = command_of(envelope)
        if not isinstance(command, ReplayDeadLettersV1):
            raise Permanent(f"{envelope.type} is not for this queue")
        now = datetime.now(UTC)
        if envelope.expiresat is not None and envelope.expiresat <= now:
            raise Permanent(f"the request expired at {envelope.expiresat.isoformat()}; ask again")
        missing: list[str] = []
        stuck: list[str] = []
        for dead_letter_id in dict.fromkeys(command.dead_letter_ids):
            try:
                await self._replay(dead_letter_id, command, envelope, now)
            except KeyError:
                missing.append(str(dead_letter_id))
            except LookupError as error:  # its queue is gone, or full
                stuck.append(str(error))
        if stuck:
            raise Transient("; ".join(dict.fromkeys(stuck)))
        if missing:
            raise Permanent(f"no such dead letters: {', '.join(missing)}")

    async def _replay(
        self, dead_letter_id: UUID, command: ReplayDeadLettersV1, envelope: Envelope, now: datetime
    ) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            letter = await store.claim(
                connection, dead_letter_id, request_id=command.request_id, by=command.by, at=now
            )
            if letter is None:
                return
            await self._broker.put(
                letter.body,
                key=letter.queue,
                message_id=letter.message_id,
                headers=headers_for_replay(letter.headers, letter.replay),
                content_type=letter.content_type,
            )
            crash.point("ingest.replay.after_publish")
            fact = MessageReplayedV1(
                dead_letter_id=dead_letter_id,
                queue=letter.queue,
                message_id=letter.message_id,
                replay=letter.replay,
                by=command.by,
                replayed_at=now,
            )
            recorded = Envelope.of(
                fact,
                source="buildlight://ingest",
                correlation_id=envelope.correlationid,
                causation_id=envelope.id,
            )
            await self._outbox.add([recorded], connection)
        log.info("dead letter replayed", queue=letter.queue, message_id=letter.message_id, by=command.by)
