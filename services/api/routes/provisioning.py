"""`/api/v1/provisioning`: ask for a repository, and see how far it is."""

from collections import OrderedDict
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import uuid4

from fastapi import APIRouter, Body, Depends, Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from buildlight_contracts.commands import Blueprint, GitConfig, ProvisionV1
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from chassis.retry import Permanent
from services.api.answers import Accepted, ProvisioningRun
from services.api.conditional import Conditional
from services.api.queries import provisioning

_REMEMBERED = 1000
_COMPARED = ("kind", "template", "name", "namespace", "group_id", "visibility")
"""What tells two jobs of one run apart; their values, which may be secret, only the provisioner has."""
_JOB: dict[str, Any] = {
    "type": "component",
    "blueprint": {
        "template": "go-backend",
        "name": "my-service",
        "namespace": "my-team",
        "values": {"port": 8080, "database": "postgres"},
    },
    "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
}


class Job(BaseModel):
    """The plain job. Without a `run_id` it gets one; with one, asking twice makes one repository."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True)

    run_id: str | None = Field(
        default=None, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$"
    )
    kind: Literal["system", "component"] = Field(validation_alias=AliasChoices("type", "kind"))
    blueprint: Blueprint
    git_config: GitConfig = Field(default_factory=GitConfig)


def router(reader: Pool, writer: Pool, broker: Broker, *, reading: list[Any]) -> APIRouter:
    """`reader` reads the runs, `writer` checks keys; `reading` guards the GETs."""
    routes = APIRouter(prefix="/api/v1/provisioning", tags=["provisioning"], route_class=Conditional)
    # What was accepted here and the provisioner has not shown yet, so that the Location answers at once.
    accepted: OrderedDict[str, dict[str, Any]] = OrderedDict()

    @routes.post(
        "/runs",
        status_code=202,
        response_model=Accepted,
        dependencies=[Depends(requires("write", writer))],
    )
    async def request_run(job: Annotated[Job, Body(examples=[_JOB])], response: Response) -> dict[str, Any]:
        """Ask for a repository. Answers 202 when RabbitMQ has the command safe; follow `Location`."""
        command = ProvisionV1(
            run_id=job.run_id or str(uuid4()),
            kind=job.kind,
            blueprint=job.blueprint,
            git_config=job.git_config,
        )
        known = await provisioning.one(reader, command.run_id) or accepted.get(command.run_id)
        asked = _told(command)
        if known and any(known[field] != asked[field] for field in _COMPARED):
            raise HttpError(
                409,
                f"The run {command.run_id} is of another job ({known['namespace']}/{known['name']} from "
                f"{known['template']}); choose another run_id, or leave it out",
            )
        if not known or known["status"] == "queued":
            # Once more for one that still waits does no harm, and helps when its command was lost.
            try:
                await broker.command(command)
            except Permanent as error:
                raise HttpError(413, f"The job is too large: {error}", kind="TooLarge") from error
            except LookupError as error:
                raise HttpError(
                    503, f"No provisioner has run here yet: {error}", kind="Unavailable"
                ) from error
        location = f"/api/v1/provisioning/runs/{command.run_id}"
        response.headers["Location"] = location
        if not known:
            accepted[command.run_id] = asked
            while len(accepted) > _REMEMBERED:
                accepted.popitem(last=False)
        return {
            "run_id": command.run_id,
            "status": known["status"] if known else "queued",
            "location": location,
        }

    @routes.get("/runs/{run_id}", response_model=ProvisioningRun, dependencies=reading)
    async def one_run(run_id: str) -> dict[str, Any]:
        """A provisioning run and its steps."""
        run = await provisioning.one(reader, run_id)
        if run is not None:
            accepted.pop(run_id, None)
            return {**run, "steps": await provisioning.steps(reader, run_id)}
        if run_id in accepted:
            return accepted[run_id]
        raise HttpError(404, f"No provisioning run {run_id!r} is known", details={"run_id": run_id})

    return routes


def _told(command: ProvisionV1) -> dict[str, Any]:
    """A run as it stands when its command was accepted."""
    return {
        "run_id": command.run_id,
        "status": "queued",
        "kind": command.kind,
        "template": command.blueprint.template,
        "name": command.blueprint.name,
        "namespace": command.blueprint.namespace,
        "group_id": command.git_config.group_id,
        "visibility": command.git_config.visibility,
        "created_at": datetime.now(UTC),
    }
