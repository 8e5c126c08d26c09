"""An asynchronous stream of bytes, read in exact portions, and the budget for what comes out of archives."""

import asyncio
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from reports.errors import UnreadableError

PIECE = 65_536
"""At most so many bytes are handed on at once."""
_RATIO_FROM = 32 * 1_048_576


class TruncatedError(UnreadableError):
    """The stream ends too early."""

    def __init__(self) -> None:
        super().__init__("it ends in the middle: it was cut off, or is still being written")


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold. Whatever goes beyond is refused while it streams."""

    entries: int = 20_000
    entry_bytes: int = 4 * 1_073_741_824
    total_bytes: int = 16 * 1_073_741_824
    ratio: int = 200
    """Of what comes out to what went in, once 32 MiB have come out."""


class Budget:
    """Counts an archive, with the archives inside it, against its limits."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._entries = self._in = self._out = 0

    def entry(self) -> None:
        self._entries += 1
        if self._entries > self.limits.entries:
            raise UnreadableError(f"more than {self.limits.entries:,} entries: not read further")

    def came_in(self, count: int) -> None:
        self._in += count

    def came_out(self, count: int, of_entry: int) -> None:
        """`count` more bytes came out, `of_entry` of this entry so far."""
        self._out += count
        limits = self.limits
        if of_entry > limits.entry_bytes:
            raise UnreadableError(f"an entry of more than {limits.entry_bytes:,} bytes: not read further")
        if self._out > limits.total_bytes:
            raise UnreadableError(f"more than {limits.total_bytes:,} bytes in it: not read further")
        if self._out > _RATIO_FROM and self._out > limits.ratio * self._in:
            raise UnreadableError(
                f"{limits.ratio} times as much in it as its own size: not read further, it may be a ZIP bomb"
            )


class Source:
    """Reads exact portions of an asynchronous stream; knows where it is."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._held = b""
        self._at = 0  # what of it has been read
        self.position = 0

    async def some(self) -> bytes:
        """The next bytes, at most 64 KiB; none at the end."""
        if self._at == len(self._held):
            self._held, self._at = await self._next(), 0
        data = self._held[self._at : self._at + PIECE]
        self._move(len(data))
        return data

    async def exactly(self, count: int) -> bytes:
        """`count` bytes. Raises TruncatedError when there are fewer."""
        data = await self.peek(count)
        if len(data) < count:
            raise TruncatedError
        self._move(count)
        return data

    async def peek(self, count: int) -> bytes:
        """The next `count` bytes, or all there are, still to be read."""
        if len(self._held) - self._at < count:
            parts, size = [self._held[self._at :]], len(self._held) - self._at
            while size < count and (more := await self._next()):
                parts.append(more)
                size += len(more)
            self._held, self._at = b"".join(parts), 0
        return self._held[self._at : self._at + count]

    def unread(self, count: int) -> None:
        """Have the last `count` bytes read again; only of what the last call returned."""
        self._move(-count)

    def _move(self, count: int) -> None:
        self._at += count
        self.position += count

    async def _next(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


async def small(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in pieces small enough that others have their turn in between."""
    async for chunk in chunks:
        for start in range(0, len(chunk), PIECE):
            yield chunk[start : start + PIECE]
            await asyncio.sleep(0)


async def inflated(source: Source, wbits: int) -> AsyncIterator[bytes]:
    """One deflated stream from `source`, in pieces; what follows it is still to be read."""
    inflater = zlib.decompressobj(wbits)
    data = b""
    while not inflater.eof:
        if not data:
            data = await source.some()
            if not data:
                raise TruncatedError
        try:
            piece = inflater.decompress(data, PIECE)
            while piece:
                yield piece
                # Full pieces only mean that more may be waiting inside, even with nothing left to put in.
                again = inflater.unconsumed_tail or len(piece) == PIECE
                piece = (
                    inflater.decompress(inflater.unconsumed_tail, PIECE)
                    if again and not inflater.eof
                    else b""
                )
        except zlib.error as error:
            raise UnreadableError(f"its compressed data is damaged ({error})") from None
        data = inflater.unconsumed_tail
    source.unread(len(inflater.unused_data))
