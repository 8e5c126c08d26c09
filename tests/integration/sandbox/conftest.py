"""The sandbox as its users meet it: a process that says on stdout where everything is."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

CHECKOUT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Running:
    """A running sandbox, its addresses, and clients for its parts."""

    process: subprocess.Popen[str]
    addresses: dict[str, Any]
    http: httpx.Client

    @property
    def github(self) -> str:
        return str(self.addresses["github"])

    @property
    def api(self) -> str:
        """GitLab's API."""
        return f"{self.addresses['gitlab']}/api/v4"

    def control(self, method: str, path: str, **options: Any) -> Any:
        """Use the remote control; the answer's JSON, if it has any."""
        response = self.http.request(method, f"{self.addresses['control']}{path}", **options)
        assert response.is_success, response.text
        return response.json() if response.content else None

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask GitHub, with the token unless `headers` say otherwise."""
        return self.ask("GET", path, **options)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.ask("POST", path, **options)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": "Bearer sandbox-token"} | options.pop("headers", {})
        return self.http.request(method, f"{self.github}{path}", headers=headers, **options)

    def lab(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask GitLab, with the token."""
        return self.http.request(
            method, f"{self.api}{path}", headers={"private-token": "sandbox-token"}, **options
        )

    def effects(self, target: str) -> list[dict[str, Any]]:
        effects: list[dict[str, Any]] = self.control("GET", "/effects", params={"target": target})["effects"]
        return effects


def as_app(**changes: Any) -> dict[str, str]:
    """The headers of the App itself, with a signature that nobody looks at; `changes` are of its claims."""
    now = int(time.time())
    claims = {"iat": now - 60, "exp": now + 500, "iss": "4242"} | changes
    parts = [
        base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
        for part in ({"alg": "RS256", "typ": "JWT"}, claims)
    ]
    return {"authorization": f"Bearer {'.'.join(parts)}.c2lnbmVk"}


Start = Callable[..., Running]


def _start(*options: str) -> Running:
    command = [sys.executable, "-m", "sandbox", "--json", *options]
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    process = subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, f"the sandbox ended with {process.wait()} before it was ready"
    return Running(process, json.loads(line), httpx.Client(timeout=30))


def _stop(running: Running) -> int:
    running.http.close()
    running.process.send_signal(signal.SIGTERM)
    status = running.process.wait(10)
    assert running.process.stdout is not None
    running.process.stdout.close()
    return status


@pytest.fixture(scope="session")
def start() -> Iterator[Start]:
    """Start another sandbox with options of its own; it is stopped at the end."""
    begun: list[Running] = []

    def begin(*options: str) -> Running:
        begun.append(_start(*options))
        return begun[-1]

    yield begin
    for running in begun:
        if running.process.poll() is None:
            _stop(running)


@pytest.fixture(scope="session")
def _shared(start: Start) -> Running:
    return start()


@pytest.fixture
def sandbox(_shared: Running) -> Iterator[Running]:
    """The living company, standing still for the test, with no faults, and with nothing counted yet."""
    _shared.control("POST", "/freeze")
    _shared.control("DELETE", "/faults")
    _shared.control("DELETE", "/effects")
    _shared.control("DELETE", "/requests")
    _shared.control("POST", "/github/budget", json={"limit": 5000, "remaining": 5000, "reset_seconds": 3600})
    yield _shared
    _shared.control("DELETE", "/faults")
    _shared.control("POST", "/unfreeze")
