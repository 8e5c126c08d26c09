"""The lines of a CI job's log, as they come: without control sequences, runners' markers and secrets.

Whatever arrives (binary data, UTF-16, a line without end) becomes lines of bounded length, numbered as an editor
would number them. What a runner wrote for its own page becomes a `Mark`.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from reports.secrets import LONGEST_LINE, Masker

Kind = Literal[
    "group", "endgroup", "error", "warning", "section", "endsection", "block", "endblock", "marker"
]

_LONGEST_RAW = 4 * LONGEST_LINE
"""Colours may be most of a line."""
_LONGEST_MARKER = 500
_KEY = "PRIVATE KEY"

_CONSOLE_NOTE = re.compile(r"\x1b\[8mha:[^\x1b]*\x1b\[0m")
"""Jenkins hides what its page is to do in invisible text."""
# Only sequences that programs write, with a blank only the cursor's shape: a stray ESC must not eat the first letter
# of a secret, and so hide it from us.
_SEQUENCE = re.compile(
    r"\x1b(?:\[[0-?]*(?: q|[!-/]*[@-~])"
    r"|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[()*+#%][0-9ABGKU@]|[78=>cDEHMZ])"
    r"|\x9b[0-?]*(?: q|[!-/]*[@-~])"
)
# All control characters but the tab, and the marks that turn the direction of text.
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_STAMP = re.compile(
    r"(?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}Z) (?:[0-9a-f]{2}[EO][+ ])?"  # GitHub; GitLab
    r"|\[(?P<jenkins>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z)\] ?"  # Jenkins' Timestamper
)
_COMMAND = re.compile(r"##\[(group|endgroup|error|warning|notice|command|section|debug|add-mask)\](.*)")
_WORKFLOW_COMMAND = re.compile(r"::(group|endgroup|error|warning|notice|debug|add-mask)(?: [^:]*)?::(.*)")
_SECTION = re.compile(r"section_(start|end):(\d{1,12}):([^\r\[\s]{1,200})(?:\[[^\]]*\])?")
_STEP = re.compile(r"\[Pipeline\] (.*)")
_BLOCK = re.compile(r"\{ \((.*)\)")


@dataclass(frozen=True, slots=True)
class Mark:
    """What a runner wrote for its own page; `name` is of a group, a section or a stage."""

    kind: Kind
    name: str = ""
    key: str = ""
    """By which the end of a section finds its beginning; as it was written, so not to be shown."""
    seconds: int | None = None
    """Since 1970, where the mark tells."""


@dataclass(frozen=True, slots=True)
class Line:
    """`stamp`: the runner's ISO time of the line. `masked`: how many secrets it had."""

    number: int
    text: str
    marks: tuple[Mark, ...] = ()
    stamp: str | None = None
    masked: int = 0
    is_cut: bool = False


class Lines:
    """Bytes in, lines out; `feed` and then, once, `close`."""

    def __init__(self) -> None:
        self.count = 0
        self._decode: codecs.IncrementalDecoder | None = None
        self._begun = b""
        self._rest = ""
        self._dropped = False
        """The line in hand is longer than is kept."""
        self._dropped_end = ""
        self._key_begins = False
        self._masker = Masker()

    def feed(self, piece: bytes) -> Iterator[Line]:
        """The lines that are whole now."""
        if self._decode is None:
            self._begun += piece
            if len(self._begun) < 4:
                return
            piece, self._begun = self._begun, b""
            self._decode = _decoder(piece)
        yield from self._take(self._decode.decode(piece))

    def close(self) -> Iterator[Line]:
        """The last line, when it has no end."""
        if self._decode is None:
            self._decode = _decoder(self._begun)
        yield from self._take(self._decode.decode(self._begun, final=True))
        if self._rest or self._dropped:
            yield self._line(self._rest)

    def _take(self, text: str) -> Iterator[Line]:
        *whole, rest = text.split("\n")
        for part in whole:
            self._add(part)
            yield self._line(self._rest)
            self._rest, self._dropped, self._dropped_end, self._key_begins = "", False, "", False
        self._add(rest)

    def _add(self, part: str) -> None:
        """More of the line in hand; of a very long one the beginning is kept, or what came after a return."""
        if len(self._rest) + len(part) <= _LONGEST_RAW:
            self._rest += part
            return
        whole = self._rest + part
        returned = whole.rfind("\r", 0, len(whole) - 1) + 1
        if returned and not self._dropped:
            self._key_begins = self._key_begins or _KEY in whole[:returned]
            whole = whole[returned:]
        self._rest, beyond = whole[:_LONGEST_RAW], whole[_LONGEST_RAW:]
        if beyond:
            self._dropped = True
            self._key_begins = self._key_begins or _KEY in self._dropped_end + beyond
            self._dropped_end = beyond[-len(_KEY) :]

    def _line(self, raw: str) -> Line:
        self.count += 1
        text = raw.rstrip("\r")
        marks: tuple[Mark, ...] = ()
        stamp: str | None = None
        if "\x1b" in text or "\x9b" in text:
            text = _SEQUENCE.sub("", _CONSOLE_NOTE.sub("", text))
        text = text.lstrip("\ufeff")
        found = _STAMP.match(text)
        if found is not None:
            stamp = found["stamp"] or found["jenkins"]
            text = text[found.end() :]
        if "section_" in text:
            marks, text = _sections(text)
        if "\r" in text:
            # A terminal shows what was written last.
            text = next((part for part in reversed(text.split("\r")) if part.strip()), "")
        if not marks:
            marks, text = _marked(text)
        text, masked = self._masker.mask(
            _CONTROL.sub("", text), is_cut=self._dropped, key_begins=self._key_begins
        )
        if marks:
            marks = tuple(self._named(mark, text) for mark in marks)
        return Line(self.count, text.rstrip(), marks, stamp, masked, is_cut=self._dropped)

    def _named(self, mark: Mark, text: str) -> Mark:
        """The mark with the name that is shown of it: the line's text, which has been masked."""
        if not mark.name and not mark.key:
            return mark
        shown = text if mark.kind != "endsection" else ""
        return replace(mark, name=_short(shown or self._masker.mask(_CONTROL.sub("", mark.key))[0]))


def _decoder(begun: bytes) -> codecs.IncrementalDecoder:
    """UTF-8, unless the first bytes say, or show, that it is UTF-16: PowerShell writes that."""
    encoding = "utf-8"
    if begun.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif len(sample := begun[:200]) >= 4 and sample.count(0) * 3 > len(sample):
        zeros = (sample[0::2].count(0), sample[1::2].count(0))
        if max(zeros) > 4 * min(zeros):
            encoding = "utf-16-le" if zeros[1] > zeros[0] else "utf-16-be"
    return codecs.getincrementaldecoder(encoding)("replace")


def _sections(text: str) -> tuple[tuple[Mark, ...], str]:
    """GitLab's section markers, of which the end of one and the beginning of the next share a line."""
    marks: list[Mark] = []
    shown = ""
    for part in text.split("\r"):
        found = _SECTION.match(part)
        if found is not None:
            kind: Kind = "section" if found[1] == "start" else "endsection"
            marks.append(Mark(kind, key=found[3], seconds=int(found[2])))
            shown = ""
            part = part[found.end() :]  # noqa: PLW2901
        shown = part if part.strip() else shown
    return (tuple(marks), shown) if marks else ((), text)


def _marked(text: str) -> tuple[tuple[Mark, ...], str]:
    if text.startswith(("##[", "::")):
        found = _COMMAND.match(text) or _WORKFLOW_COMMAND.match(text)
        return ((), text) if found is None else _command(found[1], found[2])
    if text.startswith("[Pipeline] "):
        found = _STEP.match(text)
        step = found[1] if found else ""
        block = _BLOCK.match(step)
        if block is not None:
            return (Mark("block", block[1]),), block[1]
        kinds: dict[str, Kind] = {"{": "block", "}": "endblock"}
        return (Mark(kinds.get(step, "marker")),), ""
    return (), text


def _command(name: str, said: str) -> tuple[tuple[Mark, ...], str]:
    match name:
        case "group":
            return (Mark("group", said),), said
        case "endgroup":
            return (Mark("endgroup"),), ""
        case "error":
            return (Mark("error"),), f"Error: {said}"
        case "warning":
            return (Mark("warning"),), f"Warning: {said}"
        case "add-mask":
            return (Mark("marker"),), ""
        case "command":
            return (), f"$ {said}"
    return (), said


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_MARKER else name[: _LONGEST_MARKER - 1] + "…"
