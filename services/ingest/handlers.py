"""What ingest does with a batch of observations."""

from collections import Counter as Tally
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import asyncpg
from prometheus_client import Counter

from chassis import crash
from chassis.database import Pool
from chassis.delivery import Delivery
from chassis.retry import Permanent
from services.ingest.admission import Refused, admit, beside
from services.ingest.log import Entry, append

EVENTS = Counter(
    "buildlight_ingest_events_total",
    "Messages on intake by outcome: recorded, duplicate, conflict or refused.",
    ["outcome"],
)


class Append:
    """Records observations: one commit a batch, an answer for each message."""

    def __init__(self, pool: Pool, recorded: Callable[[int], None]) -> None:
        """`recorded` is told the last new position after each commit."""
        self._pool = pool
        self._recorded = recorded

    async def __call__(self, deliveries: Sequence[Delivery]) -> Mapping[int, Exception]:
        now = datetime.now(UTC)
        failed: dict[int, Exception] = {}
        entries: dict[int, Entry] = {}
        for index, delivery in enumerate(deliveries):
            admitted = admit(delivery.body, now=now)
            if isinstance(admitted, Refused):
                failed[index] = Permanent(admitted.reason)
            else:
                entries[index] = admitted
        if failed:
            EVENTS.labels("refused").inc(len(failed))
        if entries:
            failed |= await self._append(entries)
        return failed

    async def _append(self, entries: Mapping[int, Entry]) -> Mapping[int, Exception]:
        crash.point("ingest.append.before_commit")
        # In the same commit, behind all that was sent: positions are given in this order.
        told = [fact for fact in map(beside, entries.values()) if fact is not None]
        try:
            fates = await append(self._pool, [*entries.values(), *told])
        except asyncpg.DataError as error:
            if len(entries) > 1:
                raise  # the subscriber finds the culprit by going one by one
            return {index: Permanent(f"the log cannot hold it: {error}") for index in entries}
        crash.point("ingest.append.after_commit")
        for outcome, count in Tally(fate.outcome for fate in fates).items():
            EVENTS.labels(outcome).inc(count)
        failed: dict[int, Exception] = {}
        last = max((fate.position for fate in fates if fate.outcome == "recorded"), default=0)
        for (index, entry), fate in zip(entries.items(), fates, strict=False):
            if fate.outcome == "conflict":
                failed[index] = Permanent(
                    f"conflict: position {fate.position} of the log has another event with the id {entry.id}"
                )
        if last:
            self._recorded(last)
        return failed
