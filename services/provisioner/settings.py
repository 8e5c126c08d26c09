"""What the provisioner is told from outside; the older names are accepted, too."""

import os
import re
import socket
import tempfile
from pathlib import Path
from typing import Annotated, Any

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr

from chassis.settings import Settings, seconds_of

BLUEPRINTS = Path(__file__).parents[2] / "infra" / "blueprints"

_SIZE = re.compile(r"^(\d+(?:\.\d+)?)\s*(B|KB|MB|GB)?$", re.IGNORECASE)
_BYTES = {"B": 1, "KB": 1024, "MB": 1024**2, "GB": 1024**3}


def bytes_of(size: Any) -> Any:
    """`"500MB"` -> 524,288,000; a number is bytes. Units: B, KB, MB, GB, of 1024.

    Raises:
        ValueError: not a number followed by one of the units.
    """
    if not isinstance(size, str):
        return size
    match = _SIZE.match(size.strip())
    if match is None:
        raise ValueError(f"{size!r} is not a size such as 500KB, 10MB or 1GB")
    return int(float(match[1]) * _BYTES[(match[2] or "B").upper()])


def _seconds(duration: Any) -> Any:
    return seconds_of(duration) if isinstance(duration, str) else duration


Size = Annotated[int, BeforeValidator(bytes_of)]
Duration = Annotated[float, BeforeValidator(_seconds)]


class ProvisionerSettings(Settings):
    """Addresses, limits and names."""

    jobs_queue: str = Field(
        default="provisioning-jobs",
        min_length=1,
        max_length=200,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_JOBS_QUEUE", "RABBITMQ_QUEUE"),
    )
    """Where others publish plain JSON jobs. It is used as found, and made when nobody has."""
    jobs_prefetch: int = Field(
        default=10,
        ge=1,
        le=1000,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_JOBS_PREFETCH", "RABBITMQ_PREFETCH_COUNT"),
    )
    concurrency: int = Field(
        default=5,
        ge=1,
        le=100,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_CONCURRENCY", "WORKER_CONCURRENCY"),
    )
    """Runs worked on at once by one replica."""
    worker_id: str = Field(
        default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}",
        min_length=1,
        max_length=255,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_WORKER_ID", "WORKER_ID"),
    )

    gitlab_url: str = Field(
        default="https://gitlab.com",
        pattern=r"^https?://[^\s/]+",
        validation_alias=AliasChoices("BUILDLIGHT_GITLAB_URL", "GITLAB_URL"),
    )
    gitlab_token: SecretStr | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITLAB_TOKEN", "GITLAB_TOKEN")
    )
    """Of a user who may create projects in the groups. Without one every run fails and says so."""
    gitlab_group_id: str | None = Field(
        default=None, validation_alias=AliasChoices("BUILDLIGHT_GITLAB_GROUP_ID", "GITLAB_GROUP_ID")
    )
    """The group, by id or full path, of jobs that name none; without it, their namespace is the group's path."""
    gitlab_timeout_seconds: float = Field(
        default=30.0, gt=0, le=300, validation_alias="BUILDLIGHT_GITLAB_TIMEOUT_SECONDS"
    )

    blueprints: Path = Field(default=BLUEPRINTS, validation_alias="BUILDLIGHT_BLUEPRINTS")
    """The operator's catalogue: a folder with one Copier template a folder. Nothing else is ever rendered."""
    workspaces: Path = Field(
        default_factory=lambda: Path(tempfile.gettempdir()) / "buildlight-workspaces",
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_WORKSPACES", "WORKSPACE_DIR"),
    )
    template_cache: str | None = Field(default=None, validation_alias="TEMPLATE_CACHE_DIR")
    """Ignored, and said so at the start: blueprints are read where they lie."""
    max_template_bytes: Size = Field(
        default=bytes_of("10MB"),
        ge=1,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_MAX_TEMPLATE", "MAX_TEMPLATE_SIZE"),
    )
    max_workspace_bytes: Size = Field(
        default=bytes_of("500MB"),
        ge=1,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_MAX_WORKSPACE", "MAX_WORKSPACE_SIZE"),
    )
    max_commit_bytes: Size = Field(
        default=bytes_of("20MB"), ge=1, validation_alias="BUILDLIGHT_PROVISIONER_MAX_COMMIT"
    )
    """The rendered files together: they travel to GitLab in one request, and through this process's memory."""
    max_job_seconds: Duration = Field(
        default=600.0,
        gt=0,
        validation_alias=AliasChoices("BUILDLIGHT_PROVISIONER_MAX_JOB_DURATION", "MAX_JOB_DURATION"),
    )
    """After which a rendering is ended. Each call to GitLab has its own, shorter limit."""

    control_plane_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+",
        validation_alias=AliasChoices("BUILDLIGHT_CONTROL_PLANE_URL", "CONTROL_PLANE_URL"),
    )
    """Who is told the status of runs; nobody, without it."""
    control_plane_api_key: SecretStr | None = Field(
        default=None,
        validation_alias=AliasChoices("BUILDLIGHT_CONTROL_PLANE_API_KEY", "CONTROL_PLANE_API_KEY"),
    )
