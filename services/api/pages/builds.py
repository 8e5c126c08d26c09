"""`/builds`: the history to look through, and one build as a waterfall."""

from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.encoders import jsonable_encoder
from fastapi.responses import JSONResponse

from buildlight_contracts.states import State
from chassis.database import Pool
from chassis.http import HttpError
from services.api.answers import OlderBuild
from services.api.conditional import Conditional
from services.api.pages.frame import render, wants_html
from services.api.pages.waterfall import scale_of, seconds_of, ticks
from services.api.paging import cursor_of, parse_cursor
from services.api.queries import builds
from services.api.routes.builds import detail, parse_states
from services.api.routes.older import list_builds

_PER_PAGE = 50


def router(pool: Pool) -> APIRouter:
    routes = APIRouter(tags=["older paths"], route_class=Conditional)

    @routes.get("/builds", response_model=list[OlderBuild])
    async def history(
        request: Request,
        limit: Annotated[int, Query(ge=1, le=500)] = _PER_PAGE,
        repository: str = "",
        branch: str = "",
        workflow: str = "",
        state: str = "",
        author: str = "",
        pipeline_id: UUID | None = None,
        cursor: Annotated[str, Query(max_length=200)] = "",
    ) -> Response:
        """The newest builds as the older dashboard had them; for a browser, a page to look through."""
        if not wants_html(request):
            found = [OlderBuild(**build) for build in await list_builds(pool, limit)]
            return JSONResponse(jsonable_encoder(found), headers={"Vary": "Accept"})
        asked = {
            "repository": repository.strip(),
            "workflow": workflow.strip(),
            "branch": branch.strip(),
            "state": state.strip(),
            "author": author.strip(),
        }
        return await _history(pool, asked, pipeline_id, cursor)

    @routes.get("/builds/{build_id}", include_in_schema=False)
    async def one(build_id: str) -> Response:
        try:
            found = await detail(pool, UUID(build_id))
        except (ValueError, HttpError):
            return render("missing.html", status=404, what=f"build {build_id[:64]}")
        return _waterfall(found)

    return routes


async def _history(pool: Pool, asked: dict[str, str], pipeline_id: UUID | None, cursor: str) -> Response:
    try:
        states = parse_states(asked["state"])
        after = parse_cursor(cursor) if cursor else None
    except HttpError as error:
        return render("missing.html", status=error.status_code, what=f"such list ({error.detail})")
    filter_ = builds.Filter(
        repository=asked["repository"] or None,
        workflow=asked["workflow"] or None,
        branch=asked["branch"] or None,
        author=asked["author"] or None,
        states=states,
        pipeline_id=pipeline_id,
    )
    found = await builds.newest(pool, filter_, limit=_PER_PAGE + 1, after=after)
    shown = found[:_PER_PAGE]
    kept = {name: value for name, value in asked.items() if value}
    if pipeline_id:
        kept["pipeline_id"] = str(pipeline_id)
    older = None
    if len(found) > _PER_PAGE:
        last = cursor_of(shown[-1]["ordered_at"], shown[-1]["build_id"])
        older = "/builds?" + urlencode({**kept, "cursor": last})
    return render(
        "builds.html",
        builds=shown,
        asked=asked,
        pipeline_id=pipeline_id,
        older=older,
        newest="/builds" + ("?" + urlencode(kept) if kept else "") if cursor else None,
        here="/builds?" + urlencode({**kept, **({"cursor": cursor} if cursor else {})}),
        choices=await builds.choices(pool),
        states=[state.value for state in State],
    )


def _waterfall(found: dict[str, Any]) -> Response:
    now = datetime.now(UTC)
    scale = scale_of(found["jobs"], now)

    def drawn(thing: dict[str, Any]) -> dict[str, Any]:
        return {
            **thing,
            "bar": scale.bar(thing, now) if scale else None,
            "seconds": seconds_of(thing, now),
        }

    jobs = [{**drawn(job), "steps": [drawn(step) for step in job["steps"] or []]} for job in found["jobs"]]
    return render(
        "build.html",
        **{**found, "jobs": jobs},
        ticks=ticks(scale) if scale else [],
        subtitle=_subtitle(found),
    )


def _subtitle(found: dict[str, Any]) -> str:
    build = found["build"]
    number = f" #{build['run_number']}" if build["run_number"] is not None else ""
    return f"{build['workflow']}{number}"
