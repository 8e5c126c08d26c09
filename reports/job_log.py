"""The part of a failed job's log that a person would scroll to, and the job's steps; in bounded memory."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from buildlight_contracts.collection import LARGEST_EXCERPT
from reports.log_failures import RANK, FoundBy, sign
from reports.log_lines import Line, Lines
from reports.log_steps import LogStep, Steps, moment

_BEFORE = 6
_AFTER = 40
_TAIL = 60
_TAIL_BESIDE = 25
"""Lines of the end shown beside the place of the failure: summaries stand there."""
_REGION_CHARACTERS = 10_000
_LONGEST_SHOWN = 1000
_SLACK = timedelta(seconds=1)
"""Providers tell the times of steps in whole seconds."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """`text` has at most `LARGEST_EXCERPT` characters. `first_line` is its first one's number in the log."""

    found_by: FoundBy
    text: str
    first_line: int
    lines: int
    masked: int
    is_cut: bool
    step: str | None


@dataclass(slots=True)
class _Region:
    found_by: FoundBy
    step: str | None
    lines: list[Line]
    size: int
    left: int = _AFTER
    is_cut: bool = False

    def add(self, line: Line) -> None:
        size = min(len(line.text), _LONGEST_SHOWN) + 1
        if self.size + size > _REGION_CHARACTERS:
            self.left, self.is_cut = 0, True
            return
        self.lines.append(line)
        self.size += size
        self.left -= 1


@dataclass(slots=True)
class _Scope:
    """What was found in one step, or in a log without steps."""

    regions: dict[FoundBy, _Region] = field(default_factory=dict)

    def best(self) -> _Region | None:
        return next((self.regions[by] for by in RANK if by in self.regions), None)


class JobLog:
    """Reads a log: `feed` it, then `close` it once.

    Args:
        within: when the step that failed began and ended, where that is known. Of a log whose lines have times
            only those within are looked at: a step that may fail says the same words. When there are none, the
            end of the log is shown.
        step: that step's name.
    """

    def __init__(self, *, within: tuple[datetime, datetime] | None = None, step: str | None = None) -> None:
        self._lines = Lines()
        self._steps = Steps()
        self._within = within
        self._step = step
        self._scope = _Scope()
        self._before: _Scope | None = None
        """The last step in which anything was found."""
        self._tail: deque[Line] = deque(maxlen=_TAIL)
        self._outside: deque[Line] = deque(maxlen=_TAIL)
        """The end of what is not looked at."""
        self._ended: tuple[_Region | None, tuple[Line, ...], str | None] | None = None

    @property
    def steps(self) -> Sequence[LogStep]:
        """In order; complete once the log is closed."""
        return self._steps.found

    def feed(self, piece: bytes) -> None:
        for line in self._lines.feed(piece):
            self._take(line)

    def close(self, *, is_cut: bool = False) -> Excerpt:
        """What was found. `is_cut`: the log goes on beyond what was fed."""
        for line in self._lines.close():
            self._take(line)
        self._steps.close()
        region, tail, step = self._ended or (self._best(), tuple(self._tail or self._outside), None)
        shown, cut = _compose(region, tail)
        text, short = _text(shown)
        numbered = next((line for line in shown if line.number), None)
        return Excerpt(
            found_by=region.found_by if region else "exit_code" if self._ended else "tail",
            text=text,
            first_line=numbered.number if numbered else 1,
            lines=self._lines.count,
            masked=sum(line.masked for line in shown),
            is_cut=is_cut or cut or short,
            step=self._step or (region.step if region else step),
        )

    def _take(self, line: Line) -> None:
        begins = self._steps.take(line)
        by, ends = sign(line)
        if ends or by == "error_marker":
            self._steps.fail()
        if self._ended is not None:
            return
        if self._within is not None and self._is_outside(line, self._within):
            if line.text:
                self._outside.append(line)
            return
        if begins:
            self._before = self._scope if self._scope.regions else self._before
            self._scope = _Scope()
        if line.text:
            for region in self._scope.regions.values():
                if region.left > 0:
                    region.add(line)
        if by is not None and not ends:
            self._hit(by, line)
        if line.text:
            self._tail.append(line)
        if ends:
            self._ended = (self._scope.best(), tuple(self._tail), self._steps.current)

    def _hit(self, by: FoundBy, line: Line) -> None:
        known = self._scope.regions.get(by)
        if known is not None and known.left > 0:
            known.left = _AFTER
            return
        # Of exceptions the last one ended it; of what tools say the first is the cause.
        if known is None or by in ("exception", "exit_code"):
            region = _Region(by, self._steps.current, [], 0)
            for earlier in [*self._tail][-_BEFORE:]:
                region.add(earlier)
            region.add(line)
            region.left = _AFTER
            self._scope.regions[by] = region

    def _best(self) -> _Region | None:
        return self._scope.best() or (self._before.best() if self._before else None)

    def _is_outside(self, line: Line, within: tuple[datetime, datetime]) -> bool:
        at = moment(line.stamp)
        return at is not None and not within[0] - _SLACK <= at <= within[1] + _SLACK


def _compose(region: _Region | None, tail: Sequence[Line]) -> tuple[list[Line], bool]:
    """The region, and the end where that is elsewhere. A line without a number says how many are left out."""
    if region is None:
        return list(tail), False
    last = region.lines[-1].number if region.lines else 0
    end = [line for line in tail if line.number > last][-_TAIL_BESIDE:]
    if not end:
        return region.lines, region.is_cut
    left_out = end[0].number - last - 1
    gap = [Line(0, f"[… {left_out:,} lines …]")] if left_out > 0 else []
    return [*region.lines, *gap, *end], region.is_cut


def _text(lines: Iterable[Line]) -> tuple[str, bool]:
    """The lines in one; from the end of the beginning so much is left out as is too much."""
    shown, cut = [], False
    for line in lines:
        cut = cut or line.is_cut or len(line.text) > _LONGEST_SHOWN
        shown.append(line.text if len(line.text) <= _LONGEST_SHOWN else line.text[: _LONGEST_SHOWN - 1] + "…")
    text = "\n".join(shown)
    if len(text) <= LARGEST_EXCERPT:
        return text, cut
    head, gap = text[:_REGION_CHARACTERS].rpartition("\n")[0], "\n[…]\n"
    end = text[-(LARGEST_EXCERPT - len(head) - len(gap)) :].partition("\n")[2]
    return head + gap + end, True
