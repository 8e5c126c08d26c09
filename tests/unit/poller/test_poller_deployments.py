"""How far a visit to a target's deployments comes, and from where the next one goes on."""

from collections.abc import AsyncIterator, Callable, Collection
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from buildlight_contracts.deployments import DeploymentObservedV1
from buildlight_contracts.testing import example
from services.poller.budget import Budget
from services.poller.deployments import Deployments
from services.poller.provider import MustWaitError, Target
from services.poller.providers.github.client import GitHub
from services.poller.slices import Slice
from services.poller.store import State

TARGET = Target("github", "github.test", "acme/shop")
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
API = "https://github.test/api/v3"


def shown(number: int, *, hours_ago: float) -> DeploymentObservedV1:
    at = NOW - timedelta(hours=hours_ago)
    return example(DeploymentObservedV1, deployment_id=str(number), updated_at=at)


class Desk:
    """A target's deployments, what is kept of them, and what was published."""

    def __init__(self, *deployments: DeploymentObservedV1) -> None:
        self.deployments_there = deployments
        self.published: list[str] = []
        self.state = State(None, None, None, None, None, None, None)
        self.asked_at: datetime | None = None
        self.budget = Budget()
        self.fails_before: str | None = None
        self.since: datetime | None = None

    async def record(self, fact: DeploymentObservedV1) -> None:
        self.published.append(fact.deployment_id)

    async def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        assert target == TARGET
        self.since = since
        for one in self.deployments_there:
            if one.deployment_id == self.fails_before:
                raise MustWaitError(60, "the reserve is reached")
            if one.updated_at >= since:
                yield one

    async def deployments_came(self, target: Target, *, through: datetime, known: Collection[UUID]) -> None:
        self.state = self._state(target, through, known)

    async def deployments_asked(
        self, target: Target, *, at: datetime, through: datetime, known: Collection[UUID]
    ) -> None:
        self.state, self.asked_at = self._state(target, through, known), at

    def _state(self, target: Target, through: datetime, known: Collection[UUID]) -> State:
        assert target == TARGET
        return State(
            *(None,) * 7,
            deployments_asked_at=self.asked_at,
            deployments_through=through,
            deployments_known=frozenset(known),
        )

    async def visit(self, *, is_over: Callable[[], bool] = lambda: False) -> None:
        means = cast("Any", SimpleNamespace(outlet=self, store=self))
        visits = Deployments(means, every=timedelta(minutes=5), first=None)
        ours = Slice(60, stopping=is_over)
        await visits.visit(TARGET, cast("Any", self), self.state, now=NOW, ours=ours)


async def test_a_slice_that_is_over_is_gone_on_with() -> None:
    """Each visit comes at least one deployment further, publishes nothing again, and the last one ends it."""
    desk = Desk(*(shown(n, hours_ago=10 - n) for n in range(3)))
    for came in (["0"], ["0", "1"]):
        await desk.visit(is_over=lambda: True)
        assert (desk.published, desk.asked_at) == (came, None)
    await desk.visit(is_over=lambda: True)
    assert (desk.published, desk.asked_at) == (["0", "1", "2"], NOW)


async def test_a_wait_in_the_middle_loses_nothing() -> None:
    """What was published before the budget ran out is not asked for again."""
    desk = Desk(*(shown(n, hours_ago=10 - n) for n in range(4)))
    desk.fails_before = "3"
    with pytest.raises(MustWaitError):
        await desk.visit()
    assert desk.published == ["0", "1", "2"]
    desk.fails_before = None
    await desk.visit()
    assert desk.since == shown(1, hours_ago=9).updated_at - timedelta(minutes=10)
    assert sorted(set(desk.published)) == ["0", "1", "2", "3"]
    assert desk.asked_at == NOW


async def test_half_of_the_budget_is_for_builds() -> None:
    """Deployments stop early when more than half of it is spent."""
    desk = Desk(*(shown(n, hours_ago=10 - n) for n in range(3)))
    desk.budget = Budget(limit=5000, remaining=2400)
    await desk.visit()
    assert (desk.published, desk.asked_at) == (["0"], None)


async def test_a_change_after_the_visit_began_leaves_out_none_before() -> None:
    """A deployment that changed meanwhile does not say that those after it are published."""
    desk = Desk(shown(0, hours_ago=9), shown(0, hours_ago=-1), shown(1, hours_ago=8))
    await desk.visit(is_over=lambda: True)
    assert desk.state.deployments_through == shown(0, hours_ago=9).updated_at
    await desk.visit(is_over=lambda: True)
    assert "1" in desk.published


async def test_github_shows_the_oldest_change_first() -> None:
    """The listing is by creation, newest first; it is read whole before the first deployment is asked about."""
    asked: list[str] = []
    rows = [
        {
            "id": number,
            "environment": "production",
            "created_at": f"2026-03-0{created}T00:00:00Z",
            "updated_at": f"2026-03-0{updated}T00:00:00Z",
            "payload": {"a": "b"},
        }
        for number, created, updated in ((3, 3, 4), (2, 2, 6), (1, 1, 3))
    ]

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v3/repos/acme/shop")
        page = request.url.params.get("page", "1")
        asked.append(path + page)
        if path == "/deployments":
            following = {"link": f'<{API}/repos/acme/shop/deployments?page=2>; rel="next"'}
            return httpx.Response(
                200, json=rows[:2] if page == "1" else rows[2:], headers=following if page == "1" else {}
            )
        return httpx.Response(200, json=[] if path.endswith("/statuses") else {"id": 7})

    provider = GitHub(
        api_url=API,
        instance="github.test",
        token=SecretStr("ghp_secret"),
        reserve_percent=10,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )
    found = [d async for d in provider.deployments(TARGET, datetime(2026, 3, 1, tzinfo=UTC))]
    assert [d.deployment_id for d in found] == ["1", "3", "2"]
    assert asked[:2] == ["/deployments1", "/deployments2"]
