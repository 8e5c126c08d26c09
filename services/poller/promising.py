"""By which names what a build leaves behind may hold test reports: nothing else tells before it is downloaded. Pure."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

REPORT_NAMES = (
    "*test*",
    "*junit*",
    "*report*",
    "*result*",
    "*surefire*",
    "*failsafe*",
    "*spec*",
    "*trx*",
)
"""Patterns, in any case, for names that people give what has test reports."""


def is_promising(names: Iterable[str], patterns: Sequence[str] = REPORT_NAMES) -> bool:
    """Whether one of the names fits one of the patterns, in any case."""
    wanted = [pattern.lower() for pattern in patterns]
    return any(fnmatchcase(name.lower(), pattern) for name in names for pattern in wanted)
