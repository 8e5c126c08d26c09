"""Jenkins's part of the poller's settings."""

from typing import Annotated

from pydantic import AfterValidator, AliasChoices, Field, SecretStr, ValidationInfo, field_validator

from chassis.settings import CommaSeparated, Settings
from services.poller.names import address, host_of, paths
from services.poller.targets import Pattern, Watch


def _jobs(values: tuple[str, ...]) -> tuple[str, ...]:
    return paths(
        values,
        least=1,
        wild_owner=True,
        what="job: write its full name, such as shop or payments/api/main, or payments/* for a folder's",
    )


def _job(value: str) -> str:
    return _jobs((value,))[0]


class JenkinsSettings(Settings):
    jenkins_enabled: bool = Field(
        default=False, validation_alias=AliasChoices("BUILDLIGHT_ENABLE_JENKINS", "ENABLE_JENKINS")
    )
    jenkins_instance: str | None = Field(
        default=None, max_length=255, validation_alias="BUILDLIGHT_JENKINS_INSTANCE"
    )
    """Names this Jenkins in every fact; its host unless set. Changing it makes all builds new ones."""
    jenkins_jobs: Annotated[CommaSeparated, AfterValidator(_jobs)] = Field(
        default=(), validation_alias=AliasChoices("BUILDLIGHT_JENKINS_JOBS", "JENKINS_JOBS")
    )
    """Jobs by full name, and patterns: `payments/*` for those of a folder, `**` for all there are."""
    jenkins_excluded: Annotated[CommaSeparated, AfterValidator(_jobs)] = Field(
        default=(), validation_alias="BUILDLIGHT_JENKINS_EXCLUDE"
    )
    """Left out of what the patterns find."""
    jenkins_default_job: Annotated[str, AfterValidator(_job)] | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_JENKINS_DEFAULT_JOB", "JENKINS_DEFAULT_JOB")
    )
    """Polled when no jobs are set."""
    jenkins_url: str | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_JENKINS_URL", "JENKINS_URL"),
    )
    """With the path it lives under."""
    jenkins_username: str | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_JENKINS_USERNAME", "JENKINS_USERNAME")
    )
    jenkins_token: SecretStr | None = Field(
        default=None,
        validate_default=True,
        validation_alias=AliasChoices("BUILDLIGHT_JENKINS_API_TOKEN", "JENKINS_API_TOKEN"),
    )
    """An API token of that user. Without user and token Jenkins is read as anyone may."""

    @field_validator("jenkins_url")
    @classmethod
    def _a_jenkins(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            return address(value, example="https://jenkins.example/ci")
        if info.data.get("jenkins_enabled"):
            raise ValueError("is needed with ENABLE_JENKINS")
        return None

    @field_validator("jenkins_token")
    @classmethod
    def _a_jenkins_token(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        user = info.data.get("jenkins_username")
        if not info.data.get("jenkins_enabled"):
            return value
        if value is None and user:
            raise ValueError(
                "is needed beside JENKINS_USERNAME: one of the user's API tokens, not the password"
            )
        if value is not None and not user:
            raise ValueError("is of no use without JENKINS_USERNAME")
        return value

    @property
    def jenkins_watch(self) -> Watch:
        """What to poll on Jenkins; nothing unless it is switched on.

        A plain name is looked up like a pattern: a multibranch project stands for its branches.
        """
        if not self.jenkins_enabled:
            return Watch()
        names = self.jenkins_jobs or ((self.jenkins_default_job,) if self.jenkins_default_job else ())
        instance = self.instance_of_jenkins
        return Watch(
            patterns=tuple(Pattern("jenkins", instance, name) for name in names),
            excluded=tuple(Pattern("jenkins", instance, name) for name in self.jenkins_excluded),
        )

    @property
    def instance_of_jenkins(self) -> str:
        return self.jenkins_instance or host_of(self.jenkins_url or "", "jenkins")
