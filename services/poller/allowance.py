"""How many whole logs one reader may have read from a provider, and all readers together: each costs its calls."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection

from chassis.keys import digest, key_of

PER_READER = 60
ALTOGETHER = 180
WITHIN_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Allowances:
    """`per_reader` and `altogether` in any `within_seconds`, of one replica."""

    per_reader: int = PER_READER
    altogether: int = ALTOGETHER
    within_seconds: float = WITHIN_SECONDS


class Allowance:
    """Counts the logs of the last while. It holds no more entries than may be had altogether."""

    def __init__(
        self, allowances: Allowances | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limits = allowances or Allowances()
        self._clock = clock
        self._taken: deque[tuple[float, str]] = deque()

    def take(self, reader: str) -> float:
        """Count one log of `reader`, and 0.0; or, when there have been too many, the seconds until the next one."""
        now, limits = self._clock(), self._limits
        while self._taken and now - self._taken[0][0] >= limits.within_seconds:
            self._taken.popleft()
        own = [at for at, who in self._taken if who == reader]
        waits = [
            limits.within_seconds - (now - begins[0])
            for begins, most in (
                (own, limits.per_reader),
                ([at for at, _ in self._taken], limits.altogether),
            )
            if len(begins) >= most
        ]
        if waits:
            return max(waits)
        self._taken.append((now, reader))
        return 0.0


def reader_of(connection: HTTPConnection, *, by_key: bool) -> str:
    """Who reads: the key, when it was checked, else the address. A key that nobody checks could be any."""
    key = key_of(connection, cookie=True) if by_key else None
    if key:
        return digest(key).hex()
    return connection.client.host if connection.client else ""
