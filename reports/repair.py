"""Where XML is not well-formed: the smallest change that lets reading go on.

Test tools write XML by hand. What they get wrong is nearly always one of a few things: a character that should
have been escaped, an escape that stands for nothing, a tag left open. Each of these is mended at its place; the
rest becomes text.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from xml.parsers.expat import errors

_CODES = errors.codes
BAD_REFERENCE = _CODES[errors.XML_ERROR_BAD_CHAR_REF]
_UNDEFINED_ENTITY = _CODES[errors.XML_ERROR_UNDEFINED_ENTITY]
_MISMATCH = _CODES[errors.XML_ERROR_TAG_MISMATCH]
_DUPLICATE_ATTRIBUTE = _CODES[errors.XML_ERROR_DUPLICATE_ATTRIBUTE]

_CONTROL_REFERENCE = re.compile(
    rb"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|x0*(?:[0-8bcefBCEF]|1[0-9a-fA-F]));"
)
_NO_ENTITY_OF_XML = re.compile(rb"&(?!#|(?:amp|lt|gt|quot|apos);)")
_ENTITY_SO_FAR = re.compile(rb"&#?[\w.:-]{0,60}$", re.ASCII)
_ATTRIBUTE = rb"(?:\s+[\w.:-]+\s*=\s*(?:\"[^\"<]*\"|'[^'<]*'))"
_GOOD_SO_FAR = re.compile(
    rb"<(?:(?:testcase|testsuites?|failure|error|skipped)(?=\s)"
    + _ATTRIBUTE
    + rb"*|[A-Za-z_][\w.:-]*"
    + _ATTRIBUTE
    + rb"+)"
)
_UNCLOSED = re.compile(rb"(?:[^\"']|\"[^\"]*\"|'[^']*')*(?:\"[^\"]*|'[^']*)")
_NAME_BEGINS = re.compile(rb"[A-Za-z_]")
_END_TAG = re.compile(rb"</\s*([^\s<>/]*)[^<>]{0,200}>")
_DECLARATION = re.compile(rb"<(?:\?xml\b|!DOCTYPE\b)[^<>\[]{0,1000}>", re.IGNORECASE)
_QUOTED = re.compile(rb"\"[^\"]*(?:\"|$)|'[^']*(?:'|$)")


@dataclass(frozen=True, slots=True)
class Repair:
    """Read on from `window[resume:]`, with `instead` in the place of `window[start:end]`.

    Before `resume` all has been read; a tag is read whole or not at all.
    """

    resume: int
    start: int
    end: int
    instead: bytes
    what: str
    """For a person."""

    def apply(self, window: bytes) -> bytes:
        return window[self.resume : self.start] + self.instead + window[self.end :]


def repair(window: bytes, at: int, code: int, open_elements: Sequence[str]) -> Repair:
    """The repair of expat's error `code` at `window[at]`; the window holds the whole token it is in."""
    tag = tag_around(window, at)
    if code == _UNDEFINED_ENTITY and (entity := _NO_ENTITY_OF_XML.search(window, at)):
        # Of one in an attribute expat tells where the tag begins.
        return _escaped(entity.start(), at if tag is None else tag)
    if code == BAD_REFERENCE and (reference := window.find(b"&#", at)) >= 0:
        return _escaped(reference, tag)
    if code == _MISMATCH:
        return _mismatch(window, max(0, window.rfind(b"</", 0, at + 2)), open_elements)
    if code == _DUPLICATE_ATTRIBUTE and tag is not None:
        return Repair(tag, at, at, b"again-", "attributes given twice")
    if declaration := _DECLARATION.match(window, at if tag is None else tag):
        return Repair(
            declaration.end(), declaration.end(), declaration.end(), b"", "several documents in one"
        )
    return _invalid(window, at, tag)


def tag_around(window: bytes, at: int) -> int | None:
    """Where the tag begins that `window[at]` is inside of; None when it is in text."""
    start = window.rfind(b"<", 0, at)
    return None if start < 0 or b">" in _QUOTED.sub(b"", window[start:at]) else start


def _invalid(window: bytes, at: int, tag: int | None) -> Repair:
    comment = window.rfind(b"<!--", 0, at)
    if comment >= 0 and window[at - 2 : at] == b"--" and window.find(b"-->", comment, at) < 0:
        return Repair(comment, at - 1, at, b" ", "comments with `--` in them")
    if entity := _ENTITY_SO_FAR.search(window, max(0, at - 64), at):
        return _escaped(entity.start(), tag)
    if window[at : at + 1] == b"&":
        return _escaped(at, tag)
    brackets = "angle brackets that should have been escaped"
    if tag is None:
        is_bracket = window[at : at + 1] == b">"
        return Repair(
            at, at, at + 1, b"&gt;" if is_bracket else b" ", brackets if is_bracket else "stray characters"
        )
    if window[at : at + 1] == b"<" and _UNCLOSED.fullmatch(window, tag, at):
        return Repair(tag, at, at + 1, b"&lt;", brackets)
    if good := _GOOD_SO_FAR.match(window, tag, at):
        return _attribute(window, at, tag, good.end())
    return Repair(tag, tag, tag + 1, b"&lt;", brackets)


def _attribute(window: bytes, at: int, tag: int, good: int) -> Repair:
    """What follows the last good attribute of a tag is left out as far as the error, or a space put in."""
    what = "attributes that are no attributes"
    wrong = window[at : at + 1]
    if at == good and _NAME_BEGINS.match(wrong):
        return Repair(tag, at, at, b" ", what)
    if wrong == b"<":
        return Repair(tag, good, at, b">", what)
    return Repair(tag, good, at if wrong == b">" else at + 1, b" ", what)


def _escaped(at: int, tag: int | None) -> Repair:
    return Repair(
        at if tag is None else tag, at, at + 1, b"&amp;", "ampersands that should have been escaped"
    )


def _mismatch(window: bytes, tag: int, open_elements: Sequence[str]) -> Repair:
    """Close what was left open inside the element that ends here; an end of nothing is left out."""
    found = _END_TAG.match(window, tag)
    name = found[1].decode(errors="replace") if found else ""
    what = "elements that were not closed, or closed twice"
    if name in open_elements:
        inner = list(open_elements[len(open_elements) - list(reversed(open_elements)).index(name) :])
        return Repair(tag, tag, tag, "".join(f"</{each}>" for each in reversed(inner)).encode(), what)
    end = found.end() if found else tag + 2
    return Repair(end, end, end, b"", what)


def without_control_references(data: bytes) -> tuple[bytes, int]:
    """`data` without references such as `&#27;` to characters that XML does not allow, and how many there were."""
    return _CONTROL_REFERENCE.subn(b"", data)
