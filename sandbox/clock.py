"""The sandbox's two clocks: real seconds, and the pretend seconds in which its history is written."""

from bisect import bisect_right
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """From here on, each real second is `rate` pretend seconds."""

    real: float
    pretend: float
    rate: float


class Clock:
    """Maps real time to pretend time and back.

    The backlog runs at rate 1; from `start` on, at `speed`.  So speed makes things happen more often and last
    shorter, while every timestamp stays real and never lies in the future.
    """

    def __init__(self, start: float, *, backlog_seconds: float, speed: float) -> None:
        """`start` is POSIX seconds; pretend time 0 is where the backlog begins."""
        self.start = start
        self.speed = speed
        self._stretches = [Stretch(start - backlog_seconds, 0.0, 1.0), Stretch(start, backlog_seconds, speed)]

    def pretend(self, real: float) -> float:
        """Pretend seconds at a real time not before the present stretch began."""
        last = self._stretches[-1]
        return last.pretend + max(0.0, real - last.real) * last.rate

    def real(self, pretend: float) -> float:
        """The real time at which this pretend second came, or will come at the present rate."""
        index = bisect_right(self._stretches, pretend, key=lambda stretch: stretch.pretend) - 1
        # Of stretches that begin at one pretend moment (a freeze and its end) the first saw that moment come.
        while index > 0 and self._stretches[index].pretend == pretend:
            index -= 1
        stretch = self._stretches[max(index, 0)]
        if stretch.rate == 0:
            return stretch.real
        return stretch.real + (pretend - stretch.pretend) / stretch.rate

    @property
    def frozen(self) -> bool:
        return self._stretches[-1].rate == 0

    def freeze(self, real: float) -> None:
        if not self.frozen:
            self._stretches.append(Stretch(real, self.pretend(real), 0.0))

    def unfreeze(self, real: float) -> None:
        if self.frozen and self.speed > 0:
            self._stretches.append(Stretch(real, self.pretend(real), self.speed))
