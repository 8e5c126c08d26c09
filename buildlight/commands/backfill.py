"""`buildlight backfill`: asks for past builds, and shows how far that is."""

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

_LOOK_SECONDS = 1.0
Progressed = Mapping[str, Any]
"""As the API answers at `/api/v1/backfills/{request_id}`."""


class Api(Protocol):
    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any: ...

    def find(self, path: str) -> Any: ...

    def post(self, path: str, body: Any) -> Any: ...


def ask(client: Api, *, since: datetime, until: datetime | None, targets: Sequence[str]) -> Progressed:
    """Have the builds collected; without targets, of all that is polled. Times without a zone are UTC."""
    body: dict[str, Any] = {"since": _stamp(since)}
    if until is not None:
        body["until"] = _stamp(until)
    if targets:
        body["targets"] = list(targets)
    begun: Progressed = client.post("/api/v1/backfills", body)
    return begun


def follow(
    client: Api,
    console: Console,
    begun: Progressed,
    *,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Progressed:
    """Wait for the end, with a bar on `console`, or with `as_json` a line on stdout whenever it has got on."""
    now = begun
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[said]}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=as_json) as progress:
        task = progress.add_task("Collecting past builds", total=1.0, said="")
        while now["status"] in ("queued", "running"):
            if as_json:
                print(json.dumps(now), file=sys.stdout, flush=True)  # noqa: T201
            progress.update(task, completed=now["fraction"], said=_said(now))
            now = _next(client, now, sleep)
    return now


def _next(client: Api, now: Progressed, sleep: Callable[[float], None]) -> Progressed:
    """How far it is when it has got on."""
    while True:
        sleep(_LOOK_SECONDS)
        path = f"/api/v1/backfills/{now['request_id']}"
        # An API beside the one that accepted it knows nothing of it until a poller has begun.
        found: Progressed | None = client.find(path) if now["status"] == "queued" else client.get(path)
        if found is not None and found != now:
            return found


def in_words(progressed: Progressed) -> str:
    """The outcome in a line."""
    of = f"{progressed['targets']} target{'s' if progressed['targets'] != 1 else ''}"
    if progressed["status"] in ("queued", "running"):
        return f"collecting from {of}: request {progressed['request_id']}"
    return f"{progressed['builds']:,} builds from {of}: {progressed['facts']:,} facts"


def complaints(progressed: Progressed) -> Iterator[str]:
    """What a person should know beside the outcome."""
    for item in progressed["items"]:
        if item["status"] == "failed":
            yield f"{item['target']}: {item['detail']}"
    if progressed["unreadable"]:
        yield f"{progressed['unreadable']} rows or runs could not be read and were left out."


def _said(now: Progressed) -> str:
    waiting = [item for item in now["items"] if item["status"] == "running" and item["waits_until"]]
    said = f"{now['builds']:,} builds, {now['ended']}/{now['targets']} targets"
    if waiting and len(waiting) == len(now["items"]) - now["ended"]:
        said += f", waits: {waiting[0]['detail']}"
    return said


def _stamp(moment: datetime) -> str:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).isoformat()
