"""What a CI provider is to the poller: the protocol its adapters keep, and the values they speak in."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol
from uuid import UUID

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.envelope import derive_id
from services.poller.budget import Budget

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
    """

    builds: tuple[BuildObservedV1, ...]
    refused: tuple[str, ...] = ()
    etag: str | None = None
    following: str | None = None
    capped: bool = False


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
        """Whose budget the calls spend: calls of one account are made one after the other."""
        ...

    @property
    def budget(self) -> Budget:
        """What the provider last said is left."""
        ...

    def recall(self, budget: Budget) -> None:
        """Go on from what another process has learnt of the budget."""

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

    async def close(self) -> None: ...


Providers = Mapping[tuple[str, str], Provider]
"""By name and instance."""
