"""Reads XML as it comes in, without holding it: no DTD, no entities, no network, bounded memory.

Stands on expat and not on lxml, whose push parser keeps a CDATA section of 300 MB whole and stops at the first
stray `<` (see docs/adr/0016).
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol
from xml.parsers import expat

from reports.errors import UnreadableError
from reports.repair import BAD_REFERENCE, repair, tag_around, without_control_references

Attributes = dict[str, str]
TextSink = Callable[[str], None]

_ROOT = "buildlight"
_LARGEST_TOKEN = 2 * 1_048_576
_MOST_NAMES = 20_000
_MOST_REPAIRS = 10_000
_REFERENCES = "references to characters that XML does not allow"


class Listener(Protocol):
    """Hears of elements. `open_elements` is asked for only where the XML is broken."""

    def start(self, tag: str, attributes: Attributes, /) -> None: ...

    def end(self, tag: str, /) -> None: ...

    @property
    def open_elements(self) -> Sequence[str]: ...


class Markup:
    """One document, from its root element on; further ones that follow it are read as if they stood in it."""

    def __init__(self, listener: Listener) -> None:
        self.repairs: Counter[str] = Counter()
        self.is_truncated = False
        self._listener = listener
        self._sink: TextSink | None = None
        self._held = b""  # what was fed since the start of the token that is not complete yet
        self._origin = 0  # where in expat's own count of bytes `_held` begins
        self._mind_references = False
        self._errors = 0
        self._parser = self._restart()

    def listen(self, sink: TextSink | None) -> None:
        """From here on, give text to `sink`; None skips it, which is much cheaper."""
        self._sink = sink
        self._parser.CharacterDataHandler = sink

    @property
    def index(self) -> int:
        """While the listener is told of an element, where its tag begins; else how much has been read."""
        return int(self._parser.CurrentByteIndex)

    @property
    def fed(self) -> int:
        """How much has been given, by the same count."""
        return self._origin + len(self._held)

    def feed(self, data: bytes) -> None:
        """Read clean UTF-8.

        Raises:
            UnreadableError: too broken, or too large for memory to stay bounded.
        """
        if self._mind_references:
            # One cut in two by the feeding is found as an error, and mended then.
            data, count = without_control_references(data)
            self.repairs[_REFERENCES] += count
        window = self._held + data if self._held else data
        while True:
            try:
                self._parser.Parse(data, False)
                break
            except expat.ExpatError as error:
                data = window = self._repaired(window, error.code)
        done = self._parser.CurrentByteIndex - self._origin
        self._held = window[done:]
        self._origin += done
        if len(self._held) > _LARGEST_TOKEN:
            raise UnreadableError(
                f"a tag, an attribute or a comment of more than {_LARGEST_TOKEN // 1_048_576} MiB: not read further"
            )
        if len(self._parser.intern) > _MOST_NAMES:
            raise UnreadableError(
                f"more than {_MOST_NAMES:,} different names of elements: this is no test report"
            )

    def close(self) -> None:
        """End the document; what was left open shows in `is_truncated`."""
        self.is_truncated = bool(self._listener.open_elements) or b"<" in self._held[:1]
        self._parser.CharacterDataHandler = None

    def _repaired(self, window: bytes, code: int) -> bytes:
        at = self._parser.ErrorByteIndex - self._origin
        self._parser.CharacterDataHandler = None  # hands over the text before the error
        self._errors += 1
        if self._errors > _MOST_REPAIRS:
            raise UnreadableError(f"more than {_MOST_REPAIRS:,} errors in the XML: not read further")
        open_elements = self._listener.open_elements
        if code == BAD_REFERENCE:
            # Where there is one there are thousands (colours of a terminal): each by itself would be slow.
            self._mind_references = True
            tag = tag_around(window, at)
            rest, count = without_control_references(window[at if tag is None else tag :])
            if count:
                self.repairs[_REFERENCES] += count
                self._parser = self._restart()
                return rest
        fix = repair(window, at, code, open_elements)
        self.repairs[fix.what] += 1
        self._parser = self._restart()
        return fix.apply(window)

    def _restart(self) -> Any:
        parser = expat.ParserCreate("UTF-8")
        parser.buffer_text = True
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        before = "".join(f"<{name}>" for name in (_ROOT, *self._listener.open_elements)).encode()
        parser.Parse(before, False)
        self._origin = len(before)
        parser.StartElementHandler = self._listener.start
        parser.EndElementHandler = self._listener.end
        parser.CharacterDataHandler = self._sink
        return parser
