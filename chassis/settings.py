"""Settings from the environment: `NAME`, or `NAME_FILE` naming a file that holds the value.

Units are in the names. A wrong value stops the start with the variable's name and what is wrong with it.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

_DURATION = re.compile(r"^(\d+(?:\.\d+)?)(ms|s|m|h)$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class BadSettings(Exception):  # noqa: N818 -- it is the settings that are bad
    """Says which variables are wrong and why, one a line; never shows a secret."""


def seconds_of(duration: str) -> float:
    """`"30s"` -> 30.0. Units: ms, s, m, h.

    Raises:
        ValueError: not a number followed by one of the units.
    """
    match = _DURATION.match(duration)
    if match is None:
        raise ValueError(f"{duration!r} is not a duration such as 500ms, 30s, 5m or 1h")
    return float(match[1]) * _SECONDS[match[2]]


def split_list(value: Any) -> Any:
    """`"a, b"` -> `["a", "b"]`; anything but a string unchanged."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]


class Settings(BaseSettings):
    """What every service needs; each service adds its own."""

    model_config = SettingsConfigDict(
        extra="ignore", populate_by_name=True, frozen=True, env_ignore_empty=True
    )

    database_url: SecretStr = Field(validation_alias="BUILDLIGHT_DATABASE_URL")
    amqp_url: SecretStr = Field(validation_alias="BUILDLIGHT_AMQP_URL")
    retry_rungs: CommaSeparated = Field(
        default=("5s", "30s", "5m", "1h"), validation_alias="BUILDLIGHT_RETRY_RUNGS", min_length=1
    )
    """How long a message that failed for now waits before each new try; then it is a dead letter."""
    reads_need_key: bool = Field(default=False, validation_alias="BUILDLIGHT_READS_NEED_KEY")
    """Whether what anyone may read needs a key with the scope `read`; of every service that answers HTTP."""
    database_pool_size: int = Field(default=4, ge=1, le=50, validation_alias="BUILDLIGHT_DATABASE_POOL_SIZE")

    @field_validator("retry_rungs")
    @classmethod
    def _durations(cls, rungs: tuple[str, ...]) -> tuple[str, ...]:
        for rung in rungs:
            seconds_of(rung)
        return rungs

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 -- pydantic passes it by name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _EnvFiles(settings_cls)

    @classmethod
    def load(cls, **values: Any) -> Self:
        """Read the environment; `values` win over it.

        Raises:
            BadSettings: a variable is missing, wrong, or names a file that cannot be read.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            raise BadSettings("\n".join(_explain(cls, error))) from None
        except SettingsError as error:
            raise BadSettings(str(error.__cause__ or error)) from None


class _EnvFiles(EnvSettingsSource):
    """`NAME_FILE=/run/secrets/name` stands for `NAME=<the file's text>`."""

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {
            name.removesuffix("_file"): path
            for name, path in super()._load_env_vars().items()
            if name.endswith("_file")
        }

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        # Only the files of our own fields are read: others' variables may end in _FILE too.
        path, key, is_complex = super().get_field_value(field, field_name)
        return (_read_secret(key, path) if path else None), key, is_complex


def _names(settings: type[BaseSettings], field: str) -> list[str]:
    """The variables that set `field`."""
    alias = settings.model_fields[field].validation_alias
    return [str(choice) for choice in getattr(alias, "choices", [alias or field])]


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise BadSettings(f"{name.upper()}_FILE: cannot read {path}: {error.strerror}") from None


def _explain(settings: type[Settings], error: ValidationError) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False, include_context=False):
        field = str(detail["loc"][0])
        missing = detail["type"] == "missing"
        lines.append(f"{_variable(settings, field)}: {'is not set' if missing else detail['msg']}")
    return lines


def _variable(settings: type[Settings], location: str) -> str:
    """The variable that was set, or the first name by which it could have been."""
    for name in settings.model_fields:
        names = _names(settings, name)
        if location == name or location in names:
            return next((n for n in names if n in os.environ or f"{n}_FILE" in os.environ), names[0])
    return location
