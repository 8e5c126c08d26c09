"""`buildlight report`: what the test reports in a folder say, and sending them to Buildlight."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from buildlight.ci import Build, build_from
from buildlight.client import Client, ClientError
from reports.archive import File, files
from reports.cases import Tally
from reports.collect import Found, collect
from reports.stream import PIECE

errors = Console(stderr=True, highlight=False)

_COUNTS = ("tests", "passed", "failed", "errors", "skipped", "flaky")


@dataclass(frozen=True, slots=True)
class _Row:
    path: Path
    found: Found

    def line(self) -> dict[str, Any]:
        totals = self.found.totals.model_dump()
        return {
            "file": self.found.name,
            **{name: totals[name] for name in (*_COUNTS, "duration_seconds")},
            "error": self.found.problem,
        }


def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder, or one report or archive.", exists=True)
    ],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, one a report.")] = False,
    upload: Annotated[bool, typer.Option("--upload", help="Send the reports to Buildlight.")] = False,
    url: Annotated[str | None, typer.Option(help="Buildlight's address; else BUILDLIGHT_URL.")] = None,
    key: Annotated[
        str | None, typer.Option(help="An API key that may write; else BUILDLIGHT_API_KEY.")
    ] = None,
    build: Annotated[
        str | None,
        typer.Option(
            help="PROVIDER/INSTANCE/REPOSITORY-ID/runs/RUN-ID[/ATTEMPT]; GitHub Actions and GitLab CI tell it."
        ),
    ] = None,
    repository: Annotated[str | None, typer.Option(help="With --build: the repository's name.")] = None,
    branch: Annotated[str | None, typer.Option(help="With --build.")] = None,
    commit: Annotated[str | None, typer.Option(help="With --build: the commit's SHA.")] = None,
    job: Annotated[str | None, typer.Option(help="The job whose tests they are.")] = None,
) -> None:
    """Read every test report under DIR, those in ZIP and tar archives included. Needs no servers.

    JUnit XML of any tool, TRX, xUnit.net, NUnit, TestNG. A report in an archive is named after it:
    artifact.zip/target/TEST-a.xml. Files that are no reports are left out.

    Exit codes: 0 every report was read, whatever its tests did; 1 one could not be read or sent; 2 wrong usage;
    4 not allowed to send.
    """
    sender = None
    if upload:
        try:
            of_build = build_from(
                build, os.environ, repository=repository, branch=branch, commit=commit, job=job
            )
        except ValueError as error:
            raise _fail(str(error), 2) from None
        sender = _Sender(_client(url, key), of_build, folder)
    rows = asyncio.run(_show(folder, as_json=as_json))
    problems = [row for row in rows if row.found.problem]
    if not rows:
        errors.print(f"no test reports under {folder}", markup=False)
    if sender is not None:
        if not rows:
            raise typer.Exit(1)
        sender.send(dict.fromkeys(row.path for row in rows))
    if problems:
        raise typer.Exit(1)


async def _show(folder: Path, *, as_json: bool) -> list[_Row]:
    rows = []
    async for row in _rows(folder):
        rows.append(row)
        if as_json:
            print(json.dumps(row.line(), ensure_ascii=False), flush=True)  # noqa: T201 -- data
    if not as_json and rows:
        _print_table([row.line() for row in rows])
    for row in rows:
        for note in row.found.notes:
            errors.print(f"{row.found.name}: {note}", markup=False, soft_wrap=True)
    return rows


async def _rows(folder: Path) -> AsyncIterator[_Row]:
    for path in _paths(folder):
        name = path.name if path == folder else path.relative_to(folder).as_posix()
        try:
            async for file in files(name, _bytes_of(path)):
                found = await _one(file, alone=path == folder)
                if found is not None:
                    yield _Row(path, found)
        except OSError as error:
            yield _Row(path, _unread(name, f"it cannot be read: {error.strerror}"))


async def _one(file: File, *, alone: bool) -> Found | None:
    found = await collect(file)
    if found is None and alone and "/" not in file.name:
        return _unread(file.name, "it is no test report that is known")
    return found


def _unread(name: str, problem: str) -> Found:
    return Found(name=name, format="", totals=Tally().totals(), notes=(), reported_at=None, problem=problem)


def _paths(folder: Path) -> Iterator[Path]:
    """The files under `folder`, in the order of their paths; links to folders are not followed."""
    if folder.is_file():
        yield folder
        return
    for parent, names, file_names in os.walk(folder):
        names.sort()
        for name in sorted(file_names):
            path = Path(parent, name)
            if path.is_file():
                yield path


async def _bytes_of(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while data := file.read(PIECE):
            yield data


def _print_table(lines: list[dict[str, Any]]) -> None:
    total = {name: sum(line[name] for line in lines) for name in (*_COUNTS, "duration_seconds")}
    shown = [*lines, {"file": f"{len(lines)} reports", **total, "error": None}] if len(lines) > 1 else lines
    columns = (*_COUNTS, "seconds", "file", "error")
    if not sys.stdout.isatty():
        for line in lines:
            print("\t".join(_cells(line)))  # noqa: T201 -- data
        return
    table = Table(box=None)
    for column in columns:
        table.add_column(column, justify="left" if column in ("file", "error") else "right", overflow="fold")
    for line in shown:
        bad = line["failed"] or line["errors"] or line["error"]
        table.add_row(*_cells(line), style="red" if bad else "yellow" if line["flaky"] else None)
    Console().print(table)


def _cells(line: dict[str, Any]) -> list[str]:
    seconds = f"{line['duration_seconds']:.3f}"
    return [*(str(line[name]) for name in _COUNTS), seconds, line["file"], line["error"] or ""]


def _fail(message: str, code: int = 1) -> typer.Exit:
    errors.print(message, style="red", markup=False, soft_wrap=True)
    return typer.Exit(code)


def _client(url: str | None, key: str | None) -> Client:
    given = {"BUILDLIGHT_URL": url, "BUILDLIGHT_API_KEY": key}
    return Client.from_environment(os.environ | {name: value for name, value in given.items() if value})


@dataclass(frozen=True, slots=True)
class _Sender:
    """Sends files as they are; the server reads them again, and its answer is what counts."""

    client: Client
    build: Build
    folder: Path

    def send(self, paths: dict[Path, None]) -> None:
        failed = False
        for path in paths:
            name = path.name if path == self.folder else path.relative_to(self.folder).as_posix()
            try:
                answer = self.client.upload(
                    "/api/v1/test-reports", path, self.build.query() | {"source": name}
                )
            except ClientError as error:
                errors.print(f"{name}: {error}", style="red", markup=False, soft_wrap=True)
                if error.status in (401, 403):
                    raise typer.Exit(4) from None
                failed = True
                continue
            for sent in answer["reports"]:
                errors.print(f"{sent['source']}: sent as {sent['report_id']}", markup=False, soft_wrap=True)
        if failed:
            raise typer.Exit(1)
