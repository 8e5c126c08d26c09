"""What every reader makes cases of: texts cut to size, without secrets; times in any notation; and the totals."""

import hashlib
import re
from collections import deque
from datetime import datetime
from itertools import repeat
from typing import Any

from pydantic import BaseModel

from buildlight_contracts.test_results import Outcome, TestAttempt, TestCase, Totals
from reports.secrets import LONGEST_LINE, masked

LONGEST_NAME = 1000
LONGEST_TYPE = 500
LONGEST_MESSAGE = 2000
LONGEST_DETAIL = 8000
MOST_ATTEMPTS = 50
_MARK = "\n[... {:,} characters left out ...]\n"
_MARK_ROOM = 60
_TAIL = 3000
_LONGEST_WORD = 512

_CLOCK = re.compile(r"(?:(\d+)\.)?(\d+):(\d{1,2}):(\d{1,2}(?:[.,]\d+)?)")
_BLANK = re.compile(r"[ \n\t]")
_FIELDS = set(TestCase.model_fields)
_new = object.__new__
_set_values = BaseModel.__dict__["__dict__"].__set__
_set_fields = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__


def case_of(values: dict[str, Any]) -> TestCase:
    """A test case from values that are known to fit: all of its fields, of the right types and lengths.

    It does what `model_construct` does, which takes seven times as long, longer than all the rest of reading;
    validating takes twice as long. A test compares such cases with validated ones for every report there is.
    """
    case = _new(TestCase)
    _set_values(case, values)
    _set_fields(case, _FIELDS)
    _set_extra(case, None)
    _set_private(case, None)
    return case


def cases_of(values: list[dict[str, Any]]) -> list[TestCase]:
    """What `case_of` makes of each, in less time."""
    cases = list(map(_new, repeat(TestCase, len(values))))
    for setter, each in (
        (_set_values, values),
        (_set_fields, repeat(_FIELDS)),
        (_set_extra, repeat(None)),
        (_set_private, repeat(None)),
    ):
        deque(map(setter, cases, each), 0)
    return cases


def named(text: str, longest: int = LONGEST_NAME) -> str:
    """`text` cut to size, still telling it from others that begin alike."""
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode(errors="replace")).hexdigest()[:16]
    return f"{text[: longest - 20]}...{digest}"


def cut(text: str | None, longest: int) -> str | None:
    """`text` without the spaces around it, cut to size; None for nothing."""
    kept = text.strip() if text else ""
    return (kept if len(kept) <= longest else f"{kept[: longest - 4]} ...") or None


def said(text: str | None, longest: int) -> str | None:
    """What a test wrote: secrets masked, and then as `cut` does."""
    return cut(masked(text[: longest + LONGEST_LINE]), longest) if text else None


def without_secrets(case: TestCase) -> TestCase:
    """`case` with the secrets masked in what was written: the message, the detail, the attempts' messages."""
    if case.message is None and case.detail is None and not case.attempts:
        return case
    return case.model_copy(
        update={
            "message": said(case.message, LONGEST_MESSAGE),
            "detail": said(case.detail, LONGEST_DETAIL),
            "attempts": tuple(
                one.model_copy(update={"message": said(one.message, LONGEST_MESSAGE)}) if one.message else one
                for one in case.attempts
            ),
        }
    )


def seconds_of(text: str | None) -> float | None:
    """A duration in seconds: `1.5`, `1,200.05`, `0,160`, `1.200,05`, `00:01:02.5`; None when it is none.

    A single comma is the decimal one: German and French machines write `1,200` for 1.2.
    """
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = _odd_seconds(text.strip().removesuffix("s").rstrip())
    return seconds if 0 <= seconds < 1e9 else None


def _odd_seconds(text: str) -> float:
    if clock := _CLOCK.fullmatch(text):
        days, hours, minutes, rest = clock.groups()
        return int(days or 0) * 86_400 + int(hours) * 3600 + int(minutes) * 60 + float(rest.replace(",", "."))
    comma, dot = text.rfind(","), text.rfind(".")
    if comma > dot and text.count(",") == 1:
        text = text.replace(".", "").replace(",", ".")
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return -1.0


def moment_of(text: str | None) -> datetime | None:
    """A point in time that tells its zone; None for one that does not: nobody knows whose clock it was."""
    try:
        moment = datetime.fromisoformat((text or "").strip())
        return moment if moment.tzinfo and moment.astimezone() else None
    except (ValueError, OverflowError):
        return None


def line_of(text: str | None) -> int | None:
    """A line number, or None."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 10 else None


class Clip:
    """The beginning and the end of a text of any length, taken in pieces."""

    def __init__(self, longest: int = LONGEST_DETAIL) -> None:
        self._head_room = longest - _TAIL - _MARK_ROOM
        self._longest = longest
        self._head: list[str] = []
        self._head_size = 0
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._dropped = 0

    @property
    def size(self) -> int:
        """How many characters are kept."""
        return self._head_size + self._tail_size

    def add(self, piece: str) -> None:
        room = self._head_room - self._head_size
        if room > 0:
            self._head.append(piece[:room])
            self._head_size += min(room, len(piece))
            piece = piece[room:]
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
            while self._tail_size - len(self._tail[0]) >= _TAIL + _MARK_ROOM:
                self._dropped += len(self._tail[0])
                self._tail_size -= len(self._tail.popleft())

    def text(self) -> str | None:
        """What was added, secrets masked, without the spaces around it; None for nothing."""
        head, tail = "".join(self._head), "".join(self._tail)
        if not self._dropped and len(head) + len(tail) <= self._longest:
            return said(head + tail, self._longest)
        end = tail[-_TAIL:]
        dropped = self._dropped + len(tail) - len(end)
        # Of a secret that is cut in two nobody would know either part.
        begins, ends = _before_last_word(head), _after_first_word(end)
        mark = _MARK.format(dropped + len(head) - len(begins) + len(end) - len(ends))
        return cut(masked(begins.lstrip()) + mark + masked(ends, is_end=True), self._longest)


def _before_last_word(text: str) -> str:
    at = max(text.rfind(blank) for blank in " \n\t")
    return text[: max(at, len(text) - _LONGEST_WORD, 0)]


def _after_first_word(text: str) -> str:
    found = _BLANK.search(text, 0, _LONGEST_WORD)
    return text[found.start() if found else _LONGEST_WORD :]


def first_line(text: str | None) -> str | None:
    """The first line that says something."""
    return next((line.strip() for line in (text or "").splitlines() if line.strip()), None)


class Tally:
    """Counts cases as they are made."""

    def __init__(self) -> None:
        self.passed = self.failed = self.errors = self.skipped = self.flaky = 0
        self.seconds = 0.0

    def add(self, case: TestCase) -> None:
        match case.outcome:
            case Outcome.PASSED:
                self.passed += 1
                self.flaky += case.is_flaky
            case Outcome.FAILED:
                self.failed += 1
            case Outcome.ERROR:
                self.errors += 1
            case Outcome.SKIPPED:
                self.skipped += 1
        self.seconds += case.duration_seconds or 0.0

    def totals(self) -> Totals:
        return Totals(
            tests=self.passed + self.failed + self.errors + self.skipped,
            passed=self.passed,
            failed=self.failed,
            errors=self.errors,
            skipped=self.skipped,
            flaky=self.flaky,
            duration_seconds=round(self.seconds, 6),
        )


def attempt_of(
    outcome: Outcome, seconds: float | None, kind: str | None = None, message: str | None = None
) -> TestAttempt:
    return TestAttempt(
        outcome=outcome,
        duration_seconds=seconds,
        failure_type=cut(kind, LONGEST_TYPE),
        message=said(message, LONGEST_MESSAGE),
    )
