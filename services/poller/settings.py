"""The poller's settings: its own, and each provider's."""

from datetime import timedelta

from pydantic import AliasChoices, AwareDatetime, Field

from services.poller.providers.github.settings import GitHubSettings
from services.poller.providers.gitlab.settings import GitLabSettings
from services.poller.providers.jenkins.settings import JenkinsSettings
from services.poller.targets import Watch
from services.poller.webhook_settings import WebhookSettings


class PollerSettings(GitHubSettings, GitLabSettings, JenkinsSettings, WebhookSettings):
    polling_enabled: bool = Field(
        default=True, validation_alias=AliasChoices("BUILDLIGHT_POLLING_ENABLED", "POLLING_ENABLED")
    )
    """Whether this replica asks for polls. What others ask for, webhooks too, it carries out all the same."""
    interval_seconds: float | None = Field(
        default=None,
        ge=0.1,
        le=86_400,
        validation_alias=AliasChoices("BUILDLIGHT_POLL_INTERVAL_SECONDS", "WORKER_POLL_INTERVAL"),
    )
    """A minute unless set, here or in minutes."""
    interval_minutes: float | None = Field(
        default=None, gt=0, le=1440, validation_alias="POLLING_INTERVAL_MINUTES"
    )
    """An older system's; the seconds count when both are set."""
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
    discovery_minutes: float = Field(
        default=60, ge=0.05, le=7 * 1440, validation_alias="BUILDLIGHT_DISCOVERY_MINUTES"
    )
    """How often patterns such as `acme/*` are looked up."""
    deployments_minutes: float = Field(
        default=5, ge=0, le=7 * 1440, validation_alias="BUILDLIGHT_DEPLOYMENTS_MINUTES"
    )
    """How often a target's deployments are asked for; 0 is never."""
    collect_reports: bool = Field(default=True, validation_alias="BUILDLIGHT_COLLECT_REPORTS")
    """Whether the test reports and logs of builds that have ended are asked for."""

    @property
    def interval(self) -> timedelta:
        if self.interval_seconds is not None:
            return timedelta(seconds=self.interval_seconds)
        return timedelta(minutes=self.interval_minutes if self.interval_minutes is not None else 1)

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
    def discovery(self) -> timedelta:
        return timedelta(minutes=self.discovery_minutes)

    @property
    def deployments(self) -> timedelta | None:
        return timedelta(minutes=self.deployments_minutes) if self.deployments_minutes else None

    @property
    def watch(self) -> Watch:
        """What to poll, over all providers."""
        return self.github_watch + self.gitlab_watch + self.jenkins_watch
