"""NUnit's XML: version 3 (`test-run`, `test-case`) and version 2 (`test-results`)."""

from typing import ClassVar

from buildlight_contracts.test_results import Outcome
from reports.cases import moment_of, seconds_of
from reports.markup import Attributes
from reports.vocabulary import Failure, Vocabulary, base_name, split_name

_RESULTS = {
    "passed": Outcome.PASSED,
    "warning": Outcome.PASSED,
    "failed": Outcome.FAILED,
    "skipped": Outcome.SKIPPED,
    "inconclusive": Outcome.SKIPPED,
    # Version 2.
    "success": Outcome.PASSED,
    "failure": Outcome.FAILED,
    "error": Outcome.ERROR,
    "cancelled": Outcome.ERROR,
    "notrunnable": Outcome.ERROR,
    "invalid": Outcome.ERROR,
    "ignored": Outcome.SKIPPED,
    "explicit": Outcome.SKIPPED,
}
_ERROR_LABELS = frozenset({"error", "cancelled", "invalid"})


class NUnit(Vocabulary):
    format: ClassVar[str] = "nunit"
    roots: ClassVar[frozenset[str]] = frozenset({"test-run", "test-results"})

    def __init__(self) -> None:
        self._suites: list[str] = []
        self._case: Attributes | None = None
        self._failure = Failure()
        super().__init__()

    def opened(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "test-run":
                self.reported_at = moment_of(attributes.get("start-time"))
            case "test-suite":
                self._suites.append(base_name(attributes.get("name") or ""))
            case "test-case":
                self._case, self._failure = attributes, Failure()
            case "message" if self._case is not None and self._open[-2] in ("failure", "reason"):
                self.markup.listen(self._failure.message.add)
            case "stack-trace" if self._case is not None and self._open[-2] == "failure":
                self.markup.listen(self._failure.detail.add)
            case "failure" if self._case is None and self._suites:
                self.remark("failures of a suite outside any test, not counted")

    def closed(self, tag: str) -> None:
        match tag:
            case "message" | "stack-trace":
                self.markup.listen(None)
            case "test-suite" if self._suites:
                self._suites.pop()
            case "test-case" if self._case is not None:
                self._end_case(self._case)
                self._case = None

    def _end_case(self, case: Attributes) -> None:
        classname, name = case.get("classname"), case.get("name") or ""
        if classname is None:
            classname, name = split_name(name)
        self.emit_result(
            self._outcome(case),
            suite=" > ".join(name for name in self._suites if name),
            classname=classname,
            name=name,
            seconds=seconds_of(case.get("duration") or case.get("time")),
            failure=self._failure,
        )

    def _outcome(self, case: Attributes) -> Outcome:
        result, label = (case.get("result") or "").lower(), (case.get("label") or "").lower()
        if not result:  # before version 2.5
            ran = case.get("executed", "True") == "True"
            passed = case.get("success", "True") == "True"
            return Outcome.SKIPPED if not ran else Outcome.PASSED if passed else Outcome.FAILED
        outcome = _RESULTS.get(result)
        if outcome is None:
            self.remark("tests with a result that NUnit does not define, counted as errors")
            return Outcome.ERROR
        return Outcome.ERROR if outcome is Outcome.FAILED and label in _ERROR_LABELS else outcome
