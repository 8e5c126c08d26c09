"""GitHub's primary rate limit: so many requests an hour for each token."""

import time
from dataclasses import dataclass, field

HOUR = 3600.0


@dataclass(slots=True)
class Budget:
    """A fixed window that begins with the first request in it."""

    limit: int = 5000
    used: int = 0
    reset: float = field(default=0.0)

    def roll(self) -> None:
        """Begin a new window when the last one is over."""
        if time.time() >= self.reset:
            self.used, self.reset = 0, time.time() + HOUR

    @property
    def exhausted(self) -> bool:
        self.roll()
        return self.used >= self.limit

    def spend(self) -> None:
        self.roll()
        self.used += 1

    def figures(self) -> dict[str, int]:
        """A `rate-limit`."""
        self.roll()
        return {
            "limit": self.limit,
            "used": self.used,
            "remaining": max(0, self.limit - self.used),
            "reset": int(self.reset),
        }

    def headers(self) -> dict[str, str]:
        figures = {f"x-ratelimit-{name}": str(value) for name, value in self.figures().items()}
        return figures | {"x-ratelimit-resource": "core"}
