"""What the readers of the XML formats share: where one is in the document, and what to do with cases."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from buildlight_contracts.test_results import Outcome, TestAttempt, TestCase
from reports.cases import (
    LONGEST_MESSAGE,
    LONGEST_TYPE,
    Clip,
    Tally,
    case_of,
    cut,
    first_line,
    named,
)
from reports.errors import UnreadableError
from reports.markup import Attributes, Markup

_DEEPEST = 200


class Vocabulary:
    """One format: its elements, and the cases they tell of."""

    format: ClassVar[str]
    roots: ClassVar[frozenset[str]]
    """The names of root elements by which the format is known."""

    def __init__(self) -> None:
        self.cases: list[TestCase] = []
        self.tally = Tally()
        self.reported_at: datetime | None = None
        self.remarks: dict[str, int] = {}
        """What was left out or guessed, and how often."""
        self._open: list[str] = []
        self.markup = Markup(self)

    # -- called by the markup

    def start(self, tag: str, attributes: Attributes, /) -> None:
        self.enter(tag)
        self.opened(tag.rpartition(":")[2], attributes)

    def end(self, tag: str, /) -> None:
        self._open.pop()
        self.closed(tag.rpartition(":")[2])

    @property
    def open_elements(self) -> Sequence[str]:
        return self._open

    # -- for formats

    def opened(self, tag: str, attributes: Attributes) -> None:
        """An element begins, already among the open ones."""
        raise NotImplementedError

    def closed(self, tag: str) -> None:
        """An element ended; its parent is the last of the open ones."""
        raise NotImplementedError

    def read(self, data: bytes) -> None:
        """Read more of the document, in clean UTF-8."""
        self.markup.feed(data)

    def flush(self) -> None:
        """Put into `cases` what was kept back to be made together."""

    def finish(self) -> None:
        """The document is over, properly or not."""

    def enter(self, tag: str) -> None:
        self._open.append(tag)
        self.mind_depth(len(self._open))

    @staticmethod
    def mind_depth(depth: int) -> None:
        if depth > _DEEPEST:
            raise UnreadableError(f"elements nested more than {_DEEPEST} deep: this is no test report")

    def remark(self, what: str) -> None:
        self.remarks[what] = self.remarks.get(what, 0) + 1

    def emit(self, values: dict[str, Any]) -> None:
        """Add a case with these values for all of its fields."""
        case = case_of(values)
        self.tally.add(case)
        self.cases.append(case)

    def emit_result(
        self,
        outcome: Outcome,
        *,
        suite: str | None,
        classname: str | None,
        name: str | None,
        seconds: float | None,
        failure: "Failure | None" = None,
        attempts: tuple[TestAttempt, ...] = (),
    ) -> None:
        """Add a case from what most formats tell of it."""
        failure = failure or Failure()
        detail = failure.detail.text()
        message = cut(failure.message.text() or first_line(detail), LONGEST_MESSAGE)
        self.emit(
            {
                "suite": named(suite) if suite else None,
                "classname": named(classname) if classname else None,
                "name": named(name or "(no name)"),
                "file": None,
                "line": None,
                "outcome": outcome,
                "duration_seconds": seconds,
                "failure_type": cut(failure.kind, LONGEST_TYPE),
                "message": message,
                "detail": None if detail == message else detail,
                "attempts": attempts,
            }
        )


class Failure:
    """Why a test failed or was skipped, while it is read."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.message = Clip(LONGEST_MESSAGE * 2)
        self.detail = Clip()

    @property
    def size(self) -> int:
        """In characters, about."""
        return self.message.size + self.detail.size


def split_name(full: str) -> tuple[str | None, str]:
    """`Acme.Shop.CartTest.Adds(1.5, "a.b")` as its class and its name."""
    plain = full.partition("(")[0]
    classname, dot, _ = plain.rpartition(".")
    return (classname or None, full[len(classname) + 1 :]) if dot else (None, full)


def base_name(path: str) -> str:
    """The last part of a path, of Windows or not."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
