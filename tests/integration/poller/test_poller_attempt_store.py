"""What two that look at one run remember of it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.states import State
from buildlight_contracts.testing import example
from chassis.broker import Broker
from chassis.database import make_pool
from chassis.outbox import Outbox
from services.poller.attempts import Known
from services.poller.provider import Target
from services.poller.store import Store

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TARGET = Target("github", "api.github.com", "acme/shop")


async def test_a_listing_from_before_an_end_does_not_undo_it(database_url: str) -> None:
    """A refresh saw the end while the poll still had an older listing in hand; a later state counts."""
    running = example(BuildObservedV1, state="running", raw_conclusion=None, updated_at=NOON)
    number = running.build
    ended = Known(
        number.build_id,
        number.repository_id,
        number.run_id,
        number.attempt,
        settled=True,
        ended=True,
        version="v",
        fact_id=example(BuildObservedV1).identity(),
        state=State.FAILURE,
        created_at=NOON,
    )
    async with make_pool(database_url, application="test") as pool:
        broker = Broker("amqp://nobody:nothing@127.0.0.1:1/", service="test", rungs=("5s",))
        store = Store(pool, Outbox(pool, broker, schema="poller"))
        await store.add([TARGET])
        saw_at = NOON + timedelta(minutes=1)
        await store.keep(TARGET, ended, created_at=NOON, shown_at=saw_at, looked_at=saw_at)
        await store.keep_announced(TARGET, [running], now=saw_at)
        assert await store.one(number.build_id) == ended
        again = running.model_copy(update={"updated_at": saw_at})
        await store.keep_announced(TARGET, [again], now=saw_at)
        assert await store.one(number.build_id) == replace(
            ended,
            settled=False,
            ended=False,
            version=None,
            fact_id=again.identity(),
            due_at=saw_at,
            state=State.RUNNING,
        )
