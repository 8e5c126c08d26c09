"""The living history: decided by its seed, moving with its clock, bounded."""

from collections import Counter, defaultdict
from itertools import chain, islice, pairwise

import pytest

from sandbox import catalogue
from sandbox.clock import Clock
from sandbox.history import History, RunState
from sandbox.shelves import Living
from sandbox.story import Story
from sandbox.suites import has_tests

START = 1_800_000_000.0
HOURS = 3600.0
BACKLOG = 48 * HOURS
RANK = {"queued": 0, "waiting": 1, "in_progress": 1, "completed": 2}


def company(seed: int = 1, count: int = 6, kept: int = 10_000) -> tuple[History, Clock]:
    """A history of 48 hours whose clock then runs sixty times as fast."""
    clock = Clock(START, backlog_seconds=BACKLOG, speed=60.0)
    repositories = catalogue.repositories(count)
    history = History(
        seed,
        repositories,
        first_id=1,
        stamp=clock.real,
        stories=[iter(Story(seed, repository)) for repository in repositories],
        kept=kept,
    )
    return history, clock


def everything(history: History, now: float) -> list[RunState]:
    return [run for name in history.repositories for run in history.runs(name, now)]


def test_same_seed_same_history() -> None:
    """Two companies of one seed agree on every run, job and step, however often one was looked at before."""
    first, _ = company()
    second, _ = company()
    for moment in range(0, int(BACKLOG), 7200):
        first.advance(moment)
    assert everything(first, BACKLOG) == everything(second, BACKLOG)
    ids = [run.id for run in everything(first, BACKLOG)]
    assert [first.jobs(run_id, BACKLOG) for run_id in ids] == [second.jobs(run_id, BACKLOG) for run_id in ids]


def test_other_seed_other_history() -> None:
    """The seed matters."""
    first, _ = company(seed=1)
    second, _ = company(seed=2)
    assert everything(first, BACKLOG) != everything(second, BACKLOG)


def test_two_days_of_a_lively_company() -> None:
    """Forty-eight hours hold over a thousand runs, mostly green, with every kind of mishap among them."""
    history, _ = company()
    runs = everything(history, BACKLOG)
    outcomes = Counter(run.conclusion for run in runs)
    assert 1000 < len(runs) < 3000
    assert 0.6 < outcomes["success"] / len(runs) < 0.9
    assert {"failure", "cancelled", "timed_out", "skipped", "startup_failure"} <= set(outcomes)
    assert {run.event for run in runs} == {"push", "pull_request", "schedule", "workflow_run"}
    assert {run.workflow.name for run in runs} == {"ci", "deploy", "nightly"}


def test_states_come_and_go() -> None:
    """Watched closely, runs are seen queued, running, waiting for an approval, and wanting one to begin."""
    history, _ = company()
    seen: Counter[tuple[str, str | None]] = Counter()
    for moment in range(int(BACKLOG), int(BACKLOG + 24 * HOURS), 90):
        for name in history.repositories:
            for run in islice(history.runs(name, moment), 12):
                if run.conclusion in (None, "action_required"):
                    seen[run.status, run.conclusion] += 1
    assert set(seen) == {
        ("queued", None),
        ("in_progress", None),
        ("waiting", None),
        ("completed", "action_required"),
    }


def test_no_run_goes_back() -> None:
    """Within an attempt rank and time of change only grow, unless an approval lets it begin after all."""
    history, _ = company(count=2)
    last: dict[tuple[int, int], RunState] = {}
    for moment in range(int(BACKLOG), int(BACKLOG + 6 * HOURS), 11):
        for run in chain(*(islice(history.runs(name, moment), 12) for name in history.repositories)):
            before = last.get((run.id, run.attempt))
            if before is not None:
                assert before.updated <= run.updated
                if before.conclusion != "action_required":
                    assert RANK[before.status] <= RANK[run.status]
            last[run.id, run.attempt] = run
    assert len(last) > 100


def test_reruns_keep_id_and_creation() -> None:
    """A later attempt starts and changes later; id, number and creation stay, and so does the first."""
    history, _ = company()
    rerun = [run for run in everything(history, BACKLOG) if run.attempt > 1]
    assert len(rerun) > 20
    for run in rerun:
        first = history.run(run.id, BACKLOG, 1)
        assert first is not None
        assert (first.id, first.number, first.created) == (run.id, run.number, run.created)
        assert first.started == first.created < first.updated < run.started <= run.updated
        assert first.conclusion == "failure"
    assert history.run(rerun[0].id, BACKLOG, rerun[0].attempt + 1) is None


def test_jobs_agree_with_their_run() -> None:
    """A finished run's jobs are over, lie within it, explain its conclusion; steps stand in order."""
    history, _ = company(count=3)
    for run in everything(history, BACKLOG):
        jobs = history.jobs(run.id, BACKLOG) or []
        conclusions = {job.conclusion for job in jobs}
        if run.conclusion in ("failure", "timed_out"):
            assert run.conclusion in conclusions
        if run.conclusion == "success":
            assert conclusions == {"success"}
        if run.status == "completed" and run.conclusion != "action_required":
            assert all(job.status == "completed" for job in jobs)
            assert all(run.started <= job.created <= (job.completed or 0.0) <= run.updated for job in jobs)
        for job in jobs:
            begun = [step.started for step in job.steps if step.started is not None]
            assert begun == sorted(begun)
    ids = [job.id for run in everything(history, BACKLOG) for job in history.jobs(run.id, BACKLOG) or []]
    assert len(ids) == len(set(ids))


def test_breaks_last_and_are_fixed() -> None:
    """Main breaks in one job, stays broken for some pushes, and is green again after a push that fixes it."""
    history, _ = company()
    spells = 0
    for name in history.repositories:
        pushes = [run for run in history.runs(name, BACKLOG) if run.event == "push"][::-1]
        for before, fix in pairwise(pushes):
            if fix.message.startswith("Fix ") and fix.message.endswith(" on main"):
                job = fix.message.removeprefix("Fix ").removesuffix(" on main")
                failed = history.jobs(before.id, BACKLOG, 1) or []
                assert job in [one.name for one in failed if one.conclusion == "failure"]
                spells += 1
    assert spells >= 10


def test_the_oldest_are_forgotten() -> None:
    """Past the horizon the oldest runs go, so that a sandbox can run for weeks."""
    history, _ = company(kept=100)
    runs = everything(history, BACKLOG)
    assert len(runs) == 100
    whole, _ = company()
    youngest = sorted(run.id for run in everything(whole, BACKLOG))[-100:]
    assert sorted(run.id for run in runs) == youngest
    assert history.run(youngest[0] - 1, BACKLOG) is None


def test_time_may_go_on_while_somebody_reads() -> None:
    """A listing half read stays whole when a later question lets new runs begin and old ones be forgotten."""
    history, _ = company(count=1, kept=50)
    listing = history.runs("acme/shop", BACKLOG)
    first = next(listing)
    history.advance(BACKLOG + 6 * HOURS)
    assert len([first, *listing]) == 50


def test_nothing_lies_in_the_future() -> None:
    """At any moment every time shown has come, at any speed."""
    history, clock = company()
    for real in (START, START + 30, START + 600):
        now = clock.pretend(real)
        runs = everything(history, now)
        assert max(run.updated for run in runs) <= real
        for run in runs[:200]:
            for job in history.jobs(run.id, now) or []:
                assert max(job.created, job.started, job.completed or 0.0) <= real


def test_speed_makes_more_happen() -> None:
    """A real minute at speed 60 holds about an hour's runs."""
    history, clock = company()
    hour_before = sum(run.created > START - HOURS for run in everything(history, BACKLOG))
    minute_after = sum(run.created > START for run in everything(history, clock.pretend(START + 60)))
    assert hour_before == pytest.approx(minute_after, rel=0.6)


def test_a_frozen_clock_stands_and_goes_on() -> None:
    """While frozen nothing moves; afterwards the past keeps its times and the rest goes on from now."""
    history, clock = company()
    clock.freeze(START + 10)
    still = everything(history, clock.pretend(START + 10))
    assert everything(history, clock.pretend(START + 500)) == still
    clock.unfreeze(START + 500)
    assert clock.frozen is False
    assert everything(history, clock.pretend(START + 500)) == still
    later = everything(history, clock.pretend(START + 530))
    fresh = {run.id for run in later} - {run.id for run in still}
    assert fresh
    assert all(START + 500 <= run.created <= START + 530 for run in later if run.id in fresh)
    old = {run.id: run.created for run in still}
    assert all(run.created == old[run.id] for run in later if run.id in old)


def test_the_storys_breakages_and_flakes_reach_the_tests() -> None:
    """In two days of a repository some tests pass on the commit they failed on, and some fail push after push."""
    history, clock = company(count=2)
    now = clock.pretend(START)
    living = Living(history, clock)
    flaky: dict[str, set[tuple[str, bool]]] = defaultdict(set)
    broken: dict[str, list[bool]] = defaultdict(list)
    for run in reversed(list(history.runs("acme/payments", now))):
        for attempt in range(1, run.attempt + 1):
            for job in history.jobs(run.id, now, attempt) or ():
                if job.conclusion not in ("success", "failure") or not has_tests(job.name):
                    continue
                state = history.run(run.id, now, attempt)
                assert state is not None
                for result in living.results(state, job):
                    test = f"{job.name} {result.test.group} {result.test.deed}"
                    flaky[test].add((run.sha, result.trouble is not None))
                    if run.branch == "main" and attempt == 1:
                        broken[test].append(result.trouble is not None)
    both = [t for t, seen in flaky.items() if any((sha, not bad) in seen for sha, bad in seen)]
    assert 1 <= len(both) < len(flaky) / 4
    assert any((True, True) in pairwise(ends) for ends in broken.values())


def test_some_runs_are_open_for_days() -> None:
    """Somewhere in the company a deployment waits for an approval that nobody gives."""
    history, clock = company()
    now = clock.pretend(START)
    waiting = [run for run in everything(history, now) if run.status == "waiting"]
    assert any(START - run.created > 8 * HOURS for run in waiting)
