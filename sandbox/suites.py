"""Which tests a job runs, and how each of them goes.  Pure: same seed, same results.

Three things are there to be told apart: a flaky test fails now and then and passes on the same commit when it is run
again; a broken one fails from the push that broke it until the one that mends it; some are always skipped.
"""

from dataclasses import dataclass
from typing import Literal

from sandbox.catalogue import Repository
from sandbox.timeline import Fate, dice

Outcome = Literal["passed", "failed", "error", "skipped"]
Kind = Literal["steady", "flaky", "skipped"]

TOPICS = {
    "shop": ("cart", "checkout", "voucher", "delivery", "search box", "order page"),
    "payments": ("charge", "refund", "invoice", "ledger", "iban"),
    "inventory": ("stock", "warehouse", "reservation", "picking"),
    "search": ("query", "index", "ranking", "synonym", "suggestion"),
    "mobile": ("login", "basket", "camera", "push message", "offline"),
}
_OTHER_TOPICS = ("account", "export", "report", "mailer", "scheduler")
_DEEDS = (
    "keeps the total",
    "rounds half even",
    "refuses an empty name",
    "survives a lost connection",
    "is idempotent",
    "writes an audit entry",
    "sorts by date",
    "accepts umlauts",
    "expires after a day",
    "retries once",
    "does not leak memory",
    "handles a leap day",
)
_CAUSES = (
    ("AssertionError", "expected 3 but was 2"),
    ("AssertionError", 'expected "open" but was "closed"'),
    ("TypeError", "unsupported operand: None and int"),
    ("AssertionError", "1 of 12 rows differ"),
)
_FLAKES = (
    ("TimeoutError", "no answer within 5000 ms"),
    ("ConnectionError", "connection reset by peer"),
    ("AssertionError", "expected 1 message but got 0"),
    ("StaleElementError", "element is not attached to the document"),
)
_REASONS = ("needs a real card terminal", "see ticket SHOP-311", "only on Windows")


@dataclass(frozen=True, slots=True)
class Test:
    """A test; `group` is what its class or file is about."""

    group: str
    deed: str
    kind: Kind
    seconds: float
    line: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why an execution of a test was bad."""

    type: str
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """How a test went; `before` has the bad executions before the last one, of a tool that tries again."""

    test: Test
    outcome: Outcome
    seconds: float
    trouble: Trouble | None = None
    reason: str = ""
    before: tuple[Trouble, ...] = ()


def has_tests(job: str) -> bool:
    """Whether a job of this name runs tests and keeps their report."""
    return job.startswith(("unit", "integration", "end-to-end"))


def suite_of(repository: Repository, job: str) -> tuple[Test, ...]:
    """The job's tests, in the order in which they are run."""
    rng = dice("tests", repository.full_name, job)
    made = []
    for group in TOPICS.get(repository.name, _OTHER_TOPICS):
        for deed in rng.sample(_DEEDS, 5 if job.startswith("unit") else 3):
            roll = rng.random()
            kind: Kind = "flaky" if roll < 0.1 else "skipped" if roll < 0.15 else "steady"
            slow = 0.02 if job.startswith("unit") else 1.5
            made.append(
                Test(group, deed, kind, round(slow * rng.lognormvariate(0, 0.7), 3), rng.randint(12, 240))
            )
    # Every job has at least one of each that matters.
    made[0] = _as(made[0], "steady")
    made[1] = _as(made[1], "flaky")
    made[2] = _as(made[2], "skipped")
    return tuple(made)


def results_of(
    repository: Repository, job: str, *, conclusion: str, fate: Fate, run: int, attempt: int
) -> tuple[Result, ...]:
    """How the tests of a job went that ended with `conclusion`.

    `run` tells one run of the repository from another; `fate` is that of the attempt.
    """
    tests = suite_of(repository, job)
    rng = dice("results", repository.full_name, job, run, attempt)
    bad: dict[Test, Trouble] = {}
    if conclusion == "failure" and fate.flaky:
        test = _pick("flake", repository, job, run, among=[t for t in tests if t.kind == "flaky"])
        bad[test] = Trouble(*rng.choice(_FLAKES))
    elif conclusion == "failure":
        # The same one, and in the same way, for as long as it stays broken.
        test = _pick("break", repository, job, fate.cause, among=[t for t in tests if t.kind == "steady"])
        bad[test] = Trouble(*dice("cause", repository.full_name, job, fate.cause).choice(_CAUSES))
    again = next((t for t in tests if t.kind == "flaky" and rng.random() < 0.04), None)
    return tuple(
        _result(test, bad.get(test), again=test is again, draw=rng.uniform(0.8, 1.3)) for test in tests
    )


def _result(test: Test, trouble: Trouble | None, *, again: bool, draw: float) -> Result:
    seconds = round(test.seconds * draw, 3)
    if trouble is not None:
        outcome: Outcome = "failed" if trouble.type == "AssertionError" else "error"
        return Result(test, outcome, seconds, trouble, before=(trouble,))
    if test.kind == "skipped":
        return Result(test, "skipped", 0.0, reason=_REASONS[test.line % len(_REASONS)])
    before = (Trouble(*_FLAKES[test.line % len(_FLAKES)]),) if again else ()
    return Result(test, "passed", seconds, before=before)


def _pick(why: str, repository: Repository, job: str, which: int, *, among: list[Test]) -> Test:
    return dice(why, repository.full_name, job, which).choice(among)


def _as(test: Test, kind: Kind) -> Test:
    return Test(test.group, test.deed, kind, test.seconds, test.line)
