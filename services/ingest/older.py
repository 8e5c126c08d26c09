"""`POST /ingest/github|jenkins`: builds as older systems post them."""

from collections.abc import Sequence
from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from buildlight_contracts.catalogue import BadMessage
from buildlight_contracts.older import OlderBuild, observed
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires

GITHUB, JENKINS = "/ingest/github", "/ingest/jenkins"


class Ingested(BaseModel):
    id: UUID = Field(description="The build's id, as in `GET /builds`.")
    event_id: UUID = Field(description="The event's id in the log.")


def router(pool: Pool, broker: Broker, *, open_paths: Sequence[str] = ()) -> APIRouter:
    """The two paths; `open_paths` take what comes without a key."""
    routes = APIRouter(tags=["older paths"])

    def key(path: str) -> list[Any]:
        return [] if path in open_paths else [Depends(requires("write", pool))]

    async def take(build: OlderBuild, provider: Literal["github", "jenkins"]) -> Ingested:
        try:
            fact = observed(build, provider)
        except BadMessage as error:
            raise HttpError(422, str(error), kind="ValidationError") from None
        await broker.record(fact)
        return Ingested(id=fact.build.build_id, event_id=fact.identity())

    @routes.post(GITHUB, status_code=202, dependencies=key(GITHUB))
    async def github(build: OlderBuild) -> Ingested:
        """Take a run of GitHub Actions. 202 once RabbitMQ has it; the same one again is the same build."""
        return await take(build, "github")

    @routes.post(JENKINS, status_code=202, dependencies=key(JENKINS))
    async def jenkins(build: OlderBuild) -> Ingested:
        """Take a build of Jenkins's. 202 once RabbitMQ has it; the same one again is the same build."""
        return await take(build, "jenkins")

    return routes
