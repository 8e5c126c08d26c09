"""Folders to render in: this process's own, gone at the end, and those of dead processes cleared away."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

_PREFIX = "worker-"
_LOCK = "lock"


class Workspaces:
    """Folders under one of this process's own, which it keeps locked: so others see that it lives."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._own: Path | None = None
        self._lock: IO[str] | None = None

    def open(self) -> int:
        """Make this process's folder, and remove those that dead processes left. Returns how many.

        Raises:
            OSError: the root cannot be written.
        """
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        stale = [folder for folder in self._root.glob(f"{_PREFIX}*") if _is_stale(folder)]
        for folder in stale:
            shutil.rmtree(folder, ignore_errors=True)
        self._own = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=self._root)).resolve()
        self._lock = (self._own / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        return len(stale)

    def close(self) -> None:
        if self._lock is not None and self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
            self._lock.close()
            self._lock = self._own = None

    @contextmanager
    def one(self) -> Iterator[Path]:
        """A new, empty folder, readable by this user alone; gone with all in it at the end."""
        if self._own is None:
            self.open()
        folder = Path(tempfile.mkdtemp(dir=self._own))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _is_stale(folder: Path) -> bool:
    """Whether nobody holds the lock. A folder without one may be just being made: it is left until it is old."""
    with suppress(OSError), (folder / _LOCK).open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    return False
