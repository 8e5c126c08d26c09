"""`buildlight flaky`: which tests are flaky, and why one says so."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from services.analytics.flakiness.ranking import History, ranked

app = typer.Typer(no_args_is_help=True, help="Flaky tests, told from broken ones.")

errors = Console(stderr=True, highlight=False)
_BLOCK = 1 << 20


@app.command()
def rank(
    history: Annotated[
        Path, typer.Argument(help="JSON Lines, oldest first.", exists=True, dir_okay=False, readable=True)
    ],
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line, every test ranked.")
    ] = False,
    top: Annotated[int, typer.Option(help="How many the table shows.", min=1)] = 20,
) -> None:
    """Rank the tests of a history file, the surest flake first. Needs no servers.

    A line of the file is {"repo", "test", "run", "attempt", "commit", "branch", "outcome", "at"}. Exit code 1:
    some lines could not be read and were left out.
    """
    read = History()
    with (
        history.open("rb") as file,
        Progress(console=errors, transient=True, disable=not errors.is_terminal) as bar,
    ):
        read.read(_lines(file, bar, history.stat().st_size))
    if as_json:
        for row in ranked(read):
            print(json.dumps(row, ensure_ascii=False))  # noqa: T201 -- data
    else:
        Console().print(_table(ranked(read), read, top))
    for complaint in read.complaints:
        errors.print(complaint, style="red", markup=False, soft_wrap=True)
    if read.unreadable:
        errors.print(f"{read.unreadable} lines could not be read and were left out", style="red")
        raise typer.Exit(1)


def _lines(file: BinaryIO, bar: Progress, size: int) -> Iterator[bytes]:
    task = bar.add_task("reading", total=size)
    done = told = 0
    for line in file:
        done += len(line)
        if done - told > _BLOCK:
            told = done
            bar.update(task, completed=done)
        yield line


def _table(rows: Iterator[dict[str, Any]], read: History, top: int) -> Table:
    tests = sum(len(repository.tests) for repository in read.repositories.values())
    table = Table(title=f"{tests} tests, {read.results} results", title_justify="left", box=None)
    for name, side in (("score", "right"), ("verdict", "left"), ("test", "left"), ("why", "left")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for row, _ in zip(rows, range(top), strict=False):
        table.add_row(
            f"{row['score']:.3f}", row["verdict"], f"{row['repo']} {row['test']}", row["evidence"]["reason"]
        )
    return table
