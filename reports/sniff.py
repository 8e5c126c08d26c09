"""Finds the root element of a document, past whatever stands before it."""

import re
from dataclasses import dataclass

from reports.errors import NoReportError, UnreadableError

LONGEST_PROLOG = 65_536
_ROOT = re.compile(rb"<([A-Za-z_][\w.-]*:)?([A-Za-z_][\w.-]*)(?=[\s/>])")
_BEGIN = re.compile(rb"<(?:\?|!--|!DOCTYPE|[A-Za-z_][\w.:-]*[\s/>])")
_ENDS = {b"<?": b"?>", b"<!": b"-->"}


@dataclass(frozen=True, slots=True)
class Root:
    name: str
    """Without its prefix."""
    start: int
    """Where its tag begins."""
    junk: bool
    """Whether something that is no XML stands before it."""


def find_root(head: bytes, *, final: bool) -> Root | None:
    """The root element in `head`, the beginning of a document in UTF-8; None when more of it is needed.

    Raises:
        NoReportError: it is no XML.
        UnreadableError: it declares entities.
    """
    at, junk = 0, False
    while True:
        found = _BEGIN.search(head, at)
        if found is None:
            _raise_if_hopeless(head, final=final)
            return None
        junk = junk or bool(head[at : found.start()].strip())
        begin = found.start()
        if root := _ROOT.match(head, begin):
            return Root(root[2].decode(), begin, junk)
        if head.startswith(b"<!DOCTYPE", begin):
            end = _doctype_end(head, begin)
        else:
            mark = _ENDS[head[begin : begin + 2]]
            end = head.find(mark, begin + 2)
            end = end + len(mark) if end >= 0 else end
        if end < 0:
            _raise_if_hopeless(head, final=final)
            return None
        at = end


def _doctype_end(head: bytes, begin: int) -> int:
    end, subset = head.find(b">", begin), head.find(b"[", begin)
    if 0 <= subset < end or (end < 0 <= subset):
        raise UnreadableError(
            "it has a document type with declarations in it, which are never read: remove the DOCTYPE"
        )
    return end + 1 if end >= 0 else -1


def _raise_if_hopeless(head: bytes, *, final: bool) -> None:
    if final and not head.strip():
        raise NoReportError("it is empty: the tool that writes it may have crashed", meant_as_report=None)
    if final or len(head) > LONGEST_PROLOG:
        raise NoReportError("it is not XML: no element was found in it", meant_as_report=None)
