"""`buildlight completeness`: asks for measurements, waits for them, and tells what they found."""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

COLUMNS = [
    "status",
    "target",
    "provider_has",
    "log_has",
    "missing",
    "open_but_ended",
    "measured_at",
    "last_worked",
]
_GAPS_SHOWN = 20
_PATIENCE_SECONDS = 15 * 60.0
"""As long as a request is good for."""
_LOOK_SECONDS = 1.0


class Api(Protocol):
    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any: ...

    def post(self, path: str, body: Any) -> Any: ...


def fetch(client: Api, *, since: str, target: str | None) -> dict[str, Any]:
    """The report as the API has it."""
    query = {"since": since} | ({"target": target} if target else {})
    report: dict[str, Any] = client.get("/api/v1/completeness", query)
    return report


def measure(client: Api, console: Console, *, since: str, target: str | None) -> bool:
    """Ask for a measurement of each target and wait, with progress on `console`; False when it took too long."""
    body = {"since": since} | ({"target": target} if target else {})
    asked = {one["request_id"] for one in client.post("/api/v1/completeness", body)["requests"]}
    until = time.monotonic() + _PATIENCE_SECONDS
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Comparing providers with the log", total=len(asked))
        over: set[str] = set()
        while True:
            report = fetch(client, since=since, target=target)
            # A measurement that was seen to be over stays so: the next one puts its own request in its place.
            over |= asked & {
                row[name] for row in report["targets"] for name in ("request_id", "postponed_request_id")
            }
            progress.update(task, completed=len(over))
            if over == asked:
                return True
            if time.monotonic() > until:
                return False
            time.sleep(_LOOK_SECONDS)


def rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One a target, as the table shows it."""
    return [
        {
            "status": row["status"],
            "target": f"{row['provider']} {row['target']}",
            "provider_has": row["at_provider"],
            "log_has": row["recorded"],
            "missing": row["missing"],
            "open_but_ended": row["open_but_ended"],
            "measured_at": _stamp(row["measured_at"]),
            "last_worked": _stamp(row["succeeded_at"]),
        }
        for row in report["targets"]
    ]


def remarks(report: Mapping[str, Any]) -> Iterator[str]:
    """What is missing and why, what fails and since when; a line each."""
    for row in report["targets"]:
        if row["failing_since"]:
            yield (
                f"{row['target']}: polls fail since {_stamp(row['failing_since'])}, last worked "
                f"{_stamp(row['succeeded_at'])}. {row['failing_detail']}"
            )
        if row["postponed_why"]:
            yield f"{row['target']}: not measured again yet. {row['postponed_why']}"
        for gap in row["gaps"][:_GAPS_SHOWN]:
            what = "missing" if gap["kind"] == "missing" else "open though ended"
            yield (
                f"{row['target']}: run {gap['run_id']} attempt {gap['attempt']} {what} "
                f"({gap['reason']}). {gap['detail']}"
            )
        more = row["missing"] + row["open_but_ended"] - min(len(row["gaps"]), _GAPS_SHOWN)
        if more > 0:
            yield f"{row['target']}: and {more} more; --json shows up to a hundred."
    if not report["targets"]:
        yield "Nothing is polled."


def _stamp(moment: str | None) -> str:
    return f"{moment[:16].replace('T', ' ')} UTC" if moment else "never"
