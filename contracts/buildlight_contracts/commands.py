"""What can be asked of Buildlight. Each command has one owner, an idempotency key and an expiry.

The idempotency key is the envelope's id: asking again with the same key is answered again, not done again.
"""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import AfterValidator, AliasChoices, ConfigDict, Field

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.envelope import Id, Message, Moment, Payload


class Command(Message):
    """Something asked for. The type is `<noun>.<imperative>.v<N>`; the owner's queue is bound to it."""


class PollTargetV1(Command):
    """Asks the poller to poll one target now."""

    type: ClassVar[str] = "target.poll.v1"

    provider: Id
    instance: Id
    target: Id
    due_at: Moment

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}"

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", include={"due_at"})


Priority = Literal["low", "normal", "high", "critical"]
"""`high` and `critical` go by the express lane, which nothing of the others holds up."""


class RefreshBuildV1(Command):
    """Asks the poller to look at one build now: its latest attempt, earlier ones not yet seen, and its jobs."""

    type: ClassVar[str] = "build.refresh.v1"

    provider: Id
    instance: Id
    target: Id
    """In the provider's words: `acme/shop`."""
    run_id: Id
    priority: Priority = "normal"
    reason: str
    """What prompted it: `webhook`, `reconcile`, `asked`."""
    due_at: Moment

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}/runs/{self.run_id}"

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", include={"due_at", "reason"})


class BackfillTargetV1(Command):
    """Asks the poller to collect the builds of a target that were created in a stretch of time."""

    type: ClassVar[str] = "target.backfill.v1"

    request_id: UUID
    provider: Id
    instance: Id
    target: Id
    since: Moment
    until: Moment
    targets: int = Field(default=1, ge=1)
    """How many targets the request has in all, each with a command of its own."""

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}"

    def material(self) -> Mapping[str, Any]:
        return {"request_id": str(self.request_id)}


class ReconcileTargetV1(Command):
    """Asks the poller to compare what the provider says exists in a target with what the log has."""

    type: ClassVar[str] = "target.reconcile.v1"

    request_id: UUID
    provider: Id
    instance: Id
    target: Id
    since: Moment
    until: Moment

    def subject(self) -> str:
        return f"{self.provider}/{self.instance}/targets/{self.target}"

    def material(self) -> Mapping[str, Any]:
        return {"request_id": str(self.request_id)}


class CollectReportsV1(Command):
    """Asks the poller for the test reports of one attempt of a build, and the logs of its failed jobs."""

    type: ClassVar[str] = "reports.collect.v1"

    build: BuildRef
    target: Id
    """The target it belongs to, in the provider's words: `acme/shop`."""
    repository: str
    workflow_id: Id | None = None
    branch: str | None = None
    commit_sha: str | None = None
    ended_at: Moment
    """When the attempt ended: another end is another request."""
    failed: bool
    """Whether it ended badly: then logs are wanted."""
    priority: Priority = "normal"

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        return {"attempt": self.build.attempt, **self.model_dump(mode="json", include={"ended_at"})}


class _BuildCommand(Command):
    request_id: UUID
    build: BuildRef
    repository: str
    """The build's repository by name, as last seen."""
    by: str
    """Who asks: the name of an API key."""

    def subject(self) -> str:
        return self.build.subject

    def material(self) -> Mapping[str, Any]:
        return {"request_id": str(self.request_id)}


class RerunBuildV1(_BuildCommand):
    """Asks the poller to have the provider run a build again."""

    type: ClassVar[str] = "build.rerun.v1"

    failed_only: bool = False
    """Only the jobs that failed, where the provider can do that."""


class CancelBuildV1(_BuildCommand):
    """Asks the poller to have the provider cancel a build."""

    type: ClassVar[str] = "build.cancel.v1"


class Annotation(Payload):
    """A remark on a line of a file."""

    path: str = Field(max_length=1000)
    line: int = Field(default=1, ge=1)
    level: Literal["notice", "warning", "failure"] = "warning"
    title: str = Field(max_length=255)
    message: str = Field(max_length=4000)


COMMIT_SHA = r"^[0-9a-f]{40}([0-9a-f]{24})?$"
"""A whole commit id: it becomes part of an address that is called with the provider's token."""


class PublishCheckV1(_BuildCommand):
    """Asks the poller to show a verdict on a build's commit: a check run, a commit status or a comment."""

    type: ClassVar[str] = "check.publish.v1"

    commit_sha: str = Field(pattern=COMMIT_SHA)
    name: str = Field(max_length=100)
    conclusion: Literal["success", "failure", "neutral"]
    title: str = Field(max_length=255)
    summary: str = Field(max_length=60_000)
    details_url: str | None = None
    annotations: tuple[Annotation, ...] = Field(default=(), max_length=500)


_PATH = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$"
_REFUSED_ENDING = r"\.([Gg][Ii][Tt]|[Aa][Tt][Oo][Mm])?$"
DEEPEST_VALUES = 50
"""Levels of objects and lists that a blueprint's values may have, themselves counted."""


def _nameable(name: str) -> str:
    if re.search(_REFUSED_ENDING, name):
        raise ValueError("GitLab takes no name that ends in .git, .atom or a full stop")
    return name


def _json(values: dict[str, Any]) -> dict[str, Any]:
    # Level by level: what a request nests could be deeper than Python's stack.
    level: list[Any] = [values]
    for _ in range(DEEPEST_VALUES):
        level = [
            inner
            for value in level
            if isinstance(value, dict | list)
            for inner in (value.values() if isinstance(value, dict) else value)
        ]
    if any(isinstance(value, dict | list) for value in level):
        raise ValueError(f"nested deeper than {DEEPEST_VALUES} levels")
    try:
        json.dumps(values, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError):
        raise ValueError("not JSON: a number that is none, or half a character") from None
    return values


class Blueprint(Payload):
    template: str = Field(
        min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f-\x9f]+$", examples=["go-backend"]
    )
    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=100,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$",
            json_schema_extra={"not": {"pattern": _REFUSED_ENDING}},
            examples=["my-service"],
        ),
        AfterValidator(_nameable),
    ]
    """A repository's name: not one that ends in `.git`, `.atom` or a full stop."""
    namespace: str = Field(min_length=1, max_length=255, pattern=_PATH, examples=["my-team"])
    values: Annotated[dict[str, Any], AfterValidator(_json)] = Field(default_factory=dict)


class GitConfig(Payload):
    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    provider: Literal["gitlab"] = "gitlab"
    group_id: str | None = Field(default=None, max_length=255, pattern=_PATH)
    """A group's number or full path, such as `acme/platform`; null: the provisioner's own choice."""
    visibility: Literal["private", "internal", "public"] = "private"


class ProvisionV1(Command):
    """Asks the provisioner for one repository. Also the plain JSON job on the queue `provisioning-jobs`."""

    model_config = ConfigDict(frozen=True, extra="ignore", validate_by_name=True, validate_by_alias=True)

    type: ClassVar[str] = "repository.provision.v1"

    run_id: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")
    kind: Literal["system", "component"] = Field(validation_alias=AliasChoices("kind", "type"))
    blueprint: Blueprint
    git_config: GitConfig = Field(default_factory=GitConfig)

    def subject(self) -> str:
        return f"provisioning/{self.run_id}"

    def material(self) -> Mapping[str, Any]:
        return {}


class ReplayDeadLettersV1(Command):
    """Asks ingest to put dead letters back on the queues they died on."""

    type: ClassVar[str] = "dead_letters.replay.v1"

    request_id: UUID
    dead_letter_ids: tuple[UUID, ...] = Field(max_length=1000)
    by: str

    def subject(self) -> str:
        return "dead-letters"

    def material(self) -> Mapping[str, Any]:
        return {"request_id": str(self.request_id)}
