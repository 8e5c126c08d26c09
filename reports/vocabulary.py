"""What the readers of the XML formats share: where one is in the document, and what to do with cases."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar

from buildlight_contracts.test_results import TestCase
from reports.cases import Tally, case_of
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
        self.opened(tag, attributes)

    def end(self, tag: str, /) -> None:
        self._open.pop()
        self.closed(tag)

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
