"""`/api/v1/builds`: the history, and one build with its jobs."""

from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query

from buildlight_contracts.states import State
from chassis.database import Pool
from chassis.http import HttpError
from services.api.answers import BuildDetail, Builds
from services.api.conditional import Conditional
from services.api.paging import cursor_of, parse_cursor
from services.api.queries import builds, pipelines

DEEPEST_ROW = 10_000


def router(pool: Pool, *, default_page_size: int, max_page_size: int) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/builds", tags=["builds"], route_class=Conditional)

    @routes.get("/", response_model=Builds)
    @routes.get("", response_model=Builds, include_in_schema=False)
    async def list_builds(
        *,
        page: Annotated[int, Query(ge=1)] = 1,
        per_page: Annotated[int, Query(ge=1, le=max_page_size)] = default_page_size,
        cursor: Annotated[
            str | None, Query(max_length=200, description="`next_cursor` of the last answer")
        ] = None,
        repository: Annotated[str | None, Query(examples=["acme/shop"])] = None,
        branch: str | None = None,
        workflow: Annotated[str | None, Query(examples=["CI"])] = None,
        state: Annotated[
            str | None, Query(description="One or several, with commas", examples=["failure,timed_out"])
        ] = None,
        status: Annotated[str | None, Query(description="The same as `state`")] = None,
        provider: Annotated[str | None, Query(examples=["github"])] = None,
        author: str | None = None,
        pipeline_id: UUID | None = None,
        since: Annotated[
            datetime | None, Query(description="From this time on; UTC unless it says otherwise")
        ] = None,
        until: Annotated[datetime | None, Query(description="Before this time")] = None,
    ) -> dict[str, Any]:
        """Builds, newest first, one item an attempt. By page, or by cursor: only that never skips or repeats."""
        filter_ = builds.Filter(
            repository=repository,
            branch=branch,
            workflow=workflow,
            states=parse_states(state or status),
            provider=provider,
            author=author,
            pipeline_id=pipeline_id,
            since=in_utc(since),
            until=in_utc(until),
        )
        offset = 0 if cursor else (page - 1) * per_page
        if offset + per_page > DEEPEST_ROW:
            raise HttpError(
                422,
                f"page: pages end at build {DEEPEST_ROW:,}; follow `next_cursor`, or narrow with `until`",
                kind="ValidationError",
            )
        found = await builds.newest(
            pool,
            filter_,
            limit=per_page + 1,
            after=parse_cursor(cursor) if cursor else None,
            offset=offset,
        )
        total = await builds.count(pool, filter_)
        shown = found[:per_page]
        more = len(found) > per_page
        return {
            "builds": shown,
            "page": None if cursor else page,
            "per_page": per_page,
            "total": min(total, builds.COUNTED_AT_MOST),
            "total_is_exact": total <= builds.COUNTED_AT_MOST,
            "next_cursor": cursor_of(shown[-1]["ordered_at"], shown[-1]["build_id"]) if more else None,
        }

    @routes.get("/{build_id}", response_model=BuildDetail)
    async def one_build(build_id: UUID) -> dict[str, Any]:
        """One attempt of a run: its jobs with their steps, its run's other attempts, its pipeline."""
        return await detail(pool, build_id)

    return routes


async def detail(pool: Pool, build_id: UUID) -> dict[str, Any]:
    """The shape of `BuildDetail`.

    Raises:
        HttpError: 404, no such build.
    """
    build = await builds.one(pool, build_id)
    if build is None:
        raise HttpError(404, f"No build {build_id} was observed", details={"build_id": str(build_id)})
    return {
        "build": build,
        "jobs": await builds.jobs(pool, build_id),
        "attempts": await builds.attempts(pool, build),
        "pipeline": await pipelines.one(pool, build["pipeline_id"]),
        "links": {
            "self": f"/api/v1/builds/{build_id}",
            "page": f"/builds/{build_id}",
            "pipeline": f"/api/v1/builds/?pipeline_id={build['pipeline_id']}",
            "provider": build["url"],
        },
    }


def parse_states(text: str | None) -> list[str] | None:
    """`"failure,timed_out"` -> both.

    Raises:
        HttpError: 422, one is no state.
    """
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in set(State)]
    if unknown:
        raise HttpError(422, f"state: {unknown[0]!r} is none of {', '.join(State)}", kind="ValidationError")
    return names or None


def in_utc(moment: datetime | None) -> datetime | None:
    """A time without a zone is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment and moment.tzinfo is None else moment
