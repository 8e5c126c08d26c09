"""Archives for tests, honest and otherwise."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal

from reports.archive import File, Limits, files
from reports.errors import UnreadableError

REPORT = b'<testsuite name="s"><testcase classname="C" name="a" time="1"/></testsuite>'


def zipped(contents: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", method) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return held.getvalue()


class _Pipe(io.RawIOBase):
    """A file that cannot be sought: zipfile then writes descriptors behind the data."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        taken = bytes(data)
        self.written += taken
        return len(taken)


def zipped_as_stream(
    contents: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, zip64: bool = False
) -> bytes:
    """With sizes and checksums behind the data, as one writes a ZIP to a pipe."""
    pipe = _Pipe()
    with zipfile.ZipFile(pipe, "w", method) as archive:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w", force_zip64=zip64) as entry:
                entry.write(content)
    return bytes(pipe.written)


def stored_with_descriptor(name: str, content: bytes) -> bytes:
    """One entry as GitHub's upload-artifact writes it with compression-level 0: stored, its size only behind it."""
    crc, size, raw = zlib.crc32(content), len(content), name.encode()
    local = struct.pack("<4sHHHHHIIIHH", b"PK\x03\x04", 20, 8, 0, 0, 0, 0, 0, 0, len(raw), 0) + raw
    descriptor = struct.pack("<4sIII", b"PK\x07\x08", crc, size, size)
    directory = struct.pack(
        "<4sHHHHHHIIIHHHHHII", b"PK\x01\x02", 20, 20, 8, 0, 0, 0, crc, size, size, len(raw), 0, 0, 0, 0, 0, 0
    )
    offset = len(local) + size + len(descriptor)
    end = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 1, 1, len(directory) + len(raw), offset, 0)
    return local + content + descriptor + directory + raw + end


def tarred(
    contents: Mapping[str, bytes], mode: Literal["w", "w:gz"] = "w", layout: int = tarfile.PAX_FORMAT
) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=mode, format=layout) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return held.getvalue()


async def pieces(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


async def unpacked(data: bytes, size: int = 1000, limits: Limits | None = None) -> dict[str, bytes | str]:
    """Each file's content, or else its problem, by its name."""
    found: dict[str, bytes | str] = {}
    async for file in files("a.zip", pieces(data, size), limits):
        try:
            found[file.name] = file.problem or await content(file)
        except UnreadableError as error:
            found[file.name] = str(error)
    return found


async def content(file: File) -> bytes:
    return b"".join([piece async for piece in file.content])
