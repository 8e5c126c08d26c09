"""Looking at a run that a webhook names otherwise than the provider does."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.envelope import Fact
from buildlight_contracts.testing import example
from services.poller.attempts import Known
from services.poller.provider import Found, Jobs, Provider, Target
from services.poller.store import Store
from services.poller.taking import Outlet, Taking

NOW = datetime(2026, 3, 2, 9, 0, 30, tzinfo=UTC)
TARGET = Target("jenkins", "ci.example", "shop")
NAMED = BuildRef(provider="jenkins", instance="ci.example", repository_id="shop", run_id="7@1700000000000")
BUILD = example(BuildObservedV1, build=NAMED)


class Memory:
    """A store of attempts in memory, with the methods that taking uses."""

    def __init__(self) -> None:
        self.attempts: dict[str, dict[int, Known]] = {}
        self.looked_at: datetime | None = None

    async def known(self, _: Target, run_ids: list[str]) -> dict[str, dict[int, Known]]:
        return {run_id: dict(self.attempts[run_id]) for run_id in run_ids if run_id in self.attempts}

    async def keep(self, _: Target, known: Known, *, looked_at: datetime, **__: datetime) -> None:
        self.attempts.setdefault(known.run_id, {})[known.attempt] = known
        self.looked_at = looked_at

    async def looked_since(self, _: Target, run_id: str, moment: datetime) -> bool:
        return run_id in self.attempts and self.looked_at is not None and self.looked_at >= moment


class Jenkins:
    """Has one build, under any name."""

    name, instance = "jenkins", "ci.example"

    def __init__(self) -> None:
        self.asked_for_jobs = 0

    async def build(self, *_: Any, **__: Any) -> Found:
        return Found(BUILD, None)

    async def jobs(self, *_: Any) -> Jobs:
        self.asked_for_jobs += 1
        return Jobs(())


@pytest.mark.parametrize("asked_after", [timedelta(hours=-1), timedelta(hours=1)])
async def test_a_bare_number_finds_what_is_known(asked_after: timedelta) -> None:
    """Each phase of a build is a webhook: the second one publishes nothing anew, and asks for no reports."""
    memory, provider = Memory(), Jenkins()
    facts: list[Fact] = []
    commands: list[CollectReportsV1] = []

    async def record(fact: Fact) -> None:
        facts.append(fact)

    async def collect(command: CollectReportsV1) -> None:
        commands.append(command)

    for _ in range(2):
        taking = Taking(
            TARGET,
            cast("Provider", provider),
            cast("Store", memory),
            Outlet(record, collect),
            now=NOW,
            interval=timedelta(minutes=1),
        )
        assert await taking.refresh("7", asked_at=NOW + asked_after)
    assert facts == [BUILD]
    assert len(commands) == 1
    assert provider.asked_for_jobs == 1
