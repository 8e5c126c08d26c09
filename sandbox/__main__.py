"""`python -m sandbox`: the pretend company as a process; stdout gets its addresses as one JSON line."""

import argparse
import asyncio
import json
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from sandbox import control_plane, github, github_app, gitlab, jenkins, mail, slack
from sandbox.company import Company, build


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="sandbox", description="A pretend company that speaks its providers' protocols."
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen")
    parser.add_argument("--port", type=int, default=0, help="for HTTP; 0 picks a free one")
    parser.add_argument(
        "--blob-port", type=int, default=0, help="for GitHub's downloads, as another host; 0 picks a free one"
    )
    parser.add_argument("--smtp-port", type=int, default=0, help="for mail; 0 picks a free one")
    parser.add_argument("--seed", type=int, default=1, help="another seed, another history")
    parser.add_argument(
        "--speed", type=float, default=60.0, help="pretend seconds in a real one; 0 stands still"
    )
    parser.add_argument("--backlog-hours", type=float, default=48.0, help="history there is at the start")
    parser.add_argument(
        "--started-at",
        type=float,
        metavar="SECONDS",
        help="when it began (POSIX); the same seed and start go on with the same history",
    )
    parser.add_argument("--repositories", type=int, help="how many (default: 6, or none beside --recorded)")
    parser.add_argument(
        "--recorded", type=Path, metavar="DIR", help="serve recorded rows from DevLake's raw tables"
    )
    parser.add_argument("--github-limit", type=int, default=5000, help="requests an hour that GitHub allows")
    parser.add_argument(
        "--gitlab-projects", type=int, help="how many with CI (default: 2, or none with --repositories)"
    )
    parser.add_argument("--gitlab-limit", type=int, default=2000, help="requests a minute that GitLab allows")
    parser.add_argument("--json", action="store_true", help="nothing on stderr when ready")
    return parser.parse_args()


class _Server(uvicorn.Server):
    """Says where everything is as soon as it listens."""

    def __init__(
        self, config: uvicorn.Config, addresses: dict[str, str | int | list[str]], *, quiet: bool
    ) -> None:
        super().__init__(config)
        self._addresses = addresses
        self._quiet = quiet

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Stop when told, and end well: uvicorn's own way passes the signal on when all is done."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(json.dumps(self._addresses), flush=True)  # noqa: T201 - the one line of data
        if not self._quiet:
            print(  # noqa: T201 - for people
                f"The sandbox is up. GitHub and GitLab take the token {github.TOKEN!r}, "
                f"the control plane the key {control_plane.KEY!r}. Ctrl-C stops it.",
                file=sys.stderr,
            )


async def serve(company: Company, options: argparse.Namespace) -> None:
    listening = socket.create_server((options.host, options.port))
    for_blobs = socket.create_server((options.host, options.blob_port))
    company.blobs.port = for_blobs.getsockname()[1]
    mail_server = await mail.serve(company.mailbox, options.host, options.smtp_port)
    root = f"http://{options.host}:{listening.getsockname()[1]}"
    addresses: dict[str, str | int | list[str]] = {
        "github": f"{root}/github",
        "github_token": github.TOKEN,
        "github_repos": list(company.repositories),
        "github_app_id": str(github_app.APP_ID),
        "gitlab": f"{root}/gitlab",
        "gitlab_token": gitlab.TOKEN,
        "jenkins": f"{root}/jenkins",
        "jenkins_username": jenkins.USER,
        "jenkins_token": jenkins.TOKEN,
        "gitlab_projects": list(company.projects),
        "slack": f"{root}/slack{slack.PATH}",
        "smtp_host": options.host,
        "smtp_port": mail_server.sockets[0].getsockname()[1],
        "control_plane": f"{root}/control-plane",
        "control_plane_key": control_plane.KEY,
        "control": f"{root}/_sandbox",
    }
    config = uvicorn.Config(
        company.app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    telling = asyncio.create_task(company.hooks.run(), name="webhooks")
    try:
        await _Server(config, addresses, quiet=options.json).serve([listening, for_blobs])
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        mail_server.close()


def main() -> int:
    options = arguments()
    try:
        company = build(
            seed=options.seed,
            speed=options.speed,
            backlog_hours=options.backlog_hours,
            start=options.started_at,
            repositories=options.repositories,
            recorded=options.recorded,
            github_limit=options.github_limit,
            gitlab_projects=options.gitlab_projects,
            gitlab_limit=options.gitlab_limit,
        )
        asyncio.run(serve(company, options))
    except (OSError, ValueError) as error:
        print(f"The sandbox cannot start: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
