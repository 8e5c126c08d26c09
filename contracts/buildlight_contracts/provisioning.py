"""A repository scaffolded from a blueprint, step by step."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, ClassVar

from buildlight_contracts.envelope import Fact, Id, Moment

STEPS = ("validate", "workspace", "render", "create", "push", "report", "cleanup")
"""The steps of a provisioning run, in order."""


class _Provisioning(Fact):
    run_id: Id

    def subject(self) -> str:
        return f"provisioning/{self.run_id}"

    def material(self) -> Mapping[str, Any]:
        return {}


class ProvisioningRequestedV1(_Provisioning):
    """Sent when a provisioning job was accepted."""

    type: ClassVar[str] = "provisioning.requested.v1"

    kind: str
    """`system` or `component`."""
    template: str
    name: str
    namespace: str
    group_id: str | None = None
    visibility: str
    requested_at: Moment

    def occurred_at(self) -> datetime:
        return self.requested_at


class ProvisioningStepCompletedV1(_Provisioning):
    """Sent when one step of a provisioning run was done."""

    type: ClassVar[str] = "provisioning.step_completed.v1"

    step: str
    detail: str
    """One sentence for a person, e.g. `42 files rendered`."""
    duration_seconds: float
    completed_at: Moment

    def material(self) -> Mapping[str, Any]:
        return {"step": self.step}

    def occurred_at(self) -> datetime:
        return self.completed_at


class ProvisioningSucceededV1(_Provisioning):
    """Sent when a provisioned repository is complete."""

    type: ClassVar[str] = "provisioning.succeeded.v1"

    project_id: int
    project_url: str
    commit_sha: str
    succeeded_at: Moment

    def occurred_at(self) -> datetime:
        return self.succeeded_at


class ProvisioningFailedV1(_Provisioning):
    """Sent when a provisioning run was given up."""

    type: ClassVar[str] = "provisioning.failed.v1"

    step: str
    reason: str
    failed_at: Moment

    def material(self) -> Mapping[str, Any]:
        return self.model_dump(mode="json", include={"step", "failed_at"})

    def occurred_at(self) -> datetime:
        return self.failed_at
