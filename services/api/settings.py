"""The API's settings."""

import json
from typing import Annotated, Any

from pydantic import AliasChoices, AwareDatetime, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from chassis.settings import Settings, split_list


def _origins(value: Any) -> Any:
    """Older systems write them as a JSON list or separated by commas; a trailing slash is never part of an origin."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = json.loads(value)
    value = split_list(value)
    return [origin.rstrip("/") for origin in value] if isinstance(value, list) else value


class ApiSettings(Settings):
    admin_key: SecretStr | None = Field(default=None, min_length=16, validation_alias="BUILDLIGHT_ADMIN_KEY")
    """A key with every scope, stored (hashed) at the start; without one, no write is possible at first."""
    allowed_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_origins)] = Field(
        default=(),
        validation_alias=AliasChoices("BUILDLIGHT_ALLOWED_ORIGINS", "ALLOWED_ORIGINS", "ALLOW_ORIGINS"),
    )
    """Other sites whose pages may read the API and open its WebSocket: `https://dash.acme.example`."""
    default_page_size: int = Field(
        default=20,
        ge=1,
        le=100,
        validation_alias=AliasChoices("BUILDLIGHT_DEFAULT_PAGE_SIZE", "DEFAULT_PAGE_SIZE"),
    )
    max_page_size: int = Field(
        default=100,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("BUILDLIGHT_MAX_PAGE_SIZE", "MAX_PAGE_SIZE"),
    )
    live_connections: int = Field(default=1000, ge=1, validation_alias="BUILDLIGHT_LIVE_CONNECTIONS")
    """WebSocket clients at most, in each replica."""
    live_buffer_frames: int = Field(
        default=500, ge=10, le=100_000, validation_alias="BUILDLIGHT_LIVE_BUFFER_FRAMES"
    )
    """Frames that may wait for a slow client before it is dropped."""
    live_heartbeat_seconds: float = Field(
        default=20.0, gt=0, le=300, validation_alias="BUILDLIGHT_LIVE_HEARTBEAT_SECONDS"
    )
    collecting_since: AwareDatetime | None = Field(default=None, validation_alias="BUILDLIGHT_POLL_SINCE")
    """The poller's, and to be the same here: no report of completeness calls what lies before it unmeasured."""
