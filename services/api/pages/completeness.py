"""`/completeness`: is anything missing, and does every target still answer?"""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from chassis.database import Pool
from chassis.http import HttpError
from services.api.conditional import Conditional
from services.api.pages.frame import render
from services.api.routes.completeness import USUAL, report_of

WINDOWS = ("1d", "7d", USUAL)


def router(pool: Pool, *, first: datetime | None) -> APIRouter:
    """`first`: where collecting begins by the settings."""
    routes = APIRouter(include_in_schema=False, route_class=Conditional)

    @routes.get("/completeness")
    async def page(
        since: Annotated[str, Query(max_length=40)] = USUAL,
        target: Annotated[str, Query(max_length=255)] = "",
    ) -> Response:
        try:
            report = await report_of(pool, since=since, first=first, target=target.strip() or None)
        except HttpError as error:
            return render("missing.html", status=error.status_code, what=f"such report ({error.detail})")
        targets = report["targets"]
        return render(
            "completeness.html",
            report=report,
            totals={
                name: sum(row[name] for row in targets)
                for name in ("at_provider", "recorded", "missing", "open_but_ended")
            },
            unsure=sum(row["status"] in ("failing", "not_measured") for row in targets),
            since=since,
            target=target.strip(),
            windows=WINDOWS,
        )

    return routes
