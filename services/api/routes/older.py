"""The older dashboards' paths, in their own shapes."""

from typing import Annotated, Any

from fastapi import APIRouter, Query

from chassis.database import Pool
from chassis.http import HttpError
from services.api.answers import OlderBuild, OlderSummary
from services.api.conditional import Conditional
from services.api.queries import builds, pipelines
from services.api.windows import parse_window, rates

_THEIR_WORDS = {
    **dict.fromkeys(pipelines.OPEN, "in_progress"),
    **dict.fromkeys(pipelines.BAD, "failure"),
}


def router(pool: Pool) -> APIRouter:
    routes = APIRouter(tags=["older paths"], route_class=Conditional)

    @routes.get("/builds/latest", response_model=OlderBuild)
    async def latest(pipeline: Annotated[str, Query(examples=["build-and-test"])]) -> dict[str, Any]:
        """The newest build of the pipelines with this name."""
        found = await builds.newest(pool, builds.Filter(workflow=pipeline), limit=1)
        if not found:
            raise HttpError(404, f"No build of a pipeline {pipeline!r} was observed")
        return _as_theirs(found[0])

    @routes.get("/metrics/summary", response_model=OlderSummary)
    async def summary(window: Annotated[str, Query(examples=["7d"])] = "7d") -> dict[str, Any]:
        """Rates, mean duration and the last status of each pipeline."""
        counts = await pipelines.counts(pool, parse_window(window))
        success, failure = rates(counts["states"]) or (0.0, 0.0)
        last = await pipelines.last_states(pool)
        return {
            "window": window,
            "success_rate": success,
            "failure_rate": failure,
            "avg_build_time": round(counts["mean_duration_seconds"] or 0.0, 1),
            "last_status_by_pipeline": {name: _THEIR_WORDS.get(state, state) for name, state in last.items()},
        }

    return routes


async def list_builds(pool: Pool, limit: int) -> list[dict[str, Any]]:
    """`GET /builds?limit=` for a program; for a browser the same path is a page."""
    return [_as_theirs(build) for build in await builds.newest(pool, builds.Filter(), limit=limit)]


def _as_theirs(build: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": build["build_id"],
        "provider": build["provider"],
        "pipeline": build["workflow"],
        "repo": build["repository"],
        "branch": build["branch"],
        "status": _THEIR_WORDS.get(build["state"], build["state"]),
        "started_at": build["started_at"],
        "completed_at": build["finished_at"],
        "duration_seconds": build["duration_seconds"],
        "url": build["url"],
        "created_at": build["ordered_at"],
    }
