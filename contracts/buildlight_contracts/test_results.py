"""Test reports: what the tests of a build said, a thousand cases a message."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Fact, Id, Moment, Payload, derive_id

MOST_CASES = 1000
"""In one message; a longer report travels in several."""


class Outcome(StrEnum):
    """How one execution of one test ended."""

    PASSED = "passed"
    FAILED = "failed"
    """An assertion did not hold."""
    ERROR = "error"
    """The test could not be carried out: an unexpected exception, a crash, a failed set-up."""
    SKIPPED = "skipped"

    @property
    def is_bad(self) -> bool:
        return self in (Outcome.FAILED, Outcome.ERROR)


class TestAttempt(Payload):
    """One execution of a test that a report says was executed more than once."""

    __test__: ClassVar[bool] = False

    outcome: Outcome
    duration_seconds: float | None = Field(default=None, ge=0)
    failure_type: str | None = Field(default=None, max_length=500)
    message: str | None = Field(default=None, max_length=2000)


class TestCase(Payload):
    """One test of a report."""

    __test__: ClassVar[bool] = False

    suite: str | None = Field(default=None, max_length=1000)
    """The names of the suites around it, outermost first, joined with ` > `."""
    classname: str | None = Field(default=None, max_length=1000)
    name: str = Field(max_length=1000)
    file: str | None = Field(default=None, max_length=1000)
    line: int | None = None
    outcome: Outcome
    """Of the last attempt: what the tool itself counted the test as."""
    duration_seconds: float | None = Field(default=None, ge=0)
    failure_type: str | None = Field(default=None, max_length=500)
    message: str | None = Field(default=None, max_length=2000)
    """The failure's or skip's message; long ones are cut."""
    detail: str | None = Field(default=None, max_length=8000)
    """The failure's text, such as a stack trace; of a long one the beginning and the end."""
    attempts: tuple[TestAttempt, ...] = Field(default=(), max_length=50)
    """Every execution in order, the last one included, when there was more than one; else empty."""

    @property
    def is_flaky(self) -> bool:
        """True when it passed in the end, and not at first."""
        return self.outcome is Outcome.PASSED and any(a.outcome.is_bad for a in self.attempts)


class Totals(Payload):
    """How many tests a report has, each counted once however often it was executed."""

    tests: int = Field(ge=0)
    passed: int = Field(ge=0)
    failed: int = Field(ge=0)
    errors: int = Field(ge=0)
    skipped: int = Field(ge=0)
    flaky: int = Field(ge=0)
    """Of those that passed: how many did so only when executed again."""
    duration_seconds: float = Field(ge=0)
    """The sum of the cases' own durations."""


class TestReportObservedV1(Fact):
    """Sent when a test report of a build was read: one message for every thousand cases or fewer."""

    __test__: ClassVar[bool] = False
    type: ClassVar[str] = "test_report.observed.v1"

    build: BuildRef
    repository: str
    workflow_id: Id | None = None
    branch: str | None = None
    commit_sha: str | None = None
    job: str | None = None
    """The job whose tests they are, where that is known."""
    report_id: UUID
    """The same in every message of one report."""
    chunk: int = Field(ge=1)
    last: bool
    """True in the report's last message, which carries `totals`."""
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")
    """SHA-256 over the report's cases up to and with this message's, as `report_digest` makes it."""
    origin: Literal["artifact", "provider", "upload"]
    source: str = Field(max_length=1000)
    """Where it was found: artifact and path, or the name it was uploaded by."""
    format: str = Field(max_length=32, examples=["junit"])
    reader: int = Field(ge=1)
    """The version of the reader: the same bytes may be read better by a later one."""
    totals: Totals | None = None
    notes: tuple[str, ...] = Field(default=(), max_length=20)
    """What had to be recovered or left out, for a person."""
    reported_at: Moment | None = None
    """The report's own time, where it has one with a zone."""
    observed_at: Moment
    """When the attempt whose tests they are ended, or else when the report was received."""
    cases: tuple[TestCase, ...] = Field(default=(), max_length=MOST_CASES)

    def subject(self) -> str:
        return f"{self.build.subject}/reports/{self.report_id}"

    def material(self) -> Mapping[str, Any]:
        return {
            "attempt": self.build.attempt,
            **self.model_dump(mode="json", include={"chunk", "last", "digest", "reader"}),
        }

    def occurred_at(self) -> datetime:
        return self.observed_at


def report_id_of(build: BuildRef, first_digest: str) -> UUID:
    """The id of a report, from the digest of its first message: known before the rest has been read."""
    return derive_id("report", build.subject, str(build.attempt), first_digest)


class TestReportRefusedV1(Fact):
    """Sent when something that should be a test report could not be read."""

    __test__: ClassVar[bool] = False
    type: ClassVar[str] = "test_report.refused.v1"

    build: BuildRef
    repository: str
    origin: Literal["artifact", "provider", "upload"]
    source: str = Field(max_length=1000)
    reason: str
    """What is wrong with it and what to do, for a person."""
    refused_at: Moment

    def subject(self) -> str:
        return f"{self.build.subject}/reports/refused/{derive_id('source', self.source)}"

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt, "reason": self.reason}

    def occurred_at(self) -> datetime:
        return self.refused_at
