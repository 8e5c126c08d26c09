"""The steps of a job by its log: GitHub's groups of commands, GitLab's sections, Jenkins' stages."""

from dataclasses import dataclass
from datetime import UTC, datetime

from reports.log_lines import Line, Mark

MOST_STEPS = 500
_GITHUB_STEPS = ("Run ", "Post job cleanup", "Cleaning up orphan processes")
_FIRST_STEP = "Set up job"


@dataclass(slots=True)
class LogStep:
    """Lines are counted from 1, the last one included; times are None where the log has none."""

    name: str
    depth: int
    first_line: int
    last_line: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    failed: bool = False

    @property
    def duration_seconds(self) -> float | None:
        if self.started_at is None or self.finished_at is None:
            return None
        return max(0.0, (self.finished_at - self.started_at).total_seconds())


class Steps:
    """Line after line; after `close` each of `found` has its end."""

    def __init__(self) -> None:
        self.found: list[LogStep] = []
        self.left_out = 0
        """How many there were beyond `MOST_STEPS`."""
        self._open: list[tuple[str, LogStep | None]] = []
        """What has begun and not ended, with the key its end will have; None for a block that is no step."""
        self._last = Line(0, "")
        self._first: Line | None = None

    @property
    def current(self) -> str | None:
        """The innermost step that is open."""
        return next((step.name for _, step in reversed(self._open) if step is not None), None)

    def take(self, line: Line) -> bool:
        """True when the line begins a step that ends the one before it."""
        begins = False
        self._first = self._first or line
        for mark in line.marks:
            begins = self._marked(mark, line)
        if (
            not line.marks
            and self._open
            and self._open[-1][0] == ""
            and line.text.startswith(_GITHUB_STEPS[1:])
        ):
            begins = self._next(line.text.rstrip("."), line)
        self._last = line
        return begins

    def fail(self) -> None:
        """The line last taken says that what is open has failed."""
        for _, step in self._open:
            if step is not None:
                step.failed = True

    def close(self) -> None:
        while self._open:
            self._end(self._last, moment(self._last.stamp))

    def _marked(self, mark: Mark, line: Line) -> bool:
        match mark.kind:
            case "group" if mark.name.startswith(_GITHUB_STEPS[0]):
                if not self.found and self._first is not None and self._first.number < line.number:
                    self._begin(_FIRST_STEP, "", self._first, moment(self._first.stamp))
                return self._next(mark.name, line)
            case "section":
                self._begin(mark.name, f"section {mark.key}", line, _at(mark.seconds))
            case "endsection":
                key = f"section {mark.key}"
                if any(opened == key for opened, _ in self._open):
                    while self._end(line, _at(mark.seconds)) != key:
                        pass
            case "block":
                self._begin(mark.name, "block", line, moment(line.stamp), is_step=bool(mark.name))
            case "endblock" if self._open and self._open[-1][0] == "block":
                self._end(line, moment(line.stamp))
            case _:
                pass
        return False

    def _next(self, name: str, line: Line) -> bool:
        """GitHub marks where a step begins, and not where it ends."""
        while self._open:
            self._end(self._last, moment(self._last.stamp))
        self._begin(name, "", line, moment(line.stamp))
        return True

    def _begin(self, name: str, key: str, line: Line, at: datetime | None, *, is_step: bool = True) -> None:
        step: LogStep | None = None
        if is_step and len(self.found) < MOST_STEPS:
            depth = sum(1 for _, outer in self._open if outer is not None)
            step = LogStep(name, depth, line.number, started_at=at)
            self.found.append(step)
        elif is_step:
            self.left_out += 1
        if len(self._open) < MOST_STEPS:
            self._open.append((key, step))

    def _end(self, line: Line, at: datetime | None) -> str:
        key, step = self._open.pop()
        if step is not None:
            step.last_line, step.finished_at = max(line.number, step.first_line), at
        return key


def moment(stamp: str | None) -> datetime | None:
    """A runner's time; of its seven or nine decimals six are kept."""
    if stamp is None:
        return None
    whole, _, decimals = stamp.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}.{decimals[:6]:0<6}").replace(tzinfo=UTC)
    except ValueError:
        return None


def _at(seconds: int | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None
