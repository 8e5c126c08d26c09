"""What a webhook told."""

from dataclasses import dataclass

from buildlight_contracts.envelope import Fact


@dataclass(frozen=True, slots=True)
class Seen:
    """What a webhook told: facts it carries whole, builds to look at, or why it is of no use.

    `refresh` has pairs of a target's name and a run's id; `ignored` is for a person, and None when it was used.
    """

    facts: tuple[Fact, ...] = ()
    refresh: tuple[tuple[str, str], ...] = ()
    ignored: str | None = None
