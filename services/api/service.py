"""The API put together: readers of the published views, a hub for what happens now, and the pages."""

import structlog
from fastapi import APIRouter, Depends
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from buildlight_contracts.routing import EVENTS
from chassis.broker import Broker
from chassis.database import READER_ROLE, make_pool, require_version
from chassis.keys import digest, requires
from chassis.service import Service
from services.api import store
from services.api.live import Hub
from services.api.pages import assets, home
from services.api.pages import builds as build_pages
from services.api.pages import completeness as completeness_pages
from services.api.routes import (
    actions,
    backfills,
    builds,
    completeness,
    live,
    notifications,
    older,
    pipeline,
    provisioning,
    system,
)
from services.api.settings import ApiSettings

_UNHEARD = 10_000

log = structlog.get_logger()


def build(settings: ApiSettings) -> Service:
    """The service, not yet connected to anything."""
    url = settings.database_url.get_secret_value()
    keys = make_pool(url, application="api", max_size=2)
    reader = make_pool(
        url,
        application="api-reader",
        role=READER_ROLE,
        max_size=settings.database_pool_size,
        command_timeout_seconds=15,
    )
    broker = Broker(settings.amqp_url.get_secret_value(), service="api", rungs=settings.retry_rungs)
    hub = Hub(reader, heartbeat_seconds=settings.live_heartbeat_seconds)
    broker.listen(EVENTS, "#", hub.hear, newest=_UNHEARD)

    async def prepare() -> None:
        await require_version(keys, "api", "api_0002")
        key = settings.admin_key
        if key is not None and not await store.keep_admin_key(digest(key.get_secret_value()), keys):
            log.warning("BUILDLIGHT_ADMIN_KEY was revoked and opens nothing: set it to a new one")
        await hub.begin()

    async def database() -> None:
        await reader.fetchval("SELECT 1")

    async def rabbitmq() -> None:
        if not await broker.faststream.ping(timeout=2.0):
            raise RuntimeError("RabbitMQ does not answer")

    reading = [Depends(requires("read", keys))] if settings.reads_need_key else []
    sizes = {"default_page_size": settings.default_page_size, "max_page_size": settings.max_page_size}
    guarded = [
        builds.router(reader, **sizes),
        pipeline.router(reader),
        notifications.router(reader, **sizes),
        older.router(reader),
        home.router(reader),
        build_pages.router(reader),
        completeness_pages.router(reader, first=settings.collecting_since),
    ]
    front = APIRouter(dependencies=reading)
    for router in guarded:
        front.include_router(router)
    return Service(
        "api",
        keys,
        broker,
        prepare=prepare,
        pools=[reader],
        tasks=[hub.run],
        routers=[
            front,
            provisioning.router(reader, keys, broker, reading=reading),
            actions.router(reader, keys, broker, reading=reading),
            completeness.router(reader, keys, broker, reading=reading, first=settings.collecting_since),
            backfills.router(reader, keys, broker, reading=reading),
            live.router(
                hub,
                reader,
                keys,
                connections=settings.live_connections,
                buffer_frames=settings.live_buffer_frames,
                allowed_origins=settings.allowed_origins,
                reads_need_key=settings.reads_need_key,
            ),
            assets.router(),
            system.router({"database": database, "rabbitmq": rabbitmq}),
        ],
        middleware=[
            Middleware(
                CORSMiddleware,
                allow_origins=settings.allowed_origins,
                allow_methods=["GET", "POST", "PUT", "DELETE"],
                allow_headers=[
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "If-None-Match",
                    "X-API-Key",
                ],
                expose_headers=["ETag", "Location"],
            )
        ]
        if settings.allowed_origins
        else [],
        checks={"reader": database},
    )
