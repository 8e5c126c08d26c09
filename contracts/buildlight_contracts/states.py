"""The states of a build or job, one vocabulary over all providers.

A provider's own status and conclusion always travel beside it, unchanged.
"""

from enum import StrEnum


class State(StrEnum):
    QUEUED = "queued"
    WAITING = "waiting"
    ACTION_REQUIRED = "action_required"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    TIMED_OUT = "timed_out"
    STARTUP_FAILURE = "startup_failure"
    NEUTRAL = "neutral"
    STALE = "stale"
    UNKNOWN = "unknown"

    @property
    def is_terminal(self) -> bool:
        """True when the attempt has ended; `waiting`, `action_required` and `unknown` are not ends."""
        return self in _TERMINAL

    @property
    def is_conclusive(self) -> bool:
        """True when the end says whether the code is good: a cancelled or skipped build says nothing."""
        return self in _CONCLUSIVE

    @property
    def is_bad(self) -> bool:
        """True for the conclusive ends that are not success."""
        return self.is_conclusive and self is not State.SUCCESS

    @property
    def rank(self) -> int:
        """Order within one attempt when the provider's times tie: later stages rank higher."""
        return _RANK[self]


_CONCLUSIVE = frozenset({State.SUCCESS, State.FAILURE, State.TIMED_OUT, State.STARTUP_FAILURE})
_TERMINAL = _CONCLUSIVE | {State.CANCELLED, State.SKIPPED, State.NEUTRAL, State.STALE}
_RANK = {
    State.UNKNOWN: 0,
    State.QUEUED: 1,
    State.WAITING: 2,
    State.ACTION_REQUIRED: 3,
    State.RUNNING: 4,
    **dict.fromkeys(_TERMINAL, 5),
}
