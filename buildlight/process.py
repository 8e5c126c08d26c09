"""Settings of a process as such, whichever services it runs."""

from typing import Literal

from pydantic import AliasChoices, Field, SecretStr

from chassis.settings import Settings


class ProcessSettings(Settings):
    """Where it listens and how it logs."""

    host: str = Field(default="127.0.0.1", validation_alias="BUILDLIGHT_HOST")
    port: int = Field(default=8080, ge=1, le=65535, validation_alias="BUILDLIGHT_PORT")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "debug", "info", "warning", "error"] = Field(
        default="INFO", validation_alias=AliasChoices("BUILDLIGHT_LOG_LEVEL", "LOG_LEVEL")
    )
    log_format: Literal["json", "text", "auto"] = Field(
        default="auto", validation_alias=AliasChoices("BUILDLIGHT_LOG_FORMAT", "LOG_FORMAT")
    )

    @property
    def log_as_json(self) -> bool | None:
        return None if self.log_format == "auto" else self.log_format == "json"


class MigrationSettings(Settings):
    """The migration may log in as another, mightier user than the services."""

    migration_database_url: SecretStr | None = Field(
        default=None, validation_alias="BUILDLIGHT_MIGRATION_DATABASE_URL"
    )

    @property
    def url(self) -> str:
        return (self.migration_database_url or self.database_url).get_secret_value()
