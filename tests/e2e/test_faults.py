"""Everything is killed while work flows; when it is quiet again, a ledger is compared with what came of it.

BUILDLIGHT_E2E_OUTAGE_SECONDS (20): how long Postgres stays away; from 60 on with the retries' real pauses.
BUILDLIGHT_E2E_SEED: of what is random; printed.
"""

import asyncio
import json
import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from buildlight.roster import SERVICES, queues
from buildlight_contracts.envelope import derive_id
from buildlight_contracts.provisioning import STEPS
from tests.e2e.fleet import Fleet, until
from tests.e2e.flow import Flow, Ledger
from tests.e2e.live import Watcher

OUTAGE_SECONDS = float(os.environ.get("BUILDLIGHT_E2E_OUTAGE_SECONDS", "20"))
SEED = int(os.environ.get("BUILDLIGHT_E2E_SEED", str(random.randrange(1_000_000))))
REAL_RUNGS = ("5s", "30s", "5m", "1h")
RUNGS = ("1s", "5s", "8s", "10s") if OUTAGE_SECONDS < 60 else REAL_RUNGS
"""The second longer than a message goes on being held after an outage, as it really is."""
REPOSITORIES = ("acme/alpha", "acme/beta", "acme/gamma")
RULE = "pipeline-state"
CRASH_POINTS = (
    "ingest.append.before_commit",
    "ingest.append.after_commit",
    "ingest.append.before_ack",
    "ingest.append.after_ack",
    "ingest.relay.before_publish",
    "ingest.relay.after_publish",
)
STUCK_SECONDS = 45 if RUNGS != REAL_RUNGS else 400
"""Longer than anything waits by itself: a rung, or the notifier's claim of 20 s."""
SEND_SECONDS = 10
"""The notifier's longest try: what it sent within so long before it was killed may not be on record."""

pytestmark = [
    pytest.mark.fault,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(560 + 2 * OUTAGE_SECONDS),
]


@dataclass
class Ordeal:
    """What was done to the fleet, what it had accepted, and how it stands now that it is quiet."""

    fleet: Fleet
    ledger: Ledger
    killed: list[tuple[str, datetime]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)

    def say(self, sentence: str) -> None:
        self.story.append(f"{datetime.now(UTC):%H:%M:%S} {sentence}")
        print(self.story[-1], flush=True)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ordeal(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Ordeal]:
    """A fleet that went through every fault under flow, and came to rest."""
    folder = tmp_path_factory.mktemp("faults")
    async with Fleet(folder, repositories=REPOSITORIES, rungs=RUNGS) as fleet:
        await fleet.remembered()
        dice = random.Random(SEED)
        async with Flow(fleet, seed=SEED) as flow:
            ordeal = Ordeal(fleet, flow.ledger)
            ordeal.say(f"seed {SEED}")
            await kill_each_service(ordeal, dice)
            await crash_at_each_point(ordeal)
            await kill_each_server(ordeal, dice)
            await take_postgres_away(ordeal)
            await asyncio.sleep(2)
            flow.check()
        ordeal.say(
            f"accepted: {len(ordeal.ledger.runs)} runs, {len(ordeal.ledger.jobs)} provisioning jobs, "
            f"{len(ordeal.ledger.events)} events"
        )
        began = time.monotonic()
        await rest(ordeal)
        ordeal.say(f"quiet after {time.monotonic() - began:.1f} s")
        yield ordeal


async def kill_each_service(ordeal: Ordeal, dice: random.Random) -> None:
    # The notifier twice: it is the one whose effects nobody can take back.
    for name in (*SERVICES, "notifier"):
        await asyncio.sleep(dice.uniform(0.5, 2))
        ordeal.killed.append((name, datetime.now(UTC)))
        ordeal.say(f"{name} killed, ready again after {await ordeal.fleet.kill(name):.1f} s")


async def crash_at_each_point(ordeal: Ordeal) -> None:
    ingest = ordeal.fleet.services["ingest"]
    await ingest.kill()
    for point in CRASH_POINTS:
        ingest.start(BUILDLIGHT_CRASH_AT=point)
        assert await ingest.ended() == -9, f"ingest never came to {point}"
        ordeal.say(f"ingest died at {point}")
    ingest.start()
    ordeal.say(f"ingest ready again after {await ordeal.fleet.ready('ingest'):.1f} s")


async def kill_each_server(ordeal: Ordeal, dice: random.Random) -> None:
    for server in (ordeal.fleet.rabbitmq, ordeal.fleet.postgres):
        await asyncio.sleep(dice.uniform(1, 2))
        url = server.url
        await server.kill()
        await server.start()
        assert server.url == url
        ordeal.say(f"{server.title} killed, all ready again after {await ordeal.fleet.ready():.1f} s")


async def take_postgres_away(ordeal: Ordeal) -> None:
    """While it is away no service ends, each says that it is not ready, and nothing becomes a dead letter."""
    fleet = ordeal.fleet
    pids = {name: service.pid for name, service in fleet.services.items()}
    await fleet.postgres.kill()
    went = time.monotonic()
    await asyncio.sleep(min(10, OUTAGE_SECONDS / 2))
    ready = [name for name in SERVICES if await fleet.is_ready(name)]
    await asyncio.sleep(max(0, OUTAGE_SECONDS - (time.monotonic() - went)))
    await fleet.postgres.start()
    again = await fleet.ready()
    assert ready == []
    assert {name: service.pid for name, service in fleet.services.items() if service.running} == pids
    ordeal.say(f"PostgreSQL away for {OUTAGE_SECONDS:.0f} s, all ready again after {again:.1f} s")


async def rest(ordeal: Ordeal) -> None:
    """Wait until nothing that was accepted is still to have its effect, or nothing comes any more."""
    fleet = ordeal.fleet
    before, changed = None, time.monotonic()
    while left := await outstanding(ordeal):
        if left != before:
            before, changed = left, time.monotonic()
        if time.monotonic() - changed > STUCK_SECONDS:
            ordeal.say(f"nothing changes any more; outstanding: {left}")
            return
        await asyncio.sleep(0.5)

    async def head() -> int:
        return int((await fleet.sql("SELECT position FROM log.head"))[0][0])

    async def stands_still() -> bool:
        before = await head()
        await asyncio.sleep(3)
        return before == await head()

    await until(stands_still)


async def outstanding(ordeal: Ordeal) -> dict[str, int]:
    """How many of each kind of effect are still to come."""
    fleet, ledger = ordeal.fleet, ordeal.ledger
    [(events, sent, provisioned)] = await fleet.sql(
        """
        SELECT (SELECT count(*) FROM log.events WHERE id = ANY($1::uuid[])),
               (SELECT count(*) FROM log.events WHERE type = 'dev.buildlight.notification.sent.v1'),
               (SELECT count(*) FROM log.events WHERE type = 'dev.buildlight.provisioning.succeeded.v1')
        """,
        list(ledger.events),
    )
    told = {
        effect["body"]["run_id"]
        for effect in await fleet.company.effects("control_plane")
        if effect["body"]["status"] == "succeeded"
    }
    left = {
        "events": len(ledger.events) - events,
        "notifications": 2 * len(ledger.runs) - sent,
        "repositories": len(ledger.jobs) - provisioned,
        "call-backs": len(ledger.jobs) - len(told),
        **await lagging(fleet),
    }
    return {kind: count for kind, count in left.items() if count}


async def lagging(fleet: Fleet) -> dict[str, int]:
    """Followers behind the log's head, and outboxes with something in them."""
    found = {}
    [(head,)] = await fleet.sql("SELECT position FROM log.head")
    for schema in ("ingest", "analytics"):
        for name, position in await fleet.sql(f"SELECT follower, position FROM {schema}.checkpoints"):
            found[name] = head - position
    for schema in ("ingest", "poller", "analytics", "notifier", "provisioner"):
        [(left,)] = await fleet.sql(f"SELECT count(*) FROM {schema}.outbox")
        found[f"{schema}.outbox"] = left
    return {name: behind for name, behind in found.items() if behind}


async def test_the_log_is_whole(ordeal: Ordeal) -> None:
    """As many events as positions, the head is the last, and every follower has applied all of them."""
    [integrity] = await ordeal.fleet.sql("SELECT * FROM log.integrity()")
    assert integrity["intact"], dict(integrity)
    assert await lagging(ordeal.fleet) == {}
    for schema in ("ingest", "analytics"):
        assert await ordeal.fleet.sql(f"SELECT * FROM {schema}.parked") == []


async def test_every_accepted_event_is_in_the_log_once(ordeal: Ordeal) -> None:
    """Of what POST /events accepted, sent once or again, nothing is missing, doubled or made up."""
    recorded = await ordeal.fleet.sql(
        "SELECT id::text FROM log.events WHERE source = 'https://ci.acme.example'"
    )
    assert Counter(row["id"] for row in recorded) == Counter(set(ordeal.ledger.events))


async def test_every_run_is_in_the_log_with_what_follows_from_it(ordeal: Ordeal) -> None:
    """One end, one `build.finished` and one `pipeline.broke` or `pipeline.recovered` a run."""
    expected = dict(ordeal.ledger.runs)
    states: Counter[tuple[int, str]] = Counter()
    finished: Counter[tuple[int, str]] = Counter()
    turned: Counter[tuple[int, str]] = Counter()
    for event in await ordeal.fleet.log():
        run = int(event["data"]["build"]["run_id"]) if "build" in event["data"] else 0
        if run not in expected:
            continue
        match event["type"]:
            case "build.observed.v1" if event["data"]["raw_status"] == "completed":
                states[run, event["data"]["state"]] += 1
            case "build.finished.v1":
                finished[run, event["data"]["state"]] += 1
            case "pipeline.broke.v1":
                turned[run, "failure"] += 1
            case "pipeline.recovered.v1":
                turned[run, "success"] += 1
    once = Counter((run, conclusion) for run, (_, conclusion) in expected.items())
    assert states == once
    assert finished == once
    assert turned == once


async def test_the_read_models_and_the_api_show_every_build(ordeal: Ordeal) -> None:
    """Rows are what the provider has, and the API shows the rows."""
    fleet, ledger = ordeal.fleet, ordeal.ledger
    rows = await fleet.sql("SELECT build_id::text, run_id, state FROM analytics.builds")
    shown = {int(row["run_id"]): row["state"] for row in rows if row["build_id"] not in ledger.builds}
    served = await fleet.company.control("GET", "/github/served")
    assert shown == {run: conclusion for run, _, _, conclusion in served}
    assert {
        row["build_id"]: row["state"] for row in rows if row["build_id"] in ledger.builds
    } == ledger.builds
    assert len(rows) == len(served) + len(ledger.builds)
    assert await fleet.sql("SELECT FROM analytics.jobs WHERE state NOT IN ('success', 'failure')") == []
    [(jobs,)] = await fleet.sql("SELECT count(*) FROM analytics.jobs")
    assert jobs == len(served)

    overview = await fleet.get("/api/v1/pipeline/overview")
    for repository in REPOSITORIES:
        mine = {run: end for run, (where, end) in ledger.runs.items() if where == repository}
        listed = await fleet.get("/api/v1/builds/", repository=repository, per_page=100)
        assert listed["total"] == len(mine) + 1
        assert [int(b["run_id"]) for b in listed["builds"]][: len(mine)] == sorted(mine, reverse=True)[:100]
        [pipeline] = [p for p in overview["pipelines"] if p["repository"] == repository]
        assert pipeline["state"] == mine[max(mine)]
    async with Watcher(fleet.url("api"), "builds") as watcher:
        [(head,)] = await fleet.sql("SELECT position FROM log.head")
        assert watcher.position == head


async def test_people_were_told_of_each_turn_once(ordeal: Ordeal) -> None:
    """A Slack message and a mail for each fact; a second one only where a kill explains it.

    Sending and recording cannot be one act: killed between the two, the notifier sends again.
    """
    fleet = ordeal.fleet
    facts = {
        event["id"]: (int(event["data"]["build"]["run_id"]), event["type"].split(".")[1])
        for event in await fleet.log()
        if event["type"] in ("pipeline.broke.v1", "pipeline.recovered.v1")
    }
    deliveries = {
        channel: {fact: str(derive_id("delivery", RULE, channel, fact)) for fact in facts}
        for channel in ("slack", "mail")
    }
    by_mail = {delivery: fact for fact, delivery in deliveries["mail"].items()}
    by_run = {about: fact for fact, about in facts.items()}
    effects = {
        "mail": [
            (by_mail[effect["message_id"].strip("<>").partition("@")[0]], effect)
            for effect in await fleet.company.effects("smtp")
        ],
        "slack": [(by_run[told_in(effect)], effect) for effect in await fleet.company.effects("slack")],
    }
    on_record = recorded_at(fleet)
    for channel, told in effects.items():
        counted = Counter(fact for fact, _ in told)
        assert set(counted) == set(facts), f"{channel}: some were never told"
        for fact, times in counted.items():
            sent = sorted(datetime.fromisoformat(e["time"]) for about, e in told if about == fact)
            windows = crash_windows(ordeal, sent, on_record.get(deliveries[channel][fact]))
            if times > 1:
                ordeal.say(f"{channel} told {facts[fact]} {times} times; {windows} kills explain it")
            assert times <= 1 + windows, f"{channel}: {facts[fact]} was told {times} times: {sent}"
    history = await fleet.sql("SELECT status, count(*) FROM notifier.published_history GROUP BY 1")
    assert {row["status"]: row["count"] for row in history} == {"sent": 2 * len(facts)}


def told_in(effect: Mapping[str, Any]) -> tuple[int, str]:
    """The run a Slack message links to, and what it says happened."""
    run = re.search(r"/runs/(\d+)", json.dumps(effect["body"]["blocks"]))
    assert run is not None
    return int(run[1]), "recovered" if "works again" in effect["body"]["text"] else "broke"


def recorded_at(fleet: Fleet) -> dict[str, datetime]:
    """When the notifier's log says that each delivery was recorded as sent."""
    found = {}
    for line in fleet.services["notifier"].log.read_text().splitlines():
        if line.startswith("{") and '"notification sent"' in line:
            entry = json.loads(line)
            found[entry["delivery_id"]] = datetime.fromisoformat(entry["timestamp"])
    return found


def crash_windows(ordeal: Ordeal, sent: list[datetime], recorded: datetime | None) -> int:
    """How many kills of the notifier fell between a sending and its being recorded."""
    kills = [at for name, at in ordeal.killed if name == "notifier"]
    return sum(
        any(at - timedelta(seconds=SEND_SECONDS) <= moment <= at + timedelta(seconds=0.5) for moment in sent)
        and (recorded is None or recorded > at)
        for at in kills
    )


async def test_each_provisioning_job_made_one_repository_with_one_commit(ordeal: Ordeal) -> None:
    """GitLab's effects are exactly once, through every kill."""
    fleet, jobs = ordeal.fleet, ordeal.ledger.jobs
    effects = await fleet.company.effects("gitlab")
    paths = [f"acme/platform/{name}" for name in jobs.values()]
    assert Counter((e["kind"], e["path"]) for e in effects) == Counter(
        (kind, path) for path in paths for kind in ("project_created", "commit_created")
    )
    for run_id in jobs:
        run = await fleet.get(f"/api/v1/provisioning/runs/{run_id}")
        assert run["status"] == "succeeded"
        assert [(s["step"], s["status"]) for s in run["steps"]] == [(step, "succeeded") for step in STEPS]
    told = [e["body"] for e in await fleet.company.effects("control_plane")]
    assert {body["run_id"] for body in told} == set(jobs)
    for run_id in jobs:
        assert [body["status"] for body in told if body["run_id"] == run_id][-1] == "succeeded"


async def test_no_healthy_message_died(ordeal: Ordeal) -> None:
    """Every queue is empty and has its consumer; nothing is unacknowledged, archived or told as failed."""
    fleet = ordeal.fleet
    durable = {q.name for q in queues()} | {q.dead for q in queues()}
    rungs = {queue.rung(rung) for queue in queues() for rung in RUNGS}

    async def drained() -> bool:
        there = await fleet.queues()
        assert durable | rungs <= set(there)
        # A poll is asked for every second: its queue is empty only now and then.
        left = {n: q["messages"] for n, q in there.items() if q["messages"] and n != "poller.poll"}
        assert left == {}
        assert [name for name in durable if not there[name]["consumers"]] == []
        return True

    await until(drained, seconds=30, pause=1)
    assert await fleet.sql("SELECT * FROM ingest.published_dead_letters") == []
    bad = ("poll.failed", "notification.failed", "provisioning.failed", "message.dead_lettered")
    kinds = {event["type"].rpartition(".")[0] for event in await fleet.log()}
    assert kinds.isdisjoint(bad)


async def test_the_services_stop_when_asked(ordeal: Ordeal) -> None:
    """SIGTERM ends each with status 0; last of all, for the others need them."""
    statuses = {name: await ordeal.fleet.services[name].stop() for name in SERVICES}
    assert statuses == dict.fromkeys(SERVICES, 0)
