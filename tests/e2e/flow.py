"""Work for a fleet while things are killed, and a ledger of all that was accepted."""

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, Self

import aio_pika
import httpx

from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.envelope import Envelope
from buildlight_contracts.testing import example
from tests.e2e.fleet import Fleet

SOURCE = "https://ci.acme.example"


@dataclass
class Ledger:
    """What was accepted, and what must come of it."""

    runs: dict[int, tuple[str, str]] = field(default_factory=dict)
    """Run id to repository and conclusion, in the order they were made; each turns its pipeline."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Provisioning run to the repository's name; RabbitMQ confirmed the job."""
    events: dict[str, int] = field(default_factory=dict)
    """Id in the log of every event that POST /events accepted, and how often it was sent."""
    builds: dict[str, str] = field(default_factory=dict)
    """Of these, builds of another provider: build id to state."""


class Flow:
    """Scripted runs that break and mend their pipelines, provisioning jobs, and events over HTTP, until it ends.

    What is refused or lost is sent again, as any sender must, until it is accepted.
    """

    def __init__(self, fleet: Fleet, *, seed: int) -> None:
        self.ledger = Ledger()
        self._fleet = fleet
        self._random = random.Random(seed)
        self._ending = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        for repository in self._fleet.repositories:
            self._begin(self._pipeline, repository)
        self._begin(self._provision)
        self._begin(self._post)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ending.set()
        await asyncio.gather(*self._tasks)

    def check(self) -> None:
        """Raise what a driver ended with, if one did."""
        for task in self._tasks:
            if task.done():
                task.result()

    def _begin(self, driver: Callable[..., Awaitable[None]], *arguments: Any) -> None:
        self._tasks.append(asyncio.ensure_future(driver(*arguments)))

    async def _pause(self, least: float, most: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._random.uniform(least, most)):
                await self._ending.wait()

    async def _pipeline(self, repository: str) -> None:
        """One run after the other, each with another end than the one before it."""
        conclusion = "failure"
        while not self._ending.is_set():
            run_id = await self._fleet.company.run(repository)
            await self._pause(0.2, 1.5)
            await self._fleet.company.advance(run_id, status="in_progress")
            await self._pause(0.2, 1.5)
            await self._fleet.company.advance(run_id, status="completed", conclusion=conclusion)
            self.ledger.runs[run_id] = (repository, conclusion)
            conclusion = "success" if conclusion == "failure" else "failure"
            # GitHub tells time in seconds: two runs of one second would have no order.
            await asyncio.sleep(1.1)
            await self._pause(0, 3)

    async def _provision(self) -> None:
        for number in range(1, 10_000):
            if self._ending.is_set():
                return
            run_id, name = f"flow-{number}", f"service-{number}"
            job = {
                "run_id": run_id,
                "type": "component",
                "blueprint": {
                    "template": "python-service",
                    "name": name,
                    "namespace": "my-team",
                    "values": {},
                },
                "git_config": {"provider": "gitlab", "group_id": "123", "visibility": "private"},
            }
            await self._insist(partial(self._publish, json.dumps(job).encode()))
            self.ledger.jobs[run_id] = name
            await self._pause(3, 6)

    async def _publish(self, body: bytes) -> None:
        connection = await aio_pika.connect(self._fleet.rabbitmq.url, timeout=5)
        async with connection:
            channel = await connection.channel(on_return_raises=True)
            message = aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, "provisioning-jobs", timeout=5)

    async def _post(self) -> None:
        for number in range(1, 100_000):
            if self._ending.is_set():
                return
            times = 2 if self._random.random() < 0.1 else 1
            build = self._build(number) if number % 4 == 0 else None
            envelope = (
                Envelope.of(build, source=SOURCE)
                if build
                else Envelope(
                    id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)),
                    source=SOURCE,
                    type="example.acme.release.made.v1",
                    time=datetime.now(UTC),
                    data={"number": number},
                )
            )
            for _ in range(times):
                [accepted] = await self._insist(partial(self._send, envelope))
                self.ledger.events[accepted] = self.ledger.events.get(accepted, 0) + 1
            if build:
                self.ledger.builds[str(build.build.build_id)] = build.state.value
            await self._pause(0.05, 0.4)

    def _build(self, number: int) -> BuildObservedV1:
        made = example(BuildObservedV1)
        ref = made.build.model_copy(
            update={"provider": "jenkins", "instance": "ci.acme.example", "run_id": str(number)}
        )
        return made.model_copy(update={"build": ref, "repository": "acme/elsewhere", "branch": str(number)})

    async def _send(self, envelope: Envelope) -> list[str]:
        answer = await self._fleet.http.post(
            f"{self._fleet.url('ingest')}/events",
            content=envelope.to_json(),
            headers=self._fleet.key | {"content-type": "application/cloudevents+json"},
        )
        if answer.status_code >= 500:
            raise ConnectionError(answer.text)
        assert answer.status_code == 202, answer.text
        accepted: list[str] = answer.json()["accepted"]
        return accepted

    @staticmethod
    async def _insist(send: Callable[[], Awaitable[Any]]) -> Any:
        while True:
            try:
                return await send()
            except (OSError, TimeoutError, httpx.TransportError, aio_pika.exceptions.AMQPError):
                await asyncio.sleep(0.2)
