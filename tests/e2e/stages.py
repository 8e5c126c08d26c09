"""A provider as the tests of collecting use it: runs that come, go on, are run again; and what it serves at last.

Each stage speaks to one provider of the sandbox. What is common to all is that a run has attempts, and each
attempt ends; another provider is another class here and another name in `STAGES`.
"""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tests.e2e.company import Company

WEBHOOK_SECRET = "a secret of the stage"
CONCLUSIONS = ("success", "success", "success", "failure", "cancelled")


@dataclass(frozen=True, slots=True)
class Served:
    """An attempt that the provider can show, or says there was."""

    run_id: str
    attempt: int
    ended: bool
    is_readable: bool = True
    """False: the run's number of attempts counts it, and asked for alone it is not there."""


class ProviderStage(Protocol):
    """One provider with some targets."""

    name: str
    targets: tuple[str, ...]

    async def begin(self, target: str, *, created: datetime | None = None) -> int:
        """A new run, queued; its id."""
        ...

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> int:
        """A run that ended before anybody watched; of its attempts only the last can still be read."""
        ...

    async def start(self, run: int) -> None: ...

    async def end(self, run: int) -> None: ...

    async def again(self, run: int) -> None:
        """Run it again: the next attempt, queued."""
        ...

    async def fail(self, dice: random.Random) -> str:
        """Break it for a short while in one of its ways; which."""
        ...

    async def mend(self) -> None: ...

    async def hook(self, door: str) -> bool:
        """Have its webhooks sent to the poller's address `door`, badly; False when it sends none."""
        ...

    async def unhook(self) -> None: ...

    async def told(self) -> Counter[str]:
        """What became of the webhooks."""
        ...

    async def served(self) -> set[Served]: ...


class GitHubStage:
    """GitHub Actions on the sandbox."""

    name: str = "github"
    targets: tuple[str, ...] = ("acme/busy", "acme/calm")

    def __init__(self, company: Company, *, dice: random.Random) -> None:
        self._company = company
        self._dice = dice
        self._first_readable: dict[int, int] = {}

    async def begin(self, target: str, *, created: datetime | None = None) -> int:
        return await self._company.run(target, **_at(created))

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> int:
        run = await self._company.ended(
            target, self._dice.choice(CONCLUSIONS), run_attempt=attempts, **_at(created)
        )
        self._first_readable[run] = attempts
        return run

    async def start(self, run: int) -> None:
        await self._company.advance(run, status="in_progress")

    async def end(self, run: int) -> None:
        await self._company.advance(run, status="completed", conclusion=self._dice.choice(CONCLUSIONS))

    async def again(self, run: int) -> None:
        await self._company.advance(run, new_attempt=True)

    async def fail(self, dice: random.Random) -> str:
        fault: dict[str, Any] = dice.choice(
            (
                {"kind": "status", "status": 502, "times": 8},
                {"kind": "status", "status": 500, "times": 6, "path": r"/jobs"},
                {"kind": "status", "status": 503, "times": 4, "after": True},
                {"kind": "nonsense", "times": 3},
                {"kind": "hang", "seconds": 3, "times": 2},
                {"kind": "secondary_limit", "status": 429, "seconds": 2, "times": 1},
                {"kind": "secondary_limit", "status": 403, "seconds": 1, "times": 2},
                {"kind": "rate_limit", "seconds": 2, "times": 1},
            )
        )
        await self._company.fault("github", **fault)
        return " ".join(str(value) for value in fault.values())

    async def mend(self) -> None:
        await self._company.repair("github")

    async def hook(self, door: str) -> bool:
        return await self._company.hook(
            "github",
            f"{door}/webhooks/github",
            secret=WEBHOOK_SECRET,
            twice=0.2,
            late=0.2,
            late_seconds=4,
            out_of_order=0.3,
            dropped=0.2,
        )

    async def unhook(self) -> None:
        await self._company.unhook()

    async def told(self) -> Counter[str]:
        return sum((Counter(hook["counts"]) for hook in await self._company.hooks()), Counter())

    async def served(self) -> set[Served]:
        rows = await self._company.control("GET", "/github/served")
        found = {Served(str(run), attempt, status == "completed") for run, attempt, status, _ in rows}
        unreadable = {
            Served(str(run), attempt, ended=True, is_readable=False)
            for run, first in self._first_readable.items()
            for attempt in range(1, first)
        }
        return found | unreadable


STAGES: tuple[type[GitHubStage], ...] = (GitHubStage,)


def back(dice: random.Random, least: timedelta, most: timedelta) -> datetime:
    """A moment so long ago."""
    ago = dice.uniform(least.total_seconds(), most.total_seconds())
    return datetime.now(UTC) - timedelta(seconds=ago)


def _at(created: datetime | None) -> dict[str, str]:
    return {"created_at": created.isoformat(timespec="seconds")} if created else {}
