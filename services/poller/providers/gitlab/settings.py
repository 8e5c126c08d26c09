"""GitLab's part of the poller's settings."""

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator

from chassis.settings import CommaSeparated, Settings
from services.poller.names import address, host_of, paths, watch
from services.poller.targets import Watch


def _projects(values: tuple[str, ...]) -> tuple[str, ...]:
    return paths(
        values,
        least=2,
        wild_owner=False,
        what="project: write its path, such as acme/shop or acme/payments/api, or acme/* for a group's",
    )


class GitLabSettings(Settings):
    gitlab_enabled: bool = Field(
        default=True, validation_alias=AliasChoices("BUILDLIGHT_ENABLE_GITLAB", "ENABLE_GITLAB")
    )
    gitlab_url: str = Field(
        default="https://gitlab.com", validation_alias=AliasChoices("BUILDLIGHT_GITLAB_URL", "GITLAB_URL")
    )
    """Of the GitLab itself; its API is under `/api/v4`."""
    gitlab_instance: str | None = Field(
        default=None, max_length=255, validation_alias="BUILDLIGHT_GITLAB_INSTANCE"
    )
    """Names this GitLab in every fact; its host unless set. Changing it makes all builds new ones."""
    gitlab_projects: Annotated[CommaSeparated, AfterValidator(_projects)] = Field(
        default=(), validation_alias=AliasChoices("BUILDLIGHT_GITLAB_PROJECTS", "GITLAB_PROJECTS")
    )
    """Projects by path, and patterns for those of a group: `acme/*`."""
    gitlab_excluded: Annotated[CommaSeparated, AfterValidator(_projects)] = Field(
        default=(), validation_alias="BUILDLIGHT_GITLAB_EXCLUDE"
    )
    """Left out of what the patterns find."""
    gitlab_token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_GITLAB_TOKEN", "GITLAB_TOKEN"),
    )

    @field_validator("gitlab_url")
    @classmethod
    def _a_gitlab(cls, value: str) -> str:
        return address(value, example="https://gitlab.example").removesuffix("/api/v4")

    @field_validator("gitlab_token")
    @classmethod
    def _a_gitlab_token(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is None and info.data.get("gitlab_enabled") and info.data.get("gitlab_projects"):
            raise ValueError("is needed to poll the projects that are set; ENABLE_GITLAB=false polls none")
        if value is not None and not value.get_secret_value().isprintable():
            raise ValueError("has characters that no token has")
        return value

    @property
    def gitlab_watch(self) -> Watch:
        """What to poll on GitLab; nothing when it is switched off."""
        if not self.gitlab_enabled:
            return Watch()
        return watch("gitlab", self.instance_of_gitlab, self.gitlab_projects, self.gitlab_excluded)

    @property
    def instance_of_gitlab(self) -> str:
        return self.gitlab_instance or host_of(self.gitlab_url, "gitlab")

    @property
    def gitlab_api_url(self) -> str:
        return f"{self.gitlab_url}/api/v4"
