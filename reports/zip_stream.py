"""Reads a ZIP as it streams by, by its local headers; then compares them with its directory.

Every byte is read once, so overlapping entries cannot multiply; an archive that means to show one thing to those
who read its directory and another to those who stream it is refused. Why not a library: docs/adr/0017.
"""

import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from reports.errors import UnreadableError
from reports.stream import PIECE, Budget, Source, TruncatedError, inflated

LOCAL = b"PK\x03\x04"
EMPTY = b"PK\x05\x06"
_DIRECTORY = b"PK\x01\x02"
_SPANNED = b"PK00"
_DESCRIPTOR = b"PK\x07\x08"
_AFTER_DIRECTORY = frozenset({b"PK\x05\x06", b"PK\x06\x06", b"PK\x05\x05", b"PK\x06\x07"})
_LOCAL_FIELDS = struct.Struct("<HHHHHIIIHH")
_DIRECTORY_FIELDS = struct.Struct("<HHHHHHIIIHHHHHII")
_UNKNOWN = 0xFFFFFFFF
_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_PATCHED = 0x0020
_HAS_DESCRIPTOR = 0x0008
_IS_UTF8 = 0x0800
_STORED, _DEFLATED = 0, 8
_LONGEST_DESCRIPTOR = 24 + 2  # and the beginning of what follows it


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    flags: int
    method: int
    crc: int
    compressed: int
    size: int

    @property
    def has_descriptor(self) -> bool:
        """Whether size and checksum follow the data."""
        return bool(self.flags & _HAS_DESCRIPTOR)

    @property
    def is_sized(self) -> bool:
        """Whether the size is here: some who write a descriptor write it here as well."""
        return not self.has_descriptor or self.compressed > 0

    @property
    def problem(self) -> str | None:
        if self.flags & _ENCRYPTED or self.method == 99:  # AES
            return "it is encrypted"
        if self.flags & _PATCHED or self.method not in (_STORED, _DEFLATED):
            return f"it is compressed by method {self.method}; only stored and deflated entries are read"
        return None


class ZipEntry:
    """A file in the archive: iterate over its bytes before asking for the next entry."""

    def __init__(self, header: _Header, source: Source, budget: Budget) -> None:
        self.name = header.name
        self.problem = header.problem
        """Why it cannot be read, or None; its neighbours can."""
        self.failure: UnreadableError | None = None
        """Why reading it broke off."""
        self._header = header
        self._source = source
        self._budget = budget
        self._crc = 0
        self._size = 0
        self._pieces = self._read()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def skip(self) -> None:
        """Go past what has not been read of it."""
        async for _ in self._pieces:
            pass

    async def _read(self) -> AsyncIterator[bytes]:
        header, began = self._header, self._source.position
        try:
            if self.problem is None:
                async for piece in self._pieces_of(header):
                    self._crc = zlib.crc32(piece, self._crc)
                    self._size += len(piece)
                    self._budget.came_out(len(piece), self._size)
                    yield piece
                await self._check(self._source.position - began)
            elif header.has_descriptor:
                raise UnreadableError(f"{self.problem}, and where it ends cannot be told")  # noqa: TRY301
            else:
                await self._pass_over(header.compressed)
        except UnreadableError as error:
            self.failure = UnreadableError(f"{self.name}: {error}")
            raise

    async def _check(self, compressed: int) -> None:
        header = self._header
        if header.has_descriptor:
            length = self._descriptor_length(
                await self._source.peek(_LONGEST_DESCRIPTOR), self._size, self._crc, compressed
            )
            if not length:
                raise UnreadableError("its size or checksum is not what follows it")
            await self._source.exactly(length)
        elif (self._crc, compressed, self._size) != (header.crc, header.compressed, header.size):
            raise UnreadableError("its size or checksum is not what its header says")

    def _pieces_of(self, header: _Header) -> AsyncIterator[bytes]:
        if header.method == _DEFLATED:
            return inflated(self._source, -zlib.MAX_WBITS)
        return self._stored(header.compressed) if header.is_sized else self._until_descriptor()

    async def _pass_over(self, count: int) -> None:
        async for _ in self._stored(count):
            pass

    async def _stored(self, count: int) -> AsyncIterator[bytes]:
        while count:
            data = await self._source.some()
            if not data:
                raise TruncatedError
            if len(data) > count:
                self._source.unread(len(data) - count)
                data = data[:count]
            count -= len(data)
            yield data

    async def _until_descriptor(self) -> AsyncIterator[bytes]:
        """Data that only its descriptor ends: GitHub's upload-artifact writes such with compression-level 0.

        The descriptor is the one whose checksum and size are those of what came before it.
        """
        while True:
            data = await self._source.peek(PIECE)
            end, is_end = self._before_descriptor(data)
            if not end and not is_end:
                raise TruncatedError
            if end:
                yield await self._source.exactly(end)
            if is_end:
                return

    def _before_descriptor(self, data: bytes) -> tuple[int, bool]:
        """How many bytes of `data` are the entry's, and whether its descriptor follows them."""
        crc, done = self._crc, 0
        at = data.find(_DESCRIPTOR)
        while at >= 0:
            if at and len(data) - at < _LONGEST_DESCRIPTOR and len(data) >= PIECE:
                return at, False  # not all of it is here
            size = self._size + at
            # Data may be full of marks, and of sizes that fit: nothing is summed twice.
            if data[at + 8 : at + 12] == (size & 0xFFFFFFFF).to_bytes(4, "little"):
                crc, done = zlib.crc32(data[done:at], crc), at
                if self._descriptor_length(data[at : at + _LONGEST_DESCRIPTOR], size, crc):
                    return at, True
            at = data.find(_DESCRIPTOR, at + 1)
        return (len(data) - 3 if len(data) >= PIECE else 0), False  # the last three bytes may begin one

    @staticmethod
    def _descriptor_length(data: bytes, size: int, crc: int, compressed: int | None = None) -> int:
        """Of the descriptor `data` begins with, if it fits what was read: marked or not, of 32 or 64 bits."""
        for mark in (_DESCRIPTOR, b""):
            for layout in ("<III", "<IQQ"):
                try:
                    expected = mark + struct.pack(
                        layout, crc, size if compressed is None else compressed, size
                    )
                except struct.error:
                    continue
                # Of an empty entry the short one is the beginning of the long one: what follows tells them apart.
                if data.startswith(expected + b"PK"):
                    return len(expected)
        return 0


async def zip_entries(source: Source, budget: Budget) -> AsyncIterator[ZipEntry]:
    """The files of a ZIP, in its order.

    Raises:
        UnreadableError: damaged, cut off, beyond its limits, or not what its directory says; from the iteration
            or from an entry's.
    """
    seen: dict[int, str] = {}
    if await source.peek(4) == _SPANNED:
        await source.exactly(4)
    while True:
        offset = source.position
        mark = await source.exactly(4)
        if mark == LOCAL:
            header = await _local_header(source)
            budget.entry()
            seen[offset] = header.name
            entry = ZipEntry(header, source, budget)
            if not header.name.endswith("/"):
                yield entry
            if entry.failure is not None:
                raise entry.failure
            await entry.skip()
        elif mark == _DIRECTORY or mark in _AFTER_DIRECTORY:
            await _compare(source, mark, seen)
            return
        else:
            raise UnreadableError(f"no entry begins at byte {offset:,}, where one should: it is damaged")


async def _local_header(source: Source) -> _Header:
    _, flags, method, _, _, crc, compressed, size, name_length, extra_length = _LOCAL_FIELDS.unpack(
        await source.exactly(_LOCAL_FIELDS.size)
    )
    raw_name = await source.exactly(name_length)
    extra = await source.exactly(extra_length)
    size, compressed = _large_sizes(extra, size, compressed)
    return _Header(_name(raw_name, flags), flags, method, crc, compressed, size)


def _name(raw: bytes, flags: int) -> str:
    if flags & _IS_UTF8 or raw.isascii():
        return raw.decode("utf-8", "replace")
    return raw.decode("cp437")


def _large_sizes(extra: bytes, *fields: int) -> list[int]:
    """The fields, those that were too large for 32 bits taken from the ZIP64 extra field."""
    at = 0
    large: list[int] = []
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, at)
        if kind == 1:
            content = extra[at + 4 : at + 4 + length]
            large = [value for (value,) in struct.iter_unpack("<Q", content[: len(content) // 8 * 8])]
        at += 4 + length
    return [large.pop(0) if field == _UNKNOWN and large else field for field in fields]


async def _compare(source: Source, mark: bytes, seen: dict[int, str]) -> None:
    while mark == _DIRECTORY:
        fields = _DIRECTORY_FIELDS.unpack(await source.exactly(_DIRECTORY_FIELDS.size))
        flags, compressed, size = fields[2], fields[7], fields[8]
        name_length, extra_length, comment_length, offset = fields[9], fields[10], fields[11], fields[15]
        name = _name(await source.exactly(name_length), flags)
        extra = await source.exactly(extra_length)
        await source.exactly(comment_length)
        offset = _large_sizes(extra, size, compressed, offset)[2]
        if seen.pop(offset, None) != name:
            raise UnreadableError(
                f"its directory lists {name!r} where no entry of that name begins: entries overlap or are hidden"
            )
        mark = await source.exactly(4)
    if mark not in _AFTER_DIRECTORY:
        raise UnreadableError("its directory is damaged")
    if seen:
        raise UnreadableError(
            f"{len(seen):,} of its entries are not in its directory, {min(seen.values())!r} for one"
        )
    while await source.some():
        pass  # whoever sends it may not be left with a pipe nobody reads
