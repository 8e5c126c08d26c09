"""What the poller does when GitHub, its budget, or the poller itself fails."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.operations import PollFailedV1
from services.poller.provider import Target
from services.poller.providers.github import client, mapping
from services.poller.store import Store
from tests.integration.poller.conftest import Intake, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)

BROKEN = r"^/repos/acme/broken/"


def polls(outcome: str) -> float:
    labels = {"provider": "github", "outcome": outcome}
    return REGISTRY.get_sample_value("buildlight_poller_polls_total", labels) or 0.0


@pytest.mark.parametrize(
    ("fault", "reason", "status"),
    [
        ({"kind": "auth"}, "unauthorized", 401),
        ({"kind": "status", "status": 403}, "forbidden", 403),
        ({"kind": "status", "status": 404}, "not_found", 404),
        ({"kind": "status", "status": 502}, "server_error", 502),
        ({"kind": "nonsense"}, "nonsense", 200),
        ({"kind": "hang", "seconds": 30}, "unreachable", None),
        ({"kind": "secondary_limit", "status": 429, "seconds": 0}, "rate_limited", 429),
    ],
)
async def test_a_failure_is_told_once_an_episode(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    fault: dict[str, Any],
    reason: str,
    status: int | None,
) -> None:
    """Two failing polls are one event; the other target flows on; recovery ends the episode."""
    for name in ("broken", "well"):
        bare.run(repository=f"acme/{name}", status="completed", conclusion="success")
    bare.fault(path=BROKEN, **fault)
    async with start_poller(bare, ["acme/broken", "acme/well"], timeout_seconds=0.5) as poller:
        broken, well = poller.targets
        await poller.poll(broken)
        await poller.poll(broken)
        await poller.poll(well)
        (told,) = intake.facts(PollFailedV1)
        assert (told.target, told.reason, told.status) == ("acme/broken", reason, status)
        assert "sandbox-token" not in told.detail
        state = await poller.state(broken)
        assert (state["failing_since"], state["failing_reason"]) == (told.failed_at, reason)
        assert [b.repository for b in intake.facts(BuildObservedV1)] == ["acme/well"]

        bare.heal()
        await poller.poll(broken)
        assert (await poller.state(broken))["failing_since"] is None
        assert [b.repository for b in intake.facts(BuildObservedV1)] == ["acme/well", "acme/broken"]

        bare.fault(path=BROKEN, kind="auth")
        await poller.poll(broken)
        assert [f.reason for f in intake.facts(PollFailedV1)] == [reason, "unauthorized"]


async def test_a_refusal_is_waited_out(bare: Sandbox, start_poller: StartPoller, intake: Intake) -> None:
    """After Retry-After no call is made with that token until then: the other polls wait, untold."""
    bare.run(repository="acme/one", status="completed", conclusion="success")
    bare.run(repository="acme/two", status="completed", conclusion="success")
    bare.fault("secondary_limit", seconds=300, times=1)
    async with start_poller(bare, ["acme/one", "acme/two"]) as poller:
        await poller.poll(poller.targets[0])
        bare.forget()
        await poller.poll()
        assert bare.asked() == {}
        for target in poller.targets:
            pause = (await poller.state(target))["not_before"] - datetime.now(UTC)
            assert timedelta(seconds=240) < pause <= timedelta(seconds=300)
        await poller.database.execute("UPDATE poller.budgets SET blocked_until = now()")
        await poller.poll()
    assert [f.reason for f in intake.facts(PollFailedV1)] == ["rate_limited"]
    assert len(intake.facts(BuildObservedV1)) == 2


async def test_the_reserve_is_left_alone(bare: Sandbox, start_poller: StartPoller, intake: Intake) -> None:
    """A poll stops at the reserve, in the middle if need be, and goes on when the allowance is renewed."""
    for number in range(20):
        bare.run(repository="acme/many", id=100 + number, status="completed", conclusion="success")
    bare.control("POST", "/github/budget", json={"limit": 100, "remaining": 20, "reset_seconds": 900})
    async with start_poller(bare, ["acme/many"], reserve_percent=10) as poller:
        await poller.poll()
        assert bare.control("GET", "/github/budget")["remaining"] == 10
        assert 0 < len({j.build.run_id for j in intake.facts(JobObservedV1)}) < 20
        await poller.poll()
        assert bare.control("GET", "/github/budget")["remaining"] == 10
        bare.control("POST", "/github/budget", json={"limit": 5000, "remaining": 5000})
        await poller.database.execute("UPDATE poller.budgets SET resets_at = now()")
        await poller.poll()
    assert len({b.build.run_id for b in intake.facts(BuildObservedV1)}) == 20
    assert len({j.build.run_id for j in intake.facts(JobObservedV1)}) == 20
    assert intake.facts(PollFailedV1) == []


async def test_a_crash_before_remembering_repeats_harmlessly(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between publishing and remembering, the next poll publishes the same facts, by id, and no fewer."""
    for number in range(3):
        bare.run(repository="acme/shop", id=100 + number, status="completed", conclusion="success")
    keep = Store.keep
    died: list[bool] = []

    async def die_once(self: Store, *args: Any, **options: Any) -> None:
        if len(died) == 0 and args[1].run_id == "101":
            died.append(True)
            raise ConnectionResetError("as if killed here")
        await keep(self, *args, **options)

    monkeypatch.setattr(Store, "keep", die_once)
    async with start_poller(bare, ["acme/shop"]) as poller:
        await poller.poll()
    repeated = {number for number, times in intake.ids().items() if times > 1}
    assert {b.build.run_id for b in intake.facts(BuildObservedV1)} == {"100", "101", "102"}
    jobs = {str(j.identity()): j.build.run_id for j in intake.facts(JobObservedV1)}
    assert set(jobs.values()) == {"100", "101", "102"}
    assert repeated == {number for number, run in jobs.items() if run == "101"}


async def test_late_and_foreign_commands_are_dropped(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """A command past its expiry, of a poll already done, or for no target of ours makes no call."""
    bare.run(repository="acme/shop", status="completed", conclusion="success")
    async with start_poller(bare, ["acme/shop"]) as poller:
        (shop,) = poller.targets
        await poller.poll()
        bare.forget()
        before = {name: polls(name) for name in ("expired", "polled_already", "unknown_target")}
        await poller.ask(shop, due_at=datetime.now(UTC), expires_in=-1)
        await poller.ask(shop, due_at=(await poller.state())["polled_for"])
        await poller.ask(Target("github", "127.0.0.1", "acme/other"), due_at=datetime.now(UTC))
        await poller.poll()
        assert {name: polls(name) - before[name] for name in before} == dict.fromkeys(before, 1.0)
    assert len(intake.facts(BuildObservedV1)) == 1


async def test_the_scheduler_asks_by_itself(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Any
) -> None:
    """Two replicas, each with a scheduler: each target is polled every interval, once."""
    bare.run(repository="acme/shop", id=7, status="in_progress")
    async with (
        start_poller(bare, ["acme/shop"], tasks=True, interval_seconds=1) as poller,
        start_poller(bare, ["acme/shop"], tasks=True, interval_seconds=1),
    ):
        await eventually(lambda: len(intake.facts(BuildObservedV1)) == 1, timeout=30)
        bare.advance(7, status="completed", conclusion="success")
        await eventually(lambda: len(intake.facts(BuildObservedV1)) == 2, timeout=30)
        # One leader for each of what is asked for: polls and comparisons.
        assert (
            await poller.database.fetchval("SELECT count(*) FROM poller.leases WHERE name = 'schedule'") == 1
        )
    assert set(intake.ids().values()) == {1}


async def test_nothing_to_poll_is_a_quiet_service(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, eventually: Any
) -> None:
    """Without repositories, or switched off, the service is ready and asks GitHub for nothing."""
    async with start_poller(bare, ["acme/shop"], tasks=True, github_enabled=False) as poller:
        assert set((await poller.service.ready()).values()) == {"ok"}
        assert poller.targets == ()
    assert bare.asked() == {}


async def test_one_bad_row_keeps_nothing_back(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """A run that cannot be read is left out and told; the others come in; once it can be read, so does it."""
    for number in (1, 2, 3):
        bare.run(repository="acme/odd", id=number, status="completed", conclusion="success")

    def odd(row: dict[str, Any], **options: Any) -> BuildObservedV1:
        return mapping.build_of(row | {"workflow_id": None} if row["id"] == 2 else row, **options)

    async with start_poller(bare, ["acme/odd"]) as poller:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "build_of", odd)
            await poller.poll()
            await poller.poll()
        assert sorted(b.build.run_id for b in intake.facts(BuildObservedV1)) == ["1", "3"]
        (told,) = intake.facts(PollFailedV1)
        assert told.reason == "nonsense"
        assert "workflow_id is missing" in told.detail
        await poller.poll()
    assert sorted(b.build.run_id for b in intake.facts(BuildObservedV1)) == ["1", "2", "3"]


async def test_one_bad_run_keeps_nothing_back(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """A run whose jobs fail for ever is told once and asked for ever less; all others come in; then so does it."""
    days_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    done = {"repository": "acme/odd", "status": "completed", "conclusion": "success"}
    bare.run(id=1, created_at=days_ago, **done)
    bare.run(id=2, **done)
    bare.run(id=3, **done)
    bare.fault("status", status=502, path=r".*/runs/(1|2)/attempts/1/jobs")

    def asked() -> list[int]:
        return [
            sum(n for (path, _), n in bare.asked().items() if path.endswith(f"/runs/{run}/attempts/1/jobs"))
            for run in (1, 2)
        ]

    async with start_poller(bare, ["acme/odd"], interval_seconds=60) as poller:
        await poller.poll()
        bare.run(id=4, **done)
        await poller.poll()
        assert sorted(b.build.run_id for b in intake.facts(BuildObservedV1)) == ["1", "2", "3", "4"]
        assert {j.build.run_id for j in intake.facts(JobObservedV1)} == {"3", "4"}
        assert asked() == [1, 1]
        pauses = "SELECT round(extract(epoch FROM due_at - seen_at)) FROM poller.attempts WHERE NOT settled"
        assert [row[0] for row in await poller.database.fetch(pauses)] == [60, 60]
        for pause in (180, 420):
            await poller.due_now()
            await poller.poll()
            assert [row[0] for row in await poller.database.fetch(pauses)] == [pause, pause]
        assert asked() == [3, 3]
        (told,) = intake.facts(PollFailedV1)
        assert told.reason == "nonsense"
        assert "run 1: GitHub answered 502" in told.detail
        assert (await poller.state())["failing_since"] == told.failed_at

        bare.heal()
        await poller.due_now()
        await poller.poll()
        assert (await poller.state())["failing_since"] is None
        assert {j.build.run_id for j in intake.facts(JobObservedV1)} == {"1", "2", "3", "4"}
        bare.forget()
        await poller.due_now()
        await poller.poll()
        assert asked() == [0, 0]
    assert len(intake.facts(PollFailedV1)) == 1
    assert set(intake.ids().values()) == {1}


async def test_one_bad_open_run_keeps_no_other_waiting(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """An open run outside the window that cannot be asked for is set aside; the others are followed."""
    days_ago = (datetime.now(UTC) - timedelta(days=5)).isoformat()
    for number in (7, 8):
        bare.run(repository="acme/slow", id=number, status="in_progress", created_at=days_ago)
    async with start_poller(bare, ["acme/slow"], window_hours=1) as poller:
        await poller.poll()
        bare.fault("nonsense", path=r"/actions/runs/7$")
        for number in (7, 8):
            bare.advance(number, status="completed", conclusion="success")
        intake.forget()
        await poller.due_now()
        await poller.poll()
        await poller.poll()
        assert [b.build.run_id for b in intake.facts(BuildObservedV1)] == ["8"]
        assert (await poller.state())["failing_reason"] == "nonsense"
        bare.heal()
        await poller.due_now()
        await poller.poll()
        assert (await poller.state())["failing_since"] is None
    assert [b.build.run_id for b in intake.facts(BuildObservedV1)] == ["8", "7"]
    assert [j.build.run_id for j in intake.facts(JobObservedV1)] == ["8", "7"]
    assert len(intake.facts(PollFailedV1)) == 1


async def test_a_bad_attempt_does_not_hide_a_later_one(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """Of a run whose first attempt fails the second comes in with its jobs; the first does when it can."""
    bare.run(repository="acme/rerun", id=7, status="completed", conclusion="failure")
    bare.advance(7, new_attempt=True, status="completed", conclusion="success")
    bare.fault("status", status=403, path=r"/attempts/1$")
    async with start_poller(bare, ["acme/rerun"]) as poller:
        await poller.poll()
        assert {b.build.attempt for b in intake.facts(BuildObservedV1)} == {2}
        assert {j.build.attempt for j in intake.facts(JobObservedV1)} == {2}
        bare.heal()
        await poller.due_now()
        await poller.poll()
        assert (await poller.state())["failing_since"] is None
    assert {b.build.attempt for b in intake.facts(BuildObservedV1)} == {1, 2}
    assert {j.build.attempt for j in intake.facts(JobObservedV1)} == {1, 2}


async def test_three_bad_runs_in_a_row_are_the_provider_s_fault(
    bare: Sandbox, start_poller: StartPoller, intake: Intake
) -> None:
    """A poll ends at the third run that fails in a row, with the provider's reason; the next one gets past them."""
    for number in range(1, 6):
        created = (datetime.now(UTC) - timedelta(minutes=10 - number)).isoformat()
        bare.run(
            repository="acme/odd", id=number, status="completed", conclusion="success", created_at=created
        )
    bare.fault("status", status=502, path=r"/runs/(1|2|3)/attempts/1/jobs")
    async with start_poller(bare, ["acme/odd"]) as poller:
        await poller.poll()
        assert sum(n for (path, _), n in bare.asked().items() if path.endswith("/jobs")) == 3
        assert (await poller.state())["failing_reason"] == "server_error"
        assert intake.facts(JobObservedV1) == []
        await poller.poll()
        assert {j.build.run_id for j in intake.facts(JobObservedV1)} == {"4", "5"}
