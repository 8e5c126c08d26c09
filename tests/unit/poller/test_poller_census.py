"""What a census says of each attempt, and what is asked of the log because of it."""

from collections.abc import Collection
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import httpx
from pydantic import SecretStr

from services.poller.provider import Counted, Provider, Span, Target
from services.poller.providers.github.client import GitHub
from services.poller.providers.gitlab.client import GitLab
from services.poller.providers.jenkins.client import Jenkins
from services.poller.reconcile import Patience, Reconciles
from tests.unit.poller.gitlab_rows import NOON, PIPELINE

DAY = Span(datetime(2026, 3, 2, tzinfo=UTC), datetime(2026, 3, 3, tzinfo=UTC))


def always(body: Any) -> httpx.MockTransport:
    return httpx.MockTransport(lambda _: httpx.Response(200, json=body))


async def ids_of(provider: Provider, name: str) -> list[tuple[str, str | None]]:
    target = Target(provider.name, provider.instance, name)
    return [(one.run_id, one.repository_id) async for one in provider.census(target, DAY)]


async def test_a_census_names_the_repository() -> None:
    """As the builds' own references do: nobody has to look for it among all that was ever recorded."""
    limits: dict[str, Any] = {"reserve_percent": 10, "timeout_seconds": 5}
    run = {"id": 7, "created_at": "2026-03-02T12:00:00Z", "run_attempt": 1, "repository": {"id": 1296269}}
    github = GitHub(
        api_url="https://github.test",
        instance="github.test",
        token=SecretStr("ghp_secret"),
        transport=always({"total_count": 1, "workflow_runs": [run]}),
        **limits,
    )
    assert await ids_of(github, "acme/shop") == [("7", "1296269")]
    gitlab = GitLab(
        api_url="https://gitlab.test/api/v4",
        instance="gitlab.test",
        token=SecretStr("glpat-secret"),
        transport=always([PIPELINE]),
        **limits,
    )
    assert set(await ids_of(gitlab, "acme/shop")) == {("4711", "15")}
    stamp = int(NOON.timestamp() * 1000)
    jenkins = Jenkins(
        url="https://jenkins.test",
        instance="jenkins.test",
        username=None,
        token=None,
        timeout_seconds=5,
        transport=always({"allBuilds": [{"number": 7, "timestamp": stamp, "building": False}]}),
    )
    assert await ids_of(jenkins, "acme/nightly") == [(f"7@{stamp}", "acme/nightly")]


async def test_what_is_named_is_not_searched_for() -> None:
    """The poller's own list of ids is asked for only where a census names none."""
    searched: list[Target] = []

    async def repository_ids(target: Target) -> list[str]:
        searched.append(target)
        return ["15"]

    async def has(
        target: Target, counted: Collection[Counted], *, repository_ids: Collection[str]
    ) -> dict[Any, Any]:
        assert (target, len(counted)) == (here, 1)
        return {"asked with": list(repository_ids)}

    measurements = cast("Any", SimpleNamespace(repository_ids=repository_ids))
    record = cast("Any", SimpleNamespace(has=has))
    reconciles = Reconciles(cast("Any", None), measurements, record, Patience(DAY.since - DAY.since))
    here = Target("gitlab", "gitlab.test", "acme/shop")
    named, unnamed = Counted("1", 1, NOON, True, "15"), Counted("1", 1, NOON, True)
    assert await reconciles._has(here, [named]) == {"asked with": []}  # type: ignore[comparison-overlap]
    assert searched == []
    assert await reconciles._has(here, [unnamed]) == {"asked with": ["15"]}  # type: ignore[comparison-overlap]
    assert searched == [here]
