"""Pipelines and jobs as GitLab's API shows them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from services.poller.providers.gitlab.executions import Execution, executions_of

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def at(seconds: float) -> str:
    """So many seconds past noon, in the API's way."""
    return (NOON + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


COMMIT = {"id": "acb5820c", "message": "\nTake long cards\n\nAnd why.", "author_name": "Mona Lisa"}
PIPELINE: dict[str, Any] = {
    "id": 4711,
    "iid": 562,
    "project_id": 15,
    "name": "Merge request checks",
    "status": "failed",
    "source": "push",
    "ref": "main",
    "tag": False,
    "sha": "acb5820c",
    "web_url": "https://gitlab.acme.example/acme/shop/-/pipelines/4711",
    "user": {"username": "mona"},
    "yaml_errors": None,
    "created_at": at(0.125),
    "updated_at": at(100.5),
    "started_at": at(12.25),
    "finished_at": at(100.375),
    "duration": 88,
    "queued_duration": 12,
}


def job(
    number: int,
    name: str,
    status: str,
    *times: float | None,
    created: float = 0.2,
    waited: float = 2.0,
    **more: Any,
) -> dict[str, Any]:
    """Job `number`; `times` are its start and end."""
    started, finished = (*times, None, None)[:2]
    return {
        "id": number,
        "name": name,
        "stage": "test",
        "status": status,
        "allow_failure": False,
        "created_at": at(created),
        "started_at": None if started is None else at(started),
        "finished_at": None if finished is None else at(finished),
        "queued_duration": None if started is None else waited,
        "web_url": f"https://gitlab.acme.example/acme/shop/-/jobs/{number}",
        "commit": COMMIT,
        "runner": {"id": 3, "description": "blue-3.runners.acme.example"},
    } | more


def executions(*rows: dict[str, Any]) -> tuple[Execution, ...]:
    found, refused = executions_of(rows)
    assert refused == ()
    return found
