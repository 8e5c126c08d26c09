"""What reaches the services from the environment, `.env` and the sandbox."""

from pathlib import Path

import pytest

from buildlight.environment import as_shell, outside_as_sandbox, read_configuration, sandbox_assignments

SANDBOX = {
    "github": "http://127.0.0.1:1/github",
    "github_repos": ["acme/shop", "acme/docs"],
    "gitlab": "http://127.0.0.1:1/gitlab",
    "slack": "http://127.0.0.1:1/slack/hook",
    "smtp_host": "127.0.0.1",
    "smtp_port": 2525,
    "control_plane": "http://127.0.0.1:1/control-plane",
    "control": "http://127.0.0.1:1/_sandbox",
}


def test_an_ambient_token_configures_nothing(tmp_path: Path) -> None:
    """Tokens of the shell do not count, and are not even passed on."""
    ambient = {
        "GITHUB_TOKEN": "real",
        "GITLAB_TOKEN": "real",
        "ALERT_SLACK_WEBHOOK": "https://x",
        "PATH": "/bin",
    }
    configuration = read_configuration(tmp_path, ambient)
    assert configuration.on_sandbox
    assert configuration.base == {"PATH": "/bin"}
    assert configuration.outside == {}


def test_a_token_in_the_checkouts_env_file_is_meant(tmp_path: Path) -> None:
    """What stands in .env is used, and an ambient variable of the same name does not override it."""
    (tmp_path / ".env").write_text("GITHUB_TOKEN=meant\nGITHUB_REPOS=acme/shop\nSMTP_HOST=\n")
    configuration = read_configuration(tmp_path, {"GITHUB_TOKEN": "ambient"})
    assert not configuration.on_sandbox
    assert configuration.outside == {"GITHUB_TOKEN": "meant", "GITHUB_REPOS": "acme/shop"}


def test_a_sink_alone_is_no_provider(tmp_path: Path) -> None:
    """With a Slack webhook but no provider the sandbox is used, and the sandbox's Slack with it."""
    (tmp_path / ".env").write_text("ALERT_SLACK_WEBHOOK=https://hooks.example/real\n")
    assert read_configuration(tmp_path, {}).on_sandbox
    assert outside_as_sandbox(SANDBOX, 7)["ALERT_SLACK_WEBHOOK"] == "http://127.0.0.1:1/slack/hook"


def test_our_own_variables_come_from_the_environment_first(tmp_path: Path) -> None:
    """BUILDLIGHT_ variables may be set for one run, over what .env says."""
    (tmp_path / ".env").write_text("BUILDLIGHT_PORT=9000\nBUILDLIGHT_HOST=0.0.0.0\n")
    configuration = read_configuration(tmp_path, {"BUILDLIGHT_PORT": "9001"})
    assert configuration.port == 9001
    assert configuration.url == "http://127.0.0.1:9001"
    assert read_configuration(tmp_path, {}).port == 9000


@pytest.mark.parametrize("port", ["http", "0", "70000", "-1", ""])
def test_a_port_that_is_none_is_refused(port: str, tmp_path: Path) -> None:
    """The sentence shows what was given."""
    with pytest.raises(ValueError, match=f"BUILDLIGHT_PORT is '{port}'"):
        read_configuration(tmp_path, {"BUILDLIGHT_PORT": port})


def test_on_the_sandbox_every_way_out_leads_to_it() -> None:
    """Providers, sinks and control plane, with the sandbox's tokens."""
    assert outside_as_sandbox(SANDBOX, 7) == {
        "GITHUB_TOKEN": "sandbox-token",
        "GITHUB_API_URL": "http://127.0.0.1:1/github",
        "GITHUB_REPOS": "acme/shop,acme/docs",
        "GITLAB_TOKEN": "sandbox-token",
        "GITLAB_URL": "http://127.0.0.1:1/gitlab",
        "GITLAB_GROUP_ID": "7",
        "ALERT_SLACK_WEBHOOK": "http://127.0.0.1:1/slack/hook",
        "SMTP_HOST": "127.0.0.1",
        "SMTP_PORT": "2525",
        "ALERT_EMAIL_FROM": "buildlight@sandbox.example",
        "ALERT_EMAIL_TO": "team@sandbox.example",
        "CONTROL_PLANE_URL": "http://127.0.0.1:1/control-plane",
        "CONTROL_PLANE_API_KEY": "sandbox-key",
        "WORKER_POLL_INTERVAL": "5",
        "WORKER_JITTER_SECONDS": "1",
    }


def test_assignments_survive_a_shell() -> None:
    """Quotes and spaces in a value are kept from the shell."""
    assert as_shell({"A": "plain", "B": "it's two"}) == "A=plain\nB='it'\"'\"'s two'\n"


def test_tools_find_the_sandbox_by_names_of_our_own() -> None:
    """So that a tool can ask the sandbox what reached it, whatever the services are told."""
    assert sandbox_assignments(SANDBOX)["BUILDLIGHT_SANDBOX_CONTROL_URL"] == "http://127.0.0.1:1/_sandbox"
    assert sandbox_assignments(SANDBOX)["BUILDLIGHT_SANDBOX_SMTP_PORT"] == "2525"
