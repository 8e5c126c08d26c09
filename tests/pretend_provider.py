"""A CI provider in memory that keeps the poller's protocol: what it has, and how it fails, is the test's to say."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1, Step
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1
from buildlight_contracts.states import State
from services.poller.budget import Budget
from services.poller.provider import (
    Counted,
    Document,
    Done,
    Found,
    Gone,
    Jobs,
    LogGoneError,
    Page,
    Pieces,
    Refused,
    Results,
    Span,
    Target,
)

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
TARGET = Target("github", "api.github.test", "acme/shop")

Pour = Callable[[], AsyncIterator[bytes]]


def ref(run_id: str = "100", attempt: int = 1, *, provider: str = "github") -> BuildRef:
    return BuildRef(
        provider=provider, instance=TARGET.instance, repository_id="1", run_id=run_id, attempt=attempt
    )


def a_build(build: BuildRef, state: State = State.FAILURE) -> BuildObservedV1:
    return BuildObservedV1(
        build=build, repository="acme/shop", workflow_id="7", workflow="CI", branch="main", commit_sha="c0ffee",
        raw_status="completed", raw_conclusion=state.value, state=state, created_at=NOON, started_at=NOON,
        updated_at=NOON, url=f"https://github.test/acme/shop/actions/runs/{build.run_id}",
    )  # fmt: skip


def a_job(build: BuildRef, number: int, state: State = State.FAILURE, **changes: Any) -> JobObservedV1:
    return JobObservedV1(
        **{
            "build": build, "job_id": str(number), "name": f"job {number}", "state": state, "created_at": NOON,
            "started_at": NOON, "finished_at": NOON, "observed_at": NOON,
            "steps": (Step(number=1, name="Tests", state=state),), **changes,
        }
    )  # fmt: skip


def poured(*pieces: bytes, times: int = 1) -> Pour:
    """A body of these pieces, over and over."""

    async def pour() -> AsyncIterator[bytes]:
        for _ in range(times):
            for piece in pieces:
                yield piece

    return pour


def hanging(*pieces: bytes) -> Pour:
    """A body that begins and never ends."""

    async def pour() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        await asyncio.Event().wait()

    return pour


def breaking(error: Exception, *pieces: bytes) -> Pour:
    """A body that begins and fails."""

    async def pour() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece
        raise error

    return pour


def document(source: str, pour: Pour, **more: Any) -> Document:
    @asynccontextmanager
    async def opened() -> AsyncIterator[AsyncIterator[bytes]]:
        yield pour()

    return Document(source=source, open=opened, **more)


@dataclass
class PretendProvider:
    """Raises, once each, what stands in `fails` under a method's name."""

    name: str = "github"
    instance: str = TARGET.instance
    account: str = "github/api.github.test"
    budget: Budget = field(default_factory=Budget)
    runs: dict[str, BuildObservedV1] = field(default_factory=dict)
    its_jobs: list[JobObservedV1] = field(default_factory=list)
    documents: list[Document | Results] = field(default_factory=list)
    logs: dict[str, Pour] = field(default_factory=dict)
    fails: dict[str, list[BaseException]] = field(default_factory=dict)
    answers: list[Done | Refused] = field(default_factory=list)
    effects: list[tuple[str, BuildRef]] = field(default_factory=list)
    """What it was made to do, whatever became of the answer."""
    asked: Counter[str] = field(default_factory=Counter)
    opened: int = 0
    """Logs that are being read now."""

    def _ask(self, method: str) -> None:
        self.asked[method] += 1
        if self.fails.get(method):
            raise self.fails[method].pop(0)

    def recall(self, budget: Budget) -> None:
        self.budget = budget

    def take_turns(self, turns_of: Any) -> None:
        pass

    def listing(self, target: Target, span: Span) -> str:
        raise NotImplementedError

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page:
        raise NotImplementedError

    async def build(
        self, target: Target, run_id: str, attempt: int | None = None, *, etag: str | None = None
    ) -> Found | Gone:
        self._ask("build")
        return Found(self.runs[run_id]) if run_id in self.runs else Gone(404)

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs:
        self._ask("jobs")
        return Jobs(tuple(self.its_jobs))

    async def discover(self, pattern: str) -> AsyncIterator[Target]:
        none: tuple[Target, ...] = ()
        for target in none:
            yield target

    async def reports(self, target: Target, build: BuildRef) -> AsyncIterator[Document | Results]:
        self._ask("reports")
        for found in self.documents:
            self._ask(found.source)
            yield found

    def log(self, target: Target, build: BuildRef, job_id: str) -> Pieces:
        return self._log(job_id)

    @asynccontextmanager
    async def _log(self, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        self._ask("log")
        self._ask(f"log {job_id}")
        if job_id not in self.logs:
            raise LogGoneError(f"The log of job {job_id} has expired.")
        self.opened += 1
        try:
            yield self.logs[job_id]()
        finally:
            self.opened -= 1

    async def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        none: tuple[DeploymentObservedV1, ...] = ()
        for found in none:
            yield found

    async def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        none: tuple[Counted, ...] = ()
        for found in none:
            yield found

    async def rerun(self, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused:
        return self._act("rerun_failed" if failed_only else "rerun", build)

    async def cancel(self, target: Target, build: BuildRef) -> Done | Refused:
        return self._act("cancel", build)

    async def publish_check(self, target: Target, check: PublishCheckV1) -> Done | Refused:
        return self._act("publish_check", check.build)

    def _act(self, action: str, build: BuildRef) -> Done | Refused:
        self._ask(f"before {action}")
        answer = (
            self.answers.pop(0) if self.answers else Done(f"{action}: it is done.", "https://github.test/1")
        )
        if isinstance(answer, Done):
            self.effects.append((action, build))
        self._ask(f"after {action}")
        return answer

    async def close(self) -> None:
        pass
