"""The three providers side by side, found by pattern and polled by one service."""

from collections.abc import Callable
from typing import Any

import pytest

from buildlight_contracts.builds import BuildObservedV1, JobObservedV1
from buildlight_contracts.commands import CollectReportsV1
from buildlight_contracts.operations import PollFailedV1
from tests.integration.poller.conftest import Intake, Sandbox, StartPoller

pytestmark = pytest.mark.timeout(200)


async def test_all_three_are_found_and_polled(
    start_sandbox: Callable[..., Sandbox],
    start_poller: StartPoller,
    intake: Intake,
    eventually: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Organisation, group and folder stand for what is in them; each provider's builds and jobs come in."""
    monkeypatch.setattr("services.poller.discovery._LOOK_SECONDS", 0.1)
    company = start_sandbox("--repositories", "2", "--gitlab-projects", "2", "--backlog-hours", "4")
    company.control("POST", "/freeze")
    groups = {path.rpartition("/")[0] for path in company.control("GET", "/gitlab/projects")}
    settings: dict[str, Any] = {
        "tasks": True,
        "interval_seconds": 1,
        "gitlab_url": company.addresses["gitlab"],
        "gitlab_token": company.addresses["gitlab_token"],
        "gitlab_projects": tuple(f"{group}/*" for group in groups),
        "jenkins_enabled": True,
        "jenkins_url": company.addresses["jenkins"],
        "jenkins_username": company.addresses["jenkins_username"],
        "jenkins_token": company.addresses["jenkins_token"],
        "jenkins_jobs": ("**",),
        "deployments_minutes": 5,
    }
    owners = {name.partition("/")[0] for name in company.repositories()}
    async with start_poller(company, [f"{owner}/*" for owner in owners], **settings) as poller:

        async def each_has_been_polled() -> bool:
            rows = await poller.database.fetch(
                """
                SELECT provider, count(*) AS targets, count(succeeded_at) AS polled
                FROM poller.targets WHERE is_polled GROUP BY provider
                """
            )
            return len(rows) == 3 and all(row["targets"] == row["polled"] for row in rows)

        await eventually(each_has_been_polled, timeout=120)
        await intake.settle()
        found = await poller.database.fetch("SELECT pattern, targets, failing_detail FROM poller.discoveries")
        assert all(row["targets"] and row["failing_detail"] is None for row in found)
        accounts = await poller.database.fetch("SELECT account FROM poller.budgets")
        assert {row["account"].partition("/")[0] for row in accounts} <= {"github", "gitlab", "jenkins"}
    assert intake.facts(PollFailedV1) == []
    three = {"github", "gitlab", "jenkins"}
    assert {build.build.provider for build in intake.facts(BuildObservedV1)} == three
    assert {job.build.provider for job in intake.facts(JobObservedV1)} == three
    asked = (command for command in intake.collections if isinstance(command, CollectReportsV1))
    assert {command.build.provider for command in asked} == three
