"""The files in whatever a stream of bytes is: a file, a ZIP, a tar, either of them compressed with gzip.

Nothing is written to disk and nothing is held whole. Names are only ever told to people, yet one that would leave
the archive's folder is refused all the same: whoever wrote it meant harm.
"""

import re
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from reports.errors import UnreadableError
from reports.stream import PIECE, Budget, Limits, Source, inflated
from reports.tar_stream import BLOCK, TarEntry, is_tar, tar_entries
from reports.zip_stream import EMPTY, LOCAL, ZipEntry, zip_entries

_GZIP = b"\x1f\x8b\x08"
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_DEEPEST = 1
"""Archives in an archive are read; those in these are not."""
_LONGEST_NAME = 900
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")


@dataclass(frozen=True, slots=True)
class File:
    """A file that was found. Its `content` ends when the next one is asked for."""

    name: str
    """Its path; of one in an archive the archive's, a slash, and its path in there."""
    content: AsyncIterator[bytes]
    problem: str | None = None
    """Why it cannot be read; then it has no content."""
    is_archive: bool = False
    """Of one with a problem: whether it is an archive, that may have held anything."""


async def files(name: str, chunks: AsyncIterator[bytes], limits: Limits | None = None) -> AsyncIterator[File]:
    """The files in `chunks`, which was found under `name`: itself, unless it is an archive.

    An archive that breaks off is told by a last File with its problem; what came before it was good.
    """
    budget = Budget(limits or Limits())
    async for file in _files(name, _counted(chunks, budget), budget, depth=0):
        yield file


async def _counted(chunks: AsyncIterator[bytes], budget: Budget) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        budget.came_in(len(chunk))
        yield chunk


async def _files(
    name: str, chunks: AsyncIterator[bytes], budget: Budget, *, depth: int
) -> AsyncIterator[File]:
    source = Source(chunks)
    try:
        head = await source.peek(BLOCK)
        if head.startswith(_GZIP):
            source = Source(_ungzipped(source, budget))
            name = name.removesuffix(".gz")
            head = await source.peek(BLOCK)
    except UnreadableError as error:
        yield _refused(name, str(error))
        return
    entries: AsyncIterator[ZipEntry | TarEntry]
    if head.startswith((LOCAL, EMPTY, b"PK00" + LOCAL)):
        entries = zip_entries(source, budget)
    elif is_tar(head):
        entries = tar_entries(source, budget)
    else:
        yield File(name, _rest(source))
        return
    if depth > _DEEPEST:
        problem = "an archive in an archive in an archive is not read: unpack it first"
        yield _refused(name, problem, is_archive=True)
        return
    try:
        async for entry in entries:
            refusal = entry.problem or path_problem(entry.name)
            inner = f"{name}/{_printable(entry.name)}"
            if refusal is not None:
                yield _refused(inner, refusal)
                continue
            async for file in _files(inner, aiter(entry), budget, depth=depth + 1):
                yield file
    except UnreadableError as error:
        yield _refused(name, str(error), is_archive=True)


async def _ungzipped(source: Source, budget: Budget) -> AsyncIterator[bytes]:
    size = 0
    while await source.peek(1):
        if size and not (await source.peek(3)).startswith(_GZIP):
            return  # padding
        async for piece in inflated(source, _GZIP_WBITS):
            size += len(piece)
            budget.came_out(len(piece), size)
            yield piece


async def _rest(source: Source) -> AsyncIterator[bytes]:
    while data := await source.some():
        yield data


async def _nothing() -> AsyncIterator[bytes]:
    nothing: tuple[bytes, ...] = ()
    for piece in nothing:
        yield piece


def _refused(name: str, problem: str, *, is_archive: bool = False) -> File:
    return File(name, _nothing(), problem, is_archive)


def path_problem(path: str) -> str | None:
    """Why an entry's path is not one inside the archive, or None."""
    parts = path.replace("\\", "/").split("/")
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path):
        return "its path is absolute"
    if ".." in parts:
        return "its path leaves the archive"
    if any(ord(character) < 0x20 or character == "\x7f" for character in path):
        return "its path has control characters in it"
    if any(_DEVICE.fullmatch(part.rstrip(" .")) for part in parts):
        return "its path is a device's on Windows"
    return None


def _printable(path: str) -> str:
    shown = "".join(character if character.isprintable() else "\ufffd" for character in path)
    return shown if len(shown) <= _LONGEST_NAME else f"{shown[:400]}...{shown[-400:]}"


__all__ = ["PIECE", "File", "Limits", "files", "path_problem"]
