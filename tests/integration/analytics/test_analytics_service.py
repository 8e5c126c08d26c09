"""Analytics whole, on real servers: facts in order and once, however the log is cut; woken by hints."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import aio_pika
import pytest_asyncio
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import fact_of
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.routing import HINTS, INTAKE
from chassis.broker import Broker
from chassis.database import Pool, make_pool
from chassis.follower import Follower
from chassis.outbox import Outbox
from chassis.service import Service
from services.analytics import conclusions
from services.analytics.conclusions import Conclusions
from services.analytics.facts import Fold
from services.analytics.service import build
from services.analytics.settings import AnalyticsSettings
from services.ingest.log import append
from tests.observations import a_build, entry, record

Eventually = Callable[..., Awaitable[object]]

# It breaks and recovers, twice, the second time by a rerun; another branch's builds and late ones in between.
STORY = [
    a_build(1, "success"),
    a_build(2, "running", minute=2.1),
    a_build(1, "failure", branch="topic", build={**a_build(50, "failure").build.model_dump()}),
    a_build(2, "failure"),
    a_build(4, "success"),
    a_build(3, "failure", minute=9),
    a_build(5, "cancelled"),
    a_build(6, "timed_out"),
    a_build(6, "success", attempt=2, minute=12),
    a_build(1, "success"),
]


@pytest_asyncio.fixture
async def pool(database_url: str) -> AsyncIterator[Pool]:
    async with make_pool(database_url, application="analytics", max_size=8) as pool:
        yield pool


@contextlib.asynccontextmanager
async def running(service: Service) -> AsyncIterator[None]:
    await service.start()
    tasks = [asyncio.create_task(task()) for task in service.tasks]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await service.stop()


def told_by_the_fold(observed: list[BuildObservedV1]) -> list[tuple[str, Fact]]:
    """What the pure fold concludes from all of `observed`: cause and fact."""
    fold = Fold({}, {})
    return [
        (str(build.identity()), fact) for build in observed for fact in fold.observe(build, build.identity())
    ]


async def test_the_same_log_gives_the_same_facts_however_it_is_cut(pool: Pool, amqp_url: str) -> None:
    """In batches of 1, 2, 3, 7 and all: the outbox holds exactly what the fold says of the whole, with its causes."""
    wanted = told_by_the_fold(STORY)
    assert [fact.type for _, fact in wanted if fact.type.startswith("pipeline")] == [
        "pipeline.broke.v1",
        "pipeline.recovered.v1",
        "pipeline.broke.v1",
        "pipeline.recovered.v1",
    ]
    await record(pool, STORY)
    outbox = Outbox(pool, Broker(amqp_url, service="analytics", rungs=()), schema="analytics")
    for batch in (1, 2, 3, 7, 500):
        for table in ("checkpoints", "fact_attempts", "fact_pipelines", "outbox"):
            await pool.execute(f"DELETE FROM analytics.{table}")
        await Follower(
            "facts",
            pool,
            Conclusions(outbox).apply,
            schema="analytics",
            types=conclusions.TYPES,
            batch=batch,
        ).catch_up()
        rows = await pool.fetch("SELECT envelope FROM analytics.outbox ORDER BY seq")
        envelopes = [Envelope.model_validate_json(row["envelope"]) for row in rows]
        assert [(each.causationid, fact_of(each)) for each in envelopes] == wanted
        assert [each.correlationid for each in envelopes] == [f"story of {cause}" for cause, _ in wanted]
        assert {each.source for each in envelopes} == {"buildlight://analytics"}


async def test_what_does_not_fit_is_parked_and_the_conclusions_go_on(pool: Pool, amqp_url: str) -> None:
    """A broken event between a success and a failure hides neither."""
    good, bad = a_build(1, "success"), a_build(2, "failure")
    await append(pool, [entry(good), entry(a_build(9, "success"), data="[]"), entry(bad)])
    outbox = Outbox(pool, Broker(amqp_url, service="analytics", rungs=()), schema="analytics")
    await Follower(
        "facts", pool, Conclusions(outbox).apply, schema="analytics", types=conclusions.TYPES
    ).catch_up()
    rows = await pool.fetch("SELECT envelope FROM analytics.outbox ORDER BY seq")
    facts = [fact_of(Envelope.model_validate_json(row["envelope"])) for row in rows]
    assert facts == [fact for _, fact in told_by_the_fold([good, bad])]
    parked = await pool.fetch("SELECT follower, position FROM analytics.parked")
    assert [tuple(row) for row in parked] == [("facts", 2)]


async def test_two_replicas_project_and_conclude_once(
    database_url: str, amqp_url: str, pool: Pool, eventually: Eventually
) -> None:
    """Woken by a hint alone: the read models are there within a second, each fact on intake once, in order."""
    services = [
        build(
            AnalyticsSettings(
                database_url=SecretStr(database_url), amqp_url=SecretStr(amqp_url), poll_seconds=60
            )
        )
        for _ in range(2)
    ]
    loop = asyncio.get_running_loop()

    async def shown() -> bool:
        count: int = await pool.fetchval("SELECT count(*) FROM analytics.builds")
        return count == 8

    async def emptied() -> bool:
        return await pool.fetch("SELECT seq FROM analytics.outbox") == []

    async with running(services[0]), running(services[1]), await aio_pika.connect(amqp_url) as connection:
        queue = await (await connection.channel()).declare_queue("kept")
        await queue.bind(INTAKE.name, "#")
        assert await services[0].ready() == {"analytics.database": "ok", "analytics.consumers": "ok"}

        await record(pool, STORY)
        recorded = loop.time()
        await services[0].broker.put(b"10", exchange=HINTS.name, key="", mandatory=False)
        await eventually(shown)
        assert loop.time() - recorded < 1

        wanted = told_by_the_fold(STORY)
        got: list[Envelope] = []
        async with asyncio.timeout(10):
            async for message in queue.iterator(no_ack=True):
                got.append(Envelope.model_validate_json(message.body))
                if len(got) == len(wanted):
                    break
        assert [(each.causationid, fact_of(each)) for each in got] == wanted
        await eventually(emptied)
        assert await queue.get(fail=False) is None
