"""GitHub's part of the poller's settings."""

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator

from chassis.settings import CommaSeparated, Settings
from services.poller.names import address, host_of, watch
from services.poller.promising import REPORT_NAMES
from services.poller.providers.github.app import AppKey
from services.poller.targets import Watch, is_pattern

_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NAME_PATTERN = re.compile(r"[A-Za-z0-9._*?-]+")


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
        fits = (_NAME_PATTERN if is_pattern(name) else _NAME).fullmatch(name) and name not in (".", "..")
        if not slash or not _OWNER.fullmatch(owner) or not fits:
            raise ValueError(
                f"{value!r} is no repository: write owner/name, or owner/* for all, separated by commas"
            )
    # GitHub's names do not tell upper from lower case.
    once: dict[str, str] = {}
    for value in values:
        once.setdefault(value.lower(), value)
    return tuple(once.values())


class GitHubSettings(Settings):
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
    """Repositories, and patterns for those of an owner: `acme/*`."""
    github_excluded: Annotated[CommaSeparated, AfterValidator(_repositories)] = Field(
        default=(), validation_alias="BUILDLIGHT_GITHUB_EXCLUDE"
    )
    """Left out of what the patterns find."""
    github_owner: Annotated[str, AfterValidator(_owner)] | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITHUB_OWNER", "GITHUB_OWNER")
    )
    github_repository: Annotated[str, AfterValidator(_name)] | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITHUB_REPO", "GITHUB_REPO")
    )
    github_app_id: str | None = Field(
        default=None,
        max_length=100,
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_APP_ID", "GITHUB_APP_ID"),
    )
    github_private_key: SecretStr | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_PRIVATE_KEY", "GITHUB_PRIVATE_KEY"),
    )
    """Of the GitHub App, in PEM; line breaks may be written as `\\n`."""
    github_installation_id: str | None = Field(
        default=None,
        max_length=100,
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_INSTALLATION_ID", "GITHUB_INSTALLATION_ID"),
    )
    """Without it each owner's installation is asked for."""
    github_token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_TOKEN", "GITHUB_TOKEN"),
    )
    """Not used beside a GitHub App."""
    github_report_artifacts: CommaSeparated = Field(
        default=REPORT_NAMES, min_length=1, validation_alias="BUILDLIGHT_GITHUB_REPORT_ARTIFACTS"
    )
    """Patterns for the names, in any case, of artifacts that may hold test reports; `*` is all of them."""

    @field_validator("github_api_url")
    @classmethod
    def _an_address(cls, value: str) -> str:
        return address(value, example="https://api.github.com")

    @field_validator("github_private_key")
    @classmethod
    def _a_key(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        app = info.data.get("github_app_id")
        if not info.data.get("github_enabled"):
            return value
        if value is None and app:
            raise ValueError("is needed beside GITHUB_APP_ID, or GITHUB_PRIVATE_KEY_FILE")
        if value is not None and not app:
            raise ValueError("is of no use without GITHUB_APP_ID")
        return value

    @field_validator("github_token")
    @classmethod
    def _a_token(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        said = info.data
        wanted = said.get("github_enabled") and _wanted(said)
        if value is None and wanted and not said.get("github_app_id"):
            raise ValueError("is needed to poll the repositories that are set; ENABLE_GH=false polls none")
        if value is not None and not value.get_secret_value().isprintable():
            raise ValueError("has characters that no token has")
        return value

    @property
    def github_watch(self) -> Watch:
        """What to poll on GitHub; nothing when it is switched off."""
        if not self.github_enabled:
            return Watch()
        names = self.github_repositories
        if not names and self.github_owner and self.github_repository:
            names = (f"{self.github_owner}/{self.github_repository}",)
        return watch("github", self.instance_of_github, names, self.github_excluded)

    @property
    def github_app(self) -> AppKey | None:
        if not self.github_app_id or self.github_private_key is None:
            return None
        return AppKey(self.github_app_id, self.github_private_key, self.github_installation_id)

    @property
    def instance_of_github(self) -> str:
        return self.github_instance or host_of(self.github_api_url, "github")


def _wanted(said: Mapping[str, Any]) -> bool:
    return bool(
        said.get("github_repositories") or (said.get("github_owner") and said.get("github_repository"))
    )
