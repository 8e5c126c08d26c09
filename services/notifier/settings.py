"""What the notifier is told by its environment."""

from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, AliasChoices, Field, SecretStr

from chassis.settings import CommaSeparated, Settings


def _web_address(value: str) -> str:
    address = urlsplit(value)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise ValueError("not an address such as https://buildlight.example.com")
    return value.rstrip("/")


def _secret_web_address(value: SecretStr) -> SecretStr:
    return SecretStr(_web_address(value.get_secret_value()))


def _mail_address(value: str) -> str:
    before, _, domain = value.rpartition("@")
    if not before or not domain or not value.isprintable():
        raise ValueError("not a mail address such as ci@example.com")
    return value


def _mail_addresses(values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(map(_mail_address, values))


class NotifierSettings(Settings):
    """Who is told, how, and of what age."""

    slack_webhook: Annotated[SecretStr, AfterValidator(_secret_web_address)] | None = Field(
        default=None, validation_alias=AliasChoices("ALERT_SLACK_WEBHOOK", "SLACK_WEBHOOK_URL")
    )
    smtp_host: str | None = Field(default=None, validation_alias="SMTP_HOST")
    smtp_port: int = Field(default=587, ge=1, le=65535, validation_alias="SMTP_PORT")
    smtp_user: str | None = Field(default=None, validation_alias="SMTP_USER")
    smtp_password: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("SMTP_PASS", "SMTP_PASSWORD")
    )
    smtp_tls: Literal["auto", "starttls", "none"] = Field(default="auto", validation_alias="SMTP_TLS")
    """`auto`: TLS from the first byte on port 465, elsewhere STARTTLS when the server offers it, and always
    when there is a password to protect. `starttls`: always. `none`: never."""
    mail_from: Annotated[str, AfterValidator(_mail_address)] | None = Field(
        default=None, validation_alias="ALERT_EMAIL_FROM"
    )
    mail_to: Annotated[CommaSeparated, AfterValidator(_mail_addresses)] = Field(
        default=(), validation_alias="ALERT_EMAIL_TO"
    )
    public_url: Annotated[str, AfterValidator(_web_address)] | None = Field(
        default=None, validation_alias="BUILDLIGHT_URL"
    )
    """Where people reach Buildlight; without it, notifications link to the provider alone."""
    max_age_seconds: float = Field(default=3600.0, gt=0, validation_alias="BUILDLIGHT_NOTIFY_MAX_AGE_SECONDS")
    """A break older than that when it is recorded is history, such as a backfill: nobody is told."""
    send_timeout_seconds: float = Field(
        default=10.0, gt=0, le=120, validation_alias="BUILDLIGHT_NOTIFY_SEND_TIMEOUT_SECONDS"
    )

    def missing(self, channel: str) -> tuple[str, ...]:
        """The variables without which `channel` is off; none when it is on."""
        needed: dict[str, dict[str, object]] = {
            "slack": {"ALERT_SLACK_WEBHOOK": self.slack_webhook},
            "mail": {
                "SMTP_HOST": self.smtp_host,
                "ALERT_EMAIL_FROM": self.mail_from,
                "ALERT_EMAIL_TO": self.mail_to,
            },
        }
        return tuple(name for name, value in needed[channel].items() if not value)
