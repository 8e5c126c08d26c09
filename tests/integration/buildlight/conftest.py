"""What the tests of private servers look at: processes."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def processes_of() -> Callable[[Path], list[int]]:
    """Give a function that finds the processes whose command line or working directory lies in a folder."""

    def find(folder: Path) -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            traces = []
            with contextlib.suppress(OSError):
                traces.append((entry / "cmdline").read_bytes().decode(errors="replace"))
            with contextlib.suppress(OSError):  # in a container not even root may look at every process
                traces.append(str((entry / "cwd").readlink()))
            if any(str(folder) in trace for trace in traces):
                found.append(int(entry.name))
        return found

    return find
