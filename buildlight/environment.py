"""What the services are told about the world outside: from `.env`, or the sandbox.

A laptop's or a build machine's environment is full of tokens that were never meant for Buildlight
(GITHUB_TOKEN above all). So the variables that lead outside count only where they stand in the checkout's
own `.env`; without a provider there, everything outside is the sandbox.
"""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

OUTSIDE = (
    *("BUILDLIGHT_GITHUB_", "BUILDLIGHT_GITLAB_", "BUILDLIGHT_JENKINS_", "BUILDLIGHT_ENABLE_", "ENABLE_"),
    *("GITHUB_", "GITLAB_", "JENKINS_"),
    *("SLACK_", "SMTP_", "ALERT_", "APPRISE_"),
    *("CONTROL_PLANE_", "RABBITMQ_", "AMQP_", "DATABASE_", "POSTGRES_", "REDIS_", "PG"),
)
PROVIDERS = ("GITHUB_TOKEN", "GITHUB_APP_ID", "GITLAB_TOKEN", "JENKINS_URL")


@dataclass(frozen=True)
class Configuration:
    """The checkout's configuration: the environment, and `.env` for what it does not set itself."""

    base: Mapping[str, str]  # without anything that leads outside
    outside: Mapping[str, str]  # what .env says about the world outside
    host: str
    port: int

    @property
    def on_sandbox(self) -> bool:
        """Whether no provider is configured for Buildlight."""
        return not any(self.outside.get(name) or self.outside.get(f"{name}_FILE") for name in PROVIDERS)

    @property
    def url(self) -> str:
        """Where this machine reaches the application."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104 - not a bind
        return f"http://{host}:{self.port}"


def read_configuration(root: Path, environ: Mapping[str, str] = os.environ) -> Configuration:
    """Read the environment and the checkout's `.env`.

    Raises:
        ValueError: BUILDLIGHT_PORT is no port.

    """
    written = {name: value for name, value in dotenv_values(root / ".env").items() if value}
    ambient = {name: value for name, value in environ.items() if not name.startswith(OUTSIDE)}
    base = {name: value for name, value in written.items() if not name.startswith(OUTSIDE)} | ambient
    outside = {name: value for name, value in written.items() if name.startswith(OUTSIDE)}
    port = base.get("BUILDLIGHT_PORT", "8080")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise ValueError(f"BUILDLIGHT_PORT is {port!r}; it must be a number from 1 to 65535.")
    return Configuration(base, outside, base.get("BUILDLIGHT_HOST", "127.0.0.1"), int(port))


def outside_as_sandbox(addresses: Mapping[str, Any], gitlab_group: int | None) -> dict[str, str]:
    """The variables that point every outward connection at the sandbox; `addresses` is its JSON line."""
    variables = {
        "GITHUB_TOKEN": addresses.get("github_token", "sandbox-token"),
        "GITHUB_API_URL": addresses["github"],
        "GITHUB_REPOS": ",".join(addresses.get("github_repos", [])),
        "GITLAB_TOKEN": addresses.get("gitlab_token", "sandbox-token"),
        "GITLAB_URL": addresses["gitlab"],
        "GITLAB_GROUP_ID": gitlab_group,
        "GITLAB_PROJECTS": ",".join(addresses.get("gitlab_projects", [])),
        "ENABLE_JENKINS": "true" if addresses.get("jenkins") else "",
        "JENKINS_URL": addresses.get("jenkins"),
        "JENKINS_USERNAME": addresses.get("jenkins_username"),
        "JENKINS_API_TOKEN": addresses.get("jenkins_token"),
        "JENKINS_JOBS": "acme/**" if addresses.get("jenkins") else "",
        "ALERT_SLACK_WEBHOOK": addresses["slack"],
        "SMTP_HOST": addresses["smtp_host"],
        "SMTP_PORT": addresses["smtp_port"],
        "ALERT_EMAIL_FROM": "buildlight@sandbox.example",
        "ALERT_EMAIL_TO": "team@sandbox.example",
        "CONTROL_PLANE_URL": addresses["control_plane"],
        "CONTROL_PLANE_API_KEY": addresses.get("control_plane_key", "sandbox-key"),
        # Its builds take seconds: at a real company's pace one would hardly see them run.
        "WORKER_POLL_INTERVAL": 5,
        "WORKER_JITTER_SECONDS": 1,
    }
    return {name: str(value) for name, value in variables.items() if value not in (None, "")}


def sandbox_assignments(addresses: Mapping[str, Any]) -> dict[str, str]:
    """The sandbox's addresses under names of our own, for tools: BUILDLIGHT_SANDBOX_GITHUB_URL and so on."""
    named = {
        "GITHUB_URL": "github",
        "GITLAB_URL": "gitlab",
        "SLACK_URL": "slack",
        "SMTP_HOST": "smtp_host",
        "SMTP_PORT": "smtp_port",
        "CONTROL_PLANE_URL": "control_plane",
        "CONTROL_URL": "control",
        "JENKINS_URL": "jenkins",
    }
    return {f"BUILDLIGHT_SANDBOX_{name}": str(addresses[k]) for name, k in named.items() if k in addresses}


def as_shell(assignments: Mapping[str, str]) -> str:
    """Assignments that a shell can source."""
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in assignments.items())
