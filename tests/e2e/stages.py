"""A provider as the tests of collecting use it: runs that come, go on, are run again; and what it serves at last.

Each stage speaks to one provider of the sandbox. What is common to all is that a run has attempts, and each
attempt ends; another provider is another class here and another name in `STAGES`.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tests.e2e.company import Company

WEBHOOK_SECRET = "a secret of the stage"
BADLY = {
    "twice": 0.2,
    "late": 0.2,
    "late_seconds": 4,
    "out_of_order": 0.3,
    "dropped": 0.2,
}
"""How webhooks come."""
PERSON_SECONDS = 3.0
"""Nobody retries a job sooner after its end; GitLab itself does so at once."""
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
    settings: Mapping[str, str]
    """What the services are told of it, beside where its servers are."""
    keeps_runs: bool
    """Run again, a run keeps its id and its creation and gets another attempt; else it is a new run."""
    forgets_attempts: bool
    """There are runs whose earlier attempts are counted and cannot be read."""
    counts_attempts: bool
    """A census tells every attempt; else a run counts as its first."""

    async def begin(self, target: str) -> str:
        """A new run; what it is called from here on."""
        ...

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> str:
        """A run that ended before anybody watched; a provider that forgets attempts has but the last of them."""
        ...

    async def start(self, run: str) -> None: ...

    async def end(self, run: str) -> None: ...

    async def again(self, run: str) -> str:
        """Run it again: the next attempt, or the run that it became."""
        ...

    async def fail(self, dice: random.Random) -> str:
        """Break it for a short while in one of its ways; which."""
        ...

    async def mend(self) -> None: ...

    async def hook(self, door: str) -> bool:
        """Have its webhooks sent to the poller's address `door`, badly; False when it sends none."""
        ...

    async def hook_again(self) -> None:
        """As whoever runs the provider does, once it has paused a hook whose receiver was away."""
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
    settings: Mapping[str, str] = {"GITHUB_REPOS": ",".join(targets), "GITHUB_WEBHOOK_SECRET": WEBHOOK_SECRET}
    keeps_runs: bool = True
    forgets_attempts: bool = True
    counts_attempts: bool = True

    def __init__(self, company: Company, *, dice: random.Random) -> None:
        self._company = company
        self._dice = dice
        self._first_readable: dict[str, int] = {}

    async def begin(self, target: str) -> str:
        return str(await self._company.run(target))

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> str:
        made = await self._company.ended(
            target,
            self._dice.choice(CONCLUSIONS),
            run_attempt=attempts,
            created_at=created.isoformat(timespec="seconds"),
        )
        self._first_readable[str(made)] = attempts
        return str(made)

    async def start(self, run: str) -> None:
        await self._company.advance(int(run), status="in_progress")

    async def end(self, run: str) -> None:
        await self._company.advance(int(run), status="completed", conclusion=self._dice.choice(CONCLUSIONS))

    async def again(self, run: str) -> str:
        await self._company.advance(int(run), new_attempt=True)
        return run

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
        return await self._company.hook(self.name, f"{door}/webhooks/github", secret=WEBHOOK_SECRET, **BADLY)

    async def hook_again(self) -> None:
        """It pauses none."""

    async def unhook(self) -> None:
        await self._company.unhook()

    async def told(self) -> Counter[str]:
        return await told_of(self._company, self.name)

    async def served(self) -> set[Served]:
        rows = await self._company.control("GET", "/github/served")
        found = {Served(str(run), attempt, status == "completed") for run, attempt, status, _ in rows}
        unreadable = {
            Served(run, attempt, ended=True, is_readable=False)
            for run, first in self._first_readable.items()
            for attempt in range(1, first)
        }
        return found | unreadable


class JenkinsStage:
    """Jenkins on the sandbox: a build that is run again is another build."""

    name: str = "jenkins"
    targets: tuple[str, ...] = ("busy-job", "calm-job")
    settings: Mapping[str, str] = {
        "ENABLE_JENKINS": "true",
        "JENKINS_JOBS": ",".join(targets),
        "BUILDLIGHT_JENKINS_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    keeps_runs: bool = False
    forgets_attempts: bool = False
    counts_attempts: bool = True

    def __init__(self, company: Company, *, dice: random.Random) -> None:
        self._company = company
        self._dice = dice
        self._newest: dict[str, datetime] = {}

    async def begin(self, target: str) -> str:
        return await self._build(target, building=True)

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> str:
        del attempts
        # Builds are numbered in the order of their times.
        self._newest[target] = created = max(created, self._newest.get(target, created)) + timedelta(
            seconds=1
        )
        return await self._build(
            target, building=False, result=self._result(), duration=1000, timestamp=created.isoformat()
        )

    async def start(self, run: str) -> None:
        """It began with being there."""

    async def end(self, run: str) -> None:
        job, _, number = run.rpartition("#")
        await self._company.control(
            "PATCH",
            "/jenkins/builds",
            params={"job": job, "number": number},
            json={"building": False, "result": self._result()},
        )

    async def again(self, run: str) -> str:
        return await self.begin(run.rpartition("#")[0])

    async def fail(self, dice: random.Random) -> str:
        fault: dict[str, Any] = dice.choice(
            (
                {"kind": "status", "status": 502, "times": 4},
                {"kind": "status", "status": 503, "times": 2, "after": True},
                {"kind": "nonsense", "times": 2},
                {"kind": "hang", "seconds": 3, "times": 2},
                {"kind": "rate_limit", "seconds": 1, "times": 1},
            )
        )
        await self._company.fault("jenkins", **fault)
        return " ".join(str(value) for value in fault.values())

    async def mend(self) -> None:
        await self._company.repair("jenkins")

    async def hook(self, door: str) -> bool:
        return await self._company.hook(self.name, f"{door}/webhooks/jenkins", secret=WEBHOOK_SECRET, **BADLY)

    async def hook_again(self) -> None:
        """It pauses none."""

    async def unhook(self) -> None:
        await self._company.unhook()

    async def told(self) -> Counter[str]:
        return await told_of(self._company, self.name)

    async def served(self) -> set[Served]:
        rows = await self._company.control("GET", "/jenkins/served")
        return {
            Served(f"{number}@{timestamp}", 1, ended=not building)
            for job, number, timestamp, building, _ in rows
            if job in self.targets
        }

    async def _build(self, job: str, **script: Any) -> str:
        made = await self._company.control("POST", "/jenkins/builds", json={"job": job, **script})
        return f"{job}#{made['number']}"

    def _result(self) -> str:
        return self._dice.choice(("SUCCESS", "SUCCESS", "FAILURE", "ABORTED"))


class GitLabStage:
    """GitLab CI on the sandbox: a job that is retried makes the next attempt of its pipeline."""

    name: str = "gitlab"
    targets: tuple[str, ...] = ("acme/lively", "acme/quiet")
    settings: Mapping[str, str] = {
        "GITLAB_PROJECTS": ",".join(targets),
        "GITLAB_WEBHOOK_SECRET": WEBHOOK_SECRET,
    }
    keeps_runs: bool = True
    forgets_attempts: bool = False
    counts_attempts: bool = False

    def __init__(self, company: Company, *, dice: random.Random) -> None:
        self._company = company
        self._dice = dice
        self._door = ""
        self._ended: dict[str, float] = {}

    async def begin(self, target: str) -> str:
        return await self._pipeline(target, "pending", "pending")

    async def had(self, target: str, *, created: datetime, attempts: int = 1) -> str:
        result = self._result()
        run = await self._pipeline(target, result, result, created_at=created.isoformat())
        for number in range(1, attempts):
            began, result = created + number * timedelta(minutes=5), self._result()
            await self._move(
                run,
                result,
                retry=["test"],
                retried_at=began.isoformat(),
                updated_at=(began + timedelta(minutes=1)).isoformat(),
            )
        return run

    async def start(self, run: str) -> None:
        await self._move(run, "running")

    async def end(self, run: str) -> None:
        await self._move(run, self._result())
        self._ended[run] = time.monotonic()

    async def again(self, run: str) -> str:
        """By a person: what is retried as soon as it ends is taken for GitLab's own retry, in a run that goes on."""
        await asyncio.sleep(self._ended.get(run, 0.0) + PERSON_SECONDS - time.monotonic())
        await self._company.control("PATCH", f"/gitlab/pipelines/{run}", json={"retry": ["test"]})
        return run

    async def fail(self, dice: random.Random) -> str:
        fault: dict[str, Any] = dice.choice(
            (
                {"kind": "status", "status": 502, "times": 6},
                {"kind": "status", "status": 500, "times": 4, "path": r"/jobs"},
                {"kind": "status", "status": 500, "times": 4, "path": r"/bridges"},
                {"kind": "status", "status": 503, "times": 3, "after": True},
                {"kind": "nonsense", "times": 3},
                {"kind": "hang", "seconds": 3, "times": 2},
                {"kind": "rate_limit", "seconds": 1, "times": 1},
            )
        )
        await self._company.fault("gitlab", **fault)
        return " ".join(str(value) for value in fault.values())

    async def mend(self) -> None:
        await self._company.repair("gitlab")

    async def hook(self, door: str) -> bool:
        self._door = door
        return await self._company.hook(self.name, f"{door}/webhooks/gitlab", secret=WEBHOOK_SECRET, **BADLY)

    async def hook_again(self) -> None:
        now = time.time()
        hooks = [hook for hook in await self._company.hooks() if hook["provider"] == self.name]
        if hooks and all(hook["paused_until"] > now for hook in hooks):
            await self.hook(self._door)

    async def unhook(self) -> None:
        await self._company.unhook()

    async def told(self) -> Counter[str]:
        return await told_of(self._company, self.name)

    async def served(self) -> set[Served]:
        rows = await self._company.control("GET", "/gitlab/served")
        return {
            Served(str(run), attempt, ended=attempt < attempts or status in ("success", "failed", "canceled"))
            for project, run, status, attempts in rows
            if project in self.targets
            for attempt in range(1, attempts + 1)
        }

    async def _pipeline(self, project: str, status: str, test: str, **script: Any) -> str:
        """With two jobs: one has passed, and one can be retried."""
        jobs = [
            {"name": "build", "stage": "build", "status": "success"},
            {"name": "test", "status": test},
        ]
        made = await self._company.control(
            "POST", "/gitlab/pipelines", json={"project": project, "status": status, "jobs": jobs} | script
        )
        return str(made["id"])

    async def _move(self, run: str, status: str, **change: Any) -> None:
        """The pipeline and its test."""
        change |= {"status": status, "jobs": [{"name": "test", "status": status}]}
        await self._company.control("PATCH", f"/gitlab/pipelines/{run}", json=change)

    def _result(self) -> str:
        return self._dice.choice(("success", "success", "failed", "failed", "canceled"))


STAGES: tuple[type[GitHubStage] | type[JenkinsStage] | type[GitLabStage], ...] = (
    GitHubStage,
    JenkinsStage,
    GitLabStage,
)


async def told_of(company: Company, provider: str) -> Counter[str]:
    """What became of a provider's webhooks."""
    return sum(
        (Counter(hook["counts"]) for hook in await company.hooks() if hook["provider"] == provider), Counter()
    )


def back(dice: random.Random, least: timedelta, most: timedelta) -> datetime:
    """A moment so long ago."""
    ago = dice.uniform(least.total_seconds(), most.total_seconds())
    return datetime.now(UTC) - timedelta(seconds=ago)
