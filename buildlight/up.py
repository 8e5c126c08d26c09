"""Everything on this machine: private servers, the sandbox, all services; until Ctrl-C.

    python -m buildlight.up

What it starts depends on the environment and `.env` (`buildlight.environment`); what it leaves is
`.buildlight/`.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from buildlight import topology
from buildlight.environment import (
    Configuration,
    as_shell,
    outside_as_sandbox,
    read_configuration,
    sandbox_assignments,
)
from buildlight.migrate import migrate
from buildlight.servers import Postgres, PrivateServer, RabbitMQ, ServerError
from buildlight.servers.process import (
    POLL_SECONDS,
    Lock,
    became,
    last_lines,
    port_is_free,
    spawn,
    tied,
    write_private,
)

READY_SECONDS = 90.0
STOP_SECONDS = 20.0
SANDBOX_SECONDS = 12 * 3600.0
"""After half a day at full speed a sandbox has a month of history to tell again: a new one is better."""


class Child:
    """A process of ours beside the servers: the sandbox, or the services."""

    def __init__(
        self, title: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path
    ) -> None:
        self.title = title
        self.log = log
        self._process: subprocess.Popen[bytes] = spawn(tied(command, "TERM"), env=env, cwd=cwd, log=log)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    async def stop(self) -> None:
        """Ask it to stop, and kill it and what it started when it does not."""
        if self.running:
            self._process.terminate()
            await became(lambda: not self.running, STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Steps:
    """Progress for people, on stderr: one line a step, with its time."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, sentence: str) -> None:
        self._console.print(sentence, highlight=False)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        began = time.monotonic()
        with self._console.status(title):
            yield
        seconds = time.monotonic() - began
        self.say(f"[green]✓[/green] {title} [dim]{seconds:.1f} s[/dim]")


async def up(root: Path, environ: Mapping[str, str] = os.environ, console: Console | None = None) -> None:
    """Run everything until cancelled.

    Prints the application's address on stdout once it is ready.

    Raises:
        ServerError: something cannot run; the message is for people.

    """
    try:
        configuration = read_configuration(root, environ)
    except ValueError as error:
        raise ServerError(str(error)) from None
    home = root / ".buildlight"
    steps = Steps(console or Console(stderr=True))
    async with AsyncExitStack() as stack:
        lock = Lock(home / "lock")
        lock.take(f"Buildlight already runs from this checkout; its address is in {home / 'env'}")
        stack.callback(lock.release)
        if not port_is_free(configuration.port, configuration.host):
            raise ServerError(
                f"Port {configuration.port} on {configuration.host} is taken. Stop what listens there, "
                f"or choose another port: BUILDLIGHT_PORT={configuration.port + 1} make up"
            )
        # The pretend company has data of its own: nothing of it stays when a provider is configured.
        data = home / "sandbox" if configuration.on_sandbox else home
        servers = private_servers(data, configuration.base)
        with steps.step(
            "Start " + " and ".join(server.title for server in servers) if servers else "Connect"
        ):
            await stack.enter_async_context(running(servers))
        addresses = {
            "BUILDLIGHT_URL": configuration.url,
            **{name: configuration.base[name] for name in ADDRESSES if name in configuration.base},
            **{ADDRESS_OF[type(server)]: server.url for server in servers},
        }
        with steps.step("Prepare the database and the queues"):
            await prepare(addresses["BUILDLIGHT_DATABASE_URL"], addresses["BUILDLIGHT_AMQP_URL"])
        children: list[Child] = []
        outside = dict(configuration.outside)
        hooks: dict[str, str] = {}
        if configuration.on_sandbox:
            with steps.step("Start the sandbox, a pretend company (no provider is configured in .env)"):
                sandbox, told = await start_sandbox(root, home, configuration.base, stack)
                children.append(sandbox)
                outside = outside_as_sandbox(told, await gitlab_group(told))
                if "BUILDLIGHT_SANDBOX_RECORDED" in configuration.base:
                    outside["BUILDLIGHT_POLL_SINCE"] = "2000-01-01T00:00:00Z"  # recordings are old
                addresses |= sandbox_assignments(told)
                hooks = {provider: secrets.token_hex(32) for provider in HOOKED}
                outside |= {f"{p.upper()}_WEBHOOK_SECRET": secret for p, secret in hooks.items()}
        with steps.step("Start the services"):
            services = start_services(root, home, configuration, addresses, outside)
            stack.push_async_callback(services.stop)
            children.append(services)
            await become_ready(services, configuration.url)
            if hooks:
                await send_webhooks(told["control"], configuration.url, hooks)
        write_private(home / "env", as_shell(addresses))
        stack.callback((home / "env").unlink, missing_ok=True)
        print(configuration.url, flush=True)  # noqa: T201 - the one thing on stdout
        steps.say(f"Open {configuration.url} in a browser. Ctrl-C stops everything; the data stays.")
        await one_ends([*children, *servers])


ADDRESS_OF: dict[type[PrivateServer], str] = {
    Postgres: "BUILDLIGHT_DATABASE_URL",
    RabbitMQ: "BUILDLIGHT_AMQP_URL",
}
ADDRESSES = tuple(ADDRESS_OF.values())
HOOKED = ("github", "gitlab", "jenkins")
"""The providers whose webhooks the sandbox sends."""


def private_servers(home: Path, environ: Mapping[str, str]) -> list[PrivateServer]:
    """The servers we have to run ourselves: those whose address the environment does not give."""
    servers: list[PrivateServer] = []
    if not environ.get("BUILDLIGHT_DATABASE_URL"):
        servers.append(Postgres(home / "postgres"))
    if not environ.get("BUILDLIGHT_AMQP_URL"):
        servers.append(RabbitMQ(home / "rabbitmq"))
    return servers


@asynccontextmanager
async def running(servers: Sequence[PrivateServer]) -> AsyncIterator[None]:
    """Start the servers side by side, and stop them side by side at the end.

    Raises:
        ServerError: one could not start; the others are stopped again.

    """
    try:
        try:
            async with asyncio.TaskGroup() as group:
                for server in servers:
                    group.create_task(server.start())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        yield
    finally:
        await asyncio.gather(*(server.stop() for server in servers))


async def prepare(database_url: str, amqp_url: str) -> None:
    """Migrate the database and declare the exchanges and queues."""
    await migrate(database_url)
    await topology.declare(amqp_url)


async def start_sandbox(
    root: Path, home: Path, environ: Mapping[str, str], stack: AsyncExitStack
) -> tuple[Child, dict[str, Any]]:
    """Start the sandbox; the child, and the addresses it tells as one line of JSON."""
    command = [sys.executable, "-m", "sandbox", "--json", "--started-at", str(sandbox_start(home))]
    if recorded := environ.get("BUILDLIGHT_SANDBOX_RECORDED"):
        command += ["--recorded", recorded]
    log = home / "log" / "sandbox.log"
    log.unlink(missing_ok=True)  # the line in it must be this sandbox's
    child = Child("The sandbox", command, env=environ, cwd=root, log=log)
    stack.push_async_callback(child.stop)
    told: list[dict[str, Any]] = []

    def has_told() -> bool:
        complete = log.read_text(errors="replace").rpartition("\n")[0].splitlines()
        told.extend(json.loads(line) for line in complete if line.startswith("{"))
        return bool(told) or not child.running

    await became(has_told, READY_SECONDS)
    if not told:
        raise failure(child, "did not start")
    return child, told[0]


def sandbox_start(home: Path) -> float:
    """When the sandbox's history began: kept, so that it goes on where it was; begun anew after half a day."""
    kept = home / "sandbox-started"
    if kept.exists() and time.time() - float(kept.read_text()) < SANDBOX_SECONDS:
        return float(kept.read_text())
    started = time.time()
    write_private(kept, f"{started}\n")
    return started


async def gitlab_group(addresses: Mapping[str, Any]) -> int | None:
    """The sandbox's first GitLab group, where provisioned repositories go; asked as of any GitLab."""
    headers = {"PRIVATE-TOKEN": addresses.get("gitlab_token", "sandbox-token")}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{addresses['gitlab']}/api/v4/groups", headers=headers)
    groups = answer.raise_for_status().json()
    return groups[0]["id"] if groups else None


async def send_webhooks(control: str, url: str, hooks: Mapping[str, str]) -> None:
    """Have the sandbox tell what happens as it happens, signed; `hooks` are secrets by provider."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for provider, secret in hooks.items():
            hook = {"provider": provider, "url": f"{url}/webhooks/{provider}", "secret": secret}
            (await client.post(f"{control}/webhooks", json=hook)).raise_for_status()


def start_services(
    root: Path,
    home: Path,
    configuration: Configuration,
    addresses: Mapping[str, str],
    outside: Mapping[str, str],
) -> Child:
    """Start all services in one process."""
    env = {
        **configuration.base,
        **outside,
        **{name: addresses[name] for name in ADDRESSES},
        "BUILDLIGHT_HOST": configuration.host,
        "BUILDLIGHT_PORT": str(configuration.port),
        "BUILDLIGHT_ADMIN_KEY": admin_key(home / "admin-key"),
    }
    command = [sys.executable, "-m", "buildlight", "run", "all"]
    return Child("Buildlight", command, env=env, cwd=root, log=home / "log" / "services.log")


def admin_key(path: Path) -> str:
    """The key that may do everything, made once and readable by its owner only."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()


async def become_ready(services: Child, url: str) -> None:
    """Wait until the services say that they are ready.

    Raises:
        ServerError: they ended, or READY_SECONDS went by.

    """
    until = time.monotonic() + READY_SECONDS
    said = "nothing"
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=5) as client:
        while services.running and time.monotonic() < until:
            try:
                answer = await client.get("/health/ready")
            except httpx.TransportError:
                pass
            else:
                if answer.status_code == 200:
                    return
                said = f"{answer.status_code} {answer.text[:500]}"
            await asyncio.sleep(POLL_SECONDS)
    if not services.running:
        raise failure(services, "ended while starting")
    raise failure(services, f"was not ready within {READY_SECONDS:.0f} s (/health/ready said {said})")


async def one_ends(watched: Sequence[Child | PrivateServer]) -> None:
    """Wait as long as all run, and raise a ServerError that says which one ended."""
    while all(one.running for one in watched):  # noqa: ASYNC110 - processes send no event
        await asyncio.sleep(0.5)
    raise failure(next(one for one in watched if not one.running), "ended by itself")


def failure(one: Child | PrivateServer, what: str) -> ServerError:
    return ServerError(f"{one.title} {what}. The end of {one.log}:\n{last_lines(one.log)}")


def main() -> int:
    """Run until Ctrl-C or SIGTERM: 0 when asked to stop, 1 and a sentence on stderr when something failed."""
    console = Console(stderr=True)

    async def run() -> int:
        work = asyncio.ensure_future(up(Path.cwd(), console=console))

        def stop() -> None:
            # Once: stopping takes seconds, and a second Ctrl-C must not leave it half done.
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, lambda: None)
            console.print("Stopping ...", highlight=False)
            work.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop)
        with suppress(asyncio.CancelledError):
            await work
        return 0

    try:
        return asyncio.run(run())
    except ServerError as error:
        console.print(str(error), style="red", markup=False, highlight=False)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
