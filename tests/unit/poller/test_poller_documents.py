"""What of a document is read at all."""

from buildlight_contracts.envelope import Fact
from services.poller.documents import DocumentLimits, read_document
from services.poller.provider import Document, Pieces
from tests.station_stage import collect


async def test_what_is_too_large_is_not_downloaded() -> None:
    """The provider says how large it is; the note says what was left out."""
    opened: list[str] = []
    recorded: list[Fact] = []

    def download() -> Pieces:
        opened.append("test-results")
        raise AssertionError

    async def record(fact: Fact) -> None:
        recorded.append(fact)

    found = Document("test-results", download, size_bytes=1001)
    told = await read_document(found, collect(), record, DocumentLimits(most_bytes=1000))
    assert (told.note, opened, recorded) == (
        "test-results was not read: it has 1,001 bytes, more than 1,000",
        [],
        [],
    )
