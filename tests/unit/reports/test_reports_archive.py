"""Archives are read as they stream; what is hostile or damaged is refused with a reason."""

import gzip
import io
import struct
import tarfile
import zipfile
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reports.archive import Limits, files
from reports.errors import UnreadableError
from tests.unit.reports.zips import (
    REPORT,
    content,
    pieces,
    stored_with_descriptor,
    tarred,
    unpacked,
    zipped,
    zipped_as_stream,
)

CONTENTS = {"a/b.xml": REPORT * 50, "empty": b"", "c.bin": bytes(range(256)) * 500}
EXPECTED = {f"a.zip/{name}": data for name, data in CONTENTS.items()}


@pytest.mark.parametrize("size", [1, 7, 1000, 1_000_000])
@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
async def test_zip(method: int, size: int) -> None:
    """Stored or deflated, in any portions, with sizes in front or behind."""
    assert await unpacked(zipped(CONTENTS, method), size) == EXPECTED
    if method == zipfile.ZIP_DEFLATED:
        assert await unpacked(zipped_as_stream(CONTENTS), size) == EXPECTED
        assert await unpacked(zipped_as_stream(CONTENTS, zip64=True), size) == EXPECTED


@pytest.mark.parametrize("size", [1, 9, 1_000_000])
async def test_stored_with_its_size_behind_it(size: int) -> None:
    """The descriptor is told from data that looks like one."""
    data = b"x" * 30 + b"PK\x07\x08" + b"y" * 30 + b"PK\x07" + REPORT
    assert await unpacked(stored_with_descriptor("r.xml", data), size) == {"a.zip/r.xml": data}


@pytest.mark.parametrize("layout", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
async def test_tar(mode: Literal["w", "w:gz"], layout: int) -> None:
    """Of every layout, compressed or not; long names too."""
    contents = dict(CONTENTS)
    if layout != tarfile.USTAR_FORMAT:
        contents["long/" + "n" * 300 + ".xml"] = REPORT
    expected = {f"a.zip/{name}": data for name, data in contents.items()}
    assert await unpacked(tarred(contents, mode, layout), 333) == expected


async def test_gzip_of_one_file() -> None:
    """A report that was compressed by itself is named without the ending."""
    data = gzip.compress(REPORT) + gzip.compress(b" ")
    found = [(file.name, await content(file)) async for file in files("r.xml.gz", pieces(data))]
    assert found == [("r.xml", REPORT + b" ")]


async def test_no_archive() -> None:
    """Anything else is itself."""
    assert await unpacked(REPORT) == {"a.zip": REPORT}
    assert await unpacked(b"") == {"a.zip": b""}


async def test_entries_need_not_be_read() -> None:
    """Whoever is not interested in a file asks for the next."""
    names = [file.name async for file in files("a.zip", pieces(zipped_as_stream(CONTENTS)))]
    assert names == list(EXPECTED)


async def test_archives_in_archives() -> None:
    """One level is read; what lies deeper is named and refused; neighbours are read."""
    inner = zipped({"deep.xml": REPORT, "deeper.zip": zipped({"x.zip": zipped({"x": b""})})})
    found = await unpacked(
        zipped({"inner.zip": inner, "b.xml": REPORT, "t.tgz": tarred({"t.xml": REPORT}, "w:gz")})
    )
    assert found["a.zip/inner.zip/deep.xml"] == REPORT
    assert "unpack it first" in str(found["a.zip/inner.zip/deeper.zip"])
    assert found["a.zip/b.xml"] == found["a.zip/t.tgz/t.xml"] == REPORT


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("../up.xml", "its path leaves the archive"),
        ("a/../../up.xml", "its path leaves the archive"),
        ("a\\..\\..\\up.xml", "its path leaves the archive"),
        ("/etc/passwd", "its path is absolute"),
        ("C:/x.xml", "its path is absolute"),
        ("\\\\host\\x.xml", "its path is absolute"),
        ("a/nul.xml", "its path is a device's on Windows"),
        ("CON", "its path is a device's on Windows"),
        ("a\x1b[2Jb.xml", "its path has control characters in it"),
    ],
)
async def test_paths_that_lead_elsewhere(path: str, problem: str) -> None:
    """Such an entry is not read, its neighbours are, and a terminal is not written to."""
    found = await unpacked(zipped({path: REPORT, "b.xml": REPORT}))
    assert found.pop("a.zip/b.xml") == REPORT
    assert list(found.values()) == [problem]
    assert all(name.isprintable() for name in found)


async def test_encrypted() -> None:
    """An encrypted entry is passed over with its reason."""
    data = bytearray(zipped({"a.xml": REPORT, "b.xml": REPORT}))
    data[6] |= 1
    found = await unpacked(bytes(data))
    assert found == {"a.zip/a.xml": "it is encrypted", "a.zip/b.xml": REPORT}


async def test_methods_that_are_not_read() -> None:
    """So is one compressed in a way that is not read."""
    found = await unpacked(zipped({"a.xml": REPORT}, zipfile.ZIP_LZMA))
    assert found == {
        "a.zip/a.xml": "it is compressed by method 14; only stored and deflated entries are read"
    }


@pytest.mark.parametrize(
    "data", [zipped(CONTENTS), zipped_as_stream(CONTENTS), tarred(CONTENTS), tarred(CONTENTS, "w:gz")]
)
async def test_cut_off_anywhere(data: bytes) -> None:
    """What breaks off says so, wherever it does, and never hangs or crashes."""
    for end in range(600, len(data) - 30, len(data) // 40):
        found = await unpacked(data[:end], 100)
        assert any(isinstance(value, str) for value in found.values()) or set(found) == set(EXPECTED), end


async def test_a_wrong_checksum() -> None:
    """Damage is noticed."""
    data = bytearray(zipped({"a.xml": REPORT}, zipfile.ZIP_STORED))
    data[40] ^= 1
    found = await unpacked(bytes(data))
    assert found["a.zip/a.xml"] == "its size or checksum is not what its header says"
    assert found["a.zip"] == "a.xml: its size or checksum is not what its header says"


def overlapping() -> bytes:
    """Two names in the directory for one and the same data: what multiplies a ZIP bomb."""
    data = zipped({"a.xml": REPORT})
    start = data.index(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    record = data[start:end]
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, 2, 2, 2 * len(record))
    return data[:start] + record + record + bytes(tail)


async def test_overlapping_entries() -> None:
    """A directory that lists the same bytes twice is refused."""
    found = await unpacked(overlapping())
    assert "overlap or are hidden" in str(found["a.zip"])


async def test_hidden_entries() -> None:
    """So is one that does not list what is there."""
    two = zipped({"a.xml": REPORT, "b.xml": REPORT})
    first = two.index(b"PK\x01\x02")
    second = two.index(b"PK\x01\x02", first + 4)
    found = await unpacked(two[:first] + two[second:])
    assert "not in its directory" in str(found["a.zip"])


async def test_limits() -> None:
    """Entries, the size of one, the size of all."""
    many = zipped({str(number): b"" for number in range(20)})
    assert "more than 10 entries" in str((await unpacked(many, limits=Limits(entries=10)))["a.zip"])
    large = zipped({"a": b"x" * 5000, "b": b"y" * 5000})
    assert "more than 4,000 bytes" in str((await unpacked(large, limits=Limits(entry_bytes=4000)))["a.zip"])
    found = await unpacked(large, limits=Limits(total_bytes=9000))
    assert found["a.zip/a"] == b"x" * 5000
    assert "more than 9,000 bytes" in str(found["a.zip"])


async def test_a_zip_bomb() -> None:
    """What would grow beyond all measure is stopped soon, nested or not."""
    bomb = zipped({"a.xml": b"\0" * 50_000_000})
    for data in (bomb, zipped({"inner.zip": bomb}), gzip.compress(b"\0" * 50_000_000)):
        taken = 0
        with pytest.raises(UnreadableError, match="ZIP bomb"):
            async for file in files("a.zip", pieces(data)):
                assert file.problem is None
                async for piece in file.content:
                    assert len(piece) <= 65_536
                    taken += len(piece)
        assert taken <= 33 * 1_048_576


@given(st.binary(max_size=60), st.integers(0, 300))
@settings(max_examples=100, deadline=None)
async def test_noise(noise: bytes, at: int) -> None:
    """Noise anywhere is read or refused."""
    data = zipped_as_stream({"a.xml": REPORT, "b.xml": REPORT})
    found = await unpacked(data[:at] + noise + data[at + len(noise) :], 50)
    assert found
    assert all(value for value in found.values() if isinstance(value, str))


def test_the_sample_with_a_descriptor_is_a_zip() -> None:
    """The archive this module makes by hand is one for others too."""
    with zipfile.ZipFile(io.BytesIO(stored_with_descriptor("r.xml", REPORT))) as archive:
        assert archive.read("r.xml") == REPORT
