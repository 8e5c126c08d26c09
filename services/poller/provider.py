"""What a CI provider is to the poller: the protocol its adapters keep, and the values they speak in."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1
from buildlight_contracts.envelope import derive_id
from buildlight_contracts.test_results import TestCase
from services.poller.budget import Budget
from services.poller.turns import TurnsOf

Reason = Literal[
    "unauthorized", "forbidden", "not_found", "rate_limited", "server_error", "nonsense", "unreachable"
]


class PollFailedError(Exception):
    """The provider did not answer as it should; the text says for a person what happened and what to do."""

    def __init__(self, reason: Reason, detail: str, *, status: int | None = None) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail
        self.status = status


class TooLargeError(PollFailedError):
    """An answer is larger than any may be; asked again it would be no smaller."""

    def __init__(self, detail: str, *, status: int | None = None) -> None:
        super().__init__("nonsense", detail, status=status)


class LogGoneError(Exception):
    """The provider does not have the log: it expired, or the job never wrote one."""


class MustWaitError(Exception):
    """Asking now would spend what is not ours to spend; nothing is wrong."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Target:
    """What is polled at one go: a repository, a project, a folder of jobs."""

    provider: str
    instance: str
    name: str
    """In the provider's words, e.g. `acme/shop`."""

    @property
    def id(self) -> UUID:
        return derive_id("target", self.provider, self.instance, self.name)


@dataclass(frozen=True, slots=True)
class Span:
    """Builds created from `since` on, and before `until`; None has no end."""

    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unchanged:
    """The provider has nothing new since the ETag that it was given."""


@dataclass(frozen=True, slots=True)
class Gone:
    """The provider no longer has what was asked for; `status` is 404 or 410."""

    status: int


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing.

    `refused` says of each row that could not be read why not; `following` is the next page's address;
    `capped` means that the provider will not show all of the span, and a narrower one must be asked for.
    `sketched`: the rows show that a build is there, and its status and last change, but not its attempt; each one
    that changed is asked for by itself, and none is published as it stands.
    """

    builds: tuple[BuildObservedV1, ...]
    refused: tuple[str, ...] = ()
    etag: str | None = None
    following: str | None = None
    capped: bool = False
    going: frozenset[str] = frozenset()
    """Runs whose jobs may have changed though they look the same: the provider tells no time of a change."""
    sketched: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """One attempt of one build."""

    build: BuildObservedV1
    etag: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """There is something, but not what was expected; `why` is for a person."""

    why: str


@dataclass(frozen=True, slots=True)
class Jobs:
    """All jobs of one attempt."""

    jobs: tuple[JobObservedV1, ...]
    refused: tuple[str, ...] = ()


Pieces = AbstractAsyncContextManager[AsyncIterator[bytes]]
"""A body that is read as it comes."""


@dataclass(frozen=True, slots=True)
class Document:
    """Something that may hold test reports: a file, or a ZIP of files. `open` asks the provider for it."""

    source: str
    """Where it was found, for a person: an artifact's name, with a file's path where it is one file."""
    open: Callable[[], Pieces]
    size_bytes: int | None = None
    """As the provider says; None: it does not."""
    job: str | None = None
    """The name of the job that left it, where that is known."""


@dataclass(frozen=True, slots=True)
class Results:
    """Test results the provider has read itself."""

    source: str
    format: str
    cases: tuple[TestCase, ...]
    job: str | None = None
    notes: tuple[str, ...] = ()
    problem: str | None = None
    """Why they cannot be had, now or later; then there are no cases."""


@dataclass(frozen=True, slots=True)
class Done:
    """The provider did what it was asked; `detail` says so for a person."""

    detail: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The provider will not do it, and no later try will change that."""

    detail: str


@dataclass(frozen=True, slots=True)
class Counted:
    """An attempt that a provider says exists, for the comparison with the log."""

    run_id: str
    attempt: int
    created_at: datetime
    ended: bool
    """As `State.is_terminal` has it: one that waits for an approval has not ended."""
    repository_id: str | None = None
    """Of its BuildRef; None: that of whatever else is known of the target."""


class Provider(Protocol):
    """One installation of a CI provider, seen with one token.

    Every method that asks the provider raises PollFailedError when it answers badly and MustWaitError when
    it may not be asked now.
    """

    @property
    def name(self) -> str:
        """`github`, `gitlab`, `jenkins`."""
        ...

    @property
    def instance(self) -> str: ...

    @property
    def account(self) -> str:
        """Whose budget the calls spend: calls of one account are made one after the other, in turns."""
        ...

    @property
    def budget(self) -> Budget:
        """What the provider last said is left."""
        ...

    def take_turns(self, turns_of: TurnsOf) -> None:
        """From now on make each call in its account's turn, and share what is learnt of the budget."""

    def listing(self, target: Target, span: Span) -> str:
        """The address of the first page of the builds of a span."""
        ...

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page | Unchanged: ...

    async def build(
        self, target: Target, run_id: str, attempt: int | None = None, *, etag: str | None = None
    ) -> Found | Unchanged | Gone | Unreadable:
        """One attempt of a build, or its latest."""
        ...

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs | Gone:
        """The jobs of that attempt of the build."""
        ...

    def discover(self, pattern: str) -> AsyncIterator[Target]:
        """The targets behind an organisation, group or folder; `pattern` as in the settings, e.g. `acme/*`."""
        ...

    def reports(self, target: Target, build: BuildRef) -> AsyncIterator[Document | Results]:
        """Where the test results of an attempt that has ended may be; none when the provider has none (any more)."""
        ...

    def log(self, target: Target, build: BuildRef, job_id: str) -> Pieces:
        """The log of one job, as text in UTF-8.

        Raises:
            LogGoneError: the provider does not have it (any more).
        """
        ...

    def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        """The deployments that changed from `since` on, where the provider knows deployments."""
        ...

    def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        """Every attempt of every build created in `span`, as cheaply as the provider allows."""
        ...

    async def rerun(self, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused: ...

    async def cancel(self, target: Target, build: BuildRef) -> Done | Refused: ...

    async def publish_check(self, target: Target, check: PublishCheckV1) -> Done | Refused: ...

    async def close(self) -> None: ...


Providers = Mapping[tuple[str, str], Provider]
"""By name and instance."""
