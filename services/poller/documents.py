"""Reading what may hold test reports, and publishing what it says."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from services.poller.provider import Document, Results

Record = Callable[[Fact], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DocumentLimits:
    """How long one document may take."""

    most_seconds: float = 600.0


@dataclass(frozen=True, slots=True)
class Told:
    """What a document came to."""

    reports: int = 0
    cases: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    """Of what should be a report and cannot be read: where it is, and why not."""

    @property
    def refused(self) -> int:
        return len(self.unreadable)


async def read_document(
    found: Document, command: CollectReportsV1, record: Record, limits: DocumentLimits
) -> Told:
    return Told()


async def read_results(found: Results, command: CollectReportsV1, record: Record) -> Told:
    return Told()
