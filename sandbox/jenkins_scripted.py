"""Jobs and builds of Jenkins that a test or a person makes by hand, one state at a time."""

import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from heapq import nlargest
from typing import Any

from sandbox.jenkins_hooks import Named
from sandbox.jenkins_shapes import CLASSES, Body, Build, Cell, Job, Stage, Step
from sandbox.scripted import ScriptError

_PLAIN = (
    "building",
    "result",
    "duration",
    "display_name",
    "description",
    "built_on",
    "queue_id",
    "branch",
    "sha",
    "message",
    "author",
    "report",
    "artifacts",
    "console",
    "extra",
)
_LISTS = ("causes", "interruptions", "parameters")


class Scripted:
    """Jobs under a script's control; a job that is deleted and made again counts from 1 again."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._builds: dict[str, dict[int, Build]] = {}
        self._next: dict[str, int] = {}

    def make_job(self, script: dict[str, Any]) -> Job:
        """Make a job, or change one; see sandbox/README.md for the fields."""
        name, kind = script.get("name"), script.get("kind", "freestyle")
        if not isinstance(name, str) or not name.strip("/"):
            raise ScriptError('a job needs a "name", such as acme/nightly')
        if kind not in CLASSES:
            raise ScriptError(f'"kind" must be one of {", ".join(CLASSES)}')
        job = Job(name, kind, tuple(script.get("parameters", ())), bool(script.get("buildable", True)))
        self._jobs[name] = job
        self._builds.setdefault(name, {})
        self._next.setdefault(name, 1)
        return job

    def delete_job(self, name: str) -> None:
        """Raises KeyError."""
        del self._jobs[name], self._builds[name], self._next[name]

    def make_build(self, script: dict[str, Any]) -> Build:
        """Make a build, of a job that is made with it if need be."""
        name = script.get("job")
        if not isinstance(name, str):
            raise ScriptError('a build needs a "job", such as acme/nightly')
        if name not in self._jobs:
            self.make_job({"name": name, "kind": script.get("kind", "freestyle")})
        number = script.get("number", self._next[name])
        if number in self._builds[name]:
            raise ScriptError(f"{name} has a build {number} already: PATCH it")
        timestamp = _milliseconds(script.get("timestamp"), time.time() * 1000)
        stages = () if self._jobs[name].kind in ("pipeline", "branch") else None
        blank = Build(number=number, timestamp=timestamp, building=True, result=None, stages=stages)
        build = _changed(blank, script)
        self._builds[name][number] = build
        self._next[name] = max(self._next[name], number + 1)
        return build

    def advance(self, name: str, number: int, script: dict[str, Any]) -> Build:
        """Move a build on; raises KeyError."""
        build = _changed(self._builds[name][number], script)
        if build.building is False and "duration" not in script and build.duration == 0:
            build = replace(build, duration=max(0, int(time.time() * 1000) - build.timestamp))
        self._builds[name][number] = build
        return build

    def delete_build(self, name: str, number: int) -> None:
        """Raises KeyError."""
        del self._builds[name][number]

    def jobs(self) -> Iterable[Job]:
        return list(self._jobs.values())

    def builds(self, full_name: str) -> list[Build]:
        """Newest first."""
        return [build for _, build in sorted(self._builds.get(full_name, {}).items(), reverse=True)]

    def newest(self, most: int) -> list[Named]:
        found = (
            Named(name, build.number, build.timestamp)
            for name, builds in self._builds.items()
            for build in builds.values()
        )
        return nlargest(most, found, key=lambda one: (one.timestamp, one.number))

    def find(self, which: Named) -> tuple[Job, Build] | None:
        build = self._builds.get(which.job, {}).get(which.number)
        return (self._jobs[which.job], build) if build is not None else None

    def start(self, job: Job, parameters: list[Body], actor: str, *, at_least: int) -> Build:
        """What a POST to `build` leads to: a build that goes on until it is moved, numbered after all others."""
        self._jobs.setdefault(job.full_name, job)
        self._builds.setdefault(job.full_name, {})
        self._next[job.full_name] = max(at_least, self._next.get(job.full_name, 1))
        cause = {
            "_class": "hudson.model.Cause$UserIdCause",
            "shortDescription": f"Started by user {actor}",
            "userId": actor,
            "userName": actor,
        }
        return self.make_build({"job": job.full_name, "causes": [cause], "parameters": parameters})

    def take(self, full_name: str, number: int) -> None:
        self._next[full_name] = max(number + 1, self._next.get(full_name, 1))

    def stop(self, full_name: str, number: int) -> bool:
        if number not in self._builds.get(full_name, {}):
            return False
        self.advance(full_name, number, {"building": False, "result": "ABORTED"})
        return True


def _changed(build: Build, script: dict[str, Any]) -> Build:
    change: dict[str, Any] = {key: script[key] for key in _PLAIN if key in script}
    change |= {key: tuple(script[key]) for key in _LISTS if key in script}
    try:
        if "stages" in script:
            stages = script["stages"]
            change["stages"] = None if stages is None else tuple(map(_stage, stages))
        if "cells" in script:
            change["cells"] = tuple(Cell(**{"number": build.number} | cell) for cell in script["cells"])
    except (TypeError, KeyError) as error:
        raise ScriptError(f"a stage or cell has other fields: {error}") from None
    return replace(build, **change)


def _stage(script: dict[str, Any]) -> Stage:
    steps = tuple(Step(**step) for step in script.get("steps", ()))
    return Stage(**{key: value for key, value in script.items() if key != "steps"}, steps=steps)


def _milliseconds(value: Any, default: float) -> int:
    if value is None:
        return int(default)
    if isinstance(value, int):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ScriptError(f"{value!r} is neither milliseconds nor an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ScriptError(f"{value!r} needs an offset, as in 2026-01-09T15:30:00Z")
    return int(moment.timestamp() * 1000)
