"""Private servers: they keep their data, come back after a crash, and leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aio_pika
import asyncpg
import pytest

from buildlight.servers import Postgres, RabbitMQ, ServerError
from buildlight.servers.process import started_at

Eventually = Callable[..., Awaitable[object]]
Processes = Callable[[Path], list[int]]

OWNER = """
import asyncio, json, sys
from pathlib import Path
from buildlight.servers import Postgres, RabbitMQ

async def main() -> None:
    server = {"postgres": Postgres, "rabbitmq": RabbitMQ}[sys.argv[1]](Path(sys.argv[2]))
    await server.start()
    print(json.dumps(server._state["processes"]), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def write(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE kept (n integer); INSERT INTO kept VALUES (42)")
    await connection.close()


async def read(url: str) -> int:
    connection = await asyncpg.connect(url)
    number: int = await connection.fetchval("SELECT n FROM kept")
    await connection.close()
    return number


async def test_postgres_keeps_its_data_when_killed_and_when_stopped(own_postgres: Postgres) -> None:
    """A committed row outlives SIGKILL and a clean stop, at the same address."""
    url = own_postgres.url
    await write(url)
    await own_postgres.kill()
    with pytest.raises(OSError, match=r"refused|Connect call failed"):
        await asyncpg.connect(url)
    await own_postgres.start()
    assert own_postgres.url == url
    assert await read(url) == 42
    await own_postgres.stop()
    await own_postgres.start()
    assert await read(url) == 42


async def test_rabbitmq_keeps_confirmed_messages_when_killed(
    own_rabbitmq: RabbitMQ, eventually: Eventually
) -> None:
    """A confirmed persistent message outlives SIGKILL, at the same address."""
    url = own_rabbitmq.url
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel(publisher_confirms=True)
        await channel.declare_queue("kept", durable=True, arguments={"x-queue-type": "quorum"})
        message = aio_pika.Message(b"42", delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, routing_key="kept")
        await eventually(lambda: own_rabbitmq.remembers("kept"))
        await own_rabbitmq.kill()
    await own_rabbitmq.start()
    assert own_rabbitmq.url == url
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("kept", passive=True)
        assert (await queue.get(timeout=30)).body == b"42"


async def test_a_server_that_crashed_by_itself_starts_again(own_postgres: Postgres) -> None:
    """Nobody called kill(): the process is simply gone, and start() still works."""
    await write(own_postgres.url)
    assert own_postgres._process is not None
    own_postgres._process.kill()
    own_postgres._process.wait()
    assert not own_postgres.running
    await own_postgres.start()
    assert await read(own_postgres.url) == 42


async def test_a_second_server_in_the_same_folder_is_refused(own_postgres: Postgres) -> None:
    """The sentence names the process that runs it."""
    with pytest.raises(ServerError, match=rf"is already running \(process {os.getpid()}\)"):
        await Postgres(own_postgres.folder).start()
    assert own_postgres.running


async def test_data_of_another_major_version_is_refused(tmp_path: Path) -> None:
    """Neither started nor overwritten: the sentence says both versions and what to do."""
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError, match=r"was made by PostgreSQL 9, but here is PostgreSQL .*Dump it"):
        await Postgres(tmp_path / "postgres").start()
    assert (data / "PG_VERSION").read_text() == "9\n"


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    """The error carries the end of the server's log, and nothing keeps running."""
    server = Postgres(tmp_path / "postgres")
    await server.start()
    await server.stop()
    (server.folder / "data" / "pg_hba.conf").unlink()
    with pytest.raises(ServerError, match=r"ended while starting[\s\S]*pg_hba\.conf"):
        await server.start()
    assert not server.running


@pytest.mark.parametrize("kind", ["postgres", "rabbitmq"])
async def test_a_killed_owner_leaves_nothing_behind(
    kind: str, tmp_path: Path, eventually: Eventually, processes_of: Processes
) -> None:
    """With its owner killed by SIGKILL, every process the server consists of ends by itself."""
    folder = tmp_path / kind
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, kind, str(folder)),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert owner.stdout is not None
    assert await owner.stdout.readline() != b""
    try:
        running = processes_of(folder)
    finally:
        owner.send_signal(signal.SIGKILL)
        await owner.wait()
    assert len(running) >= 2
    await eventually(lambda: processes_of(folder) == [], timeout=30)


async def test_what_an_owner_left_running_is_stopped_first(tmp_path: Path) -> None:
    """A stale server of the same folder, known by process id and start time, makes way for the new one."""
    first = Postgres(tmp_path / "postgres")
    await first.start()
    await write(first.url)
    assert first._process is not None
    stale = first._process.pid
    # As if the owner had gone without its server: the lock is free, the process runs on.
    first._lock.release()
    async with Postgres(first.folder) as second:
        assert started_at(stale) is None
        assert await read(second.url) == 42
    await first.kill()
