"""TestNG's own XML, `testng-results.xml`."""

import re
from dataclasses import dataclass
from typing import ClassVar

from buildlight_contracts.test_results import Outcome, TestAttempt
from reports.cases import MOST_ATTEMPTS, Clip, attempt_of, first_line, moment_of, seconds_of
from reports.markup import Attributes
from reports.vocabulary import Failure, Vocabulary

_RESULTS = {
    "PASS": Outcome.PASSED,
    "FAIL": Outcome.FAILED,
    "SKIP": Outcome.SKIPPED,
    "SUCCESS_PERCENTAGE_FAILURE": Outcome.PASSED,
}
_NO_NAME_OF_ITS_OWN = re.compile(r"[\w.$\[;]+@[0-9a-f]{1,16}")
"""What Java prints of an object that does not say how: another one in every run."""
_LONGEST_PARAMETER = 200
_MOST_WAITING = 1000


class TestNG(Vocabulary):
    __test__: ClassVar[bool] = False
    format: ClassVar[str] = "testng"
    roots: ClassVar[frozenset[str]] = frozenset({"testng-results"})

    def __init__(self) -> None:
        self._suite = ""
        self._test = ""
        self._class = ""
        self._method: Attributes | None = None
        self._failure = Failure()
        self._parameters: list[str] = []
        self._parameter = Clip(_LONGEST_PARAMETER * 20)
        self._ended: list[_Execution] = []  # of the open class
        super().__init__()

    def opened(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "suite":
                self._suite = attributes.get("name") or ""
                self.reported_at = self.reported_at or moment_of(attributes.get("started-at"))
            case "test":
                self._test = attributes.get("name") or ""
            case "class":
                self._class = attributes.get("name") or ""
            case "test-method":
                self._method, self._failure, self._parameters = attributes, Failure(), []
            case _ if self._method is not None:
                self._inside(tag, attributes)

    def _inside(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "exception":
                self._failure.kind = attributes.get("class")
            case "message":
                self.markup.listen(self._failure.message.add)
            case "full-stacktrace" | "short-stacktrace":
                self.markup.listen(self._failure.detail.add)
            case "value" if "param" in self._open:
                self._parameter = Clip(_LONGEST_PARAMETER * 20)
                self.markup.listen(self._parameter.add)

    def closed(self, tag: str) -> None:
        match tag:
            case "message" | "full-stacktrace" | "short-stacktrace":
                self.markup.listen(None)
            case "value" if self._method is not None:
                self.markup.listen(None)
                self._parameters.append(_shown(self._parameter.text()))
            case "test-method" if self._method is not None:
                self._end_method(self._method)
                self._method = None
            case "class":
                self._end_class()

    def _end_method(self, method: Attributes) -> None:
        outcome = _RESULTS.get(method.get("status") or "", Outcome.ERROR)
        if method.get("is-config") == "true":
            if outcome is not Outcome.PASSED:
                self.remark("methods that set up or clean up and did not succeed, not counted as tests")
            return
        name = method.get("name") or "(no name)"
        if self._parameters:
            name = f"{name}({', '.join(self._parameters)})"
        seconds = seconds_of(method.get("duration-ms"))
        seconds = None if seconds is None else seconds / 1000
        self._ended.append(_Execution(name, outcome, seconds, method.get("retried") == "true", self._failure))
        if len(self._ended) >= _MOST_WAITING:
            self._end_class()

    def _end_class(self) -> None:
        """Make cases of a class's executions. Those that were retried stand before or after the last one."""
        retried: dict[str, list[_Execution]] = {}
        for execution in self._ended:
            if execution.was_retried:
                retried.setdefault(execution.name, []).append(execution)
        for execution in self._ended:
            if not execution.was_retried:
                self._end_test(execution, retried.pop(execution.name, []))
        # The last one may be missing from a report that was cut off: such a test counts as it last went.
        for executions in retried.values():
            *before, last = executions
            self._end_test(last, before)
        self._ended = []

    def _end_test(self, last: "_Execution", before: list["_Execution"]) -> None:
        attempts = [each.attempt() for each in (*before[-(MOST_ATTEMPTS - 1) :], last)]
        self.emit_result(
            last.reported,
            suite=" > ".join(filter(None, (self._suite, self._test))),
            classname=self._class,
            name=last.name,
            seconds=last.seconds,
            failure=last.failure,
            attempts=tuple(attempts) if before else (),
        )

    def finish(self) -> None:
        self._end_class()


@dataclass(frozen=True, slots=True)
class _Execution:
    name: str
    outcome: Outcome
    seconds: float | None
    was_retried: bool
    failure: Failure

    @property
    def reported(self) -> Outcome:
        # TestNG calls it skipped, for it was to be executed again; it was, because it had failed.
        return Outcome.FAILED if self.was_retried else self.outcome

    def attempt(self) -> TestAttempt:
        message = self.failure.message.text() or first_line(self.failure.detail.text())
        return attempt_of(self.reported, self.seconds, self.failure.kind, message)


def _shown(value: str | None) -> str:
    text = (value or "")[:_LONGEST_PARAMETER]
    return _NO_NAME_OF_ITS_OWN.sub(lambda found: found[0].partition("@")[0], text)
