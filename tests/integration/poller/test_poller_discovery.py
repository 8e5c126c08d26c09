"""Patterns, and what they find; deployments."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.deployments import DeploymentObservedV1
from buildlight_contracts.operations import PollFailedV1
from buildlight_contracts.testing import example
from services.poller.provider import MustWaitError, PollFailedError, Target
from services.poller.providers.github.client import GitHub
from tests.integration.poller.conftest import Intake, Poller, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)

Eventually = Callable[..., Any]


class Organisation:
    """What a pattern finds, or how finding fails."""

    def __init__(self, *names: str) -> None:
        self.names = list(names)
        self.error: Exception | None = None
        self.asked: list[str] = []

    async def discover(self, provider: GitHub, pattern: str) -> AsyncIterator[Target]:
        self.asked.append(pattern)
        for name in self.names:
            yield Target("github", provider.instance, name)
        if self.error is not None:
            raise self.error


@pytest.fixture
def organisation(monkeypatch: pytest.MonkeyPatch) -> Organisation:
    """An organisation with two repositories, and `Discovery` that looks often."""
    found = Organisation("acme/shop", "acme/app", "acme/old-app", "other/x")

    def discover(self: GitHub, pattern: str) -> AsyncIterator[Target]:
        return found.discover(self, pattern)

    monkeypatch.setattr(GitHub, "discover", discover)
    monkeypatch.setattr("services.poller.discovery._LOOK_SECONDS", 0.05)
    return found


async def polled(poller: Poller) -> set[str]:
    rows = await poller.database.fetch("SELECT target FROM poller.published_targets WHERE is_polled")
    return {row["target"] for row in rows}


async def test_what_a_pattern_finds_is_polled_until_it_vanishes(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    organisation: Organisation,
    eventually: Eventually,
) -> None:
    """New ones at once, by any replica; excluded ones never; what vanishes is kept, and comes back."""
    for name in ("shop", "app", "old-app"):
        bare.run(repository=f"acme/{name}", status="completed", conclusion="success")

    def seen() -> set[str]:
        return {b.repository for b in intake.facts(BuildObservedV1)}

    settings: dict[str, Any] = {
        "tasks": True,
        "interval_seconds": 1,
        "discovery_minutes": 0.05,
        "github_excluded": ("acme/old-*",),
    }
    async with start_poller(bare, ["acme/*"], **settings) as poller:
        await eventually(lambda: seen() == {"acme/shop", "acme/app"}, timeout=60)
        assert await polled(poller) == {"acme/shop", "acme/app"}
        organisation.names.remove("acme/app")

        async def gone() -> bool:
            return await polled(poller) == {"acme/shop"}

        await eventually(gone, timeout=60)
        assert await poller.database.fetchval(
            "SELECT vanished_at IS NOT NULL FROM poller.published_targets WHERE target = 'acme/app'"
        )
        organisation.names += ["acme/app", "acme/new"]
        bare.run(repository="acme/new", status="completed", conclusion="success")
        await eventually(lambda: "acme/new" in seen(), timeout=60)
        assert await polled(poller) == {"acme/shop", "acme/app", "acme/new"}
    assert set(organisation.asked) == {"acme/*"}
    assert seen() == {"acme/shop", "acme/app", "acme/new"}


async def test_a_pattern_that_fails_is_told_as_a_poll_is(
    bare: Sandbox,
    start_poller: StartPoller,
    intake: Intake,
    organisation: Organisation,
    eventually: Eventually,
) -> None:
    """Once an episode; what was found stays polled; a wait is no failure; then it goes on."""
    for name in ("shop", "app", "old-app"):
        bare.run(repository=f"acme/{name}", status="completed", conclusion="success")
    async with start_poller(bare, ["acme/*"], tasks=True, discovery_minutes=0.05) as poller:

        async def standing() -> Any:
            return await poller.database.fetchrow("SELECT * FROM poller.published_discoveries")

        async def found() -> bool:
            row = await standing()
            return row is not None and row["targets"] == 3

        await eventually(found, timeout=60)
        organisation.error = PollFailedError("forbidden", "The token may not list acme.", status=403)
        organisation.names.clear()
        await eventually(lambda: len(intake.facts(PollFailedV1)) == 1, timeout=60)
        asked = len(organisation.asked)
        await eventually(lambda: len(organisation.asked) > asked + 1, timeout=60)
        (told,) = intake.facts(PollFailedV1)
        assert (told.target, told.reason, told.status) == ("acme/*", "forbidden", 403)
        assert (await standing())["failing_since"] == told.failed_at
        assert await polled(poller) == {"acme/shop", "acme/app", "acme/old-app"}
        organisation.error = MustWaitError(0.2, "the reserve is reached")
        asked = len(organisation.asked)
        await eventually(lambda: len(organisation.asked) > asked + 1, timeout=60)
        organisation.error = None
        organisation.names.append("acme/shop")

        async def mended() -> bool:
            row = await standing()
            return row["failing_since"] is None and row["targets"] == 1

        await eventually(mended, timeout=60)
        assert await polled(poller) == {"acme/shop"}
    assert len(intake.facts(PollFailedV1)) == 1


async def test_deployments_come_in_at_a_gentle_pace(
    bare: Sandbox, start_poller: StartPoller, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for every so often, from the newest change on; each state is published once; refused, polls go well."""
    bare.run(repository="acme/shop", status="completed", conclusion="success")
    now = datetime.now(UTC)
    shown = [example(DeploymentObservedV1, deployment_id="1", updated_at=now - timedelta(hours=1))]
    asked: list[datetime] = []
    refused: list[PollFailedError] = []

    async def deployments(
        self: GitHub, target: Target, since: datetime
    ) -> AsyncIterator[DeploymentObservedV1]:
        asked.append(since)
        for error in refused:
            raise error
        for deployment in shown:
            if deployment.updated_at >= since:
                yield deployment

    monkeypatch.setattr(GitHub, "deployments", deployments)
    async with start_poller(bare, ["acme/shop"], deployments_minutes=5) as poller:
        await poller.poll()
        await poller.poll()
        assert len(asked) == 1
        await _time_passes(poller)
        shown.append(
            example(DeploymentObservedV1, deployment_id="2", updated_at=now, raw_status="in_progress")
        )
        await poller.poll()
        assert asked[1] == shown[0].updated_at - timedelta(minutes=10)
        await _time_passes(poller)
        await poller.poll()
        assert len(asked) == 3
        assert [d.deployment_id for d in intake.facts(DeploymentObservedV1)] == ["1", "2"]
        refused.append(PollFailedError("forbidden", "The token may not read deployments.", status=403))
        await _time_passes(poller)
        await poller.poll()
        state = await poller.state()
        assert (state["failing_since"], state["deployments_refused"]) == (
            None,
            "The token may not read deployments.",
        )
        refused[:] = [PollFailedError("server_error", "GitHub answered 502.", status=502)]
        await _time_passes(poller)
        await poller.poll()
        assert (await poller.state())["failing_reason"] == "server_error"
    assert set(intake.ids().values()) == {1}


async def _time_passes(poller: Poller) -> None:
    await poller.database.execute(
        "UPDATE poller.targets SET deployments_asked_at = deployments_asked_at - interval '6 minutes'"
    )
