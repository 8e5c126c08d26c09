"""A measurement on a real database: what the log has is read from the log and the read models, never believed."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildObservedV1, BuildRef, BuildUnavailableV1
from buildlight_contracts.catalogue import fact_of, parse
from buildlight_contracts.collection import CompletenessMeasuredV1
from buildlight_contracts.commands import Command, ReconcileTargetV1, RefreshBuildV1
from buildlight_contracts.envelope import Envelope, Fact
from buildlight_contracts.states import State
from buildlight_contracts.testing import example
from chassis.broker import Broker
from chassis.database import READER_ROLE, Pool, make_pool, open_made
from chassis.delivery import Delivery
from chassis.lease import Lease
from chassis.outbox import Outbox
from chassis.retry import Permanent
from services.poller import metrics
from services.poller.account_store import AccountStore
from services.poller.attempts import Known
from services.poller.budget import Budget
from services.poller.completeness import MOST_AGAIN
from services.poller.means import Means
from services.poller.measurements import Measurements, Record
from services.poller.provider import Counted, MustWaitError, PollFailedError, Provider, Span, Target
from services.poller.reconcile import Patience, Reconciles
from services.poller.reconcile_schedule import ReconcileSchedule
from services.poller.store import Store
from services.poller.taking import Outlet
from services.poller.targets import Watch
from services.poller.turns import TurnBook
from tests.api_stage import Stage, staged

TARGET = Target("github", "api.github.com", "acme/shop")
REPOSITORY_ID = str(sum(map(ord, TARGET.name)))
HOUR = timedelta(hours=1)
QUICK = Patience(interval=timedelta(0), look_seconds=0.01, looks=2, most_seconds=0.5)


@dataclass
class Census:
    """A provider that only counts."""

    rows: list[Counted] = field(default_factory=list)
    fails: Exception | None = None
    asked: list[Span] = field(default_factory=list)
    account: str = "github/api.github.com"
    budget: Budget = field(default_factory=Budget)

    async def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        assert target == TARGET
        self.asked.append(span)
        for row in self.rows:
            yield row
            await asyncio.sleep(0)
        if self.fails:
            raise self.fails


@dataclass
class Sent:
    """A broker that keeps the commands."""

    commands: list[Command] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def record(self, fact: Fact) -> None:
        raise AssertionError("a measurement goes out by the outbox")

    async def command(self, command: Command, *, expires_at: datetime) -> None:
        assert expires_at > datetime.now(UTC)
        self.commands.append(command)


@dataclass
class Poller:
    """What measures, with everything around it that a test looks at."""

    pool: Pool
    stage: Stage
    census: Census
    sent: Sent
    store: Store
    reconciles: Reconciles

    async def measure(self, command: ReconcileTargetV1 | None = None, *, expires_in: float = 60) -> None:
        now = datetime.now(UTC)
        envelope = Envelope.wrap(
            command or asking(),
            source="buildlight://test",
            time=now,
            expires_at=now + timedelta(seconds=expires_in),
        )
        await self.reconciles.reconcile(Delivery(envelope.to_json()))

    async def facts(self) -> list[CompletenessMeasuredV1]:
        rows = await self.pool.fetch("SELECT envelope FROM poller.outbox ORDER BY seq")
        facts = [fact_of(parse(row["envelope"].encode())) for row in rows]
        return [fact for fact in facts if isinstance(fact, CompletenessMeasuredV1)]

    async def gaps(self) -> list[tuple[str, int, str, str]]:
        rows = await self.stage.connection.fetch(
            """
            SELECT run_id, attempt, kind, reason FROM poller.published_completeness_gaps
             ORDER BY run_id::integer, attempt
            """
        )
        return [(row["run_id"], row["attempt"], row["kind"], row["reason"]) for row in rows]

    async def measured(self) -> asyncpg.Record | None:
        return await self.stage.connection.fetchrow("SELECT * FROM poller.published_completeness")

    async def polled(self, *, succeeded: datetime | None = None, **columns: Any) -> None:
        """How the polling of the target stands."""
        now = datetime.now(UTC)
        given = {"listed_through": now - 2 * HOUR, "succeeded_at": succeeded or now + HOUR, **columns}
        names = ", ".join(f"{name} = ${number}" for number, name in enumerate(given, 2))
        await self.pool.execute(
            f"UPDATE poller.targets SET {names} WHERE target_id = $1", TARGET.id, *given.values()
        )


def asking(**changes: Any) -> ReconcileTargetV1:
    now = datetime.now(UTC)
    given = {"since": now - 30 * 24 * HOUR, "until": now, "request_id": uuid4()} | changes
    return ReconcileTargetV1(provider=TARGET.provider, instance=TARGET.instance, target=TARGET.name, **given)


def counted(run: int, attempt: int = 1, *, ended: bool = True, hours: float = 5) -> Counted:
    return Counted(str(run), attempt, datetime.now(UTC) - hours * HOUR, ended)


def ref(run: int, attempt: int = 1) -> BuildRef:
    return BuildRef(
        provider="github",
        instance="api.github.com",
        repository_id=REPOSITORY_ID,
        run_id=str(run),
        attempt=attempt,
    )


@pytest_asyncio.fixture
async def poller(database_url: str) -> AsyncIterator[Poller]:
    pool = make_pool(database_url, application="test", max_size=4)
    reader = make_pool(database_url, application="test-reader", role=READER_ROLE, max_size=2)
    await open_made(pool)
    await open_made(reader)
    sent, census = Sent(), Census()
    broker = cast("Broker", sent)
    outbox = Outbox(pool, broker, schema="poller")
    store = Store(pool, outbox)
    await store.add([TARGET])
    means = Means(
        watch=Watch((TARGET,)),
        providers={(TARGET.provider, TARGET.instance): cast("Provider", census)},
        store=store,
        broker=broker,
        outlet=Outlet(broker.record),
        turns=TurnBook(AccountStore(pool), longest_call_seconds=10),
        interval=timedelta(0),
    )
    reconciles = Reconciles(means, Measurements(pool, outbox), Record(reader), QUICK)
    async with staged(database_url) as stage:
        yield Poller(pool, stage, census, sent, store, reconciles)
    await pool.close()
    await reader.close()


async def test_what_is_whole_is_said_to_be(poller: Poller) -> None:
    """Recorded attempts, one of them as unavailable: complete, told as a fact, and nothing is asked again."""
    await poller.polled()
    await poller.stage.build(1, "success", attempt=2)
    await poller.stage.build(2, "running")
    gone = BuildUnavailableV1(build=ref(1), repository=TARGET.name, status=404, noticed_at=datetime.now(UTC))
    await poller.stage.put(
        "analytics.unavailable_attempts",
        "build_id",
        {
            "build_id": gone.build.build_id,
            "subject": gone.subject(),
            "attempt": 1,
            "repository": TARGET.name,
            "status": 404,
            "noticed_at": gone.noticed_at,
        },
    )
    poller.census.rows = [counted(1), counted(1, 2), counted(2, ended=False)]
    command = asking()
    await poller.measure(command)
    (told,) = await poller.facts()
    assert (told.at_provider, told.recorded, told.open_but_ended, told.missing) == (3, 3, 0, ())
    measured = await poller.measured()
    assert measured is not None
    assert (measured["request_id"], measured["asked_again"]) == (command.request_id, 0)
    assert (await poller.gaps(), poller.sent.commands) == ([], [])
    sums = await poller.pool.fetchrow(
        "SELECT sum(at_provider), sum(recorded), sum(unavailable), count(*) FROM poller.completeness_days"
    )
    assert sums is not None
    assert list(sums) == [3, 3, 1, 31]


async def test_what_is_missing_is_named_and_asked_for_again(poller: Poller) -> None:
    """Never listed, listed and unreadable, published and not recorded, open though ended; with their runs."""
    await poller.polled()
    await poller.stage.build(1, "success")
    await poller.stage.build(5, "running")
    for run, version, fact in ((3, None, None), (4, "v", uuid4())):
        known = Known(
            build_id=ref(run).build_id,
            repository_id=REPOSITORY_ID,
            run_id=str(run),
            attempt=1,
            settled=version is not None,
            version=version,
            fact_id=fact,
            unchanged=1,
        )
        created = datetime.now(UTC) - 5 * HOUR
        await poller.store.keep(TARGET, known, created_at=created, shown_at=created, looked_at=created)
    poller.census.rows = [counted(run) for run in (1, 2, 3, 4, 5)] + [counted(6, hours=0.01)]
    await poller.measure()
    assert await poller.gaps() == [
        ("2", 1, "missing", "never_listed"),
        ("3", 1, "missing", "unreadable"),
        ("4", 1, "missing", "not_recorded"),
        ("5", 1, "open", "end_not_seen"),
        ("6", 1, "missing", "newer_than_poll"),
    ]
    (told,) = await poller.facts()
    assert (told.at_provider, told.recorded, told.open_but_ended) == (6, 2, 1)
    assert [(m.run_id, m.reason) for m in told.missing][:2] == [("2", "never_listed"), ("3", "unreadable")]
    asked = [command for command in poller.sent.commands if isinstance(command, RefreshBuildV1)]
    assert {command.run_id for command in asked} == {"2", "3", "4", "5"}
    assert {(command.reason, command.priority) for command in asked} == {("reconcile", "low")}
    # The poller believed that it had published run 4: it does not believe that any more.
    row = await poller.pool.fetchrow("SELECT fact_id, settled FROM poller.attempts WHERE run_id = '4'")
    assert row is not None
    assert list(row) == [None, False]

    # Found later: the gap goes, the others keep the time they were first noticed.
    first = await poller.pool.fetchval("SELECT noticed_at FROM poller.completeness_gaps WHERE run_id = '3'")
    await poller.stage.build(2, "success")
    await poller.measure()
    assert [run for run, *_ in await poller.gaps()] == ["3", "4", "5", "6"]
    again = await poller.pool.fetchval("SELECT noticed_at FROM poller.completeness_gaps WHERE run_id = '3'")
    assert again == first


async def test_lag_is_no_loss(poller: Poller) -> None:
    """What the log has and the read models do not show yet is recorded: a start, an end, a notice of absence."""
    await poller.polled()
    await poller.stage.build(1, "success", position=0)
    await poller.stage.build(3, "running", position=0)
    now = datetime.now(UTC)
    observed = example(BuildObservedV1)
    for fact in (
        observed.model_copy(update={"build": ref(2, 2), "state": State.RUNNING}),
        observed.model_copy(update={"build": ref(3), "state": State.SUCCESS}),
        BuildUnavailableV1(build=ref(2), repository=TARGET.name, status=410, noticed_at=now),
    ):
        await poller.stage.record(fact)
    poller.census.rows = [counted(1), counted(2), counted(2, 2, ended=False), counted(3)]
    await poller.measure()
    (told,) = await poller.facts()
    assert (told.at_provider, told.recorded, told.open_but_ended, told.missing) == (4, 4, 0, ())


async def test_what_comes_by_itself_is_not_missing(poller: Poller, eventually: Any) -> None:
    """A run that the next poll brings while one waits for it is no gap; and nothing is asked again."""
    await poller.polled(succeeded=datetime.now(UTC) - HOUR)
    await poller.stage.build(1, "success")
    poller.census.rows = [counted(1), counted(2)]
    patience = Patience(interval=timedelta(seconds=5), look_seconds=0.05, looks=3)
    poller.reconciles._patience = patience
    measuring = asyncio.create_task(poller.measure())
    await eventually(lambda: poller.census.asked, timeout=20)
    await asyncio.sleep(0.2)
    await poller.stage.build(2, "success")
    async with asyncio.timeout(20):
        await measuring
    (told,) = await poller.facts()
    assert (told.at_provider, told.recorded, told.missing) == (2, 2, ())
    assert poller.sent.commands == []


async def test_while_a_target_fails_that_is_the_reason(poller: Poller) -> None:
    """What came since is missing because the target fails, and is not asked for."""
    now = datetime.now(UTC)
    await poller.polled(failing_since=now - HOUR, failing_reason="unauthorized", succeeded=now - HOUR)
    poller.census.rows = [counted(1, hours=0.5)]
    await poller.measure()
    assert await poller.gaps() == [("1", 1, "missing", "target_failing")]
    assert poller.sent.commands == []


async def test_a_target_that_never_polls_well_is_measured_all_the_same(poller: Poller) -> None:
    """From the first whole sweep on, though a run that cannot be read fails every poll; not before it."""
    measurements = Measurements(
        poller.pool, Outbox(poller.pool, cast("Broker", poller.sent), schema="poller")
    )
    await poller.store.polled([TARGET])
    now = datetime.now(UTC)
    await poller.polled(succeeded_at=None, failing_since=now - HOUR, failing_reason="nonsense")
    assert await measurements.collected() == []
    await poller.store.swept(TARGET, at=now)
    assert await measurements.collected() == [TARGET]
    await poller.polled()
    await measurements.list_anew(TARGET)
    assert await measurements.collected() == [TARGET]


async def test_more_than_a_round_is_listed_anew(poller: Poller) -> None:
    """Beyond a hundred runs the next poll goes through every page again, instead of call by call."""
    await poller.polled(swept_at=datetime.now(UTC))
    poller.census.rows = [counted(run) for run in range(1, MOST_AGAIN + 21)]
    await poller.measure()
    assert len(poller.sent.commands) == MOST_AGAIN
    assert await poller.pool.fetchval("SELECT swept_at FROM poller.targets") is None
    measured = await poller.measured()
    assert measured is not None
    assert measured["asked_again"] == MOST_AGAIN + 20


@pytest.mark.parametrize(
    "fails",
    [
        MustWaitError(600, "the reserve is reached"),
        PollFailedError("unauthorized", "GitHub refuses the token."),
    ],
)
async def test_a_provider_that_does_not_answer_is_measured_later(poller: Poller, fails: Exception) -> None:
    """Nothing is claimed: the measurement before stays, with why there is no newer one."""
    await poller.polled()
    await poller.stage.build(1, "success")
    poller.census.rows = [counted(1)]
    await poller.measure()
    before = await poller.measured()
    assert before is not None
    poller.census.fails = fails
    command = asking()
    await poller.measure(command)
    after = await poller.measured()
    assert after is not None
    assert after["measured_at"] == before["measured_at"]
    assert after["postponed_why"] == str(fails)
    assert after["postponed_request_id"] == command.request_id
    assert timedelta(minutes=5) < after["postponed_until"] - datetime.now(UTC) <= timedelta(minutes=10)
    assert len(await poller.facts()) == 1


async def test_the_leader_alone_tells_how_much_is_missing(poller: Poller) -> None:
    """Whichever replica measured; one that is no leader any more takes back what it told."""

    def shown() -> dict[tuple[str, str], float]:
        (gauge,) = metrics.GAPS.collect()
        return {(one.labels["target"], one.labels["kind"]): one.value for one in gauge.samples}

    def replica() -> ReconcileSchedule:
        return ReconcileSchedule(
            measurements,
            broker,
            Lease("reconcile", poller.pool, schema="poller", seconds=60),
            interval=HOUR,
            first=None,
        )

    broker = cast("Broker", poller.sent)
    measurements = Measurements(poller.pool, Outbox(poller.pool, broker, schema="poller"))
    await poller.store.polled([TARGET])
    await poller.polled()
    poller.census.rows = [counted(1)]
    await poller.measure()
    leader, other = replica(), replica()
    await leader.turn()
    assert shown() == {(TARGET.name, "missing"): 1, (TARGET.name, "open"): 0}
    await other.turn()
    assert shown() == {}
    await poller.stage.build(1, "success")
    await poller.measure()
    # What is older than the last measurement reaches is not measured any more.
    await poller.pool.execute(
        """
        INSERT INTO poller.completeness_gaps
        SELECT target_id, '9', 1, 'missing', 'gone', 'Old.', since - interval '1 day', now()
          FROM poller.completeness
        """
    )
    await poller.pool.execute("DELETE FROM poller.leases")
    await other.turn()
    assert shown() == {(TARGET.name, "missing"): 0, (TARGET.name, "open"): 0}


async def test_a_request_that_came_too_late_is_said_to_be_put_off(poller: Poller) -> None:
    """Who waits for it sees that it is over, and why; the schedule asks again."""
    await poller.polled()
    command = asking()
    await poller.measure(command, expires_in=-1)
    row = await poller.measured()
    assert row is not None
    assert (row["postponed_request_id"], row["measured_at"]) == (command.request_id, None)
    assert "too long" in row["postponed_why"]
    assert row["postponed_until"] > datetime.now(UTC)
    assert poller.census.asked == []


async def test_a_request_is_carried_out_once(poller: Poller) -> None:
    """The same request again, a late one, one for another target: the provider is not asked."""
    await poller.polled()
    command = asking()
    await poller.measure(command)
    await poller.measure(command)
    await poller.measure(expires_in=-1)
    await poller.measure(asking().model_copy(update={"target": "acme/other"}))
    assert len(poller.census.asked) == len(await poller.facts()) == 1
    with pytest.raises(Permanent):
        other = Envelope.wrap(
            RefreshBuildV1(
                provider="github",
                instance="x",
                target="y",
                run_id="1",
                reason="asked",
                due_at=datetime.now(UTC),
            ),
            source="buildlight://test",
            time=datetime.now(UTC),
        )
        await poller.reconciles.reconcile(Delivery(other.to_json()))
