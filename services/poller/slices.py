"""How long one poll or backfill may go on before others have their turn."""

import time
from collections.abc import Callable


class Slice:
    """So many seconds; and at least half of them from the time a listing is there.

    What was listed is taken run by run, and a listing that was not taken is read again. Were its time to count
    alone, a target whose listing takes as long as a slice would never get further than its first run.
    """

    def __init__(self, seconds: float, *, stopping: Callable[[], bool]) -> None:
        self._half = seconds / 2
        self._until = time.monotonic() + seconds
        self._stopping = stopping

    def has_listed(self) -> None:
        self._until = max(self._until, time.monotonic() + self._half)

    def is_over(self) -> bool:
        return self._stopping() or time.monotonic() > self._until
