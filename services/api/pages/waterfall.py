"""Jobs and steps on one time scale, a thousand units wide. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

WIDTH = 1000
_LEAST = 3
"""So that what took no time is still seen."""


@dataclass(frozen=True)
class Bar:
    """A stretch of the scale; None where a time is missing."""

    x: float
    width: float
    queued_x: float
    queued_width: float


@dataclass(frozen=True)
class Scale:
    begin: datetime
    seconds: float

    def place(self, moment: datetime) -> float:
        share = (moment - self.begin).total_seconds() / self.seconds
        return round(min(1.0, max(0.0, share)) * WIDTH, 1)

    def bar(self, thing: dict[str, Any], now: datetime) -> Bar | None:
        """Where a job or step ran, and where it waited before; what has not ended runs until `now`."""
        started, created = _time(thing.get("started_at")), _time(thing.get("created_at"))
        if started is None:
            if created is None or thing["state"] not in {"queued", "waiting", "action_required"}:
                return None
            return Bar(WIDTH, 0, self.place(created), WIDTH - self.place(created))
        left = self.place(started)
        width = max(_LEAST, self.place(_time(thing.get("finished_at")) or max(started, now)) - left)
        left = min(left, WIDTH - width)
        queued = self.place(created) if created and created < started else left
        return Bar(left, round(width, 1), queued, round(max(0.0, left - queued), 1))


def scale_of(jobs: list[dict[str, Any]], now: datetime) -> Scale | None:
    """The scale on which every job fits; None when none has a time."""
    times = [
        time
        for job in jobs
        for key in ("created_at", "started_at", "finished_at")
        if (time := _time(job.get(key))) is not None
    ]
    if not times:
        return None
    if any(job.get("finished_at") is None and job["state"] in {"running", "queued"} for job in jobs):
        times.append(max(now, *times))
    return Scale(min(times), max((max(times) - min(times)) / timedelta(seconds=1), 1.0))


def ticks(scale: Scale) -> list[float]:
    """Five moments along the scale, in seconds from its beginning."""
    return [scale.seconds * quarter / 4 for quarter in range(5)]


def seconds_of(thing: dict[str, Any], now: datetime) -> float | None:
    """How long a job or step took, or has taken so far."""
    started, finished = _time(thing.get("started_at")), _time(thing.get("finished_at"))
    if started is None or (finished is None and thing["state"] != "running"):
        return None
    return max(0.0, ((finished or now) - started).total_seconds())


def _time(value: Any) -> datetime | None:
    return datetime.fromisoformat(value) if isinstance(value, str) else value
