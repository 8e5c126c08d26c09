"""What is polled: the targets that the settings name, and those that their patterns find. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from services.poller.provider import Target


@dataclass(frozen=True, slots=True)
class Pattern:
    """Stands for targets of one provider: `acme/*`."""

    provider: str
    instance: str
    text: str

    def matches(self, target: Target) -> bool:
        """By name, whatever the case: no two targets differ in that alone; and what lies below a name fits it, too."""
        if (self.provider, self.instance) != (target.provider, target.instance):
            return False
        name, text = target.name.lower(), self.text.lower()
        return fnmatchcase(name, text) or fnmatchcase(name, f"{text}/*")


@dataclass(frozen=True, slots=True)
class Watch:
    """What the settings say is to be polled."""

    targets: tuple[Target, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    excluded: tuple[Pattern, ...] = ()
    """Left out of what the patterns find; a target that is named is polled."""

    def __bool__(self) -> bool:
        """Whether anything is polled."""
        return bool(self.targets or self.patterns)

    def __add__(self, other: "Watch") -> "Watch":
        return Watch(
            self.targets + other.targets, self.patterns + other.patterns, self.excluded + other.excluded
        )

    def admits(self, target: Target) -> bool:
        """Whether a pattern may bring in this target."""
        return not any(pattern.matches(target) for pattern in self.excluded)

    def found(self, discovered: Iterable[tuple[Target, str]]) -> tuple[Target, ...]:
        """All that is polled, given what was discovered and by which pattern."""
        patterns = {(p.provider, p.instance, p.text) for p in self.patterns}
        named = set(self.targets)
        more = (
            target
            for target, by in discovered
            if target not in named
            and (target.provider, target.instance, by) in patterns
            and self.admits(target)
        )
        return (*self.targets, *more)

    def wants(self, target: Target, *, discovered_by: str | None, vanished: bool) -> bool:
        """Whether this one is polled."""
        if target in self.targets:
            return True
        return discovered_by is not None and not vanished and target in self.found([(target, discovered_by)])


def is_pattern(name: str) -> bool:
    return "*" in name or "?" in name
