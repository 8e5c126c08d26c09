"""How long things took, from what the provider tells."""

from datetime import datetime

from buildlight_contracts.states import State


def duration_seconds(state: State, started: datetime | None, finished: datetime | None) -> float | None:
    """From start to end; None before the end, or when the provider does not tell."""
    return seconds_between(started, finished) if state.is_terminal else None


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Never negative: one provider's clocks disagree by a second now and then."""
    return None if start is None or end is None else max(0.0, (end - start).total_seconds())
