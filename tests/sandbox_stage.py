"""The pretend company's process, for the tests of services that talk to it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx

CHECKOUT = Path(__file__).resolve().parents[1]
SandboxT = TypeVar("SandboxT", bound="Sandbox")


@dataclass
class Sandbox:
    """Where its servers are, its faults, and what it took."""

    addresses: dict[str, Any]
    http: httpx.AsyncClient

    async def control(self, method: str, path: str, **options: Any) -> Any:
        response = await self.http.request(method, f"{self.addresses['control']}{path}", **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    async def fault(self, **fault: Any) -> None:
        await self.control("POST", "/faults", json=fault)

    async def effects(self, target: str) -> list[dict[str, Any]]:
        answer = await self.control("GET", "/effects", params={"target": target})
        found: list[dict[str, Any]] = answer["effects"]
        return found

    async def answers(self, target: str) -> dict[str, int]:
        """How often a server answered with which status."""
        answer = await self.control("GET", "/requests", params={"target": target})
        counts: dict[str, int] = answer["by_status"]
        return counts


@contextmanager
def started(*options: str) -> Iterator[dict[str, Any]]:
    """A sandbox of one repository whose history stands still; its addresses."""
    command = [sys.executable, "-m", "sandbox", "--json", "--repositories", "1", "--speed", "0", *options]
    process = subprocess.Popen(
        command,
        cwd=CHECKOUT,
        env=os.environ | {"PYTHONPATH": str(CHECKOUT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the sandbox ended with {process.wait()} before it was ready"
    yield json.loads(line)
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    process.stdout.close()


@asynccontextmanager
async def fresh(kind: type[SandboxT], addresses: dict[str, Any]) -> AsyncIterator[SandboxT]:
    """The sandbox with no faults, and with nothing counted yet."""
    async with httpx.AsyncClient(trust_env=False) as client:
        sandbox = kind(addresses, client)
        for what in ("/faults", "/effects", "/requests"):
            await sandbox.control("DELETE", what)
        yield sandbox
        await sandbox.control("DELETE", "/faults")
