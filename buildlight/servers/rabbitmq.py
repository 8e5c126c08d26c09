"""A private RabbitMQ node: the machine's binaries, our own data, ports, cookie and port mapper."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

import aio_pika

from buildlight.servers.process import PrivateServer, ServerError, tied

# Not the wrapper in /usr/sbin, which changes to the system's user and folders.
PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
PLUGINS = ("rabbitmq_management", "rabbitmq_prometheus")


class RabbitMQ(PrivateServer):
    """A private RabbitMQ node in `folder`; `url` is for AMQP, `management_url` for its HTTP API."""

    title: ClassVar[str] = "RabbitMQ"
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM

    @property
    def url(self) -> str:
        return f"amqp://buildlight:{self._password}@127.0.0.1:{self._state['port']}/"

    @property
    def management_url(self) -> str:
        """The management API, with user and password."""
        return f"http://buildlight:{self._password}@127.0.0.1:{self._state['management_port']}"

    @property
    def prometheus_url(self) -> str:
        return f"http://127.0.0.1:{self._state['prometheus_port']}/metrics"

    def remembers(self, queue: str) -> bool:
        """Whether a crash now would leave the quorum queue usable.

        RabbitMQ 3.10 confirms the declaration of a quorum queue before its name is on disk (that takes half a
        second). Killed in between, it comes back with a queue that never elects a leader: a fault
        test waits for this before it kills.
        """
        names = (self.folder / "data").glob("*/quorum/*/names.dets")
        return any(queue.encode() in path.read_bytes() for path in names)

    async def _prepare(self) -> None:
        await asyncio.to_thread(self._configure)

    def _configure(self) -> None:
        if not PROGRAM.exists():
            raise ServerError(
                "RabbitMQ is not installed. Install Debian's package (sudo apt-get install rabbitmq-server), "
                "or set BUILDLIGHT_AMQP_URL to a broker that runs elsewhere."
            )
        for name in ("port", "management_port", "prometheus_port", "distribution_port", "epmd_port"):
            self._kept_port(name)
        configuration = [
            f"listeners.tcp.1 = 127.0.0.1:{self._state['port']}",
            "default_user = buildlight",
            f"default_pass = {self._password}",
            "management.tcp.ip = 127.0.0.1",
            f"management.tcp.port = {self._state['management_port']}",
            "prometheus.tcp.ip = 127.0.0.1",
            f"prometheus.tcp.port = {self._state['prometheus_port']}",
            "consumer_timeout = 604800000",  # as infra/rabbitmq/buildlight.conf says, and why
            "log.console = true",
            "log.console.level = info",
        ]
        for name, text in {
            "rabbitmq.conf": "\n".join(configuration) + "\n",
            "advanced.config": "[].\n",
            "enabled_plugins": f"[{','.join(PLUGINS)}].\n",
        }.items():
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(text)

    def _launch(self) -> subprocess.Popen[bytes]:
        env = self._environment()
        # Erlang's port mapper would make itself a daemon and outlive the node. Ours is a child.
        epmd = shutil.which("epmd")
        if epmd is None:
            raise ServerError("Erlang's epmd is missing: install Debian's package erlang-base.")
        self._beside = [self._open(tied([epmd], "KILL"), env)]
        # With RABBITMQ_ALLOW_INPUT the script becomes the node instead of waiting for it, so that
        # signals reach the node itself.
        return self._open(tied([str(PROGRAM), "-noinput"], "TERM"), env)

    def _environment(self) -> dict[str, str]:
        foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET", "LISTEN_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        folder = self.folder
        return inherited | {
            "HOME": str(folder),  # the Erlang cookie is made here
            "ERL_EPMD_PORT": str(self._state["epmd_port"]),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_NODENAME": "buildlight@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self._state["port"]),
            "RABBITMQ_DIST_PORT": str(self._state["distribution_port"]),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(self.log.parent),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": str(folder / "no-environment"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_CONFIG_FILES": str(folder / "no-more-configuration"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "advanced.config"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        }

    async def _connect(self) -> None:
        # First whether anybody listens: the client library logs every refusal, and a boot takes seconds.
        _, writer = await asyncio.open_connection("127.0.0.1", self._state["port"])
        writer.close()
        connection = await aio_pika.connect(self.url, timeout=5)
        await connection.close()


@asynccontextmanager
async def private_rabbitmq(folder: Path) -> AsyncIterator[str]:
    """Run a private RabbitMQ in `folder`; gives its AMQP URL, stops it at the end, keeps its data."""
    async with RabbitMQ(folder) as server:
        yield server.url
