"""Polls of the sandbox's Jenkins: what they record, and what that costs."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio

from buildlight_contracts.builds import BuildObservedV1, BuildUnavailableV1, JobObservedV1
from buildlight_contracts.states import State
from services.poller.provider import PollFailedError
from tests.integration.poller.conftest import Sandbox
from tests.integration.poller.jenkins_stage import Stage, Watch, over_http, watching

pytestmark = pytest.mark.timeout(200)

BRANCH = "acme/shop/feature%2Fcards"
JOB = "/job/acme/job/nightly"


def ms(when: datetime) -> int:
    return int(when.timestamp() * 1000)


@pytest_asyncio.fixture
async def jenkins(bare: Sandbox) -> AsyncIterator[Stage]:
    """A Jenkins on which there is nothing but what the test puts there."""
    async with over_http(bare.addresses) as stage:
        yield stage


@pytest_asyncio.fixture
async def watch(jenkins: Stage, database_url: str) -> AsyncIterator[Watch]:
    async with watching(jenkins.provider, database_url) as found:
        yield found


async def test_everything_there_is_comes_in_once(
    start_sandbox: Callable[..., Sandbox], database_url: str
) -> None:
    """Of all jobs that discovery finds the first poll records each build once, the oldest first."""
    company = start_sandbox("--repositories", "1", "--backlog-hours", "10")
    company.control("POST", "/freeze")
    async with over_http(company.addresses) as stage, watching(stage.provider, database_url) as watch:
        names = [one.name async for one in stage.provider.discover("acme/**")]
        for name in names:
            report = await watch.visit(name)
            assert (report.complete, report.refused) == (True, [])
        served = await stage.served()
        builds = watch.facts(BuildObservedV1)
        assert {(b.repository, b.build.run_id, b.raw_conclusion) for b in builds} == {
            (job, f"{number}@{timestamp}", result) for job, number, timestamp, _, result in served
        }
        assert len(builds) == len(served) > 10
        assert {"acme/ledger/main", "acme/ledger-nightly"} <= set(names)
        assert set(watch.ids().values()) == {1}
        for name in names:
            created = [b.created_at for b in builds if b.repository == name]
            assert created == sorted(created, key=str)
        ended = {b.build.build_id for b in builds if b.state.is_terminal}
        jobs = watch.facts(JobObservedV1)
        assert ended <= {j.build.build_id for j in jobs}
        assert State.UNKNOWN not in {b.state for b in builds} | {j.state for j in jobs}

        await stage.asked()
        watch.recorded.clear()
        still = [name for name in names if all(b.state.is_terminal for b in builds if b.repository == name)]
        for name in still:
            await watch.visit(name)
        assert watch.recorded == []
        # One call for the last build a stretch of time, and no other.
        assert set((await stage.asked()).values()) <= {3, 4}


async def test_a_build_is_followed_stage_by_stage(jenkins: Stage, watch: Watch) -> None:
    """While it goes on its stages are looked at in every poll; its end comes in, and then no more is asked."""
    began = datetime.now(UTC) - timedelta(minutes=10)
    first: dict[str, Any] = {"id": 6, "name": "Build", "status": "IN_PROGRESS", "started": ms(began)}
    await jenkins.build(BRANCH, kind="branch", timestamp=ms(began), stages=[first])
    await watch.visit(BRANCH)
    first |= {"status": "SUCCESS", "duration": 60_000}
    second: dict[str, Any] = {
        "id": 9,
        "name": "Go",
        "status": "PAUSED_PENDING_INPUT",
        "started": ms(began) + 60_000,
    }
    await jenkins.advance(BRANCH, 1, stages=[first, second])

    await watch.visit(BRANCH)
    second |= {"status": "SUCCESS", "duration": 30_000}
    await jenkins.advance(
        BRANCH, 1, stages=[first, second], building=False, result="SUCCESS", duration=100_000
    )
    await watch.visit(BRANCH)
    assert [(b.raw_status, b.state) for b in watch.facts(BuildObservedV1)] == [
        ("building", State.RUNNING),
        ("completed", State.SUCCESS),
    ]
    running, ended = watch.facts(BuildObservedV1)
    assert running.updated_at <= ended.updated_at
    assert [(j.name, j.state) for j in watch.facts(JobObservedV1)] == [
        ("Build", State.RUNNING),
        ("Build", State.SUCCESS),
        ("Go", State.WAITING),
        ("Go", State.SUCCESS),
    ]
    await jenkins.asked()
    await watch.due_now()
    await watch.visit(BRANCH)
    # The page is read once more, to see that all on it have ended; the build by itself is not.
    assert set(await jenkins.asked()) == {"/job/acme/job/shop/job/feature%2Fcards/api/json"}
    assert set(watch.ids().values()) == {1}


async def test_a_build_that_has_left_the_window_is_followed(jenkins: Stage, watch: Watch) -> None:
    """It is asked for by itself until it ends; one that was deleted meanwhile is told as gone, once."""
    long_ago = datetime.now(UTC) - timedelta(days=2, hours=12)
    for number in (1, 2):
        await jenkins.build("acme/nightly", number=number, timestamp=ms(long_ago) + number)
    await watch.visit("acme/nightly")
    watch.since = datetime.now(UTC) - timedelta(hours=1)
    await jenkins.advance("acme/nightly", 1, building=False, result="ABORTED", duration=5000)
    await jenkins.delete_build("acme/nightly", 2)
    for _ in range(2):
        await watch.due_now()
        await watch.visit("acme/nightly")
    by_run = {b.run_number: b.state for b in watch.facts(BuildObservedV1)}
    assert by_run == {1: State.CANCELLED, 2: State.RUNNING}
    (gone,) = watch.facts(BuildUnavailableV1)
    assert (gone.build.run_id, gone.status) == (f"2@{ms(long_ago) + 2}", 404)
    await jenkins.asked()
    await watch.due_now()
    await watch.visit("acme/nightly")
    assert not [path for path in await jenkins.asked() if path.startswith((f"{JOB}/1", f"{JOB}/2"))]


async def test_a_job_made_again_mixes_with_nothing(jenkins: Stage, watch: Watch) -> None:
    """Its build 1 is another build; the old one, still open when the job was deleted, is told as gone."""
    now = datetime.now(UTC)
    await jenkins.build("acme/nightly", timestamp=ms(now - timedelta(days=2, hours=12)))
    await watch.visit("acme/nightly")
    await jenkins.delete_job("acme/nightly")
    await jenkins.build("acme/nightly", timestamp=ms(now), building=False, result="SUCCESS", duration=10)
    watch.since = now - timedelta(hours=1)
    await watch.due_now()
    await watch.visit("acme/nightly")
    old, new = watch.facts(BuildObservedV1)
    assert (old.run_number, new.run_number) == (1, 1)
    assert old.build.build_id != new.build.build_id
    assert [f.build for f in watch.facts(BuildUnavailableV1)] == [old.build]


async def test_a_poll_costs_little(jenkins: Stage, watch: Watch) -> None:
    """Idle, a call a stretch of time; with a new build, its page and its jobs."""
    await jenkins.build("acme/nightly", building=False, result="SUCCESS", duration=10)
    await watch.visit("acme/nightly")
    watch.since = datetime.now(UTC) - timedelta(hours=20)
    await watch.visit("acme/nightly")
    await jenkins.asked()
    await watch.visit("acme/nightly")
    idle = await jenkins.asked()
    assert set(idle) == {f"{JOB}/api/json"}
    assert idle[f"{JOB}/api/json"] <= 2
    await jenkins.build("acme/nightly", building=False, result="FAILURE", duration=10)
    await watch.visit("acme/nightly")
    busy = await jenkins.asked()
    assert busy[f"{JOB}/2/api/json"] == 1
    assert busy[f"{JOB}/api/json"] <= 4
    assert set(watch.ids().values()) == {1}


async def test_one_build_that_fails_leaves_the_others(jenkins: Stage, watch: Watch) -> None:
    """A build whose stages Jenkins cannot tell is set aside and told of; it comes in when it can be read."""
    for _ in range(3):
        await jenkins.build(BRANCH, kind="branch", building=False, result="SUCCESS", duration=10)
    await jenkins.fault("status", status=500, path="/2/wfapi/")
    report = await watch.visit(BRANCH)
    assert len(report.refused) == 1
    assert "500" in report.refused[0]
    assert len(watch.facts(BuildObservedV1)) == 3
    assert len(watch.facts(JobObservedV1)) == 2
    await jenkins.heal()
    await watch.due_now()
    assert (await watch.visit(BRANCH)).refused == []
    assert len(watch.facts(JobObservedV1)) == 3
    assert set(watch.ids().values()) == {1}


async def test_a_silent_jenkins_is_a_failure(
    jenkins: Stage, watch: Watch, eventually: Callable[..., Awaitable[object]]
) -> None:
    """A poll of one that does not answer fails, and the next one goes on where it was."""
    await jenkins.build("acme/nightly", building=False, result="SUCCESS", duration=10)
    await jenkins.fault("status", status=502)
    with pytest.raises(PollFailedError) as caught:
        await watch.visit("acme/nightly")
    assert caught.value.reason == "server_error"
    await jenkins.heal()

    async def comes_in() -> bool:
        await watch.visit("acme/nightly")
        return len(watch.facts(BuildObservedV1)) == 1

    await eventually(comes_in)
