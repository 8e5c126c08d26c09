"""How Jenkins names jobs and builds, and how we name its builds. Pure.

A job's full name is `folder/project/branch`. A multibranch project's branch is one part of it, with Jenkins'
own escapes: the branch `feature/x` is the part `feature%2Fx`, and in an address `feature%252Fx`.
"""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from urllib.parse import quote, unquote, urlsplit

_RUN_ID = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?")
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Run:
    """A build of a job. A job that is deleted and made again counts from 1 again: the time tells them apart."""

    number: int
    timestamp_ms: int | None
    """None: whichever build has that number now."""


def run_id_of(number: int, timestamp_ms: int) -> str:
    """`7@1772442000000`: the same whoever sees the build, and never that of another build."""
    return f"{number}@{timestamp_ms}"


def run_of(run_id: str) -> Run | None:
    """The build behind a run's id, or behind a bare number; None for what is neither."""
    found = _RUN_ID.fullmatch(run_id)
    if found is None:
        return None
    number, timestamp = found.groups()
    return Run(int(number), int(timestamp) if timestamp else None)


def path_of(full_name: str) -> str:
    """The path of a job or folder, as in `/job/acme/job/shop/job/feature%252Fx`; Jenkins itself is ``""``."""
    return "".join(f"/job/{quote(part, safe='')}" for part in full_name.split("/") if part)


def name_in(address: str) -> str | None:
    """The full name of the job in an address of it or of one of its builds; None when there is none."""
    parts = [part for part in urlsplit(address).path.split("/") if part]
    if "job" not in parts:
        return None
    parts = parts[parts.index("job") :]
    names = []
    while len(parts) > 1 and parts[0] == "job":
        names.append(unquote(parts[1]))
        parts = parts[2:]
    return "/".join(names) or None


def combination_in(address: str, number: int) -> str | None:
    """What stands between a job and a build's number, in a matrix: `AXIS=a,OTHER=b`; else None."""
    parts = [part for part in urlsplit(address).path.split("/") if part]
    if len(parts) < 4 or parts[-1] != str(number) or parts[-3] == "job" or not _NUMBER.fullmatch(parts[-1]):
        return None
    return unquote(parts[-2])


def leaf(full_name: str) -> str:
    """The last part of a full name, without Jenkins' escapes: a branch's or a job's own name."""
    return unquote(full_name.rsplit("/", 1)[-1])


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which jobs are meant: `acme/shop`, `acme/*` (one level), `acme/**` (all below), `*/nightly-*`."""

    parts: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> "Pattern":
        return cls(tuple(part for part in text.strip().split("/") if part))

    @property
    def root(self) -> str:
        """The folder, by full name, under which all that is meant is; for a plain name, what is above it."""
        fixed: list[str] = []
        for part in self.parts[:-1]:
            if any(sign in part for sign in "*?["):
                break
            fixed.append(part)
        return "/".join(fixed)

    def fits(self, full_name: str) -> bool:
        return _fits(self.parts, tuple(full_name.split("/")))

    def leads_past(self, full_name: str) -> bool:
        """Whether something below this folder may fit."""
        return _leads(self.parts, tuple(full_name.split("/")))


def _fits(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(pattern[1:], parts[taken:]) for taken in range(1, len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(pattern[1:], parts[1:])


def _leads(pattern: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    if not pattern:
        return False
    if pattern[0] == "**" or not parts:
        return True
    return fnmatchcase(parts[0], pattern[0]) and _leads(pattern[1:], parts[1:])
