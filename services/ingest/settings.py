"""Settings of the ingest service."""

from pydantic import Field

from chassis.settings import CommaSeparated, Settings


class IngestSettings(Settings):
    database_pool_size: int = Field(default=8, ge=4, le=50, validation_alias="BUILDLIGHT_INGEST_POOL_SIZE")
    """The relay and the outbox each keep one connection for as long as they publish."""
    batch_messages: int = Field(
        default=500, ge=1, le=1000, validation_alias="BUILDLIGHT_INGEST_BATCH_MESSAGES"
    )
    """How many messages are committed together at most."""
    batch_linger_ms: float = Field(
        default=5.0, ge=0, le=1000, validation_alias="BUILDLIGHT_INGEST_BATCH_LINGER_MS"
    )
    """How long a message may wait for others to be committed with it."""
    claim_check_bytes: int = Field(
        default=262_144, ge=1024, le=1_048_576, validation_alias="BUILDLIGHT_INGEST_CLAIM_CHECK_BYTES"
    )
    """An event with more data than this is relayed without it; readers fetch the data by its position."""
    open_paths: CommaSeparated = Field(default=(), validation_alias="BUILDLIGHT_OPEN_PATHS")
    """Older paths that take what is posted without a key."""
    report_bytes: int = Field(default=536_870_912, ge=1024, validation_alias="BUILDLIGHT_INGEST_REPORT_BYTES")
    """How large an uploaded report or archive may be. It is read as it comes in and never held."""
