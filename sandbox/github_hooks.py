"""GitHub's webhooks `workflow_run` and `workflow_job`, made of what changes in its listings."""

import heapq
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sandbox import github_shapes as shapes
from sandbox.shelves import Living, Row, Shelf
from sandbox.webhooks import Delivery, delivery_id

WATCHED_RUNS = 40
"""Of each repository, newest first; what changes in older ones is not told."""
_KEPT_RUNS = 5000
_ACTIONS = {"in_progress": "in_progress", "completed": "completed"}


@dataclass
class _Known:
    """A run as it was last told of."""

    run: tuple[int, str | None, str | None] | None = None
    jobs: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def is_open(self) -> bool:
        return (
            self.run is None
            or self.run[1] != "completed"
            or any(s != "completed" for s, _ in self.jobs.values())
        )


class GitHubHooks:
    """A `Source`."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self._shelves = shelves
        self._known: dict[int, _Known] = {}

    def __call__(self, base: str) -> Iterable[Delivery]:
        for shelf in self._shelves:
            for name, _ in list(shelf.repositories()):
                # Oldest first, as things happened.
                for row in reversed(list(_newest(shelf, name))):
                    yield from self._changes(shelf, name, row, base)
        for run_id in list(self._known)[: max(0, len(self._known) - _KEPT_RUNS)]:
            del self._known[run_id]

    def _changes(self, shelf: Shelf, name: str, row: Row, base: str) -> Iterator[Delivery]:
        known = self._known.setdefault(row.id, _Known())
        now = (row.attempt, row.status, row.conclusion)
        if now == known.run and not known.is_open:
            return
        run = row.body(base)
        if now != known.run:
            known.run = now
            action = _ACTIONS.get(str(row.status), "requested")
            yield _delivery(
                "workflow_run", action, {"workflow_run": run, "workflow": _workflow(run)}, shelf, name, base
            )
        for job in shelf.jobs(name, row.id, row.attempt, base) or ():
            state = (job["status"], job["conclusion"])
            if known.jobs.get(job["id"]) != state:
                known.jobs[job["id"]] = state
                action = (
                    job["status"] if job["status"] in ("in_progress", "completed", "waiting") else "queued"
                )
                yield _delivery("workflow_job", action, {"workflow_job": job}, shelf, name, base)


def _newest(shelf: Shelf, name: str) -> Iterable[Row]:
    rows = shelf.runs(name)
    if isinstance(shelf, Living):  # gives them newest first
        return islice(rows, WATCHED_RUNS)
    return heapq.nlargest(WATCHED_RUNS, rows, key=lambda row: row.id)


def _delivery(event: str, action: str, part: dict[str, Any], shelf: Shelf, name: str, base: str) -> Delivery:
    repository = _repository(shelf.repository(name, base) or {})
    subject = part[event]
    sender = subject.get("triggering_actor") or repository.get("owner")
    body = {"action": action, **part, "repository": repository, "sender": sender}
    raw = json.dumps(body, separators=(",", ":")).encode()
    number = delivery_id(event, raw)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/sandbox",
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": number,
        "X-GitHub-Hook-ID": "1",
        "X-GitHub-Hook-Installation-Target-ID": str(repository.get("id")),
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }
    return Delivery(event, raw, headers, number)


def _repository(asked: dict[str, Any]) -> dict[str, Any]:
    """A repository as webhooks have it: a little less than when it is asked for, and a little more."""
    left_out = ("network_count", "subscribers_count", "organization")
    return {k: v for k, v in asked.items() if k not in left_out} | {"custom_properties": {}}


def _workflow(run: dict[str, Any]) -> dict[str, Any]:
    page = f"{run['repository']['html_url']}/blob/main/{run['path']}"
    return {
        "id": run["workflow_id"],
        "node_id": shapes.node_id("W", run["workflow_id"]),
        "name": run["name"],
        "path": run["path"],
        "state": "active",
        "created_at": "2019-03-04T09:20:11Z",
        "updated_at": "2026-01-09T15:30:00Z",
        "url": run["workflow_url"],
        "html_url": page,
        "badge_url": f"{run['repository']['html_url']}/workflows/{run['name']}/badge.svg",
    }
