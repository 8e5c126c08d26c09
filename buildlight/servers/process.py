"""A server of our own: started, found ready by really connecting, stopped so that nothing remains."""

import asyncio
import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, ClassVar, Self

POLL_SECONDS = 0.05
LOG_LIMIT_BYTES = 10 * 1024 * 1024


class ServerError(Exception):
    """A server cannot run; the message says why and what to do, in a sentence for people."""


def free_port() -> int:
    """Return a loopback TCP port that nobody listens on.

    It lies below the range the kernel gives to outgoing connections, so that a server which was
    stopped finds its port still free when it starts again.
    """
    for port in random.sample(range(20_000, 32_768), 200):
        if port_is_free(port):
            return port
    raise ServerError("No free TCP port was found between 20000 and 32767 on 127.0.0.1.")


def port_is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class Lock:
    """A file lock that the kernel releases when its holder ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[str] | None = None

    def take(self, sentence: str) -> None:
        """Take the lock, or raise a ServerError with `sentence` and the holder's process id."""
        if self._file is not None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self.path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise ServerError(f"{sentence} (process {holder}).") from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def started_at(pid: int) -> str | None:
    """When the process began, in the kernel's ticks; None when it is gone.

    With the process id it names one process for ever, where the id alone may be given out again.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def ended(pids: Iterable[int]) -> bool:
    """Whether none of the processes runs any more."""
    return not any(started_at(pid) for pid in pids)


async def became(condition: Callable[[], bool], timeout: float) -> bool:  # noqa: ASYNC109 - passing it is no error
    """Wait until the condition holds, `timeout` seconds at most; whether it does."""
    until = time.monotonic() + timeout
    while not condition() and time.monotonic() < until:  # noqa: ASYNC110 - processes send no event
        await asyncio.sleep(POLL_SECONDS)
    return condition()


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
    return [pid for child in children for pid in (child, *_descendants(child))]


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def tied(command: Sequence[str], death_signal: str) -> list[str]:
    """The command, signalled by the kernel when the thread that started it ends (Linux).

    So a parent that is killed outright leaves no server behind.
    """
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", death_signal, "--", *command] if setpriv else list(command)


def last_lines(log: Path, count: int = 15) -> str:
    """The end of a log, for an error message."""
    if not log.exists():
        return "(no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64 * 1024))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-count:])


def spawn(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a process that writes to a log, in a session of its own.

    So a Ctrl-C at the terminal reaches only us, who stop the others in order.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_LIMIT_BYTES:
        log.rename(log.with_suffix(".log.1"))
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - our own command, no shell
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


class PrivateServer(ABC):
    """One server in one folder. Start it from the main thread: its life is tied to that thread's."""

    title: ClassVar[str]
    passing: ClassVar[str | None] = None
    """What a server says that cannot start yet, and soon can."""
    stop_signal: ClassVar[signal.Signals]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.log = self.folder.parent / "log" / f"{self.folder.name}.log"
        self._lock = Lock(self.folder / "lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._beside: list[subprocess.Popen[bytes]] = []
        self._state: dict[str, Any] = {}

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients, with user and password."""

    @abstractmethod
    async def _prepare(self) -> None:
        """Make what the server needs to start: data, configuration."""

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Start the process."""

    @abstractmethod
    async def _connect(self) -> None:
        """Connect as a client does and leave again; any exception means not ready."""

    @property
    def running(self) -> bool:
        """Whether the server's process is there (it may not be ready yet)."""
        return self._process is not None and self._process.poll() is None

    async def start(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - the message names the server
        """Start, and return once a client could connect.

        A server that runs already is started anew.

        Raises:
            ServerError: it cannot run here, another process runs it, or `timeout` seconds went by.

        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if not os.access(self.folder, os.W_OK):
            raise ServerError(
                f"{self.title} cannot write to {self.folder}: it was made by another user. "
                "Start as that user, or remove the folder."
            )
        self._lock.take(f"{self.title} of {self.folder} is already running")
        try:
            await self._kill_processes()  # what is left when it crashed by itself
            self._read_state()
            await self._stop_stale()
            await self._prepare()
            await self._start(timeout)
        except BaseException:
            await self.kill()
            raise

    async def stop(self, timeout: float = 30.0) -> None:  # noqa: ASYNC109 - what follows the time-out is ours
        """Stop cleanly; whatever is left after `timeout` seconds is killed."""
        if self._process is not None:
            _signal(self._process.pid, self.stop_signal)
            await became(lambda: not self.running, timeout)
        await self.kill()

    async def kill(self) -> None:
        """Kill with SIGKILL, as a crash would, with all it started; `start()` brings it back."""
        await self._kill_processes()
        self._lock.release()

    async def _kill_processes(self) -> None:
        for process in [self._process, *self._beside]:
            if process is None:
                continue
            family = [process.pid, *_descendants(process.pid)]
            if process.poll() is None:
                for pid in family:
                    _signal(pid, signal.SIGKILL)
                process.wait()
            await became(partial(ended, family[1:]), 10)
        self._process = None
        self._beside = []

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self, timeout: float) -> None:  # noqa: ASYNC109 - see start
        until = time.monotonic() + timeout
        while not await self._has_started(timeout):
            if time.monotonic() > until:
                raise self._failure(f"could not start within {timeout:.0f} s")
            await asyncio.sleep(POLL_SECONDS)

    async def _has_started(self, timeout: float) -> bool:  # noqa: ASYNC109 - see start
        """Launch it. False when it ended because it cannot start yet."""
        said = self.log.stat().st_size if self.log.exists() else 0
        self._process = self._launch()
        self._write_state()
        try:
            await self._become_ready(timeout)
        except ServerError:
            if self.running or self.passing is None:
                raise
            with self.log.open("rb") as file:
                file.seek(said)
                if self.passing.encode() not in file.read():
                    raise
            return False
        return True

    async def _become_ready(self, timeout: float) -> None:  # noqa: ASYNC109 - see start
        until = time.monotonic() + timeout
        while True:
            try:
                await self._connect()
            except Exception as error:
                if not self.running:
                    reason = "ended while starting"
                elif time.monotonic() > until:
                    reason = f"was not ready within {timeout:.0f} s ({error})"
                else:
                    await asyncio.sleep(POLL_SECONDS)
                    continue
                raise self._failure(reason) from error
            return

    def _failure(self, reason: str) -> ServerError:
        return ServerError(f"{self.title} {reason}. The end of {self.log}:\n{last_lines(self.log)}")

    def _open(self, command: Sequence[str], env: Mapping[str, str]) -> subprocess.Popen[bytes]:
        return spawn(command, env=env, cwd=self.folder, log=self.log)

    # What outlives the process: the password and ports (kept from start to start) and the ids of
    # what runs, so that a later start can stop what a crash left behind.

    def _kept_port(self, name: str) -> int:
        port = self._state.get(name)
        if not isinstance(port, int) or not port_is_free(port):
            self._state[name] = port = free_port()
        return port

    @property
    def _password(self) -> str:
        password: str = self._state.setdefault("password", secrets.token_urlsafe(24))
        return password

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def _read_state(self) -> None:
        if not self._state and self._state_file.exists():
            self._state = json.loads(self._state_file.read_text())

    def _write_state(self) -> None:
        alive = [process.pid for process in [self._process, *self._beside] if process is not None]
        self._state["processes"] = [[pid, started_at(pid)] for pid in alive]
        write_private(self._state_file, json.dumps(self._state))

    async def _stop_stale(self) -> None:
        """Stop what an earlier owner of this folder left running; we hold the lock, so it has ended."""
        stale = [pid for pid, started in self._state.get("processes", []) if started_at(pid) == started]
        for number in (self.stop_signal, signal.SIGKILL):
            for pid in stale:
                _signal(pid, number)
            await became(partial(ended, stale), 20)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)
