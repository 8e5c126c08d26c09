"""The poller's settings."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from chassis.settings import BadSettings
from services.poller.settings import PollerSettings


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        n
        for n in os.environ
        if n.startswith(("GITHUB_", "GITLAB_", "JENKINS_", "WORKER_", "POLLING_", "ENABLE_", "BUILDLIGHT_"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BUILDLIGHT_DATABASE_URL", "postgresql://localhost/x")
    monkeypatch.setenv("BUILDLIGHT_AMQP_URL", "amqp://localhost/")


def names(settings: PollerSettings) -> list[str]:
    return [target.name for target in settings.github_watch.targets]


def test_the_older_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names, units and defaults of the worker this replaces."""
    assert PollerSettings.load().interval == timedelta(seconds=60)
    assert PollerSettings.load().jitter == timedelta(seconds=10)
    for name, value in {
        "GITHUB_TOKEN": "ghp_secret",
        "GITHUB_REPOS": "acme/shop, acme/app,Acme/Shop",
        "GITHUB_API_URL": "https://github.acme.example:8443/api/v3/",
        "WORKER_POLL_INTERVAL": "5",
        "WORKER_JITTER_SECONDS": "9",
        "BUILDLIGHT_POLL_SINCE": "2026-01-01T00:00:00+01:00",
    }.items():
        monkeypatch.setenv(name, value)
    settings = PollerSettings.load()
    assert names(settings) == ["acme/shop", "acme/app"]
    assert {t.instance for t in settings.github_watch.targets} == {"github.acme.example"}
    assert (settings.interval, settings.jitter) == (timedelta(seconds=5), timedelta(seconds=5))
    assert settings.since == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert "ghp_secret" not in repr(settings)


def test_owner_and_repository_stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without GITHUB_REPOS it is GITHUB_OWNER's GITHUB_REPO; switched off, nothing."""
    for name, value in {"GITHUB_TOKEN": "t", "GITHUB_OWNER": "acme", "GITHUB_REPO": "shop"}.items():
        monkeypatch.setenv(name, value)
    assert names(PollerSettings.load()) == ["acme/shop"]
    monkeypatch.setenv("GITHUB_REPOS", "acme/app")
    assert names(PollerSettings.load()) == ["acme/app"]
    monkeypatch.setenv("ENABLE_GH", "false")
    assert names(PollerSettings.load()) == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_REPOS", "acme"),
        ("GITHUB_REPOS", "acme/shop/x"),
        ("GITHUB_REPOS", "acme/.."),
        ("GITHUB_REPOS", "acme/shop?x=1"),
        ("GITHUB_REPOS", "../../user/x"),
        ("GITHUB_API_URL", "api.github.com"),
        ("WORKER_POLL_INTERVAL", "0"),
        ("BUILDLIGHT_POLL_SINCE", "2026-01-01T00:00:00"),
    ],
)
def test_a_wrong_value_names_its_variable(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """The start stops, and says where."""
    monkeypatch.setenv("GITHUB_TOKEN", "t")
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=rf"^{name}: "):
        PollerSettings.load()


def test_repositories_need_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable and the way out."""
    monkeypatch.setenv("GITHUB_REPOS", "acme/shop")
    with pytest.raises(BadSettings, match=r"GITHUB_TOKEN: .*ENABLE_GH=false"):
        PollerSettings.load()
