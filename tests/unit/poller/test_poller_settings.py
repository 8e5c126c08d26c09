"""The poller's settings."""

import os
from datetime import UTC, datetime, timedelta

import pytest

from chassis.settings import BadSettings
from services.poller import service
from services.poller.promising import REPORT_NAMES
from services.poller.provider import Target
from services.poller.providers.github.client import GitHub
from services.poller.settings import PollerSettings
from services.poller.targets import Pattern, Watch


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


def test_the_older_variables_of_jenkins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Off until it is switched on; then its jobs, else the default one."""
    for name, value in {
        "JENKINS_URL": "http://jenkins.acme.example/ci/",
        "JENKINS_USERNAME": "bot",
        "JENKINS_API_TOKEN": "a-secret",
        "JENKINS_DEFAULT_JOB": "shop",
    }.items():
        monkeypatch.setenv(name, value)
    assert PollerSettings.load().watch == Watch()
    monkeypatch.setenv("ENABLE_JENKINS", "true")
    settings = PollerSettings.load()
    # Looked up, all of them: a multibranch project stands for its branches.
    assert settings.watch == Watch(patterns=(Pattern("jenkins", "jenkins.acme.example", "shop"),))
    assert settings.jenkins_url == "http://jenkins.acme.example/ci"
    assert "a-secret" not in repr(settings)
    monkeypatch.setenv("JENKINS_JOBS", "myapp-pipeline, payments/api/main, payments/*")
    watch = PollerSettings.load().watch
    assert [p.text for p in watch.patterns] == ["myapp-pipeline", "payments/api/main", "payments/*"]


def test_gitlab_s_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Projects by path, groups by pattern; the API's address may be given for GitLab's own."""
    for name, value in {
        "GITLAB_URL": "https://gitlab.acme.example/api/v4",
        "GITLAB_TOKEN": "glpat-secret",
        "GITLAB_PROJECTS": "acme/payments/api, acme/*",
        "BUILDLIGHT_GITLAB_EXCLUDE": "acme/archive/*",
    }.items():
        monkeypatch.setenv(name, value)
    settings = PollerSettings.load()
    assert settings.watch.targets == (Target("gitlab", "gitlab.acme.example", "acme/payments/api"),)
    assert not settings.watch.admits(Target("gitlab", "gitlab.acme.example", "acme/archive/old"))
    assert settings.gitlab_api_url == "https://gitlab.acme.example/api/v4"
    monkeypatch.setenv("ENABLE_GITLAB", "false")
    assert PollerSettings.load().watch == Watch()


def test_a_github_app_stands_in_for_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its id and key, by the names of the system this replaces; a key is in no text."""
    monkeypatch.setenv("GITHUB_REPOS", "acme/shop")
    monkeypatch.setenv("GITHUB_APP_ID", "123456")
    monkeypatch.setenv("GITHUB_PRIVATE_KEY", "FAKE_PRIVATE_KEY_FOR_TESTS")
    settings = PollerSettings.load()
    assert settings.github_app is not None
    assert settings.github_app.app_id == "123456"
    assert "FAKE_PRIVATE" not in repr(settings)


def test_minutes_count_where_seconds_are_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """POLLING_INTERVAL_MINUTES is an older system's; WORKER_POLL_INTERVAL wins over it."""
    monkeypatch.setenv("POLLING_INTERVAL_MINUTES", "5")
    monkeypatch.setenv("POLLING_ENABLED", "false")
    assert PollerSettings.load().interval == timedelta(minutes=5)
    assert not PollerSettings.load().polling_enabled
    monkeypatch.setenv("WORKER_POLL_INTERVAL", "30")
    assert PollerSettings.load().interval == timedelta(seconds=30)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"GITLAB_PROJECTS": "acme/shop"}, r"GITLAB_TOKEN: .*ENABLE_GITLAB=false"),
        ({"GITLAB_PROJECTS": "shop"}, r"^GITLAB_PROJECTS: .*write its path"),
        ({"GITLAB_PROJECTS": "*/shop"}, r"^GITLAB_PROJECTS: "),
        ({"GITLAB_PROJECTS": "acme//shop"}, r"^GITLAB_PROJECTS: "),
        ({"GITLAB_URL": "gitlab.example"}, r"^GITLAB_URL: .*whole address"),
        ({"ENABLE_JENKINS": "true"}, r"JENKINS_URL: .*ENABLE_JENKINS"),
        ({"JENKINS_JOBS": "a/../b"}, r"^JENKINS_JOBS: .*full name"),
        (
            {"ENABLE_JENKINS": "1", "JENKINS_URL": "http://j", "JENKINS_USERNAME": "bot"},
            r"JENKINS_API_TOKEN: .*JENKINS_USERNAME",
        ),
        (
            {"ENABLE_JENKINS": "1", "JENKINS_URL": "http://j", "JENKINS_API_TOKEN": "t"},
            r"^JENKINS_API_TOKEN: .*JENKINS_USERNAME",
        ),
        ({"GITHUB_APP_ID": "1"}, r"GITHUB_PRIVATE_KEY: .*GITHUB_APP_ID"),
        ({"GITHUB_PRIVATE_KEY": "k"}, r"^GITHUB_PRIVATE_KEY: .*GITHUB_APP_ID"),
        ({"GITHUB_REPOS": "*/shop", "GITHUB_TOKEN": "t"}, r"^GITHUB_REPOS: .*owner/\*"),
        ({"BUILDLIGHT_DISCOVERY_MINUTES": "0"}, r"^BUILDLIGHT_DISCOVERY_MINUTES: "),
    ],
)
def test_what_is_missing_or_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], said: str
) -> None:
    """Each with the variable to mend, and how."""
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(BadSettings, match=said):
        PollerSettings.load()


def test_which_artifacts_are_reports_can_be_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the usual names; the provider is made with them."""
    settings = PollerSettings.load()
    assert settings.github_report_artifacts == REPORT_NAMES
    monkeypatch.setenv("BUILDLIGHT_GITHUB_REPORT_ARTIFACTS", "qa-*, Allure")
    monkeypatch.setenv("GITHUB_TOKEN", "ghp_secret")
    monkeypatch.setenv("GITHUB_REPOS", "acme/shop")
    (github,) = service._providers(PollerSettings.load())
    assert isinstance(github, GitHub)
    assert github._patterns == ("qa-*", "Allure")
    monkeypatch.setenv("BUILDLIGHT_GITHUB_REPORT_ARTIFACTS", ",")
    with pytest.raises(BadSettings, match="BUILDLIGHT_GITHUB_REPORT_ARTIFACTS"):
        PollerSettings.load()
