"""xUnit.net's XML (v1, v2 and v3): `assemblies` of `test` elements."""

from typing import ClassVar

from buildlight_contracts.test_results import Outcome
from reports.cases import moment_of, seconds_of
from reports.markup import Attributes
from reports.vocabulary import Failure, Vocabulary, base_name

_RESULTS = {
    "pass": Outcome.PASSED,
    "fail": Outcome.FAILED,
    "skip": Outcome.SKIPPED,
    "notrun": Outcome.SKIPPED,
}


class XUnit(Vocabulary):
    format: ClassVar[str] = "xunit"
    roots: ClassVar[frozenset[str]] = frozenset({"assemblies", "assembly"})

    def __init__(self) -> None:
        self._assembly: str | None = None
        self._test: Attributes | None = None
        self._failure = Failure()
        super().__init__()

    def opened(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "assemblies" | "assembly":
                self._assembly = base_name(attributes.get("name") or "") or None
                self.reported_at = self.reported_at or moment_of(
                    attributes.get("start-rtf") or attributes.get("timestamp")
                )
            case "test":
                self._test, self._failure = attributes, Failure()
            case "error":
                self.remark("errors outside any test, not counted")
            case _ if self._test is not None:
                self._inside(tag, attributes)

    def _inside(self, tag: str, attributes: Attributes) -> None:
        match tag:
            case "failure":
                self._failure.kind = attributes.get("exception-type")
            case "message" | "reason":
                self.markup.listen(self._failure.message.add)
            case "stack-trace":
                self.markup.listen(self._failure.detail.add)

    def closed(self, tag: str) -> None:
        if tag in ("message", "reason", "stack-trace"):
            self.markup.listen(None)
        elif tag == "test" and self._test is not None:
            self._end_test(self._test)
            self._test = None

    def _end_test(self, test: Attributes) -> None:
        outcome = _RESULTS.get((test.get("result") or "").lower())
        if outcome is None:
            self.remark("tests with a result that xUnit.net does not define, counted as errors")
            outcome = Outcome.ERROR
        # `name` is the whole display name, with the class in front unless it was changed; its arguments matter.
        classname, name = test.get("type"), test.get("name") or test.get("method")
        if classname and name and name.startswith(f"{classname}."):
            name = name[len(classname) + 1 :]
        self.emit_result(
            outcome,
            suite=self._assembly,
            classname=classname,
            name=name,
            seconds=seconds_of(test.get("time")),
            failure=self._failure,
        )
