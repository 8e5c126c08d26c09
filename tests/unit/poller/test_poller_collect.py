"""What is done when a part of what is collected cannot be had."""

from datetime import UTC, datetime

import pytest

from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from buildlight_contracts.states import State
from buildlight_contracts.test_results import Outcome, TestCase, TestReportObservedV1
from services.poller.collect import MOST_IN_A_ROW, Keys, Setbacks, summary
from services.poller.documents import read_results
from services.poller.job_logs import MOST_LOGS, failed
from services.poller.provider import Reason, Results
from tests.pretend_provider import a_job, document, poured, ref


def test_keys_tell_apart_what_is_called_the_same() -> None:
    """The same list gives the same keys; two of one name have two, and so have two jobs'."""
    found = [document("a", poured()), document("a", poured()), document("a", poured(), job="x")]
    first, second = Keys(), Keys()
    keys = [first.of(one) for one in found]
    assert len(set(keys)) == 3
    assert keys == [second.of(one) for one in found]


@pytest.mark.parametrize("reason", ["unauthorized", "rate_limited"])
def test_what_concerns_all_ends_the_try(reason: Reason) -> None:
    assert not Setbacks().bear("a", reason, "no")


def test_what_is_gone_is_not_tried_again() -> None:
    setbacks = Setbacks()
    assert setbacks.bear("a", "not_found", "expired")
    assert (setbacks.failed, setbacks.gone) == ([], ["a: expired"])


def test_too_many_in_a_row_end_the_try() -> None:
    """It is the provider that fails then; one that goes well in between starts the count anew."""
    setbacks = Setbacks()
    for _ in range(MOST_IN_A_ROW - 1):
        assert setbacks.bear("a", "server_error", "502")
    setbacks.went_well()
    for _ in range(MOST_IN_A_ROW - 1):
        assert setbacks.bear("a", "server_error", "502")
    assert not setbacks.bear("a", "server_error", "502")


def test_a_summary_is_short_and_can_be_stored() -> None:
    assert summary([]) is None
    told = summary([f"{n}\0" for n in range(12)])
    assert told == "0; 1; 2; 3; 4; and 7 more"


def test_which_logs_are_wanted() -> None:
    """Those of jobs that ended badly, those that fail the build first, and not of all of a large matrix."""
    build = ref()
    jobs = [
        a_job(build, 1, is_allowed_to_fail=True),
        a_job(build, 2),
        a_job(build, 3, State.SUCCESS),
        a_job(build, 4, State.CANCELLED),
        a_job(build, 5, State.TIMED_OUT),
    ]
    assert [job.job_id for job in failed(jobs)] == ["2", "5", "1"]
    assert len(failed([a_job(build, n) for n in range(100)])) == MOST_LOGS


async def test_results_of_a_provider_go_out_without_secrets() -> None:
    """What a test wrote is masked on its way, whichever adapter made the cases."""
    case = TestCase(
        name="a", outcome=Outcome.FAILED, message="password=hunter2", detail="x\npassword=hunter2"
    )
    command = CollectReportsV1(
        build=ref(), target="acme/shop", repository="acme/shop", ended_at=datetime.now(UTC), failed=True
    )
    sent: list[Fact] = []

    async def record(fact: Fact) -> None:
        sent.append(fact)

    await read_results(Results("test_report/unit", "gitlab", (case,)), command, record)
    told = [one for fact in sent if isinstance(fact, TestReportObservedV1) for one in fact.cases]
    assert [(one.message, one.detail) for one in told] == [("password=[masked]", "x\npassword=[masked]")]
