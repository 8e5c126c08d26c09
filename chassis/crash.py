"""Named points at which a fault test kills the process: `BUILDLIGHT_CRASH_AT=ingest.append.after_commit`.

Off unless the variable is set; it is read once.
"""

import os
import signal

_AT = os.environ.get("BUILDLIGHT_CRASH_AT", "")


def point(name: str) -> None:
    """Die here as by `kill -9` when this is the point the environment names."""
    if name == _AT:
        os.kill(os.getpid(), signal.SIGKILL)
