"""`/`: how the company's CI stands now, on one page that keeps itself up to date."""

import asyncio
from datetime import timedelta
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from chassis.database import Pool
from services.api.conditional import Conditional
from services.api.pages.frame import render, wants_html
from services.api.queries import builds, notifications, pipelines, provisioning
from services.api.routes.system import information
from services.api.windows import rates

_DAY = timedelta(hours=24)


def router(pool: Pool) -> APIRouter:
    routes = APIRouter(tags=["system"], route_class=Conditional)

    @routes.get("/", responses={200: {"content": {"text/html": {}}}})
    async def home(request: Request) -> Response:
        """The live page for a browser; for a program, what this API is."""
        if not wants_html(request):
            return JSONResponse(information(), headers={"Vary": "Accept"})
        return await _page(pool)

    return routes


async def _page(pool: Pool) -> Response:
    told, runs, broken, grid, recent = await asyncio.gather(
        notifications.newest(pool, limit=8),
        provisioning.newest(pool, limit=8),
        pipelines.broken(pool, limit=24),
        pipelines.grid(pool, pipelines=40, builds=15),
        builds.newest(pool, builds.Filter(), limit=30),
    )
    counts, open_counts = await asyncio.gather(pipelines.counts(pool, _DAY), pipelines.count_open(pool))
    rate = rates(counts["states"])
    return render(
        "home.html",
        counts=counts,
        conclusive=sum(counts["states"].get(state, 0) for state in ("success", *pipelines.BAD)),
        rate=rate[0] if rate else None,
        running=open_counts["running"],
        queued=open_counts["queued"] + open_counts["waiting"],
        approvals=open_counts["action_required"],
        broken=broken,
        grid=_by_repository(grid),
        recent=recent,
        notifications=told,
        runs=runs,
    )


def _by_repository(grid: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for pipeline in grid:
        found.setdefault(pipeline["repository"], []).append(pipeline)
    return found
