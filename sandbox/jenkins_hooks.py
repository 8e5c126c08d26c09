"""What Jenkins' notification plugin posts, in its format JSON, of builds that begin and end.

As the plugin has it: QUEUED is sent with STARTED when a build has begun, COMPLETED and FINALIZED when it is over;
`timestamp` is the phase's and not the build's; what there is none of is left out.
"""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol
from urllib.parse import unquote

from sandbox.jenkins_shapes import Body, Build, Job, path
from sandbox.webhooks import Delivery, delivery_id

WATCHED_BUILDS = 100
"""Of all jobs of a shelf, newest first; what changes in older ones is not told."""
_KEPT_BUILDS = 5000


class Named(NamedTuple):
    """Which build: by its time too, for a job that is deleted and made again counts from 1 again."""

    job: str
    number: int
    timestamp: int


class Shelf(Protocol):
    def newest(self, most: int) -> list[Named]:
        """The builds that began last, the newest first."""
        ...

    def find(self, which: Named) -> tuple[Job, Build] | None: ...


class JenkinsHooks:
    """A `Source`."""

    def __init__(self, shelves: Sequence[Shelf]) -> None:
        self._shelves = shelves
        self._over: dict[Named, bool] = {}
        """Of the builds that were told of, whether of their end as well."""

    def __call__(self, base: str) -> Iterable[Delivery]:
        for shelf in self._shelves:
            for which in reversed(shelf.newest(WATCHED_BUILDS)):
                found = None if self._over.get(which) else shelf.find(which)
                if found is not None:
                    yield from self._changes(which, *found, base)
        for which in list(self._over)[: max(0, len(self._over) - _KEPT_BUILDS)]:
            del self._over[which]

    def _changes(self, which: Named, job: Job, build: Build, base: str) -> Iterator[Delivery]:
        now = int(time.time() * 1000)
        phases: list[tuple[str, int]] = []
        if which not in self._over:
            phases += [("QUEUED", build.timestamp - 1200), ("STARTED", build.timestamp)]
        if not build.building:
            phases += [("COMPLETED", build.timestamp + build.duration), ("FINALIZED", now)]
        self._over[which] = not build.building
        for phase, moment in phases:
            yield _delivery(phase, moment, job, build, base)


def _delivery(phase: str, moment: int, job: Job, build: Build, base: str) -> Delivery:
    # The path has a slash in front, what Jenkins calls a URL has not.
    place = f"{path(job.full_name)}/"[1:]
    body = {
        "name": job.name,
        "display_name": unquote(job.name),
        "url": place,
        "build": _build(phase, moment, build, place, base),
    }
    raw = json.dumps(body, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json;charset=UTF-8", "User-Agent": "Java/17.0.14"}
    # The plugin names neither event nor delivery; the id is for redelivering.
    return Delivery(phase, raw, headers, delivery_id(phase, raw))


def _build(phase: str, moment: int, build: Build, place: str, base: str) -> Body:
    is_over = phase in ("COMPLETED", "FINALIZED")
    told: Body = {
        "full_url": f"{base}/{place}{build.number}/",
        "number": build.number,
        "queue_id": build.queue_id,
        "timestamp": moment,
        "duration": build.duration if is_over else 0,
        "phase": phase,
        "status": build.result if is_over else None,
        "url": f"{place}{build.number}/",
        "scm": _without_nothing(
            {
                "url": f"https://git.acme.example/{unquote(place.split('/')[1])}.git" if build.sha else None,
                "branch": build.branch,
                "commit": build.sha,
                "changes": [],
                "culprits": [],
            }
        ),
        "parameters": {one["name"]: one["value"] for one in build.parameters} or None,
        "log": "",
        "notes": "",
        "artifacts": {
            name: {"archive": f"{base}/{place}{build.number}/artifact/{name}"} for name in build.artifacts
        },
        "test_summary": _tests(build.report) if is_over and build.report else None,
    }
    return _without_nothing(told)


def _tests(report: dict[str, Any]) -> Body:
    failed, skipped = int(report.get("failCount", 0)), int(report.get("skipCount", 0))
    passed = int(report.get("passCount", 0))
    cases = (case for suite in report.get("suites", ()) for case in suite.get("cases", ()))
    names = [
        f"{case.get('className')}.{case.get('name')}"
        for case in cases
        if case.get("status") in ("FAILED", "REGRESSION")
    ]
    return {
        "total": failed + skipped + passed,
        "failed": failed,
        "passed": passed,
        "skipped": skipped,
        "failed_tests": names,
    }


def _without_nothing(body: Body) -> Body:
    return {name: value for name, value in body.items() if value is not None}
