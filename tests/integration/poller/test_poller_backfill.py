"""Backfills: past builds, slice by slice."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.commands import BackfillTargetV1
from services.poller.backfill_store import BackfillStore
from services.poller.provider import Target
from services.poller.providers.github import client
from tests.integration.poller.conftest import Intake, Poller, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)

Eventually = Callable[..., Any]
OLD = datetime.now(UTC).replace(microsecond=0) - timedelta(days=200)


def past(sandbox: Sandbox, count: int, *, days: float, repository: str = "acme/shop") -> None:
    """So many runs, spread over so many days from OLD on."""
    sandbox.control(
        "POST",
        "/github/runs",
        json=[
            {
                "repository": repository,
                "id": 1000 + n,
                "status": "completed",
                "conclusion": "success",
                "created_at": (OLD + timedelta(days=days) * n / count).isoformat(),
            }
            for n in range(count)
        ],
    )


async def ask(poller: Poller, *, target: Target | None = None, days: float = 100, **options: Any) -> UUID:
    """Ask for the builds of so many days from OLD on."""
    request_id = uuid4()
    asked = target or poller.targets[0]
    await poller.service.broker.command(
        BackfillTargetV1(
            request_id=request_id,
            provider=asked.provider,
            instance=asked.instance,
            target=asked.name,
            since=OLD,
            until=OLD + timedelta(days=days),
        ),
        **options,
    )
    return request_id


async def row(poller: Poller, request_id: UUID) -> asyncpg.Record | None:
    return await poller.database.fetchrow(
        "SELECT * FROM poller.published_backfills WHERE request_id = $1", request_id
    )


async def ended(
    poller: Poller, request_id: UUID, eventually: Eventually, status: str = "done"
) -> asyncpg.Record:
    async def over() -> asyncpg.Record | None:
        found = await row(poller, request_id)
        return found if found is not None and found["status"] == status else None

    found: asyncpg.Record = await eventually(over, timeout=90)
    await poller.intake.settle()
    return found


async def test_past_builds_come_in_and_no_others(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those created in the stretch, each once, full listings in halves; the target's polls know nothing of it."""
    monkeypatch.setattr(client, "MOST_LISTED", 20)
    past(bare, 60, days=120)
    async with start_poller(bare, ["acme/shop"]) as poller:
        request_id = await ask(poller, days=100)
        done = await ended(poller, request_id, eventually)
        assert (done["builds"], done["through"], done["unreadable"]) == (50, done["until"], 0)
        assert done["facts"] == len(intake.envelopes)
        assert done["finished_at"] is not None
        state = await poller.state()
        assert (state["listed_through"], state["polled_at"]) == (None, None)
        expected = {str(1000 + n) for n in range(50)}
        assert {b.build.run_id for b in intake.facts(BuildObservedV1)} == expected
        assert {j.build.run_id for j in intake.facts(JobObservedV1)} == expected
        assert set(intake.ids().values()) == {1}
        # All that it found had ended long ago: their reports are wanted, and can wait.
        await eventually(lambda: len(intake.collections) == 50)
        # Asked again it costs listings, and publishes nothing.
        bare.forget()
        again = await ended(poller, await ask(poller, days=100), eventually)
    assert (again["builds"], again["facts"]) == (0, 0)
    assert all(path.endswith("/actions/runs") for path, _ in bare.asked())


async def test_it_goes_on_after_a_crash_where_it_was(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed at a slice's end, and before it is kept: the next look repeats little, and the log has all once."""
    past(bare, 40, days=80)
    monkeypatch.setattr("services.poller.service.Backfills", _in_small_slices)
    advanced = BackfillStore.advanced
    times: list[int] = []

    async def die_now_and_then(self: BackfillStore, *args: Any, **options: Any) -> None:
        times.append(options["builds"])
        if len(times) % 2:
            raise ConnectionResetError("as if killed here")
        await advanced(self, *args, **options)

    monkeypatch.setattr(BackfillStore, "advanced", die_now_and_then)
    async with start_poller(bare, ["acme/shop"]) as poller:
        request_id = await ask(poller)
        await eventually(lambda: len(times) > 6, timeout=60)
    # Another process, with nothing but the queue and the database.
    async with start_poller(bare, ["acme/shop"]) as poller:
        await ended(poller, request_id, eventually)
    assert {b.build.run_id for b in intake.facts(BuildObservedV1)} == {str(1000 + n) for n in range(40)}
    asked = sum(n for (path, _), n in bare.asked().items() if path.endswith("/jobs"))
    assert asked <= 42  # a run at hand when a poller was stopped is looked at again


async def test_it_waits_for_the_budget(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """It stops at the reserve, says until when, spends no retry on it, and goes on when there is more."""
    past(bare, 30, days=10)
    bare.control("POST", "/github/budget", json={"limit": 100, "remaining": 20, "reset_seconds": 900})
    async with start_poller(bare, ["acme/shop"], retry_rungs=("200ms",)) as poller:
        request_id = await ask(poller)

        async def waits() -> bool:
            found = await row(poller, request_id)
            return found is not None and found["reason"] == "waiting"

        await eventually(waits, timeout=60)
        found = await row(poller, request_id)
        assert found is not None
        assert 0 < found["builds"] < 30
        assert found["through"] > OLD
        assert found["waits_until"] > datetime.now(UTC) + timedelta(minutes=10)
        assert bare.control("GET", "/github/budget")["remaining"] == 10
        bare.control("POST", "/github/budget", json={"limit": 5000, "remaining": 5000})
        await poller.database.execute("UPDATE poller.budgets SET resets_at = now()")
        # Its message waits in a rung for the time that was said; a copy of it need not.
        await poller.service.broker.command(
            BackfillTargetV1(
                request_id=request_id,
                provider="github",
                instance=poller.targets[0].instance,
                target="acme/shop",
                since=OLD,
                until=OLD + timedelta(days=100),
            )
        )
        done = await ended(poller, request_id, eventually)
    assert (done["builds"], done["reason"], done["waits_until"]) == (30, None, None)
    assert len({j.build.run_id for j in intake.facts(JobObservedV1)}) == 30


async def test_what_cannot_be_had_is_told(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Eventually
) -> None:
    """No target of ours and a token without rights end it; an error that may pass does not; too late is not begun."""
    past(bare, 3, days=10)
    async with start_poller(bare, ["acme/shop"]) as poller:
        other = Target("github", poller.targets[0].instance, "acme/other")
        failed = await ended(poller, await ask(poller, target=other), eventually, "failed")
        assert failed["reason"] == "unknown_target"
        late = await ask(poller, expires_at=datetime.now(UTC) - timedelta(seconds=1))
        bare.fault("auth", times=1)
        failed = await ended(poller, await ask(poller), eventually, "failed")
        assert failed["reason"] == "unauthorized"
        assert "token" in failed["detail"]
        bare.fault("status", status=502, times=1)
        request_id = await ask(poller)

        async def fails() -> bool:
            found = await row(poller, request_id)
            return found is not None and found["reason"] == "server_error"

        await eventually(fails, timeout=30)
        found = await row(poller, request_id)
        assert found is not None
        assert (found["status"], found["waits_until"] > datetime.now(UTC)) == ("running", True)
        assert await row(poller, late) is None
    assert intake.facts(BuildObservedV1) == []


def _in_small_slices(means: Any, store: Any) -> Any:
    from services.poller.backfills import Backfills

    return Backfills(means, store, slice_seconds=0.05)
