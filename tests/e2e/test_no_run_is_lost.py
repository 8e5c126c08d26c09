"""Runs come, end and are run again while their provider fails and the poller is killed; nothing may be missing.

Webhooks come late, twice, out of order or not at all, and never again: polls and webhooks must agree on each fact.

BUILDLIGHT_E2E_RUNS (150): how many runs there are; 2000 for the whole of it.
BUILDLIGHT_E2E_SEED: of what is random; printed.
"""

import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from tests.e2e.fleet import Fleet, until
from tests.e2e.stages import STAGES, GitLabStage, JenkinsStage, ProviderStage, Served, back

RUNS = int(os.environ.get("BUILDLIGHT_E2E_RUNS", "150"))
SEED = int(os.environ.get("BUILDLIGHT_E2E_SEED", str(random.randrange(1_000_000))))
LIVE_SECONDS = max(15.0, RUNS / 12)
"""How long runs keep coming."""
LEAST_KILLS = 2
LEAST_TOLD = RUNS / 20
"""Webhooks of each provider that arrive before the poller is killed for the first time."""
PATIENCE_SECONDS = 150 + RUNS / 4
HOUR = timedelta(hours=1)
SERVICES = ("ingest", "poller", "analytics", "api")
SETTINGS = {
    "BUILDLIGHT_POLL_TIMEOUT_SECONDS": "1",
    # A run from before the window that is run again is seen by a sweep: every seven seconds, not six hours.
    "BUILDLIGHT_POLL_SWEEP_HOURS": "0.002",
    "BUILDLIGHT_COLLECT_REPORTS": "false",
    "BUILDLIGHT_DEPLOYMENTS_MINUTES": "0",
}
BUILDS = ("build.observed.v1", "build.unavailable.v1")

pytestmark = [
    pytest.mark.fault,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(2 * (LIVE_SECONDS + PATIENCE_SECONDS) + 300),
]


@dataclass
class Ordeal:
    """A company after its bad day: what its providers serve, and the fleet that watched."""

    fleet: Fleet
    stages: dict[str, ProviderStage]
    served: dict[str, set[Served]] = field(default_factory=dict)
    kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    hooked: set[str] = field(default_factory=set)
    """The providers whose webhooks are sent, by name."""

    def say(self, sentence: str) -> None:
        print(f"{datetime.now(UTC):%H:%M:%S} {sentence}", flush=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ordeal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ordeal]:
    """All of it happened, and everything that is to come has come, or time is up."""
    dice = random.Random(SEED)
    settings = SETTINGS | {name: value for make in STAGES for name, value in make.settings.items()}
    folder = tmp_path_factory.mktemp("ordeal")
    async with Fleet(
        folder,
        repositories=(),
        services=SERVICES,
        settings=settings,
        jobs=JenkinsStage.targets,
        projects=GitLabStage.targets,
    ) as fleet:
        stages: dict[str, ProviderStage] = {make.name: make(fleet.company, dice=dice) for make in STAGES}
        ordeal = Ordeal(fleet, stages)
        ordeal.say(f"seed {SEED}, {RUNS} runs")
        ordeal.hooked = {name for name, stage in stages.items() if await stage.hook(fleet.url("poller"))}
        live = asyncio.Event()
        troubles = [
            asyncio.create_task(kill(ordeal, dice, live)),
            asyncio.create_task(fail(ordeal, dice, live)),
        ]
        try:
            await asyncio.gather(*(story(stage, RUNS // len(stages), dice) for stage in stages.values()))
        finally:
            live.set()
            await asyncio.gather(*troubles)
        for stage in stages.values():
            await stage.mend()
            ordeal.served[stage.name] = await stage.served()
            if stage.name in ordeal.hooked:
                ordeal.say(f"webhooks of {stage.name}: {dict(await stage.told())}")
        ordeal.say(f"the poller was killed {ordeal.kills} times; faults: {dict(ordeal.faults)}")
        began = time.monotonic()
        await rest(ordeal)
        ordeal.say(f"quiet after {time.monotonic() - began:.1f} s")
        yield ordeal


async def story(stage: ProviderStage, runs: int, dice: random.Random) -> None:
    """Some runs ended before anybody watched, some long ago; the others come now; many are run again."""
    past = [
        await stage.had(
            target_of(stage, dice),
            created=back(dice, HOUR, 20 * HOUR) if number % 4 else back(dice, 72 * HOUR, 480 * HOUR),
            attempts=3 if number % 10 == 0 else 1,
        )
        for number in range(runs // 3)
    ]
    lives: list[asyncio.Task[Any]] = [
        asyncio.create_task(one_more(stage, run, dice)) for run in past if dice.random() < 0.15
    ]
    lives += [asyncio.create_task(one_life(stage, dice)) for _ in range(runs - len(past))]
    await asyncio.gather(*lives)


def target_of(stage: ProviderStage, dice: random.Random) -> str:
    return stage.targets[0] if dice.random() < 0.7 else dice.choice(stage.targets)


async def one_life(stage: ProviderStage, dice: random.Random) -> None:
    """A run from its beginning to its end; one in four is run again, at once or later, up to twice."""
    await asyncio.sleep(dice.uniform(0, LIVE_SECONDS * 0.6))
    run = await stage.begin(target_of(stage, dice))
    await one_attempt(stage, run, dice)
    for chance in (0.25, 0.4):
        if dice.random() > chance:
            return
        run = await one_more(stage, run, dice)


async def one_more(stage: ProviderStage, run: str, dice: random.Random) -> str:
    # Within one poll, or many polls later.
    await asyncio.sleep(dice.choice((0.0, dice.uniform(0, LIVE_SECONDS * 0.15))))
    run = await stage.again(run)
    await one_attempt(stage, run, dice)
    return run


async def one_attempt(stage: ProviderStage, run: str, dice: random.Random) -> None:
    await asyncio.sleep(dice.uniform(0, 1))
    await stage.start(run)
    await asyncio.sleep(dice.choice((0.0, dice.uniform(0, LIVE_SECONDS * 0.15))))
    await stage.end(run)


async def kill(ordeal: Ordeal, dice: random.Random, over: asyncio.Event) -> None:
    """SIGKILL, at any moment, also of one that only starts; up again at once, or a while later."""
    poller = ordeal.fleet.services["poller"]

    async def has_been_told() -> bool:
        told = [await ordeal.stages[name].told() for name in ordeal.hooked]
        return all(one["answered 202"] > LEAST_TOLD for one in told)

    await until(has_been_told)
    while ordeal.kills < LEAST_KILLS or not over.is_set():
        await asyncio.sleep(dice.uniform(2.5, 7))
        await poller.kill()
        ordeal.kills += 1
        await asyncio.sleep(dice.choice((0.0, 1.5)))
        poller.start()
        if dice.random() < 0.7:
            # Where starting takes long it would else never listen to a webhook.
            await ordeal.fleet.ready("poller")
            for stage in ordeal.stages.values():
                await stage.hook_again()


async def fail(ordeal: Ordeal, dice: random.Random, over: asyncio.Event) -> None:
    """One fault after the other, each over after a few requests."""
    while not over.is_set():
        await asyncio.sleep(dice.uniform(0.3, 2))
        for stage in ordeal.stages.values():
            ordeal.faults[f"{stage.name} {await stage.fail(dice)}"] += 1


async def rest(ordeal: Ordeal) -> None:
    """Wait until the read models show every attempt as its provider does, or time is up."""

    async def all_there() -> bool:
        for name, served in ordeal.served.items():
            shown = await ordeal.fleet.sql(
                """
                SELECT run_id, attempt, true AS is_readable FROM analytics.builds
                 WHERE provider = $1 AND state NOT IN ('queued', 'running')
                UNION ALL
                SELECT split_part(subject, '/runs/', 2), attempt, false FROM analytics.unavailable_attempts
                 WHERE starts_with(subject, $1)
                """,
                name,
            )
            wanted = {(one.run_id, one.attempt, one.is_readable) for one in served if one.ended}
            if not wanted <= {(row["run_id"], row["attempt"], row["is_readable"]) for row in shown}:
                return False
        return True

    try:
        await until(all_there, seconds=PATIENCE_SECONDS, pause=0.5)
    except AssertionError:
        ordeal.say("not all came in time")


def only(ordeal: Ordeal, provider: str) -> set[Served]:
    return ordeal.served[provider]


PROVIDERS = [stage.name for stage in STAGES]


async def events(ordeal: Ordeal, provider: str) -> list[Any]:
    return [
        event
        for event in await ordeal.fleet.log(prefix=f"{provider}/")
        if event["type"] in (*BUILDS, "build.finished.v1")
    ]


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_there_was_something_to_lose(ordeal: Ordeal, provider: str) -> None:
    """Runs, reruns, attempts that nobody can read any more, kills and faults: the story happened."""
    served = only(ordeal, provider)
    assert len({one.run_id for one in served}) >= RUNS // len(PROVIDERS)
    if ordeal.stages[provider].keeps_runs:
        assert len([one for one in served if one.attempt > 1]) > RUNS / len(PROVIDERS) / 10
    assert any(not one.is_readable for one in served) == ordeal.stages[provider].forgets_attempts
    assert all(one.ended for one in served)
    if provider in ordeal.hooked:
        told = await ordeal.stages[provider].told()
        assert told["answered 202"] > LEAST_TOLD
        assert told["dropped"] > 0
    assert ordeal.kills >= LEAST_KILLS
    assert len(ordeal.faults) >= 3


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_every_attempt_is_in_the_log_once(ordeal: Ordeal, provider: str) -> None:
    """One end of each attempt is recorded, or one notice that it is gone; no attempt is made up."""
    ends: Counter[tuple[str, int]] = Counter()
    gone: Counter[tuple[str, int]] = Counter()
    finished: Counter[tuple[str, int]] = Counter()
    for event in await events(ordeal, provider):
        key = event["data"]["build"]["run_id"], event["data"]["build"]["attempt"]
        if event["type"] == "build.unavailable.v1":
            gone[key] += 1
        elif event["type"] == "build.finished.v1":
            finished[key] += 1
        elif event["data"]["state"] not in ("queued", "running"):
            ends[key] += 1
    served = only(ordeal, provider)
    readable = Counter((one.run_id, one.attempt) for one in served if one.is_readable)
    assert ends == readable
    assert gone == Counter((one.run_id, one.attempt) for one in served if not one.is_readable)
    assert finished == readable


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_no_build_is_open_that_has_ended(ordeal: Ordeal, provider: str) -> None:
    """The read model has exactly the attempts that can be read, each at its end."""
    rows = await ordeal.fleet.sql(
        "SELECT run_id, attempt, state FROM analytics.builds WHERE provider = $1", provider
    )
    assert {(row["run_id"], row["attempt"]) for row in rows} == {
        (one.run_id, one.attempt) for one in only(ordeal, provider) if one.is_readable
    }
    assert {row["state"] for row in rows} <= {"success", "failure", "cancelled"}


async def test_the_report_says_so(ordeal: Ordeal) -> None:
    """`buildlight completeness --now` counts what the providers have, finds all of it, and exits with 0."""
    # Younger runs than two polls are not judged, and times are whole seconds.
    await asyncio.sleep(4)
    asked = await asyncio.to_thread(ordeal.fleet.command, "completeness", "--now", "--json", of="api")
    report = json.loads(asked.stdout)
    told = {
        (row["provider"], row["target"]): (row["status"], row["missing"], row["open_but_ended"])
        for row in report["targets"]
    }
    assert told == {
        (stage.name, target): ("complete", 0, 0)
        for stage in ordeal.stages.values()
        for target in stage.targets
    }, asked.stderr
    assert asked.returncode == 0
    counted: Counter[str] = Counter()
    recorded: Counter[str] = Counter()
    for row in report["targets"]:
        counted[row["provider"]] += row["at_provider"]
        recorded[row["provider"]] += row["recorded"]
    expected = Counter(
        {
            name: len(served) if ordeal.stages[name].counts_attempts else len({one.run_id for one in served})
            for name, served in ordeal.served.items()
        }
    )
    assert counted == recorded == expected
    measured = await ordeal.fleet.log(type="dev.buildlight.completeness.measured.v1")
    assert {event["data"]["target"] for event in measured} == {target for _, target in told}


async def test_a_loss_is_noticed_and_mended(ordeal: Ordeal) -> None:
    """A run that no poll lists and no webhook tells of: the report names it, exits with 1, and has it collected."""
    await asyncio.gather(*(stage.unhook() for stage in ordeal.stages.values()))
    # Each takes its time, mostly by waiting for a poll.
    await asyncio.gather(*(lose_one(ordeal.fleet, one) for one in ordeal.stages.values() if one.keeps_runs))


async def lose_one(fleet: Fleet, stage: ProviderStage) -> None:
    # No poll goes back further than thirty days: nothing but a count that does can find it.
    now = datetime.now(UTC)
    run = await stage.had(stage.targets[0], created=now - 40 * 24 * HOUR)
    which = ("--since", f"{now - 45 * 24 * HOUR:%Y-%m-%d}", "--target", stage.targets[0])
    asked = await asyncio.to_thread(fleet.command, "completeness", "--now", "--json", *which, of="api")
    (row,) = json.loads(asked.stdout)["targets"]
    assert (row["status"], row["missing"], row["asked_again"]) == ("incomplete", 1, 1), asked.stderr
    assert [(gap["run_id"], gap["reason"]) for gap in row["gaps"]] == [(run, "never_listed")]
    assert asked.returncode == 1

    async def collected() -> bool:
        return bool(
            await fleet.sql(
                "SELECT FROM analytics.builds WHERE provider = $1 AND run_id = $2", stage.name, run
            )
        )

    await until(collected, seconds=60)
    again = await asyncio.to_thread(fleet.command, "completeness", "--now", *which, of="api")
    assert again.returncode == 0, again.stdout + again.stderr
