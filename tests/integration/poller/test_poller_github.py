"""The poller on the sandbox's GitHub: what it records, and what that costs."""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from buildlight_contracts.builds import BuildObservedV1, BuildUnavailableV1, JobObservedV1
from buildlight_contracts.operations import PollFailedV1
from buildlight_contracts.states import State
from services.poller.attempts import LATE_JOBS_TRIES
from services.poller.provider import Done
from services.poller.providers.github import client
from tests.corpora import corpus
from tests.integration.poller.conftest import Intake, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)


def shown(fact: BuildObservedV1) -> tuple[str, int, str | None, str | None]:
    return fact.build.run_id, fact.build.attempt, fact.raw_status, fact.raw_conclusion


async def test_everything_there_is_comes_in_once(
    company: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """The first poll records each attempt of each run, and each job, exactly once, the oldest run first."""
    async with start_poller(company, company.repositories()) as poller:
        await poller.poll()
        assert [(await poller.state(t))["failing_reason"] for t in poller.targets] == [None, None]

    builds = intake.facts(BuildObservedV1)
    assert len(builds) > 20
    assert {shown(b) for b in builds} == company.served()
    assert set(intake.ids().values()) == {1}
    for target in company.repositories():
        # A listing shows a run's latest attempt; the earlier ones are asked for when all that is told.
        latest = {b.build.run_id: b.build.attempt for b in sorted(builds, key=lambda b: b.build.attempt)}
        shown_first = [
            b.created_at
            for b in builds
            if b.repository == target and b.build.attempt == latest[b.build.run_id]
        ]
        assert shown_first == sorted(shown_first, key=str)

    jobs = intake.facts(JobObservedV1)
    ended = [b for b in builds if b.state is State.SUCCESS]
    with_jobs = {(j.build.run_id, j.build.attempt) for j in jobs}
    assert {(b.build.run_id, b.build.attempt) for b in ended} <= with_jobs
    assert all(j.steps for j in jobs if j.state is State.SUCCESS)


async def test_a_second_poll_costs_nothing(
    company: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Where nothing has changed every call is answered 304, and nothing is published."""
    async with start_poller(company, company.repositories()) as poller:
        await poller.poll()
        before = company.spent()
        company.forget()
        intake.forget()
        await poller.poll()
    assert company.spent() == before
    assert {status for _, status in company.asked()} == {304}
    assert intake.envelopes == []


async def test_every_page_is_read_and_a_304_leads_on(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Past a first page that has not changed, the second one is asked for all the same."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    bare.control(
        "POST",
        "/github/runs",
        json=[
            {
                "repository": "acme/many",
                "id": 1000 + n,
                "status": "completed",
                "conclusion": "success",
                "created_at": (noon + timedelta(minutes=n)).isoformat(),
            }
            for n in range(120)
        ],
    )
    async with start_poller(bare, ["acme/many"], window_hours=24) as poller:
        await poller.poll()
        assert len(intake.facts(BuildObservedV1)) == 120
        intake.forget()
        bare.forget()
        # The oldest run is on the last page of its day.
        bare.advance(1000, new_attempt=True, status="in_progress")
        await poller.poll()
    assert [shown(b) for b in intake.facts(BuildObservedV1)] == [("1000", 2, "in_progress", None)]
    listing: Counter[int] = Counter()
    for (path, status), times in bare.asked().items():
        if path.endswith("/actions/runs"):
            listing[status] += times
    # The first page of yesterday, and today, stand still; the second page of yesterday has changed.
    assert listing == {304: 2, 200: 1}


async def test_an_open_run_is_followed_to_its_end(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """A run that has left the window is asked for until it ends, and then no more."""
    long_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    bare.run(repository="acme/slow", id=7, status="in_progress", created_at=long_ago)
    async with start_poller(bare, ["acme/slow"], window_hours=1) as poller:
        await poller.poll()
        bare.advance(7, status="completed", conclusion="failure")
        await poller.poll()
        assert [shown(b)[2:] for b in intake.facts(BuildObservedV1)] == [
            ("in_progress", None),
            ("completed", "failure"),
        ]
        assert [(j.raw_status, j.raw_conclusion) for j in intake.facts(JobObservedV1)] == [
            ("in_progress", None),
            ("completed", "failure"),
        ]
        bare.forget()
        await poller.due_now()
        await poller.poll()
    assert [path for path, _ in bare.asked() if "/runs/7" in path] == []


@pytest.mark.parametrize(
    ("status", "conclusion"),
    [("waiting", None), ("completed", "action_required"), ("COMPLETED", "SUCCESS")],
)
async def test_what_stands_still_is_asked_for_ever_less(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, status: str, conclusion: str | None
) -> None:
    """Waiting and undefined runs stay open; unchanged they cost nothing, and pauses grow."""
    long_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    bare.run(repository="acme/gate", id=7, status=status, conclusion=conclusion, created_at=long_ago)
    async with start_poller(bare, ["acme/gate"], window_hours=1, interval_seconds=60) as poller:
        for _ in range(2):
            await poller.poll()
            await poller.due_now()
        pauses, spent = [], bare.spent()
        for _ in range(8):
            await poller.poll()
            row = await poller.database.fetchrow("SELECT due_at - now() AS pause FROM poller.attempts")
            assert row is not None
            pauses.append(round(row["pause"].total_seconds(), -1))
            await poller.due_now()
        assert bare.spent() == spent
        assert pauses == [180, 420, 900, 1860, 3600, 3600, 3600, 3600]
        bare.advance(7, status="completed", conclusion="success")
        await poller.poll()
    assert [b.state for b in intake.facts(BuildObservedV1)][-1] is State.SUCCESS


async def test_a_deleted_run_is_told_and_left(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """An open run that the provider no longer has is recorded as unavailable, once."""
    long_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    bare.run(repository="acme/gone", id=7, status="queued", created_at=long_ago)
    async with start_poller(bare, ["acme/gone"], window_hours=1) as poller:
        await poller.poll()
        bare.fault("status", status=404, path=r"/actions/runs/7$")
        await poller.poll()
        bare.forget()
        await poller.due_now()
        await poller.poll()
        assert (await poller.state())["failing_since"] is None
    (fact,) = intake.facts(BuildUnavailableV1)
    assert (fact.build.run_id, fact.build.attempt, fact.status) == ("7", 1, 404)
    assert [path for path, _ in bare.asked() if "/runs/7" in path] == []


async def test_a_missing_attempt_is_remembered(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Of a run first seen at its third attempt the earlier ones are asked for once, found or not."""
    bare.run(repository="acme/rerun", id=7, status="completed", conclusion="failure")
    bare.advance(7, new_attempt=True, status="completed", conclusion="failure")
    bare.advance(7, new_attempt=True, status="in_progress")
    bare.fault("status", status=404, path=r"/attempts/1$")
    async with start_poller(bare, ["acme/rerun"]) as poller:
        await poller.poll()
        assert [shown(b)[:2] for b in intake.facts(BuildObservedV1)] == [("7", 3), ("7", 2)]
        bare.advance(7, status="completed", conclusion="success")
        await poller.poll()
    (fact,) = intake.facts(BuildUnavailableV1)
    assert (fact.build.attempt, fact.status) == (1, 404)
    assert sum(n for (path, _), n in bare.asked().items() if path.endswith("/attempts/1")) == 1
    assert sum(n for (path, _), n in bare.asked().items() if path.endswith("/attempts/2")) == 1
    assert [shown(b)[1:] for b in intake.facts(BuildObservedV1)][-1] == (3, "completed", "success")


async def test_missing_jobs_are_asked_for_so_often(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Jobs that the provider does not have are asked for again with growing pauses, and then never again."""
    bare.run(repository="acme/old", id=7, status="completed", conclusion="success")
    bare.fault("status", status=404, path=r"/jobs$")
    async with start_poller(bare, ["acme/old"]) as poller:
        for _ in range(LATE_JOBS_TRIES + 3):
            await poller.poll()
            await poller.due_now()
        assert (await poller.state())["failing_since"] is None
    assert len(intake.facts(BuildObservedV1)) == 1
    assert sum(n for (path, _), n in bare.asked().items() if path.endswith("/jobs")) == 1 + LATE_JOBS_TRIES


async def test_jobs_missing_for_a_moment_come_in(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Jobs of an ended build that are not there when it is first seen are taken when they are."""
    bare.run(repository="acme/fresh", id=7, status="completed", conclusion="success")
    bare.fault("status", status=404, path=r"/jobs$", times=2)
    async with start_poller(bare, ["acme/fresh"]) as poller:
        for _ in range(3):
            await poller.poll()
            await poller.due_now()
        assert [j.state for j in intake.facts(JobObservedV1)] == [State.SUCCESS]
        bare.forget()
        await poller.poll()
    assert [path for path, _ in bare.asked() if path.endswith("/jobs")] == []
    assert set(intake.ids().values()) == {1}


async def test_late_jobs_are_waited_for(bare: Sandbox, start_poller: StartPoller, intake: Intake) -> None:
    """A job that is shown as running when its run has ended is asked for again until it has ended too."""
    job = {"name": "test", "status": "in_progress"}
    bare.run(repository="acme/late", id=7, status="completed", conclusion="success", jobs=[job])
    async with start_poller(bare, ["acme/late"]) as poller:
        await poller.poll()
        bare.advance(
            7,
            updated_at=intake.facts(BuildObservedV1)[0].updated_at.isoformat(),
            jobs=[job | {"status": "completed", "conclusion": "success"}],
        )
        await poller.poll()
        assert [j.state for j in intake.facts(JobObservedV1)] == [State.RUNNING, State.SUCCESS]
        bare.forget()
        await poller.poll()
    assert [path for path, _ in bare.asked() if path.endswith("/jobs")] == []


async def test_a_full_span_is_listed_in_halves(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a listing would show but fifty runs, of 110 in one day none is lost, and none is asked for twice."""
    monkeypatch.setattr(client, "MOST_LISTED", 50)
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    bare.control(
        "POST",
        "/github/runs",
        json=[
            {
                "repository": "acme/busy",
                "id": 1000 + n,
                "status": "completed",
                "conclusion": "success",
                "created_at": (noon + timedelta(seconds=300 * (n - 55))).isoformat(),
                "jobs": [],
            }
            for n in range(110)
        ],
    )
    async with start_poller(bare, ["acme/busy"]) as poller:
        await poller.poll()
        spent = bare.spent()
        await poller.poll()
        assert bare.spent() == spent
    assert {b.build.run_id for b in intake.facts(BuildObservedV1)} == {str(1000 + n) for n in range(110)}
    assert set(intake.ids().values()) == {1}


async def test_recorded_rows_come_in_as_they_are(
    start_sandbox: Callable[..., Sandbox], start_poller: StartPoller, intake: Intake
) -> None:
    """Of rows with statuses GitHub does not define each is published once, raw, as `unknown`."""
    recorded = start_sandbox("--recorded", str(corpus("api/github/devlake-raw")))
    since = datetime(2022, 1, 1, tzinfo=UTC)
    async with start_poller(recorded, recorded.repositories(), since=since) as poller:
        await poller.poll()
        spent, published = recorded.spent(), len(intake.envelopes)
        for _ in range(4):
            await poller.due_now()
            await poller.poll()
        await poller.due_now()
        spent = recorded.spent()
        await poller.poll()
        assert recorded.spent() == spent
        assert len(intake.envelopes) == published
        assert (await poller.state())["failing_reason"] is None
    builds = intake.facts(BuildObservedV1)
    served = recorded.served()
    assert len(served) == 35
    assert sorted(map(shown, builds), key=str) == sorted(served, key=str)
    undefined = {b.raw_status for b in builds if b.state is State.UNKNOWN}
    assert undefined == {s for _, _, s, _ in served if s not in ("completed", "in_progress")}
    assert {(f.build.attempt, f.status) for f in intake.facts(BuildUnavailableV1)} == {(1, 404)}
    assert len(intake.facts(BuildUnavailableV1)) == sum(1 for _, attempt, _, _ in served if attempt == 2)
    assert intake.facts(PollFailedV1) == []


async def test_a_rerun_that_was_asked_for_is_seen(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """What the provider was made to do comes back as the next attempt, with its jobs."""
    run = bare.run(repository="acme/again", status="completed", conclusion="failure")
    async with start_poller(bare, ["acme/again"]) as poller:
        await poller.poll()
        [first] = intake.facts(BuildObservedV1)
        [provider] = poller.service.providers.values()
        done = await provider.rerun(poller.targets[0], first.build, failed_only=True)
        assert isinstance(done, Done)
        intake.forget()
        await poller.poll()
    assert [shown(b) for b in intake.facts(BuildObservedV1)] == [(str(run["id"]), 2, "queued", None)]
    assert [job.raw_status for job in intake.facts(JobObservedV1)] == ["queued"]
