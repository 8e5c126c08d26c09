"""How fast events get from the queue into the log, beside others doing the same job or less.

    python -m bench.ingest [--full]

One ingest process against a FastStream consumer that only validates, bare aio-pika that only acknowledges, and
Celery and BullMQ that insert one row a message. Same messages, same count, durable queues (quorum queues in
RabbitMQ), the servers private to the benchmark and on this machine. Each round fills a queue, then measures the
wall time from the moment its consumer may begin to the last commit (for the two that store nothing: the last
acknowledgement). The order changes every round; the figures are medians. The last line is JSON.
"""

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aio_pika
import asyncpg

from buildlight.migrate import migrate
from buildlight.servers import Postgres, RabbitMQ
from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.routing import INTAKE
from buildlight_contracts.testing import example
from chassis.topology import declare
from services.ingest.queues import QUEUES

HERE = Path(__file__).parent
ABSENT = ("title", "commit_message", "pull_request", "actor", "event", "author", "url")
TABLE = """
    CREATE SCHEMA bench;
    CREATE TABLE bench.rows (
        id uuid PRIMARY KEY, type text NOT NULL, subject text NOT NULL, occurred_at timestamptz NOT NULL,
        data jsonb NOT NULL
    );
"""


def bodies(number: int, count: int) -> list[bytes]:
    """`count` builds observed, of about 0.8 KiB each; different ones for every `number`."""
    base = example(BuildObservedV1, **dict.fromkeys(ABSENT))
    made = []
    for run in range(count):
        build = base.build.model_copy(update={"run_id": str(number * 1_000_000 + run)})
        envelope = Envelope.of(base.model_copy(update={"build": build}), source="https://ci.acme.example")
        data = {name: value for name, value in envelope.data.items() if value is not None}
        made.append(envelope.model_copy(update={"data": data}).to_json())
    return made


class Child:
    """A peer in a process of its own, told what to do line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str], env: dict[str, str], cwd: Path | None = None) -> "Child":
        process = await asyncio.create_subprocess_exec(
            *command, env=env, cwd=cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        child = cls(process)
        await child.expect("ready")
        return child

    async def expect(self, word: str) -> None:
        assert self._process.stdout
        async with asyncio.timeout(300):
            while (line := await self._process.stdout.readline()) and line.decode().strip() != word:
                pass
        if not line:
            sys.exit("a peer ended before its time; its own message is above")

    async def ask(self, line: str) -> float:
        """Send `line`; return the seconds until it is done."""
        assert self._process.stdin
        started = time.perf_counter()
        self._process.stdin.write(f"{line}\n".encode())
        await self.expect("done")
        return time.perf_counter() - started

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
        await self._process.wait()


class Bench:
    """The servers, the peers, and one way to fill and run each."""

    def __init__(self, amqp_url: str, database_url: str, folder: Path) -> None:
        self.amqp_url = amqp_url
        self.database_url = database_url
        self.folder = folder
        self.env = os.environ | {
            "BUILDLIGHT_AMQP_URL": amqp_url,
            "BUILDLIGHT_DATABASE_URL": database_url,
            "DATABASE_URL": database_url,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        self.peers: dict[str, Callable[[int, list[bytes]], Awaitable[float]]] = {}

    async def open(self, stack: AsyncExitStack) -> None:
        await declare(self.amqp_url, QUEUES, ["5s", "30s", "5m", "1h"])
        connection = await stack.enter_async_context(await aio_pika.connect(self.amqp_url))
        self.channel = await connection.channel()
        self.database = await asyncpg.connect(self.database_url)
        stack.push_async_callback(self.database.close)
        await self.database.execute(TABLE)
        for name in ("validating", "raw", "celery", "idle"):
            exchange = await self.channel.declare_exchange(f"bench.{name}", durable=True)
            queue = await self.channel.declare_queue(
                f"bench.{name}", durable=True, arguments={"x-queue-type": "quorum"}
            )
            await queue.bind(exchange, f"bench.{name}")

    async def child(self, stack: AsyncExitStack, name: str) -> Child:
        child = await Child.start([sys.executable, "-m", f"bench.ingest_peers.{name}"], self.env)
        stack.push_async_callback(child.stop)
        return child

    async def publish(self, exchange: str, key: str, made: Sequence[aio_pika.Message]) -> None:
        target = await self.channel.get_exchange(exchange, ensure=False)
        for start in range(0, len(made), 500):
            await asyncio.gather(*(target.publish(message, key) for message in made[start : start + 500]))

    async def add_own(self, stack: AsyncExitStack) -> None:
        child = await self.child(stack, "buildlight")

        async def run(_: int, made: list[bytes]) -> float:
            await self.publish(INTAKE.name, "build.observed.v1", [persistent(body) for body in made])
            seconds = await child.ask(f"run {len(made)}")
            while await self.database.fetchval(  # noqa: ASYNC110 -- the news comes from a server
                "SELECT (SELECT position FROM log.head) > (SELECT position FROM ingest.checkpoints)"
            ):
                await asyncio.sleep(0.05)  # the relay must not disturb the next
            return seconds

        self.peers["ingest"] = run

    async def add_listener(self, stack: AsyncExitStack, name: str) -> None:
        child = await self.child(stack, name)

        async def run(_: int, made: list[bytes]) -> float:
            await self.publish(f"bench.{name}", f"bench.{name}", [persistent(body) for body in made])
            return await child.ask(f"run {len(made)}")

        self.peers[name] = run

    async def add_celery(self, stack: AsyncExitStack) -> None:
        os.environ["BUILDLIGHT_AMQP_URL"] = self.amqp_url
        from bench.ingest_peers.celery_app import app  # noqa: PLC0415 -- it reads the address at import

        application = ["-A", "bench.ingest_peers.celery_app"]
        options = ["-Q", "bench.idle", "-c", "2", "-l", "ERROR", "--without-gossip", "--without-mingle"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "celery", *application, "worker", *options, env=self.env,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(Child(process).stop)
        async with asyncio.timeout(60):
            while not await asyncio.to_thread(app.control.ping, timeout=1.0):
                pass

        async def run(_: int, made: list[bytes]) -> float:
            await self.publish("bench.celery", "bench.celery", [celery_message(body) for body in made])
            await self.database.execute("TRUNCATE bench.rows")
            started = time.perf_counter()
            await asyncio.to_thread(app.control.add_consumer, "bench.celery")
            await self.rows(len(made))
            seconds = time.perf_counter() - started
            await asyncio.to_thread(app.control.cancel_consumer, "bench.celery", reply=True)
            return seconds

        self.peers["celery"] = run

    async def add_bullmq(self, stack: AsyncExitStack) -> None:
        port = free_port()
        redis = await asyncio.create_subprocess_exec(
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--appendonly", "yes",
            "--dir", str(self.folder), "--maxmemory-policy", "noeviction", stdout=subprocess.DEVNULL,
        )  # fmt: skip
        stack.push_async_callback(Child(redis).stop)
        environment = self.env | {"REDIS_PORT": str(port)}
        child = await Child.start(["node", str(HERE / "ingest_peers/bullmq.mjs")], environment, HERE)
        stack.push_async_callback(child.stop)

        async def run(number: int, made: list[bytes]) -> float:
            path = self.folder / f"round-{number}"
            path.write_bytes(b"\n".join(made))
            await child.ask(f"fill {len(made)} {path}")
            await self.database.execute("TRUNCATE bench.rows")
            seconds = await child.ask(f"run {len(made)}")
            await self.rows(len(made))
            return seconds

        self.peers["bullmq"] = run

    async def rows(self, count: int) -> None:
        """Return when so many rows are in, which is all of them."""
        async with asyncio.timeout(300):
            while await self.database.fetchval("SELECT count(*) FROM bench.rows") < count:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def persistent(body: bytes) -> aio_pika.Message:
    return aio_pika.Message(
        body, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
    )


def celery_message(body: bytes) -> aio_pika.Message:
    event = json.loads(body)
    told = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return aio_pika.Message(
        json.dumps([[event], {}, told]).encode(),
        headers={"lang": "py", "task": "bench.insert", "id": event["id"], "root_id": event["id"]},
        content_type="application/json",
        content_encoding="utf-8",
        correlation_id=event["id"],
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
    )


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def bullmq_is_there() -> bool:
    """Whether BullMQ can be run; its packages are fetched the first time."""
    if shutil.which("redis-server") is None or shutil.which("npm") is None:
        print("BullMQ is left out: it needs redis-server and Node.js.", file=sys.stderr)
        return False
    if not (HERE / "node_modules/bullmq").exists():
        # Without a lock file: npm leaves the optional packages of other platforms out of one, then misses them.
        command = ["npm", "install", "--silent", "--no-package-lock", "--omit=optional"]
        subprocess.run(command, cwd=HERE, check=True, stdout=sys.stderr)
    return True


async def measure(rounds: int, count: int) -> dict[str, list[float]]:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buildlight-bench-")))
        postgres = await stack.enter_async_context(Postgres(folder / "postgres"))
        rabbitmq = await stack.enter_async_context(RabbitMQ(folder / "rabbitmq"))
        await migrate(postgres.url)
        bench = Bench(rabbitmq.url, postgres.url, folder)
        await bench.open(stack)
        await bench.add_own(stack)
        await bench.add_listener(stack, "validating")
        await bench.add_listener(stack, "raw")
        await bench.add_celery(stack)
        if bullmq_is_there():
            await bench.add_bullmq(stack)
        rates: dict[str, list[float]] = {name: [] for name in bench.peers}
        for number in range(rounds + 1):
            names = list(bench.peers)
            turn = number % len(names)
            warming_up = number == 0
            made = bodies(number, count // 10 if warming_up else count)
            for name in names[turn:] + names[:turn]:
                seconds = await bench.peers[name](number, made)
                if not warming_up:
                    rates[name].append(len(made) / seconds)
                    print(f"  round {number}: {name:<11}{len(made) / seconds:>9,.0f}/s", file=sys.stderr)
        return rates


TITLES = {
    "ingest": "Buildlight ingest: validated, in the log, acknowledged",
    "validating": "FastStream, typed handler that does nothing",
    "raw": "bare aio-pika, acknowledges only",
    "celery": "Celery, 2 processes, one insert a message",
    "bullmq": "BullMQ, 100 at once, one insert a message",
}


def report(rates: dict[str, list[float]], count: int) -> dict[str, Any]:
    medians = {name: statistics.median(values) for name, values in rates.items()}
    own = medians["ingest"]
    size = len(bodies(0, 1)[0])
    print(
        f"{count:,} messages of {size} bytes a round, median of {len(rates['ingest'])} rounds; "
        f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC):%Y-%m-%d}\n"
    )
    print(f"{'':<56}{'events/s':>10}{'lowest':>10}{'highest':>10}{'ingest is':>12}")
    for name, title in TITLES.items():
        if name not in medians:
            continue
        ratio = "" if name == "ingest" else f"{own / medians[name]:.2f}x"
        low, high = min(rates[name]), max(rates[name])
        print(f"{title:<56}{medians[name]:>10,.0f}{low:>10,.0f}{high:>10,.0f}{ratio:>12}")
    print()
    return {
        "vs_validating_consumer": round(own / medians["validating"], 2),
        "vs_raw_aio_pika": round(own / medians["raw"], 2),
        "vs_celery": round(own / medians["celery"], 2),
        "vs_bullmq": round(own / medians["bullmq"], 2) if "bullmq" in medians else None,
        "events_per_second": round(own),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--full", action="store_true", help="20,000 messages and 7 rounds; some ten minutes")
    parser.add_argument("--messages", type=int, help="a round")
    parser.add_argument("--rounds", type=int)
    asked = parser.parse_args()
    count = asked.messages or (20_000 if asked.full else 4_000)
    rounds = asked.rounds or (7 if asked.full else 3)
    rates = asyncio.run(measure(rounds, count))
    print(json.dumps(report(rates, count)))


if __name__ == "__main__":
    main()
