"""How long from a change being handed in to its frame at a WebSocket client, and what the processes weigh.

A change is a build's observation, sent by POST /events at a steady pace to all six services in one process. The
clock starts before the request is sent and stops when a client has read the frame, so it covers the key's check,
the confirmed publish, the commit to the log, the relay, and the live feed. Memory is the resident size of that
process at the end, and of each service run alone after the same flow; nothing is provisioned or told meanwhile.

    python -m bench.live [--changes 400] [--per-second 20] [--minutes 0.3] [--full]

`--minutes`: how long each deployment goes on under flow before it is weighed; `--full` is 10.
"""

import argparse
import asyncio
import itertools
import json
import re
import statistics
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.testing import example
from tests.e2e.fleet import Fleet, Running
from tests.e2e.live import Watcher

REPOSITORIES = ("acme/bench",)


def changes() -> Iterator[tuple[str, bytes]]:
    """Builds as they end, each a new one: run id and envelope."""
    for number in itertools.count():
        made = example(BuildObservedV1)
        run_id = f"{number}-{uuid.uuid4()}"
        ref = made.build.model_copy(update={"run_id": run_id})
        # Branches of their own: no pipeline turns, so nobody is told.
        build = made.model_copy(
            update={"build": ref, "branch": f"change-{number}", "updated_at": datetime.now(UTC)}
        )
        yield run_id, Envelope.of(build, source="https://bench.acme.example").to_json()


async def send(fleet: Fleet, body: bytes) -> None:
    answer = await fleet.http.post(
        f"{fleet.url('ingest')}/events",
        content=body,
        headers=fleet.key | {"content-type": "application/cloudevents+json"},
    )
    answer.raise_for_status()


async def fan_out(fleet: Fleet, count: int, per_second: float) -> list[float]:
    """Milliseconds from sending to frame, for `count` changes."""
    sent: dict[str, float] = {}
    came: dict[str, float] = {}
    tasks = []
    async with Watcher(fleet.url("api"), "builds", clock=time.perf_counter) as watcher:
        for run_id, body in itertools.islice(changes(), count):
            sent[run_id] = time.perf_counter()
            tasks.append(asyncio.create_task(send(fleet, body)))
            await asyncio.sleep(1 / per_second)
        await asyncio.gather(*tasks)
        async with asyncio.timeout(30):
            while len(came) < count:
                came = {
                    frame["data"]["build"]["run_id"]: frame["came"]
                    for frame in watcher.frames
                    if frame["event"] == BuildObservedV1.type and frame["data"]["build"]["run_id"] in sent
                }
                await asyncio.sleep(0.1)
    return [1000 * (came[run_id] - at) for run_id, at in sent.items()]


async def flow(fleet: Fleet, seconds: float, per_second: float) -> None:
    """Changes for so long."""
    until = time.monotonic() + seconds
    for _, body in changes():
        if time.monotonic() > until:
            return
        await send(fleet, body)
        await asyncio.sleep(1 / per_second)


def resident_mib(process: Running) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


async def measure(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    seconds = 60 * (10 if options.full else options.minutes)
    async with Fleet(folder / "together", repositories=REPOSITORIES, together=True) as fleet:
        await flow(fleet, 2, options.per_second)  # caches and connections
        times = await fan_out(fleet, options.changes, options.per_second)
        await flow(fleet, seconds, options.per_second)
        together = resident_mib(fleet.services["all"])
    async with Fleet(folder / "apart", repositories=REPOSITORIES) as fleet:
        await flow(fleet, seconds, options.per_second)
        apart = {name: resident_mib(process) for name, process in fleet.services.items()}
    cuts = statistics.quantiles(times, n=100)
    show(times, cuts, together, apart, seconds)
    return {
        "fanout_p95_ms": round(cuts[94], 1),
        "fanout_p50_ms": round(cuts[49], 1),
        "changes": len(times),
        "rss_mib": round(together, 1),
        "rss_mib_apart": {name: round(mib, 1) for name, mib in apart.items()},
        "minutes": seconds / 60,
    }


def show(
    times: list[float], cuts: list[float], together: float, apart: dict[str, float], seconds: float
) -> None:
    console = Console()
    table = Table("POST /events sent to WebSocket frame read", "ms", box=None)
    for name, value in (("median", cuts[49]), ("p95", cuts[94]), ("p99", cuts[98]), ("slowest", max(times))):
        table.add_row(f"{name} of {len(times)}", f"{value:.1f}")
    console.print(table)
    table = Table(f"resident after {seconds:.0f} s of flow", "MiB", box=None)
    table.add_row("all six in one process", f"{together:.1f}")
    for name, mib in apart.items():
        table.add_row(f"{name} alone", f"{mib:.1f}")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.live", description=__doc__)
    parser.add_argument("--changes", type=int, default=400)
    parser.add_argument("--per-second", type=float, default=20.0)
    parser.add_argument("--minutes", type=float, default=0.3)
    parser.add_argument("--full", action="store_true", help="ten minutes each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="buildlight-bench-") as folder:
        print(json.dumps(asyncio.run(measure(options, Path(folder)))))


if __name__ == "__main__":
    main()
