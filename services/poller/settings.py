"""The poller's settings."""

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AliasChoices,
    AwareDatetime,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from chassis.settings import CommaSeparated, Settings
from services.poller.provider import Target

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _owner(value: str) -> str:
    if not _OWNER.fullmatch(value):
        raise ValueError(f"{value!r} is no owner on GitHub: letters, digits and dashes, such as acme")
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or value in (".", ".."):
        raise ValueError(f"{value!r} is no repository's name, such as shop")
    return value


def _repositories(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        owner, slash, name = value.partition("/")
        if not slash or not _OWNER.fullmatch(owner) or not _NAME.fullmatch(name) or name in (".", ".."):
            raise ValueError(f"{value!r} is no repository: write owner/name, separated by commas")
    # GitHub's names do not tell upper from lower case.
    once: dict[str, str] = {}
    for value in values:
        once.setdefault(value.lower(), value)
    return tuple(once.values())


class PollerSettings(Settings):
    interval_seconds: float = Field(
        default=60,
        ge=0.1,
        le=86_400,
        validation_alias=AliasChoices("BUILDLIGHT_POLL_INTERVAL_SECONDS", "WORKER_POLL_INTERVAL"),
    )
    jitter_seconds: float = Field(
        default=10,
        ge=0,
        validation_alias=AliasChoices("BUILDLIGHT_POLL_JITTER_SECONDS", "WORKER_JITTER_SECONDS"),
    )
    """Polls are spread over so long; more than the interval counts as the interval."""
    window_hours: float = Field(
        default=24, gt=0, le=24 * 400, validation_alias="BUILDLIGHT_POLL_WINDOW_HOURS"
    )
    """How far behind the last complete poll each poll lists again."""
    sweep_hours: float = Field(default=6, gt=0, validation_alias="BUILDLIGHT_POLL_SWEEP_HOURS")
    """How often a poll goes back thirty days, to see old runs that were run again."""
    since: AwareDatetime | None = Field(default=None, validation_alias="BUILDLIGHT_POLL_SINCE")
    """How far back the first poll of a target goes; thirty days unless set."""
    reconcile_hours: float = Field(default=6, ge=0.001, le=24, validation_alias="BUILDLIGHT_RECONCILE_HOURS")
    """How often what a provider has of a target is compared with what the log has."""
    timeout_seconds: float = Field(
        default=15, gt=0, le=300, validation_alias="BUILDLIGHT_POLL_TIMEOUT_SECONDS"
    )
    """Of one request to a provider."""
    reserve_percent: float = Field(
        default=10, ge=0, lt=100, validation_alias="BUILDLIGHT_POLL_RESERVE_PERCENT"
    )
    """How much of a provider's own allowance is left for others who use the token."""

    github_enabled: bool = Field(
        default=True, validation_alias=AliasChoices("BUILDLIGHT_ENABLE_GH", "ENABLE_GH")
    )
    github_api_url: str = Field(
        default="https://api.github.com",
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_API_URL", "GITHUB_API_URL"),
    )
    github_instance: str | None = Field(
        default=None, max_length=255, validation_alias="BUILDLIGHT_GITHUB_INSTANCE"
    )
    """Names this GitHub in every fact; the API's host unless set. Changing it makes all builds new ones."""
    github_repositories: Annotated[CommaSeparated, AfterValidator(_repositories)] = Field(
        default=(), validation_alias=AliasChoices("BUILDLIGHT_GITHUB_REPOS", "GITHUB_REPOS")
    )
    github_owner: Annotated[str, AfterValidator(_owner)] | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITHUB_OWNER", "GITHUB_OWNER")
    )
    github_repository: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITHUB_REPO", "GITHUB_REPO")
    )
    github_token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_TOKEN", "GITHUB_TOKEN"),
    )

    @field_validator("github_api_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fits = False
        if not fits:
            raise ValueError("write the API's whole address, such as https://api.github.com")
        return value.rstrip("/")

    @field_validator("github_token")
    @classmethod
    def _a_token(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        said = info.data
        wanted = said.get("github_repositories") or (
            said.get("github_owner") and said.get("github_repository")
        )
        if value is None and said.get("github_enabled") and wanted:
            raise ValueError("is needed to poll the repositories that are set; ENABLE_GH=false polls none")
        if value is not None and not value.get_secret_value().isprintable():
            raise ValueError("has characters that no token has")
        return value

    @property
    def interval(self) -> timedelta:
        return timedelta(seconds=self.interval_seconds)

    @property
    def jitter(self) -> timedelta:
        return min(timedelta(seconds=self.jitter_seconds), self.interval)

    @property
    def window(self) -> timedelta:
        return timedelta(hours=self.window_hours)

    @property
    def sweep(self) -> timedelta:
        return timedelta(hours=self.sweep_hours)

    @property
    def reconcile(self) -> timedelta:
        return timedelta(hours=self.reconcile_hours)

    @property
    def instance_of_github(self) -> str:
        return self.github_instance or urlsplit(self.github_api_url).hostname or "github"

    @property
    def github_targets(self) -> tuple[Target, ...]:
        """What to poll on GitHub; nothing when it is switched off."""
        if not self.github_enabled:
            return ()
        names = self.github_repositories
        if not names and self.github_owner and self.github_repository:
            names = (f"{self.github_owner}/{self.github_repository}",)
        return tuple(Target("github", self.instance_of_github, name) for name in names)
