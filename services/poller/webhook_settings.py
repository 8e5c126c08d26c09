"""Settings of the doors by which providers push to us; part of the poller's."""

import base64
import binascii
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import NoDecode

from chassis.settings import CommaSeparated, Settings

PROVIDERS = ("github", "gitlab", "jenkins")
OLDER_PATHS = ("/api/webhook/github-actions", "/api/webhook/jenkins")
SIGNING_PREFIX = "whsec_"
_LARGEST_BYTES = 25 * 1_048_576


def _lines(value: Any) -> Any:
    return [line.strip() for line in value.splitlines() if line.strip()] if isinstance(value, str) else value


# One a line, not one a comma or blank: a secret may have those, and a piece of one must never count as one.
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_lines)]


def signing_key(token: str) -> bytes:
    """The key inside a `whsec_...` token of the Standard Webhooks.

    Raises:
        ValueError: it is none.
    """
    try:
        key = base64.b64decode(token.removeprefix(SIGNING_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not token.startswith(SIGNING_PREFIX) or not key:
        raise ValueError(
            f"a signing token is {SIGNING_PREFIX} and the key in base64, as GitLab shows it once"
        )
    return key


class WebhookSettings(Settings):
    """Each of the secrets may be several, one a line, so that a new one can be brought in while an old one is used."""

    github_webhook_secrets: Secrets = Field(
        default=(),
        validation_alias=AliasChoices("BUILDLIGHT_GITHUB_WEBHOOK_SECRET", "GITHUB_WEBHOOK_SECRET"),
    )
    gitlab_webhook_secrets: Secrets = Field(
        default=(),
        validation_alias=AliasChoices("BUILDLIGHT_GITLAB_WEBHOOK_SECRET", "GITLAB_WEBHOOK_SECRET"),
    )
    """What GitLab sends as X-Gitlab-Token."""
    gitlab_webhook_signing_tokens: Secrets = Field(
        default=(),
        validation_alias=AliasChoices(
            "BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN", "GITLAB_WEBHOOK_SIGNING_TOKEN"
        ),
    )
    """`whsec_...`, with which newer GitLabs sign."""
    jenkins_webhook_secrets: Secrets = Field(
        default=(),
        validation_alias=AliasChoices("BUILDLIGHT_JENKINS_WEBHOOK_SECRET", "JENKINS_WEBHOOK_SECRET"),
    )
    webhooks_unsigned: CommaSeparated = Field(default=(), validation_alias="BUILDLIGHT_WEBHOOKS_UNSIGNED")
    """The providers, by name, whose webhooks are taken without a signature."""
    webhook_max_bytes: int = Field(
        default=8 * 1_048_576,
        ge=1024,
        le=_LARGEST_BYTES,
        validation_alias="BUILDLIGHT_WEBHOOK_MAX_BYTES",
    )
    """The largest body that is taken. GitHub sends up to 25 MB; of builds and jobs it is some 30 kB."""
    webhook_tolerance_seconds: float = Field(
        default=300, gt=0, le=86_400, validation_alias="BUILDLIGHT_WEBHOOK_TOLERANCE_SECONDS"
    )
    """How far a signed timestamp may be from our clock."""
    open_paths: CommaSeparated = Field(default=(), validation_alias="BUILDLIGHT_OPEN_PATHS")
    """Older paths that take what is posted without a key."""

    @field_validator("gitlab_webhook_signing_tokens")
    @classmethod
    def _signing_tokens(cls, tokens: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for token in tokens:
            signing_key(token.get_secret_value())
        return tokens

    @field_validator("webhooks_unsigned")
    @classmethod
    def _providers(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in names if name not in PROVIDERS]
        if unknown:
            raise ValueError(f"{', '.join(unknown)}: there are {', '.join(PROVIDERS)}")
        return names
