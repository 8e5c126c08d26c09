"""`/api/v1/pipeline`: how things stand now."""

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query

from chassis.database import Pool
from services.api.answers import Overview
from services.api.conditional import Conditional
from services.api.queries import builds, pipelines
from services.api.windows import parse_window, rates


def router(pool: Pool) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/pipeline", tags=["pipeline"], route_class=Conditional)

    @routes.get("/overview", response_model=Overview)
    async def overview(
        window: Annotated[str, Query(description="From 1h to 30d", examples=["24h", "7d"])] = "24h",
    ) -> dict[str, Any]:
        """Live status: counts and rates in the window, what runs and waits, every pipeline's state, recent builds."""
        length = parse_window(window)
        counts, open_builds, open_counts, newest, recent = await asyncio.gather(
            pipelines.counts(pool, length),
            pipelines.waiting_and_running(pool, limit=50),
            pipelines.count_open(pool),
            pipelines.newest(pool, limit=100),
            builds.newest(pool, builds.Filter(), limit=20),
        )
        success, failure = rates(counts["states"]) or (None, None)
        return {
            "window": window,
            **counts,
            "success_rate": success,
            "failure_rate": failure,
            "live": {
                "running": open_counts["running"],
                "queued": sum(open_counts.values()) - open_counts["running"],
                "builds": open_builds,
            },
            "pipelines": newest,
            "recent_builds": recent,
        }

    return routes
