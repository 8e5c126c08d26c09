"""Checking what the settings say of providers: addresses, and names of targets. Pure."""

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from services.poller.provider import Target
from services.poller.targets import Pattern, Watch, is_pattern

_SEGMENT = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_. -]*")
_WILD_SEGMENT = re.compile(r"[A-Za-z0-9_.*?-][A-Za-z0-9_.*? -]*")


def address(value: str, *, example: str) -> str:
    """`value` without a slash at its end.

    Raises:
        ValueError: it is no web address.
    """
    try:
        parts = urlsplit(value)
        fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"write the whole address, such as {example}")
    return value.rstrip("/")


def host_of(url: str, otherwise: str) -> str:
    return urlsplit(url).hostname or otherwise


def paths(values: Sequence[str], *, least: int, wild_owner: bool, what: str) -> tuple[str, ...]:
    """Names in parts with a slash between, the same one once, whatever its case.

    Args:
        values: e.g. `acme/shop`, or with `*` and `?` a pattern, `acme/*`.
        least: how many parts a name has at least.
        wild_owner: whether the first part may be a pattern, too.
        what: one is, for the error.

    Raises:
        ValueError: one is no such name.
    """
    once: dict[str, str] = {}
    for value in values:
        parts = value.split("/")
        fits = len(parts) >= least and all(_fits(part) for part in parts)
        if not fits or (is_pattern(parts[0]) and not wild_owner):
            raise ValueError(f"{value!r} is no {what}, separated by commas")
        once.setdefault(value.lower(), value)
    return tuple(once.values())


def _fits(part: str) -> bool:
    return (
        part not in (".", "..")
        and (_WILD_SEGMENT if is_pattern(part) else _SEGMENT).fullmatch(part) is not None
    )


def watch(provider: str, instance: str, names: Sequence[str], excluded: Sequence[str]) -> Watch:
    """What is polled, given the names and patterns of one provider's settings."""
    return Watch(
        targets=tuple(Target(provider, instance, name) for name in names if not is_pattern(name)),
        patterns=tuple(Pattern(provider, instance, name) for name in names if is_pattern(name)),
        excluded=tuple(Pattern(provider, instance, name) for name in excluded),
    )
