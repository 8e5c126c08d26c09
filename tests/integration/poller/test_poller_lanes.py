"""Lanes: refreshes, whose turn it is to call, and the reports that are asked for."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.commands import BackfillTargetV1, CollectReportsV1
from services.poller.calls import Answer, Calls
from services.poller.provider import Target
from services.poller.store import Store
from services.poller.turns import is_express
from tests.integration.poller.conftest import Intake, Poller, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)

Eventually = Callable[..., Any]


def refreshes(outcome: str, lane: str = "usual") -> float:
    labels = {"provider": "github", "lane": lane, "outcome": outcome}
    return REGISTRY.get_sample_value("buildlight_poller_refreshes_total", labels) or 0.0


async def outcome_of(
    poller: Poller, outcome: str, eventually: Eventually, run_id: int, **options: Any
) -> None:
    """Ask for a refresh and wait for it to come to this."""
    before = refreshes(outcome)
    await poller.refresh(run_id, **options)
    await eventually(lambda: refreshes(outcome) == before + 1, timeout=30)
    await poller.intake.settle()


@dataclass
class Road:
    """Every call that was made, in order: whether it was express, and when it began and ended."""

    seconds: float
    calls: list[tuple[bool, float]] = field(default_factory=list)
    open: int = 0
    most_open: int = 0


@pytest.fixture
def slow_road(monkeypatch: pytest.MonkeyPatch) -> Road:
    """A provider that takes a while for each answer."""
    road = Road(seconds=0.2)
    once = Calls._once

    async def slowly(self: Calls, *args: Any, **options: Any) -> Answer:
        road.open += 1
        road.most_open = max(road.most_open, road.open)
        road.calls.append((is_express(), time.monotonic()))
        try:
            await asyncio.sleep(road.seconds)
            return await once(self, *args, **options)
        finally:
            road.open -= 1

    monkeypatch.setattr(Calls, "_once", slowly)
    return road


async def test_a_backfill_keeps_no_urgent_look_waiting(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, slow_road: Road, eventually: Eventually
) -> None:
    """Two replicas are busy with long backfills and polls; an express look is made between their calls.

    Each of its calls finds the one in flight and at most one more before it, and never are there two at once.
    """
    old = datetime.now(UTC) - timedelta(days=90)
    for name, base in (("one", 1000), ("two", 2000)):
        bare.control(
            "POST",
            "/github/runs",
            json=[
                {
                    "repository": f"acme/{name}",
                    "id": base + n,
                    "status": "completed",
                    "conclusion": "success",
                    "created_at": (old + timedelta(minutes=n)).isoformat(),
                }
                for n in range(60)
            ],
        )
    between = (old + timedelta(days=30)).isoformat()  # neither polls nor backfills come by it
    bare.run(repository="acme/one", id=7, status="in_progress", created_at=between)
    names = ["acme/one", "acme/two"]
    async with start_poller(bare, names) as one, start_poller(bare, names) as other:
        for poller, target in ((one, one.targets[0]), (other, one.targets[1])):
            await poller.service.broker.command(
                BackfillTargetV1(
                    request_id=uuid4(),
                    provider="github",
                    instance=target.instance,
                    target=target.name,
                    since=old - timedelta(days=1),
                    until=old + timedelta(days=1),
                    targets=2,
                )
            )
            await poller.ask(target, due_at=datetime.now(UTC))
        await eventually(lambda: len(slow_road.calls) > 8, timeout=60)
        before = len(slow_road.calls)
        asked = time.monotonic()
        await one.refresh(7, priority="high")

        def looked() -> bool:
            return any(j.build.run_id == "7" for j in intake.facts(JobObservedV1))

        await eventually(looked, timeout=60)
        waited = time.monotonic() - asked
        road = slow_road.calls[before:]
        express = [index for index, (urgent, _) in enumerate(road) if urgent]
        # The run and its jobs: and before each the usual calls that were let by.
        assert len(express) == 2
        assert express[0] <= 2
        assert express[1] - express[0] <= 2
        assert slow_road.most_open == 1
        assert waited < 30 * slow_road.seconds


async def test_a_look_records_a_run_its_earlier_attempts_and_jobs(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """Whatever its age, and known or not; the polls then follow it to its end."""
    long_ago = (datetime.now(UTC) - timedelta(days=60)).isoformat()
    bare.run(repository="acme/shop", id=7, status="completed", conclusion="failure", created_at=long_ago)
    bare.advance(7, new_attempt=True, status="in_progress")
    async with start_poller(bare, ["acme/shop"], window_hours=1) as poller:
        await outcome_of(poller, "looked", eventually, 7)
        assert {(b.build.attempt, b.raw_status) for b in intake.facts(BuildObservedV1)} == {
            (1, "completed"),
            (2, "in_progress"),
        }
        assert {j.build.attempt for j in intake.facts(JobObservedV1)} == {1, 2}
        bare.advance(7, status="completed", conclusion="success")
        await poller.due_now()
        await poller.poll()
        assert [(b.build.attempt, b.raw_conclusion) for b in intake.facts(BuildObservedV1)][-1] == (
            2,
            "success",
        )
    assert set(intake.ids().values()) == {1}


async def test_a_run_goes_on_after_an_end_that_was_none(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """After `action_required` it is followed to its end; retried later, to its new end. Reports: once an end."""
    long_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    bare.run(
        repository="acme/gate", id=7, status="completed", conclusion="action_required", created_at=long_ago
    )
    async with start_poller(bare, ["acme/gate"], window_hours=1) as poller:
        await outcome_of(poller, "looked", eventually, 7)
        assert intake.collections == []
        bare.advance(7, status="in_progress", conclusion=None)
        await outcome_of(poller, "looked", eventually, 7)
        bare.advance(7, status="completed", conclusion="failure")
        await poller.due_now()
        await poller.poll()
        bare.advance(7, new_attempt=True, status="in_progress")
        await outcome_of(poller, "looked", eventually, 7)
        bare.advance(7, status="completed", conclusion="success")
        await poller.due_now()
        await poller.poll()
        await outcome_of(poller, "looked", eventually, 7)
        assert [(b.build.attempt, b.raw_status, b.raw_conclusion) for b in intake.facts(BuildObservedV1)] == [
            (1, "completed", "action_required"),
            (1, "in_progress", None),
            (1, "completed", "failure"),
            (2, "in_progress", None),
            (2, "completed", "success"),
        ]
        await eventually(lambda: len(intake.collections) == 2)
    asked = [c for c in intake.collections if isinstance(c, CollectReportsV1)]
    assert [(c.build.attempt, c.failed, c.priority) for c in asked] == [
        (1, True, "normal"),
        (2, False, "normal"),
    ]
    assert {c.target for c in asked} == {"acme/gate"}


async def test_reports_are_asked_for_once_and_before_it_is_remembered(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    monkeypatch: pytest.MonkeyPatch,
    eventually: Eventually,
) -> None:
    """Killed between asking and remembering it asks again, with the same identity; then never more."""
    bare.run(repository="acme/shop", id=7, status="completed", conclusion="failure")
    bare.run(repository="acme/shop", id=8, status="in_progress")
    keep = Store.keep
    died: list[bool] = []

    async def die_once(self: Store, *args: Any, **options: Any) -> None:
        if not died and args[1].run_id == "7":
            died.append(True)
            raise ConnectionResetError("as if killed here")
        await keep(self, *args, **options)

    monkeypatch.setattr(Store, "keep", die_once)
    async with start_poller(bare, ["acme/shop"]) as poller:
        for _ in range(3):
            await poller.poll()
        await eventually(lambda: len(intake.collections) == 2)
        assert len({c.identity() for c in intake.collections}) == 1
    async with start_poller(bare, ["acme/shop"], collect_reports=False) as poller:
        bare.advance(8, status="completed", conclusion="success")
        await poller.poll()
        await intake.settle()
    assert len(intake.collections) == 2


async def test_looks_that_are_of_no_use_are_dropped_by_name(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """No target of ours, too late, no such run, or looked at since it was asked for: each costs a call at most."""
    bare.run(repository="acme/shop", id=7, status="completed", conclusion="success")
    async with start_poller(bare, ["acme/shop"]) as poller:
        before = datetime.now(UTC)
        other = Target("github", poller.targets[0].instance, "acme/other")
        await outcome_of(poller, "unknown_target", eventually, 7, target=other)
        await outcome_of(poller, "expired", eventually, 7, due_at=before - timedelta(hours=2))
        assert bare.asked() == {}
        await outcome_of(poller, "gone", eventually, 99)
        await outcome_of(poller, "looked", eventually, 7)
        bare.forget()
        await outcome_of(poller, "fresh_already", eventually, 7, due_at=before)
        assert bare.asked() == {}
        bare.fault("auth")
        await outcome_of(poller, "unauthorized", eventually, 8)
    assert [b.build.run_id for b in intake.facts(BuildObservedV1)] == ["7"]


async def test_a_look_waits_for_the_provider_and_for_the_budget(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """An error is tried again by the rungs; the reserve is left alone in the express lane too."""
    bare.run(repository="acme/shop", id=7, status="completed", conclusion="success")
    bare.fault("status", status=502, times=1)
    async with start_poller(bare, ["acme/shop"], retry_rungs=("200ms", "1s")) as poller:
        await outcome_of(poller, "looked", eventually, 7)
        bare.control("POST", "/github/budget", json={"limit": 100, "remaining": 11, "reset_seconds": 900})
        bare.run(repository="acme/shop", id=8, status="completed", conclusion="success")
        await poller.refresh(8, priority="critical")
        await eventually(lambda: bare.control("GET", "/github/budget")["remaining"] == 10, timeout=30)
        await eventually(lambda: _parked(poller), timeout=30)
        assert bare.control("GET", "/github/budget")["remaining"] == 10
        bare.control("POST", "/github/budget", json={"limit": 5000, "remaining": 5000})
        await poller.database.execute("UPDATE poller.budgets SET resets_at = now()")
    assert [b.build.run_id for b in intake.facts(BuildObservedV1)] == ["7", "8"]


async def _parked(poller: Poller) -> bool:
    connection = await poller.service.broker.faststream.connect()
    channel = await connection.channel()
    queue = await channel.declare_queue("poller.refresh.express.retry.1s", passive=True)
    await channel.close()
    return bool(queue.declaration_result.message_count)
