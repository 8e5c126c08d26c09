"""Reads a tar as it streams by."""

import tarfile
from collections.abc import AsyncIterator

from reports.errors import UnreadableError
from reports.stream import Budget, Source, TruncatedError

BLOCK = 512
_LONGEST_NAME_RECORD = 65_536


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes are a tar's."""
    return head[257:262] == b"ustar"


class TarEntry:
    """A file in the archive: iterate over its bytes before asking for the next entry."""

    problem: str | None = None

    def __init__(self, name: str, size: int, source: Source, budget: Budget) -> None:
        self.name = name
        self._pieces = self._read(size, source, budget)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def skip(self) -> None:
        """Go past what has not been read of it."""
        async for _ in self._pieces:
            pass

    @staticmethod
    async def _read(size: int, source: Source, budget: Budget) -> AsyncIterator[bytes]:
        left = size
        while left:
            data = await source.some()
            if not data:
                raise TruncatedError
            if len(data) > left:
                source.unread(len(data) - left)
                data = data[:left]
            left -= len(data)
            budget.came_out(len(data), size - left)
            yield data
        await source.exactly(-size % BLOCK)


async def tar_entries(source: Source, budget: Budget) -> AsyncIterator[TarEntry]:
    """The regular files of a tar (POSIX or GNU), in its order. Links, devices and holes are passed over.

    Raises:
        UnreadableError: damaged, cut off or beyond its limits.
    """
    longer: dict[str, str] = {}  # what records before an entry say of it
    while True:
        block = await source.exactly(BLOCK)
        if not block.strip(b"\0"):
            while await source.some():
                pass
            return
        try:
            header = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        except tarfile.HeaderError as error:
            raise UnreadableError(f"it is damaged: {error}") from None
        if header.size < 0:
            raise UnreadableError("it is damaged: an entry of less than nothing")
        if header.type in (
            tarfile.XHDTYPE,
            tarfile.GNUTYPE_LONGNAME,
            tarfile.XGLTYPE,
            tarfile.GNUTYPE_LONGLINK,
        ):
            record = await _record(source, header.size)
            if header.type == tarfile.XHDTYPE:
                longer |= _pax(record)
            elif header.type == tarfile.GNUTYPE_LONGNAME:
                longer["path"] = record.rstrip(b"\0").decode("utf-8", "replace")
            continue
        budget.entry()
        size = int(longer["size"]) if longer.get("size", "").isdigit() else header.size
        entry = TarEntry(longer.get("path", header.name), size, source, budget)
        longer = {}
        if header.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            yield entry
        await entry.skip()


async def _record(source: Source, size: int) -> bytes:
    if size > _LONGEST_NAME_RECORD:
        raise UnreadableError(f"a record of {size:,} bytes before an entry: it is damaged")
    record = await source.exactly(size)
    await source.exactly(-size % BLOCK)
    return record


def _pax(record: bytes) -> dict[str, str]:
    """Lines such as `30 path=a/long/name` as names and values."""
    values = {}
    while record:
        length, space, _ = record.partition(b" ")
        if not space or not length.isdigit() or not 0 < int(length) <= len(record):
            break
        name, _, value = record[len(length) + 1 : int(length)].partition(b"=")
        values[name.decode("utf-8", "replace")] = value.rstrip(b"\n").decode("utf-8", "replace")
        record = record[int(length) :]
    return values
