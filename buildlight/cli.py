"""The command `buildlight`. Data goes to stdout, everything else to stderr.

Exit codes: 0 done; 1 it failed, and why is said; 2 wrong usage or a wrong setting; 4 not allowed.
"""

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from buildlight import roster
from buildlight.commands import flaky, report
from chassis import logs, telemetry
from chassis.settings import BadSettings

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="An event-sourced record of everything a company's CI does.",
)
dlq = typer.Typer(no_args_is_help=True, help="Dead letters: what could not be handled, and putting it back.")
app.add_typer(dlq, name="dlq")
app.add_typer(flaky.app, name="flaky")
app.command()(report.report)

errors = Console(stderr=True, highlight=False)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document instead of a table.")]
WaitForIt = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is known what came of it.")]


def main() -> None:
    """Run the command line."""
    app()


def fail(message: str, code: int = 1) -> typer.Exit:
    errors.print(message, style="red", markup=False, soft_wrap=True)  # a line of ours is one line in a log
    return typer.Exit(code)


@app.command()
def up() -> None:
    """Run everything on this machine: private servers, the sandbox unless a provider is configured, all services."""
    from buildlight.up import main as run_up  # noqa: PLC0415

    raise typer.Exit(run_up())


@app.command()
def run(
    services: Annotated[list[str], typer.Argument(help=f"{', '.join(roster.SERVICES)} or all.")],
) -> None:
    """Run one or more services in this process until Ctrl-C."""
    from buildlight.process import ProcessSettings  # noqa: PLC0415
    from chassis.service import serve  # noqa: PLC0415

    async def run_them() -> None:
        # Put together here, for pools and events belong to the loop they are made in.
        await serve([roster.build(name) for name in names], host=process.host, port=process.port)

    try:
        names = roster.chosen(services)
        process = ProcessSettings.load()
        logs.configure(level=process.log_level, as_json=process.log_as_json)
        telemetry.configure(names[0] if len(names) == 1 else "all")
        asyncio.run(run_them())
    except (BadSettings, ValueError) as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        advice = f"cannot listen on {process.host}:{process.port}: {error.strerror}. Set BUILDLIGHT_PORT."
        raise fail(advice) from None
    except RuntimeError as error:
        raise fail(f"{error}: {error.__cause__}" if error.__cause__ else str(error)) from None


@app.command()
def migrate() -> None:
    """Bring every schema to this release's version and declare every queue. Safe to run again, and twice at once."""
    from buildlight.migrate import CannotMigrateError  # noqa: PLC0415
    from buildlight.migrate import migrate as migrate_database  # noqa: PLC0415
    from buildlight.process import MigrationSettings  # noqa: PLC0415
    from buildlight.topology import declare  # noqa: PLC0415

    try:
        settings = MigrationSettings.load()
    except BadSettings as error:
        raise fail(str(error), 2) from None

    async def both() -> None:
        await migrate_database(settings.url, report=lambda line: errors.print(line, markup=False))
        errors.print("declaring exchanges and queues")
        await declare(settings.amqp_url.get_secret_value(), settings.retry_rungs)

    try:
        asyncio.run(both())
    except (CannotMigrateError, OSError) as error:
        raise fail(str(error)) from None
    errors.print("ready")


@app.command()
def builds(
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    repository: Annotated[str | None, typer.Option(help="Only this repository, e.g. acme/shop.")] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """The newest builds, one line an attempt."""
    query = {"per_page": limit} | ({"repository": repository} if repository else {})
    found = _client().get("/api/v1/builds/", query)
    _show(
        found["builds"],
        ["state", "repository", "workflow", "branch", "run_id", "attempt", "author", "duration_seconds"],
        as_json=as_json,
    )


@app.command()
def rerun(
    build: Annotated[str, typer.Argument(help="The build's id, as in its address.")],
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only the jobs that failed.")] = False,
    wait: WaitForIt = True,
    as_json: AsJson = False,
) -> None:
    """Have the provider run a build again (needs the scope act). Exit code 1 when it will not, or cannot."""
    _act("rerun", build, {"failed_only": failed}, wait=wait, as_json=as_json)


@app.command()
def cancel(
    build: Annotated[str, typer.Argument(help="The build's id, as in its address.")],
    *,
    wait: WaitForIt = True,
    as_json: AsJson = False,
) -> None:
    """Have the provider cancel a build (needs the scope act). Exit code 1 when it will not, or cannot."""
    _act("cancel", build, {}, wait=wait, as_json=as_json)


@app.command("logs")
def show_log(
    build: Annotated[str, typer.Argument(help="The build's id, as in its address.")],
    job: Annotated[str | None, typer.Argument(help="Only this job, by its id.")] = None,
    *,
    steps: Annotated[
        bool, typer.Option("--steps", help="The steps of the job with their times, as JSON.")
    ] = False,
) -> None:
    """The whole log of a build or a job, from its provider as it comes, secrets masked."""
    if steps and job is None:
        raise fail("--steps is of one job: give its id too", 2)
    path = f"/api/v1/builds/{quote(build, safe='')}" + (f"/jobs/{quote(job, safe='')}" if job else "")
    for piece in _client().stream(f"{path}/log" + ("?format=steps" if steps else "")):
        sys.stdout.buffer.write(piece)
    sys.stdout.flush()


def _act(action: str, build: str, body: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    from buildlight import actions  # noqa: PLC0415

    client = _client()
    told = actions.ask(client, action, quote(build, safe=""), body)
    told = actions.follow(client, told) if wait else told
    if as_json:
        _print_json(told)
    else:
        print(actions.in_words(told))  # noqa: T201
    raise typer.Exit(1 if told["status"] in ("refused", "failed") else 0)


@app.command("completeness")
def show_completeness(
    since: Annotated[
        str, typer.Option(help="Runs created since: a window such as 7d, or a day such as 2026-03-01.")
    ] = "30d",
    target: Annotated[str | None, typer.Option(help="Only this target, e.g. acme/shop.")] = None,
    *,
    now: Annotated[
        bool, typer.Option("--now", help="Measure anew and wait for it (needs the scope write).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Is anything missing? By target: what the provider has, what the log has, and what it lacks.

    Exit code 0 when every target was measured lately and nothing is missing; 1 when something is, or when
    a target fails or was not measured, so that nobody can tell.
    """
    from buildlight import completeness  # noqa: PLC0415

    client = _client()
    if now and not completeness.measure(client, errors, since=since, target=target):
        errors.print("Some measurements are not over; what follows is the last there is.", style="yellow")
    report = completeness.fetch(client, since=since, target=target)
    if as_json:
        _print_json(report)
    else:
        _show(completeness.rows(report), completeness.COLUMNS, as_json=False)
        for line in completeness.remarks(report):
            errors.print(line, markup=False, soft_wrap=True)
    raise typer.Exit(0 if report["complete"] else 1)


@app.command("backfill")
def collect_past_builds(
    since: Annotated[
        datetime, typer.Option(help="Builds created from then on: 2026-01-01, or with a time, in UTC.")
    ],
    until: Annotated[datetime | None, typer.Option(help="And before then; now unless given.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(help="Only this target, e.g. acme/shop; may be given more than once.")
    ] = None,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until all is collected.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, at each step.")] = False,
) -> None:
    """Collect past builds, beside what is polled; with progress (needs the scope write).

    It goes on without this command, and after a crash where it was. Exit code 1 when a target failed.
    """
    from buildlight.commands import backfill  # noqa: PLC0415

    begun = backfill.ask(_client(), since=since, until=until, targets=target or [])
    last = backfill.follow(_client(), errors, begun, as_json=as_json) if wait else begun
    if as_json:
        print(json.dumps(last), flush=True)  # noqa: T201
    else:
        print(backfill.in_words(last))  # noqa: T201
    for line in backfill.complaints(last):
        errors.print(line, style="yellow", markup=False, soft_wrap=True)
    raise typer.Exit(1 if last["failed"] else 0)


@dlq.command("list")
def list_dead_letters(
    queue: Annotated[str | None, typer.Option(help="Only letters that died on this queue.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 50,
    *,
    as_json: AsJson = False,
) -> None:
    """Dead letters, newest first."""
    query = {"limit": limit} | ({"queue": queue} if queue else {})
    found = _client().get("/api/v1/dead-letters", query)
    _show(
        found["dead_letters"],
        ["dead_letter_id", "queue", "kind", "reason", "attempts", "died_at", "status", "replays"],
        as_json=as_json,
    )


@dlq.command("show")
def show_dead_letter(dead_letter_id: str) -> None:
    """One dead letter whole, its body included (needs the scope admin)."""
    _print_json(_client().get(f"/api/v1/dead-letters/{dead_letter_id}"))


@dlq.command("replay")
def replay_dead_letters(dead_letter_ids: list[str]) -> None:
    """Put dead letters back on the queues they died on (needs the scope admin)."""
    _print_json(_client().post("/api/v1/dead-letters/replay", {"dead_letter_ids": dead_letter_ids}))


def _client() -> Any:
    from buildlight.client import Client, ClientError  # noqa: PLC0415

    def left(error: ClientError) -> typer.Exit:
        return fail(str(error), 4 if error.status in (401, 403) else 1)

    class Exiting(Client):
        def request(self, method: str, path: str, **options: Any) -> Any:
            try:
                return super().request(method, path, **options)
            except ClientError as error:
                raise left(error) from None

        def find(self, path: str) -> Any:
            try:
                return super().find(path)
            except ClientError as error:
                raise left(error) from None

        def stream(self, path: str) -> Iterator[bytes]:
            try:
                yield from super().stream(path)
            except ClientError as error:
                raise left(error) from None

    return Exiting.from_environment(os.environ)


def _show(rows: list[dict[str, Any]], columns: list[str], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    if not sys.stdout.isatty():
        for row in rows:
            print("\t".join(_cell(row.get(column)) for column in columns))  # noqa: T201
        return
    table = Table(*columns, box=None)
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201
