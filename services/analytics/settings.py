"""What can be set for analytics."""

from pydantic import Field

from chassis.settings import Settings


class AnalyticsSettings(Settings):
    """Every follower and the outbox hold a connection while they work, hence a larger pool."""

    database_pool_size: int = Field(default=6, ge=1, le=50, validation_alias="BUILDLIGHT_DATABASE_POOL_SIZE")
    follower_batch_events: int = Field(
        default=500, ge=1, le=10_000, validation_alias="BUILDLIGHT_ANALYTICS_BATCH_EVENTS"
    )
    """Events applied in one transaction at most."""
    poll_seconds: float = Field(
        default=1.0, gt=0, le=60, validation_alias="BUILDLIGHT_ANALYTICS_POLL_SECONDS"
    )
    """How often to look at the log when no hint comes."""
