"""TRX, the XML of Visual Studio's test platform (`dotnet test --logger trx`).

A result names its test by an id, and what class that test is of stands further down, under `TestDefinitions`: so
results wait for their definition, as many as bounded memory allows.
"""

from dataclasses import dataclass
from typing import ClassVar

from buildlight_contracts.test_results import Outcome
from reports.cases import moment_of, seconds_of
from reports.markup import Attributes
from reports.vocabulary import Failure, Vocabulary, base_name

_OUTCOMES = {
    **dict.fromkeys(("passed", "passedbutrunaborted", "warning", "completed"), Outcome.PASSED),
    "failed": Outcome.FAILED,
    **dict.fromkeys(("error", "timeout", "aborted", "disconnected", "notrunnable"), Outcome.ERROR),
    **dict.fromkeys(("notexecuted", "inconclusive", "pending", "inprogress"), Outcome.SKIPPED),
}
_MOST_WAITING_CHARACTERS = 8_000_000
_MOST_DEFINITIONS = 100_000


@dataclass(slots=True)
class _Result:
    test_id: str
    name: str
    outcome: Outcome
    seconds: float | None
    failure: Failure
    has_inner: bool = False


class Trx(Vocabulary):
    format: ClassVar[str] = "trx"
    roots: ClassVar[frozenset[str]] = frozenset({"TestRun"})

    def __init__(self) -> None:
        self._results: list[_Result] = []  # open ones; those of a data-driven test are inside one another
        self._waiting: list[_Result] = []
        self._waiting_characters = 0
        self._definitions: dict[str, tuple[str | None, str | None]] = {}  # class and storage
        self._definition: tuple[str, str | None] | None = None
        super().__init__()

    def opened(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "Times":
                self.reported_at = moment_of(attributes.get("finish") or attributes.get("start"))
            case "UnitTestResult" | "TestResult" | "GenericTestResult" | "WebTestResult":
                self._begin_result(attributes)
            case "Message" if self._results and self._open[-2] == "ErrorInfo":
                self.markup.listen(self._results[-1].failure.message.add)
            case "StackTrace" if self._results and self._open[-2] == "ErrorInfo":
                self.markup.listen(self._results[-1].failure.detail.add)
            case "UnitTest":
                storage = base_name(attributes.get("storage") or "") or None
                self._definition = (attributes.get("id") or "", storage)
            case "TestMethod" if self._definition is not None:
                self._define(attributes)

    def _begin_result(self, attributes: Attributes) -> None:
        outcome = _OUTCOMES.get((attributes.get("outcome") or "").lower())
        if outcome is None:
            self.remark("results without an outcome that TRX defines, counted as errors")
            outcome = Outcome.ERROR
        if self._results:
            self._results[-1].has_inner = True
        self._results.append(
            _Result(
                test_id=attributes.get("testId") or "",
                name=attributes.get("testName") or "(no name)",
                outcome=outcome,
                seconds=seconds_of(attributes.get("duration")),
                failure=Failure(),
            )
        )

    def _define(self, attributes: Attributes) -> None:
        assert self._definition is not None
        test_id, storage = self._definition
        # MSTest v1 puts the assembly after a comma.
        classname = (attributes.get("className") or "").partition(",")[0] or None
        if len(self._definitions) < _MOST_DEFINITIONS:
            self._definitions[test_id] = (classname, storage)

    def closed(self, tag: str) -> None:
        match tag:
            case "Message" | "StackTrace":
                self.markup.listen(None)
            case "UnitTestResult" | "TestResult" | "GenericTestResult" | "WebTestResult" if self._results:
                result = self._results.pop()
                # A data-driven test is its rows: counted itself, it would be counted twice.
                if not result.has_inner:
                    self._wait(result)
            case "TestDefinitions" | "TestRun":
                self._release()

    def _wait(self, result: _Result) -> None:
        self._waiting.append(result)
        self._waiting_characters += 1000 + result.failure.size
        if self._waiting_characters > _MOST_WAITING_CHARACTERS:
            if not self._definitions:
                self.remark("classes of tests not known: the report is too large to wait for its definitions")
            self._release()

    def finish(self) -> None:
        while self._results:
            if not self._results[-1].has_inner:
                self._waiting.append(self._results[-1])
            self._results.pop()
        self._release()

    def _release(self) -> None:
        for result in self._waiting:
            classname, storage = self._definitions.get(result.test_id, (None, None))
            name = result.name
            if classname and name.startswith(f"{classname}."):
                name = name[len(classname) + 1 :]
            self.emit_result(
                result.outcome,
                suite=storage,
                classname=classname,
                name=name,
                seconds=result.seconds,
                failure=result.failure,
            )
        self._waiting = []
        self._waiting_characters = 0
