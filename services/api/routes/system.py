"""The service about itself: what it is, and whether it is well."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from chassis.health import Check, run_checks

DESCRIPTION = "An event-sourced record of everything a company's CI does"


def information() -> dict[str, Any]:
    """What `GET /` tells a program."""
    return {
        "name": "Buildlight API",
        "description": DESCRIPTION,
        "documentation": {"interactive": "/docs", "schema": "/openapi.json"},
        "endpoints": {
            "overview": "/api/v1/pipeline/overview",
            "builds": "/api/v1/builds/",
            "notifications": "/api/v1/notifications/history",
            "provisioning": "/api/v1/provisioning/runs",
            "actions": "/api/v1/actions/{request_id}",
            "targets": "/api/v1/targets",
            "completeness": "/api/v1/completeness",
            "backfills": "/api/v1/backfills/{request_id}",
            "websocket": "/ws",
            "health": "/health",
            "metrics": "/metrics",
        },
    }


def router(checks: Mapping[str, Check]) -> APIRouter:
    routes = APIRouter(tags=["system"])
    began = time.monotonic()

    @routes.get("/health")
    async def health() -> JSONResponse:
        """Whether the API's own dependencies answer; 503 when one does not. `uptime` in milliseconds."""
        asked = time.monotonic()
        answers = await run_checks(checks)
        now = datetime.now(UTC).isoformat()
        took = round((time.monotonic() - asked) * 1000)
        well = all(answer == "ok" for answer in answers.values())
        body = {
            "status": "healthy" if well else "unhealthy",
            "timestamp": now,
            "uptime": round((time.monotonic() - began) * 1000),
            "checks": {
                name: {
                    "status": "healthy" if answer == "ok" else "unhealthy",
                    "responseTime": took,
                    "lastChecked": now,
                    **({} if answer == "ok" else {"error": answer}),
                }
                for name, answer in answers.items()
            },
        }
        return JSONResponse(body, 200 if well else 503, {"Cache-Control": "no-store"})

    return routes
