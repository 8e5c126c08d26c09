"""What a service is, and how a process runs any number of them."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aio_pika
import structlog
import uvicorn
from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware import Middleware

from chassis.broker import Broker
from chassis.database import Pool, open_made
from chassis.health import Check, report, run_checks
from chassis.http import make_app
from chassis.outage import patiently

WEB: dict[str, Any] = {
    "log_config": None,
    "access_log": False,
    "lifespan": "off",
    # A client that sends half a request and stalls must not keep the process.
    "timeout_graceful_shutdown": 5,
    "ws_ping_interval": 20.0,
    "ws_max_size": 65_536,
    # Compressing every frame for every client anew costs more than the bytes it saves.
    "ws_per_message_deflate": False,
}
"""How uvicorn runs our applications."""

log = structlog.get_logger()


@dataclass
class Service:
    """A service put together and not yet running: nothing has connected.

    `prepare` runs once the database is there, before the first message; `tasks` run until the process
    stops, and one that ends or fails stops the process.
    """

    name: str
    pool: Pool
    broker: Broker
    prepare: Callable[[], Awaitable[None]]
    tasks: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    routers: Sequence[APIRouter] = ()
    middleware: Sequence[Middleware] = ()
    """Around every request of the process, whichever service answers it."""
    body_limits: Mapping[str, int] = field(default_factory=dict)
    """By the beginning of a path, how many bytes a body may have there, where that is not the usual limit."""
    checks: Mapping[str, Check] = field(default_factory=dict)
    pools: Sequence[Pool] = ()
    """Further pools, opened and closed with the service's own."""

    async def start(self) -> None:
        for pool in (self.pool, *self.pools):
            await patiently("postgres", partial(open_made, pool))
        await self.prepare()
        await self.broker.start()

    async def stop(self) -> None:
        await self.broker.stop()
        for pool in (self.pool, *self.pools):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    await pool.close()
            pool.terminate()

    async def ready(self) -> dict[str, str]:
        """`{check: "ok" or what is wrong}` for everything this service needs."""
        return await run_checks(
            {
                f"{self.name}.database": self._database,
                f"{self.name}.consumers": self._consumers,
                **{f"{self.name}.{name}": check for name, check in self.checks.items()},
            }
        )

    async def _database(self) -> None:
        await self.pool.fetchval("SELECT 1")

    async def _consumers(self) -> None:
        connection = await self.broker.faststream.connect()
        channel = await connection.channel()
        try:
            for queue in self.broker.queues:
                declared = await channel.declare_queue(queue.name, passive=True)
                if not declared.declaration_result.consumer_count:
                    raise RuntimeError(f"queue {queue.name} has no consumer")
        except aio_pika.exceptions.ChannelNotFoundEntity:
            raise RuntimeError("a queue is missing; run `buildlight migrate`") from None
        finally:
            await channel.close()


async def serve(services: Sequence[Service], *, host: str, port: int, app: FastAPI | None = None) -> None:
    """Run `services` in this process behind one HTTP port until SIGINT or SIGTERM.

    Raises:
        OSError: the port is taken.
        ExceptionGroup: a service's task failed; everything else was stopped in order.
    """
    app = app or make_app()
    app.state.body_limits = {path: limit for s in services for path, limit in s.body_limits.items()}
    started: set[str] = set()
    for service in services:
        for middleware in service.middleware:
            app.add_middleware(middleware.cls, *middleware.args, **middleware.kwargs)
        for router in service.routers:
            app.include_router(router)
    app.include_router(_operations(services, started))
    server = _Server(uvicorn.Config(app, **WEB))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    listener = _listen(host, port)
    web = asyncio.create_task(server.serve([listener]), name="http")
    tasks = [asyncio.create_task(_run(service, started), name=service.name) for service in services]
    waiting = asyncio.create_task(stop.wait(), name="signal")
    try:
        done, _ = await asyncio.wait({web, waiting, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        failed = [task for task in done if task is not waiting]
        for task in failed:
            log.error("stopping: a service ended", service=task.get_name())
        errors = [e for task in failed if (e := task.exception()) is not None]
    finally:
        waiting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        server.should_exit = True
        await asyncio.gather(web, return_exceptions=True)
    if failed:
        raise RuntimeError(f"{', '.join(t.get_name() for t in failed)} ended") from (
            errors[0] if errors else None
        )


async def _run(service: Service, started: set[str]) -> None:
    try:
        await service.start()
        log.info("service started", service=service.name)
        started.add(service.name)
        async with asyncio.TaskGroup() as group:
            for task in service.tasks:
                group.create_task(_endless(task))
            group.create_task(asyncio.Event().wait())
    finally:
        started.discard(service.name)
        with contextlib.suppress(Exception):
            await asyncio.shield(service.stop())


async def _endless(task: Callable[[], Coroutine[Any, Any, None]]) -> None:
    await task()
    raise RuntimeError(f"{task} ended; it should run until it is stopped")


def _operations(services: Sequence[Service], started: set[str]) -> APIRouter:
    router = APIRouter(tags=["system"])

    @router.get("/health/live")
    async def live() -> dict[str, str]:
        """The event loop turns."""
        return {"status": "live"}

    @router.get("/health/ready")
    async def ready() -> JSONResponse:
        """Every dependency answers and every queue has its consumer; 503 with the reasons when not."""
        answers: dict[str, str] = {s.name: "starting" for s in services if s.name not in started}
        for found in await asyncio.gather(*(s.ready() for s in services if s.name in started)):
            answers |= found
        body = report(answers)
        return JSONResponse(body, 200 if body["status"] == "ready" else 503)

    @router.get("/metrics")
    async def metrics() -> Response:
        """Prometheus's text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


class _Server(uvicorn.Server):
    """Signals are the process's business, not the web server's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
