"""JUnit XML, in all the dialects that test tools write.

There is no standard. What is read, and why, is in docs/test-reports.md; in short: every `testcase` is one
case, the cases decide and the suites' own counts are not looked at, and an execution that surefire and others
report as `flakyFailure` or `rerunFailure` is an attempt of its case.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from buildlight_contracts.test_results import Outcome, TestAttempt
from reports.cases import (
    LONGEST_MESSAGE,
    LONGEST_TYPE,
    MOST_ATTEMPTS,
    Clip,
    attempt_of,
    cases_of,
    cut,
    first_line,
    line_of,
    moment_of,
    named,
    said,
    seconds_of,
)
from reports.markup import Attributes
from reports.plain import Row, is_plain, next_boundary, take
from reports.vocabulary import Vocabulary

_VERDICTS = {"failure": Outcome.FAILED, "error": Outcome.ERROR, "skipped": Outcome.SKIPPED}
_ATTEMPTS = {
    "flakyFailure": Outcome.FAILED,
    "flakyError": Outcome.ERROR,
    "rerunFailure": Outcome.FAILED,
    "rerunError": Outcome.ERROR,
}
_GRAVEST_FIRST = (Outcome.ERROR, Outcome.FAILED, Outcome.SKIPPED)
_OUTPUT = frozenset({"system-out", "system-err"})
_STATUSES = {
    **dict.fromkeys(("notrun", "disabled", "skipped", "ignored", "suppressed", "pending"), Outcome.SKIPPED),
    **dict.fromkeys(("failed", "failure", "fail"), Outcome.FAILED),
    **dict.fromkeys(("error", "errored"), Outcome.ERROR),
}
"""What a case says in `status` or `result` counts where it has no element that says more."""

_WORTH_IT = 8
_LONGEST_STRIDE = 32_768

_PASSED = Outcome.PASSED
_EMPTY: dict[str, Any] = {
    "suite": None,
    "classname": None,
    "name": "",
    "file": None,
    "line": None,
    "outcome": _PASSED,
    "duration_seconds": None,
    "failure_type": None,
    "message": None,
    "detail": None,
    "attempts": (),
}


class _Verdict:
    """A `failure`, `error`, `skipped` or attempt while it is read."""

    def __init__(self, outcome: Outcome, attributes: Attributes, clip: Clip) -> None:
        self.outcome = outcome
        self.kind = attributes.get("type")
        self.message = attributes.get("message")
        self.seconds = seconds_of(attributes.get("time"))
        self.clip = clip

    def attempt(self) -> TestAttempt:
        message = self.message or first_line(self.clip.text())
        return attempt_of(self.outcome, self.seconds, self.kind, message)


class _Marks:
    """What the elements inside a case say."""

    def __init__(self) -> None:
        self.verdicts: list[_Verdict] = []
        self.attempts: list[_Verdict] = []
        self.detail = Clip()
        self.current: _Verdict | None = None


class JUnit(Vocabulary):
    format: ClassVar[str] = "junit"
    roots: ClassVar[frozenset[str]] = frozenset({"testsuites", "testsuite", "testrun", "testcase"})

    def __init__(self) -> None:
        self._case: Attributes | None = None
        self._inner: list[str] = []  # open elements inside the case
        self._marks: _Marks | None = None
        self._around: list[
            tuple[Attributes, list[str], _Marks | None]
        ] = []  # cases that this one is inside of
        self._suites: list[tuple[str, str | None]] = []  # names and files
        self._suite: str | None = None
        self._file: str | None = None
        self._template = _EMPTY
        self._plain: list[Attributes] = []
        self._is_between = False
        self._mark = -1  # where in the parser's count the last tag of importance begins
        self._stride = 0
        super().__init__()

    @property
    def open_elements(self) -> Sequence[str]:
        return [*self._open, *(["testcase", *self._inner] if self._case is not None else [])]

    # Called for every element the parser sees. A case with nothing in it goes the short way.

    def start(self, tag: str, attributes: Attributes, /) -> None:
        if self._case is not None:
            self._inside(tag, attributes)
        elif tag == "testcase":
            self._case = attributes
        else:
            self.enter(tag)
            self._mark = self.markup.index
            self._outside(tag.rpartition(":")[2], attributes)

    def end(self, tag: str, /) -> None:
        case = self._case
        if case is None:
            self._open.pop()
            self._mark = self.markup.index
            if tag.rpartition(":")[2] == "testsuite" and self._suites:
                self._suites.pop()
                self._placed()
        elif self._inner:
            self._inner.pop()
            self._after(tag.rpartition(":")[2])
        elif len(case) == 3 and self._marks is None and not self._around:
            self._plain.append(case)
            self._case = None
            self._mark = self.markup.index
        else:
            self._end_case()

    def read(self, data: bytes) -> None:
        if not data.isascii() or self.markup.repairs:
            self._is_between = False
            self.markup.feed(data)
            return
        text, at = data.decode("ascii"), 0
        while at < len(data):
            if self._is_between:
                rows, at = take(text, at)
                # Where runs are short, looking for them costs more than it saves.
                self._stride = 0 if len(rows) > _WORTH_IT else min(_LONGEST_STRIDE, 2 * self._stride + 256)
                if rows:
                    self.flush()
                    self._make_plain(rows)
            end = next_boundary(data, at + self._stride)
            self._parse(data[at:end])
            at = end

    def _parse(self, data: bytes) -> None:
        """Give `data` to the parser, and know whether it then stands between two elements, in no case."""
        self._mark = -1
        self.markup.feed(data)
        # All is read, and an element began or ended last: from its mark on there is nothing but its tag and text.
        since = self.markup.fed - self._mark
        self._is_between = (
            self._case is None
            and self.markup.index == self.markup.fed
            and since <= len(data)
            and data.rfind(b"<") <= len(data) - since
        )

    def _make_plain(self, rows: list[Row]) -> None:
        if not rows:
            return
        template, made = self._template, []
        for classname, name, time in rows:
            values = template.copy()
            values["classname"] = classname
            values["name"] = name
            values["duration_seconds"] = float(time)
            made.append(values)
        self.cases += cases_of(made)
        self.tally.passed += len(made)
        self.tally.seconds = sum([values["duration_seconds"] for values in made], self.tally.seconds)

    def flush(self) -> None:
        """Make the cases that the parser saw end with nothing in them and three attributes, in one go."""
        if not self._plain:
            return
        rows: list[Row] = []
        for case in self._plain:
            row = (case.get("classname", ""), case.get("name", ""), case.get("time", ""))
            if is_plain(row):
                rows.append(row)
            else:
                self._make_plain(rows)
                rows = []
                self._make(case, None)
        self._make_plain(rows)
        self._plain.clear()

    def opened(self, tag: str, attributes: Attributes) -> None:
        raise NotImplementedError

    def closed(self, tag: str) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """A case that was cut off counts when it is known how it went."""
        while self._case is not None:
            if self._marks is not None and self._marks.verdicts:
                self._end_case()
            else:
                self.remark("tests cut off before they say how they went, left out")
                self._leave_case()

    # -- around cases

    def _outside(self, tag: str, attributes: Attributes) -> None:
        if tag == "testsuite":
            self._suites.append(
                (attributes.get("name") or "", attributes.get("file") or attributes.get("filepath"))
            )
            self._placed()
        elif tag == "testcase":  # with a prefix
            self._open.pop()
            self._case = attributes
        elif tag in ("failure", "error"):
            self.remark("failures of a suite outside any test, not counted")
        if self.reported_at is None and (stamp := attributes.get("timestamp")):
            self.reported_at = moment_of(stamp)

    def _placed(self) -> None:
        self.flush()
        names = [name for name, _ in self._suites if name]
        self._suite = named(" > ".join(names)) if names else None
        file = next((file for _, file in reversed(self._suites) if file), None)
        self._file = named(file) if file else None
        self._template = _EMPTY | {"suite": self._suite, "file": self._file}

    # -- inside a case

    def _inside(self, tag: str, attributes: Attributes) -> None:
        tag = tag.rpartition(":")[2]
        if tag == "testcase":
            assert self._case is not None
            self._around.append((self._case, self._inner, self._marks))
            self._open.extend(["testcase", *self._inner])
            self.mind_depth(len(self._open))
            self._case, self._inner, self._marks = attributes, [], None
            return
        self._inner.append(tag)
        self.mind_depth(len(self._open) + len(self._inner))
        marks = self._marks
        if tag in _OUTPUT:
            self.markup.listen(None)
        elif marks is not None and marks.current is not None:
            return  # text of a verdict, however it is wrapped
        elif tag in _VERDICTS or tag in _ATTEMPTS:
            if marks is None:
                marks = self._marks = _Marks()
            self._begin(marks, tag, attributes)

    def _begin(self, marks: _Marks, tag: str, attributes: Attributes) -> None:
        if tag in _VERDICTS:
            verdict = _Verdict(_VERDICTS[tag], attributes, marks.detail)
            marks.verdicts.append(verdict)
            if len(marks.verdicts) > 1:
                marks.detail.add("\n")
        else:
            verdict = _Verdict(_ATTEMPTS[tag], attributes, Clip(LONGEST_MESSAGE * 2))
            if len(marks.attempts) < MOST_ATTEMPTS - 1:
                marks.attempts.append(verdict)
            else:
                self.remark(f"attempts of a test beyond the first {MOST_ATTEMPTS}, left out")
        marks.current = verdict
        self.markup.listen(verdict.clip.add)

    def _after(self, tag: str) -> None:
        marks = self._marks
        if marks is None or marks.current is None:
            return
        if tag in _OUTPUT:
            self.markup.listen(marks.current.clip.add)
        elif (tag in _VERDICTS or tag in _ATTEMPTS) and not (
            set(self._inner) & (_VERDICTS.keys() | _ATTEMPTS.keys())
        ):
            self.markup.listen(None)
            marks.current = None

    # -- the case

    def _end_case(self) -> None:
        assert self._case is not None
        self._mark = self.markup.index
        self.flush()
        self._make(self._case, self._marks)
        self._leave_case()
        if self._around:
            self._return()

    def _make(self, attributes: Attributes, marks: _Marks | None) -> None:
        get = attributes.get
        file = get("file") or get("filepath")
        values = self._template | {
            "classname": named(get("classname") or get("class") or "") or None,
            "name": named(get("name") or get("id") or "(no name)"),
            "file": named(file) if file else self._file,
            "line": line_of(get("line") or get("lineno")),
            "duration_seconds": seconds_of(get("time") or get("duration")),
        }
        self._say(values, attributes, marks or _Marks())
        self.emit(values)

    def _leave_case(self) -> None:
        self._case = self._marks = None
        self._inner = []
        self.markup.listen(None)

    def _return(self) -> None:
        """Back to the case that the last one was inside of."""
        self._case, self._inner, self._marks = self._around.pop()
        del self._open[len(self._open) - 1 - len(self._inner) :]

    def _say(self, values: dict[str, Any], attributes: Attributes, marks: _Marks) -> None:
        """Put in what the elements inside the case say, and its status."""
        verdict = next((v for o in _GRAVEST_FIRST for v in marks.verdicts if v.outcome is o), None)
        if verdict is not None:
            detail = marks.detail.text()
            wrote = verdict.message
            message = said(wrote, LONGEST_MESSAGE) if wrote else cut(first_line(detail), LONGEST_MESSAGE)
            values["outcome"] = verdict.outcome
            values["failure_type"] = cut(verdict.kind, LONGEST_TYPE)
            values["message"] = message
            values["detail"] = None if detail == message else detail
        elif not marks.attempts:
            status = _STATUSES.get((attributes.get("status") or "").lower())
            values["outcome"] = status or _STATUSES.get((attributes.get("result") or "").lower(), _PASSED)
        if marks.attempts:
            values["attempts"] = self._in_order(marks.attempts, values)

    @staticmethod
    def _in_order(attempts: list[_Verdict], values: dict[str, Any]) -> tuple[TestAttempt, ...]:
        """A test that passed did so at last; of one that did not, surefire tells the first attempt in the case."""
        reported = attempt_of(
            values["outcome"], values["duration_seconds"], values["failure_type"], values["message"]
        )
        others = tuple(attempt.attempt() for attempt in attempts)
        return (*others, reported) if values["outcome"] is _PASSED else (reported, *others)
