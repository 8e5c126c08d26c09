"""Whatever encoding a report is in: as UTF-8, without the characters that XML does not allow."""

import codecs
import re

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_WITHOUT_BOM = ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be"))
_DECLARED = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_FAMILIES = ("iso8859", "cp", "koi8", "gb", "big5", "shift_jis", "euc", "iso2022", "mac", "tis", "hz")
"""Python knows stranger ones, such as base64, that no document is written in."""

_ENOUGH = 1024
"""So many bytes tell the encoding, or nothing does."""

_CONTROLS = bytes(code for code in range(0x20) if code not in b"\t\n\r")
_NONCHARACTERS = str.maketrans(dict.fromkeys((0xFFFE, 0xFFFF)))


class Utf8:
    """Turns a stream of bytes into clean UTF-8, a piece at a time."""

    def __init__(self) -> None:
        self.removed = 0
        """Characters that XML does not allow, and were left out."""
        self.replaced = 0
        """Bytes that were none of the encoding, and are U+FFFD now."""
        self.unknown: str | None = None
        """The encoding that was declared, when it is not known."""
        self._head = b""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._is_utf8 = True

    def feed(self, data: bytes) -> bytes:
        if self._decoder is not None:
            return self._clean(data)
        self._head += data
        if len(self._head) < _ENOUGH and not (len(self._head) > 4 and b">" in self._head):
            return b""
        return self._begin()

    def close(self) -> bytes:
        begun = self._begin() if self._decoder is None else b""
        return begun + self._clean(b"", final=True)

    def _begin(self) -> bytes:
        head, self._head = self._head, b""
        name, mark = self._encoding(head)
        self._is_utf8 = name == "utf-8"
        self._decoder = codecs.getincrementaldecoder(name)("replace")
        return self._clean(head[mark:])

    def _encoding(self, head: bytes) -> tuple[str, int]:
        for bom, name in _BOMS:
            if head.startswith(bom):
                return name, len(bom)
        for start, name in _WITHOUT_BOM:
            if head.startswith(start):
                return name, 0
        if (declared := _DECLARED.search(head)) is None:
            return "utf-8", 0
        try:
            name = codecs.lookup(declared[1].decode()).name
        except LookupError:
            name = ""
        # .NET declares UTF-16 in files it writes as UTF-8: what could be read as ASCII is not two bytes a letter.
        if name.startswith(("utf", "ascii")):
            return "utf-8", 0
        if not name.startswith(_FAMILIES):
            self.unknown = declared[1].decode()
            return "utf-8", 0
        return name, 0

    def _clean(self, data: bytes, *, final: bool = False) -> bytes:
        assert self._decoder is not None
        if self._is_utf8 and data.isascii() and not self._decoder.getstate()[0]:
            clean = data
        else:
            text = self._decoder.decode(data, final)
            if "\ufffd" in text:
                self.replaced += max(0, text.count("\ufffd") - data.count("\ufffd".encode()))
            if "\ufffe" in text or "\uffff" in text:
                text, before = text.translate(_NONCHARACTERS), len(text)
                self.removed += before - len(text)
            clean = text.encode("utf-8", "replace")
        kept = clean.translate(None, _CONTROLS)
        self.removed += len(clean) - len(kept)
        return kept
