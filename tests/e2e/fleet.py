"""All of Buildlight as it is deployed, on this machine: servers, the sandbox, each service a process of its own.

Everything can be killed with SIGKILL and comes back on the port it had.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
import httpx

from buildlight.migrate import migrate
from buildlight.roster import SERVICES, queues
from buildlight.servers import Postgres, RabbitMQ
from buildlight.servers.process import became, free_port, last_lines, spawn, tied
from buildlight.topology import declare
from tests.e2e.company import Company

CHECKOUT = Path(__file__).resolve().parents[2]
SHORT_RUNGS = ("200ms", "400ms", "800ms", "2s")
GROUP = "acme/platform"
"""Where the sandbox's GitLab has provisioned repositories go, by its full path; its id is 123."""
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
"""A batch in hand, the broker and the pool each have their own time to end well."""

FoundT = TypeVar("FoundT")


class Running:
    """A process of ours: started, killed, started again, with the same environment; it writes to `log`."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.env = dict(env)
        self._command = [sys.executable, "-m", *command]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def said(self) -> str:
        """The end of its log, each line cut: tracebacks are long."""
        return "\n".join(line[:400] for line in last_lines(self.log).splitlines())

    def start(self, **changes: str) -> None:
        """Start it; `changes` to its environment hold for this once."""
        assert not self.running, f"{self.name} runs already"
        self._process = spawn(tied(self._command, "KILL"), env=self.env | changes, cwd=CHECKOUT, log=self.log)

    async def stop(self) -> int:
        """SIGTERM, as an orchestrator would; its exit status."""
        assert self._process is not None
        self._process.terminate()
        if not await became(lambda: not self.running, STOP_SECONDS):
            await self.kill()
            raise AssertionError(
                f"{self.name} did not stop within {STOP_SECONDS:.0f} s of SIGTERM:\n{self.said}"
            )
        return self._process.wait()

    async def kill(self) -> None:
        """SIGKILL, with whatever it started."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    async def ended(self, seconds: float = READY_SECONDS) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        assert await became(lambda: not self.running, seconds), f"{self.name} still runs"
        assert self._process is not None
        return self._process.wait()


class Fleet:
    """Postgres, RabbitMQ, the sandbox and six services, in `folder`. `async with` starts and stops them.

    Args:
        folder: for data and logs.
        repositories: what the poller watches; each begins with one good run, so that it can break.
        rungs: of the retries; short, for tests.
        settings: more variables for the services.
        together: all services in one process, `all`, behind one port.
        services: only these, where the others would but add to the load.
        jobs: of Jenkins, that are there before anybody looks; without builds.
        projects: of GitLab, that are there before anybody looks; each begins with one good pipeline.
    """

    def __init__(
        self,
        folder: Path,
        *,
        repositories: Sequence[str],
        rungs: Sequence[str] = SHORT_RUNGS,
        settings: Mapping[str, str] | None = None,
        together: bool = False,
        services: Sequence[str] = SERVICES,
        jobs: Sequence[str] = (),
        projects: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.repositories = tuple(repositories)
        self.rungs = tuple(rungs)
        self.postgres = Postgres(folder / "postgres")
        self.rabbitmq = RabbitMQ(folder / "rabbitmq")
        self.admin_key = secrets.token_urlsafe(24)
        self.names = ("all",) if together else tuple(services)
        self.ports = {name: free_port() for name in self.names}
        self.services: dict[str, Running] = {}
        self._settings = dict(settings or {})
        self._jobs = tuple(jobs)
        self._projects = tuple(projects)

    # -- life

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _start(self) -> None:
        await asyncio.gather(self.postgres.start(), self.rabbitmq.start(), self._start_sandbox())
        await asyncio.gather(migrate(self.postgres.url), declare(self.rabbitmq.url, self.rungs))
        for repository in self.repositories:
            await self.company.ended(repository, "success", title="The first, and good")
        for job in self._jobs:
            await self.company.control("POST", "/jenkins/jobs", json={"name": job})
        for project in self._projects:
            await self.company.control(
                "POST", "/gitlab/pipelines", json={"project": project, "status": "success"}
            )
        self.http = httpx.AsyncClient(timeout=30, trust_env=False)
        for name in self.names:
            self.services[name] = self.service(name)
            self.services[name].start()
        await self.ready()

    async def _start_sandbox(self) -> None:
        # None of its own history: a test knows every run there is.
        command = ["sandbox", "--json", "--repositories", "0", "--speed", "0"]
        command += ["--github-limit", "1000000", "--gitlab-limit", "1000000"]
        self._sandbox = Running(
            "sandbox", command, env=_surroundings(), log=self.folder / "log" / "sandbox.log"
        )
        self._sandbox.start()

        def told() -> str | None:
            lines = self._sandbox.log.read_text().splitlines(keepends=True)
            return next((line for line in lines if line.startswith("{") and line.endswith("\n")), None)

        assert await became(lambda: bool(told()) or not self._sandbox.running, READY_SECONDS)
        line = told()
        assert line, f"the sandbox did not start:\n{self._sandbox.said}"
        self.company = Company(json.loads(line))

    async def _end(self) -> None:
        for service in self.services.values():
            if service.running:
                await service.kill()
        if hasattr(self, "http"):
            await self.http.aclose()
        if hasattr(self, "company"):
            await self.company.close()
        if hasattr(self, "_sandbox") and self._sandbox.running:
            await self._sandbox.kill()
        await asyncio.gather(self.postgres.kill(), self.rabbitmq.kill())

    # -- the services

    def environment(self) -> dict[str, str]:
        """What every service is told; nothing of it leads outside the fleet."""
        told = self.company.addresses
        return (
            _surroundings()
            | {
                "BUILDLIGHT_DATABASE_URL": self.postgres.url,
                "BUILDLIGHT_AMQP_URL": self.rabbitmq.url,
                "BUILDLIGHT_RETRY_RUNGS": ",".join(self.rungs),
                "BUILDLIGHT_ADMIN_KEY": self.admin_key,
                "BUILDLIGHT_LOG_FORMAT": "json",
                "GITHUB_TOKEN": told["github_token"],
                "GITHUB_API_URL": told["github"],
                "GITHUB_REPOS": ",".join(self.repositories),
                "JENKINS_URL": told["jenkins"],
                "JENKINS_USERNAME": told["jenkins_username"],
                "JENKINS_API_TOKEN": told["jenkins_token"],
                "WORKER_POLL_INTERVAL": "1",
                "WORKER_JITTER_SECONDS": "0",
                "GITLAB_TOKEN": told["gitlab_token"],
                "GITLAB_URL": told["gitlab"],
                "GITLAB_GROUP_ID": GROUP,
                "CONTROL_PLANE_URL": told["control_plane"],
                "CONTROL_PLANE_API_KEY": told["control_plane_key"],
                "WORKSPACE_DIR": str(self.folder / "workspaces"),
                "ALERT_SLACK_WEBHOOK": told["slack"],
                "SMTP_HOST": told["smtp_host"],
                "SMTP_PORT": str(told["smtp_port"]),
                "ALERT_EMAIL_FROM": "buildlight@acme.example",
                "ALERT_EMAIL_TO": "team@acme.example",
            }
            | self._settings
        )

    def service(self, name: str) -> Running:
        """A process of the service `name`, not yet started."""
        env = self.environment() | {"BUILDLIGHT_PORT": str(self.ports[name])}
        log = self.folder / "log" / f"{name}.log"
        return Running(name, ["buildlight", "run", name], env=env, log=log)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name if name in self.ports else 'all']}"

    async def is_ready(self, name: str) -> bool:
        try:
            answer = await self.http.get(f"{self.url(name)}/health/ready", timeout=5)
        except httpx.TransportError:
            return False
        return answer.status_code == 200

    async def ready(self, *names: str, seconds: float = READY_SECONDS) -> float:
        """Wait until `names`, or all, are ready; how long that took, in seconds."""
        began = time.monotonic()
        for name in names or self.names:
            while not await self.is_ready(name):
                service = self.services[name]
                assert service.running, f"{name} ended:\n{service.said}"
                waited = time.monotonic() - began
                assert waited < seconds, f"{name} is not ready:\n{service.said}"
                await asyncio.sleep(0.1)
        return time.monotonic() - began

    async def kill(self, name: str) -> float:
        """SIGKILL a service, start it again, and wait until it is ready; how long that took, in seconds."""
        await self.services[name].kill()
        self.services[name].start()
        return await self.ready(name)

    async def remembered(self) -> None:
        """Wait until the broker could be killed without losing a queue it has just confirmed."""
        names = [queue.name for queue in queues() if not queue.foreign]
        names += [q.dead for q in queues()] + [q.rung(rung) for q in queues() for rung in self.rungs]

        async def all_are() -> bool:
            return all(self.rabbitmq.remembers(name) for name in names)

        await until(all_are, why="RabbitMQ did not write its queues down")

    # -- asking

    @property
    def key(self) -> dict[str, str]:
        """The header with the key that may do everything."""
        return {"X-API-Key": self.admin_key}

    async def get(self, path: str, *, of: str = "api", **query: Any) -> Any:
        """The JSON answer of a GET, which must succeed."""
        answer = await self.http.get(f"{self.url(of)}{path}", params=query, headers=self.key)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def sql(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Look into the database, as its owner."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads
                )
            return await connection.fetch(query, *arguments)
        finally:
            await connection.close()

    async def log(self, *, prefix: str = "", **where: str) -> list[asyncpg.Record]:
        """Events of the log in order; `prefix` of their subject, other columns equal to."""
        conditions = [f"{column} = ${number}" for number, column in enumerate(where, 2)]
        return await self.sql(
            f"""
            SELECT position, id::text, replace(type, 'dev.buildlight.', '') AS type, subject, source, data,
                   correlation_id, causation_id
              FROM log.events
             WHERE {" AND ".join(["starts_with(subject, $1)", *conditions])}
             ORDER BY position
            """,
            prefix,
            *where.values(),
        )

    async def queues(self) -> dict[str, dict[str, Any]]:
        """Every queue by name, as RabbitMQ's management has it; it counts anew every five seconds."""
        answer = await self.http.get(f"{self.rabbitmq.management_url}/api/queues")
        return {queue["name"]: queue for queue in answer.raise_for_status().json()}

    def command(self, *arguments: str, of: str = "ingest") -> subprocess.CompletedProcess[str]:
        """Run `buildlight ARGUMENTS` as an operator with the admin key would, and wait for its end.

        `of`: the service it talks to, as each has a port of its own.
        """
        env = self.environment() | {
            "BUILDLIGHT_URL": self.url(of),
            "BUILDLIGHT_API_KEY": self.admin_key,
        }
        return subprocess.run(
            [sys.executable, "-m", "buildlight", *arguments],
            env=env,
            cwd=CHECKOUT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def _surroundings() -> dict[str, str]:
    """The little of our own environment that a child needs: no token, address or proxy of anybody's."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return kept | {"PYTHONPATH": f"{CHECKOUT}:{CHECKOUT / 'contracts'}", "PYTHONUNBUFFERED": "1"}


async def until(
    look: Callable[[], Awaitable[FoundT]], *, seconds: float = 90, why: str = "", pause: float = 0.1
) -> FoundT:
    """Look again and again until there is something to see; what was seen.

    An AssertionError while looking counts as nothing seen; the last one is raised when time is up.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = await look()
            error: AssertionError | None = None
        except AssertionError as raised:
            error = raised
        else:
            if found:
                return found
        if time.monotonic() > deadline:
            raise error or AssertionError(why or "it did not come about in time")
        await asyncio.sleep(pause)
