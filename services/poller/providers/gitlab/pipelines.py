"""One pipeline as a whole: its row, its jobs with the retried ones, its trigger jobs, and what started it."""

import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.poller.provider import Gone, Target, Unchanged
from services.poller.providers.gitlab.api import PAGE_SIZE, Api, a_list, an_answer
from services.poller.providers.gitlab.executions import Execution, executions_of, latest_attempt
from services.poller.providers.gitlab.fields import number, part, raw, rows, text
from services.poller.providers.gitlab.mapping import Upstream

_MOST_PAGES = 50
_KEPT = 4
_KEPT_SECONDS = 5.0
_KEPT_UPSTREAMS = 10_000
_MOST_CANDIDATES = 20
"""Pipelines of the same commit that are asked whether they started a child pipeline."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A pipeline with its jobs, all seen within a moment."""

    row: Mapping[str, Any]
    executions: tuple[Execution, ...]
    refused: tuple[str, ...]
    upstream: Upstream | None
    etag: str | None
    seen: float
    """By the monotonic clock."""

    @property
    def latest(self) -> int:
        return latest_attempt(self.executions)


class Pipelines:
    """Asks for whole pipelines.

    Keeps the last few: who has asked for a build asks for its jobs next, and for its earlier attempts, and all
    of that is one answer of GitLab's. And keeps which pipeline started which, as trigger jobs show it.
    """

    def __init__(self, api: Api) -> None:
        self._api = api
        self._kept: OrderedDict[tuple[str, str], Whole] = OrderedDict()
        self._upstreams: OrderedDict[tuple[str, str], Upstream] = OrderedDict()

    async def look(self, target: Target, run_id: str, *, etag: str | None = None) -> Whole | Unchanged | Gone:
        """The pipeline as it is now."""
        base = self._api.project(target.name, f"/pipelines/{run_id}")
        answer = await self._api.get(base, f"pipeline {run_id} of {target.name}", etag=etag)
        if answer.status == 304:
            return Unchanged()
        if answer.status != 200:
            self._kept.pop((target.name, run_id), None)
            return Gone(answer.status)
        row = an_answer(answer)
        jobs = await self._list(target, f"/pipelines/{run_id}/jobs", include_retried="true")
        bridges = await self._list(target, f"/pipelines/{run_id}/bridges")
        if isinstance(jobs, Gone):
            return jobs
        executions, refused = executions_of(jobs, bridges if isinstance(bridges, list) else ())
        self._learn(row, executions)
        whole = Whole(
            row, executions, refused, await self._upstream_of(target, row), answer.etag, time.monotonic()
        )
        self._kept[target.name, run_id] = whole
        self._kept.move_to_end((target.name, run_id))
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return whole

    def kept(self, target: Target, run_id: str) -> Whole | None:
        """The pipeline as it was last looked at, if that was but a moment ago."""
        whole = self._kept.get((target.name, run_id))
        return whole if whole is not None and time.monotonic() - whole.seen < _KEPT_SECONDS else None

    def forget(self, target: Target, run_id: str) -> None:
        self._kept.pop((target.name, run_id), None)

    async def _list(self, target: Target, path: str, **query: str) -> list[Any] | Gone:
        found: list[Any] = []
        address = self._api.project(target.name, path, **query, per_page=PAGE_SIZE)
        for _ in range(_MOST_PAGES):
            answer = await self._api.get(address, f"{path.rsplit('/', 1)[1]} of {target.name}")
            if answer.status != 200:
                return Gone(answer.status)
            found += a_list(answer)
            if "next" not in answer.links:
                break
            address = answer.links["next"]
        return found

    # -- what started it

    def _learn(self, row: Mapping[str, Any], executions: tuple[Execution, ...]) -> None:
        """Note which pipelines the trigger jobs of this one have started."""
        project, run = number(row.get("project_id")), number(row.get("id"))
        for one in executions:
            child = part(one.row, "downstream_pipeline")
            child_id, child_project = number(child.get("id")), number(child.get("project_id"))
            if project and run and child_id:
                key = (str(child_project or project), str(child_id))
                self._upstreams[key] = Upstream(str(project), str(run), one.number, one.name)
        while len(self._upstreams) > _KEPT_UPSTREAMS:
            self._upstreams.popitem(last=False)

    async def _upstream_of(self, target: Target, row: Mapping[str, Any]) -> Upstream | None:
        """What started a pipeline. A child does not tell; the trigger jobs of its commit's pipelines do."""
        project, run = number(row.get("project_id")), number(row.get("id"))
        source = raw(row.get("source"))
        if project is None or run is None or source not in ("parent_pipeline", "pipeline"):
            return None
        key = (str(project), str(run))
        if key not in self._upstreams and source == "parent_pipeline":
            await self._search(target, row, run)
        return self._upstreams.get(key)

    async def _search(self, target: Target, row: Mapping[str, Any], run: int) -> None:
        sha = text(row.get("sha"))
        key = (str(row.get("project_id")), str(run))
        if sha is None:
            return
        candidates: list[Mapping[str, Any]] = []
        for more in ({}, {"source": "parent_pipeline"}):
            found = await self._list(target, "/pipelines", sha=sha, **more)
            candidates += rows(found) if isinstance(found, list) else []
        ids = {number(one.get("id")): one for one in candidates}
        before = sorted((known for known in ids if known is not None and known < run), reverse=True)
        for known in before[:_MOST_CANDIDATES]:
            bridges = await self._list(target, f"/pipelines/{known}/bridges")
            self._learn(ids[known], executions_of((), bridges if isinstance(bridges, list) else ())[0])
            if key in self._upstreams:
                return
