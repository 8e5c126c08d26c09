"""What collecting costs of a provider's allowance: calls for each 1,000 builds, and when nothing happens.

The sandbox's GitHub runs at thirty times a company's pace: a poll every two seconds stands for one a minute, a
build of ten seconds for one of five minutes, of which one in five is run again. Counted is what the poller itself
counts (`buildlight_poller_requests_total`) and what GitHub takes from the allowance; a 304 costs nothing. One
deployment: builds seen by polls alone; nothing happening at all; one comparison of everything with the log
(`buildlight completeness --now`). Another: the same builds told by webhooks, and a poll for every fifteen minutes.

    python -m bench.collection [--builds 250] [--seconds 30] [--idle 16] [--full]

`--full` is 2,000 builds in 270 s, and 60 s of nothing.
"""

import argparse
import asyncio
import json
import random
import re
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.e2e.fleet import Fleet, until

REPOSITORIES = ("acme/one", "acme/two", "acme/three", "acme/four")
INTERVAL_SECONDS = 2.0
RARE_SECONDS = 30.0
PACE = 30
BUILD_SECONDS = 10.0
AGAIN = 0.2
SERVICES = ("ingest", "poller", "analytics", "api")
SECRET = "of the benchmark"
SETTINGS = {
    "WORKER_POLL_INTERVAL": str(INTERVAL_SECONDS),
    "BUILDLIGHT_COLLECT_REPORTS": "false",
    "BUILDLIGHT_DEPLOYMENTS_MINUTES": "0",
}
LED = SETTINGS | {"WORKER_POLL_INTERVAL": str(RARE_SECONDS), "GITHUB_WEBHOOK_SECRET": SECRET}
_COUNTED = re.compile(
    r'^buildlight_poller_requests_total\{provider="github",status="(\w+)"\} (\S+)$', re.MULTILINE
)


@dataclass
class Spent:
    """Calls by status, and what they took from the allowance."""

    calls: Counter[str]
    allowance: int

    def __sub__(self, before: "Spent") -> "Spent":
        return Spent(self.calls - before.calls, self.allowance - before.allowance)

    @property
    def total(self) -> int:
        return self.calls.total()


async def spent(fleet: Fleet) -> Spent:
    answer = await fleet.http.get(f"{fleet.url('poller')}/metrics")
    calls = Counter({status: round(float(count)) for status, count in _COUNTED.findall(answer.text)})
    budget = await fleet.company.control("GET", "/github/budget")
    return Spent(calls, budget["used"])


async def one_build(fleet: Fleet, dice: random.Random, after: float) -> int:
    """A run from queued to its end, maybe run again; how many attempts it had."""
    await asyncio.sleep(after)
    run = await fleet.company.run(dice.choice(REPOSITORIES))
    attempts = 0
    while True:
        attempts += 1
        await asyncio.sleep(dice.uniform(0.1, 0.6))
        await fleet.company.advance(run, status="in_progress")
        await asyncio.sleep(BUILD_SECONDS * dice.lognormvariate(0, 0.4))
        await fleet.company.advance(run, status="completed", conclusion="success")
        if dice.random() >= AGAIN:
            return attempts
        await fleet.company.advance(run, new_attempt=True)


async def all_seen(fleet: Fleet) -> None:
    served = {
        (str(run), attempt) for run, attempt, *_ in await fleet.company.control("GET", "/github/served")
    }

    async def seen() -> bool:
        rows = await fleet.sql(
            "SELECT run_id, attempt FROM analytics.builds WHERE state NOT IN ('queued', 'running')"
        )
        return served <= {(row["run_id"], row["attempt"]) for row in rows}

    await until(seen, seconds=180, why="not every build was seen")


async def quiet(fleet: Fleet) -> None:
    """Wait until polls bring nothing but 304."""

    async def still() -> bool:
        before = await spent(fleet)
        await asyncio.sleep(3 * INTERVAL_SECONDS)
        return (await spent(fleet)).allowance == before.allowance

    await until(still, seconds=120, why="the polls do not come to rest")


async def work(fleet: Fleet, dice: random.Random, *, builds: int, seconds: float) -> tuple[Spent, int]:
    """Let `builds` begin over so many seconds and be seen to their ends: what that took, for how many attempts."""
    before = await spent(fleet)
    attempts = sum(
        await asyncio.gather(*(one_build(fleet, dice, dice.uniform(0, seconds)) for _ in range(builds)))
    )
    await all_seen(fleet)
    return await spent(fleet) - before, attempts


async def polled(folder: Path, *, builds: int, seconds: float, idle: float, seed: int) -> dict[str, Any]:
    """By polls alone; then nothing; then one count of everything."""
    async with Fleet(folder, repositories=REPOSITORIES, services=SERVICES, settings=SETTINGS) as fleet:
        await all_seen(fleet)
        await quiet(fleet)
        busy, attempts = await work(fleet, random.Random(seed), builds=builds, seconds=seconds)
        await quiet(fleet)
        before = await spent(fleet)
        await asyncio.sleep(idle)
        idled = await spent(fleet) - before
        before = await spent(fleet)
        ran = await asyncio.to_thread(fleet.command, "completeness", "--now", "--json", of="api")
        compared = await spent(fleet) - before
        report = json.loads(ran.stdout)
    counted = sum(row["at_provider"] for row in report["targets"])
    show(f"{attempts} builds, by polls alone", busy)
    show(f"nothing for {idle:.0f} s ({idle * PACE / 60:.0f} min at a company's pace)", idled)
    show(f"one count of {counted} attempts in {len(REPOSITORIES)} targets, polls going on", compared)
    return {
        "polls": per_thousand(busy, attempts),
        "idle_calls_a_poll": round(idled.total / len(REPOSITORIES) / (idle / INTERVAL_SECONDS), 2),
        "idle_allowance": idled.allowance,
        "complete": report["complete"],
        "counted": counted,
        "count_allowance": compared.allowance,
    }


async def led(folder: Path, *, builds: int, seconds: float, seed: int) -> dict[str, Any]:
    """Told by webhooks, and polled rarely."""
    async with Fleet(folder, repositories=REPOSITORIES, services=SERVICES, settings=LED) as fleet:
        await all_seen(fleet)
        if not await fleet.company.hook("github", f"{fleet.url('poller')}/webhooks/github", secret=SECRET):
            return {}
        busy, attempts = await work(fleet, random.Random(seed), builds=builds, seconds=seconds)
    show(f"{attempts} builds, told by webhooks", busy)
    return {"webhooks": per_thousand(busy, attempts)}


def per_thousand(part: Spent, attempts: int) -> dict[str, int]:
    return {
        "builds": attempts,
        "calls_per_1000": round(1000 * part.total / attempts),
        "allowance_per_1000": round(1000 * part.allowance / attempts),
    }


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    builds, seconds, idle = (
        (2000, 270.0, 60.0) if options.full else (options.builds, options.seconds, options.idle)
    )
    size = {"builds": builds, "seconds": seconds, "seed": options.seed}
    return await polled(folder / "polls", idle=idle, **size) | await led(folder / "webhooks", **size)


def show(what: str, part: Spent) -> None:
    Console().print(
        f"{what}: {part.total} calls, {part.calls['304']} of them 304; {part.allowance} of the allowance"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.collection", description=__doc__)
    parser.add_argument("--builds", type=int, default=250)
    parser.add_argument("--seconds", type=float, default=30.0, help="over which the builds begin")
    parser.add_argument("--idle", type=float, default=16.0, help="seconds of nothing")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--full", action="store_true", help="2,000 builds, some minutes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="buildlight-bench-") as folder:
        print(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
