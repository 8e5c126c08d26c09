"""`up` starts everything in order, says what fails, and stops all of it.

The servers are real. The sandbox and the services are small stand-ins in a checkout of the test's own,
so that they can be made to fail.
"""

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest

from buildlight import up as module
from buildlight.environment import outside_as_sandbox
from buildlight.servers import ServerError, free_port
from buildlight.servers.process import port_is_free
from buildlight.up import up

Eventually = Callable[..., Awaitable[object]]
Processes = Callable[[Path], list[int]]

SANDBOX = """
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

hooks = []

class Groups(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(hooks if self.path == "/webhooks" else [{"id": 42}]).encode())

    def do_POST(self):
        hooks.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(201)
        self.end_headers()

server = HTTPServer(("127.0.0.1", 0), Groups)
root = f"http://127.0.0.1:{server.server_port}"
print("a warning that is no address", file=sys.stderr, flush=True)
print(json.dumps({
    "github": root, "gitlab": root, "slack": root, "smtp_host": "127.0.0.1", "smtp_port": 25,
    "control_plane": root, "control": root, "arguments": sys.argv[1:],
}), flush=True)
server.serve_forever()
"""

SERVICES = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

assert sys.argv[1:] == ["run", "all"], sys.argv

class Ready(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        if self.path == "/environment":
            status, body = 200, json.dumps(dict(os.environ)).encode()
        elif self.path == "/die":
            print("the reason is here", flush=True)
            os._exit(3)
        else:
            Ready.asked += 1
            status, body = (200, b"ready") if Ready.asked > 2 else (503, b"not yet")
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

HTTPServer((os.environ["BUILDLIGHT_HOST"], int(os.environ["BUILDLIGHT_PORT"])), Ready).serve_forever()
"""

COMMAND = """
from buildlight import up

async def prepare(*addresses):
    pass

up.prepare = prepare
raise SystemExit(up.main())
"""


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a stand-in sandbox and stand-in services, whose database needs no migration."""
    for package, code in {"sandbox": SANDBOX, "buildlight": SERVICES}.items():
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        (tmp_path / package / "__main__.py").write_text(code)

    async def prepare(database_url: str, amqp_url: str) -> None:
        assert database_url.startswith("postgresql://")
        assert amqp_url.startswith("amqp://")

    monkeypatch.setattr(module, "prepare", prepare)
    return tmp_path


@pytest.fixture
def environ(database_url: str, amqp_url: str) -> dict[str, str]:
    """An environment that lends its servers, and carries tokens that are not meant for us."""
    return {
        "PATH": os.environ["PATH"],
        "BUILDLIGHT_DATABASE_URL": database_url,
        "BUILDLIGHT_AMQP_URL": amqp_url,
        "BUILDLIGHT_PORT": str(free_port()),
        "GITHUB_TOKEN": "not for us",
        "SLACK_WEBHOOK_URL": "https://hooks.example/not-for-us",
    }


@contextlib.asynccontextmanager
async def running(root: Path, environ: dict[str, str]) -> AsyncIterator[asyncio.Task[None]]:
    """`up`, ready, and stopped at the end as by Ctrl-C."""
    task = asyncio.create_task(up(root, environ))
    try:
        while not (root / ".buildlight" / "env").exists():
            assert not task.done(), task.exception()
            await asyncio.sleep(0.02)
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_up_starts_everything_and_stops_everything(
    checkout: Path, environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    """Stdout is the address alone; the services get the sandbox; afterwards nothing listens."""
    url = f"http://127.0.0.1:{environ['BUILDLIGHT_PORT']}"
    async with running(checkout, environ), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        seen = (await client.get("/environment")).json()
        assert seen["GITHUB_TOKEN"] == "sandbox-token"
        assert seen["GITLAB_GROUP_ID"] == "42"
        assert "SLACK_WEBHOOK_URL" not in seen
        assert seen["BUILDLIGHT_DATABASE_URL"] == environ["BUILDLIGHT_DATABASE_URL"]
        key = checkout / ".buildlight" / "admin-key"
        assert seen["BUILDLIGHT_ADMIN_KEY"] == key.read_text().strip()
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        assignments = (checkout / ".buildlight" / "env").read_text()
        assert f"BUILDLIGHT_URL={url}\n" in assignments
        assert f"BUILDLIGHT_SANDBOX_GITHUB_URL={seen['GITHUB_API_URL']}\n" in assignments
        asked = await asyncio.to_thread(httpx.get, f"{seen['GITHUB_API_URL']}/webhooks")
        hooks = {hook["provider"]: hook for hook in asked.json()}
        for provider in module.HOOKED:
            assert hooks[provider]["url"] == f"{url}/webhooks/{provider}"
            assert hooks[provider]["secret"] == seen[f"{provider.upper()}_WEBHOOK_SECRET"]
    assert capfd.readouterr().out == url + "\n"
    assert not (checkout / ".buildlight" / "env").exists()
    assert all(port_is_free(int(address.rpartition(":")[2])) for address in (url, seen["GITHUB_API_URL"]))


async def test_the_real_sandbox_tells_what_the_services_need(tmp_path: Path) -> None:
    """Its repositories and its first group, by the same calls as `up` makes, end up in the variables."""
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    async with contextlib.AsyncExitStack() as stack:
        child, told = await module.start_sandbox(tmp_path, tmp_path / ".buildlight", environ, stack)
        assert child.running
        outside = outside_as_sandbox(told, await module.gitlab_group(told))
        assert "acme/shop" in outside["GITHUB_REPOS"].split(",")
        assert int(outside["GITLAB_GROUP_ID"]) > 0
        assert "acme/ledger" in outside["GITLAB_PROJECTS"].split(",")
        assert outside["JENKINS_URL"].startswith("http://127.0.0.1:")
        headers = {"Authorization": f"Bearer {outside['GITHUB_TOKEN']}"}
        async with httpx.AsyncClient(base_url=outside["GITHUB_API_URL"], trust_env=False) as client:
            for repository in outside["GITHUB_REPOS"].split(","):
                runs = await client.get(f"/repos/{repository}/actions/runs", headers=headers)
                assert runs.status_code == 200
    assert not child.running


async def test_the_admin_key_is_made_once(checkout: Path, environ: dict[str, str]) -> None:
    """A second start finds the first one's key."""
    async with running(checkout, environ):
        first = (checkout / ".buildlight" / "admin-key").read_text()
    async with running(checkout, environ):
        assert (checkout / ".buildlight" / "admin-key").read_text() == first


async def test_a_provider_in_the_env_file_replaces_the_sandbox(
    checkout: Path, environ: dict[str, str]
) -> None:
    """With a token of the checkout's own no sandbox is started."""
    (checkout / ".env").write_text("GITHUB_TOKEN=meant\n")
    url = f"http://127.0.0.1:{environ['BUILDLIGHT_PORT']}"
    async with running(checkout, environ), httpx.AsyncClient(base_url=url, trust_env=False) as client:
        seen = (await client.get("/environment")).json()
        assert seen["GITHUB_TOKEN"] == "meant"
        assert "GITHUB_API_URL" not in seen
    assert not (checkout / ".buildlight" / "log" / "sandbox.log").exists()


async def test_a_second_up_in_the_same_checkout_is_refused(checkout: Path, environ: dict[str, str]) -> None:
    """The sentence names the process; the first goes on."""
    async with running(checkout, environ) as first:
        with pytest.raises(ServerError, match=rf"already runs from this checkout.*\(process {os.getpid()}\)"):
            await up(checkout, environ)
        assert not first.done()


async def test_a_taken_port_is_said_before_anything_starts(checkout: Path, environ: dict[str, str]) -> None:
    """With the way out, and without a trace."""
    port = int(environ["BUILDLIGHT_PORT"])
    taken = rf"Port {port} on 127.0.0.1 is taken.*BUILDLIGHT_PORT={port + 1} make up"
    with socket.create_server(("127.0.0.1", port)), pytest.raises(ServerError, match=taken):
        await up(checkout, environ)
    assert [path.name for path in (checkout / ".buildlight").iterdir()] == ["lock"]


async def test_a_child_that_dies_is_named_with_its_last_words(
    checkout: Path, environ: dict[str, str]
) -> None:
    """The services ended: `up` ends too, says which and why, and stops the sandbox."""
    async with running(checkout, environ) as task:
        with contextlib.suppress(httpx.TransportError):
            await asyncio.to_thread(httpx.get, f"http://127.0.0.1:{environ['BUILDLIGHT_PORT']}/die")
        with pytest.raises(ServerError, match=r"Buildlight ended by itself[\s\S]*the reason is here"):
            async with asyncio.timeout(30):
                await asyncio.shield(task)


async def test_services_that_do_not_start_are_named(checkout: Path, environ: dict[str, str]) -> None:
    """The end of their log is in the message."""
    (checkout / "buildlight" / "__main__.py").write_text("raise SystemExit('no such setting')")
    with pytest.raises(ServerError, match=r"Buildlight ended while starting[\s\S]*no such setting"):
        await up(checkout, environ)


async def test_a_sandbox_that_does_not_start_is_named(checkout: Path, environ: dict[str, str]) -> None:
    """The end of its log is in the message."""
    (checkout / "sandbox" / "__main__.py").write_text("raise SystemExit('out of ideas')")
    with pytest.raises(ServerError, match=r"The sandbox did not start[\s\S]*out of ideas"):
        await up(checkout, environ)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_the_command_leaves_no_process(
    number: signal.Signals, checkout: Path, eventually: Eventually, processes_of: Processes
) -> None:
    """With servers of its own: SIGTERM ends it with status 0; even kill -9 leaves nothing running."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BUILDLIGHT_")}
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", COMMAND),
        cwd=checkout,
        env=kept
        | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "BUILDLIGHT_PORT": str(free_port())},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert command.stdout is not None
    line = await command.stdout.readline()
    assert line.startswith(b"http://127.0.0.1:"), await command.communicate()
    running = processes_of(checkout)
    command.send_signal(number)
    _, errors = await command.communicate()
    assert len(running) >= 5
    assert command.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 0)
    await eventually(lambda: processes_of(checkout) == [], timeout=30)
    assert errors.decode().count("✓") == 4
