"""`/api/v1/notifications`: what people were told."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query

from chassis.database import Pool
from services.api.answers import Notifications
from services.api.conditional import Conditional
from services.api.paging import cursor_of, parse_cursor
from services.api.queries import notifications


def router(pool: Pool, *, default_page_size: int, max_page_size: int) -> APIRouter:
    routes = APIRouter(prefix="/api/v1/notifications", tags=["notifications"], route_class=Conditional)

    @routes.get("/history", response_model=Notifications)
    async def history(
        limit: Annotated[int, Query(ge=1, le=max_page_size)] = default_page_size,
        cursor: Annotated[str | None, Query(max_length=200)] = None,
        status: Literal["pending", "sent", "failed"] | None = None,
    ) -> dict[str, Any]:
        """Notifications with their fate, newest first."""
        after = parse_cursor(cursor) if cursor else None
        found = await notifications.newest(pool, limit=limit + 1, status=status, after=after)
        shown = found[:limit]
        more = len(found) > limit
        return {
            "notifications": shown,
            "next_cursor": cursor_of(shown[-1]["created_at"], shown[-1]["delivery_id"]) if more else None,
        }

    return routes
