"""GitLab CI by its REST API, as a `services.poller.provider.Provider`.

GitLab lists pipelines by the time of their last change, which shows a retry of an old one, too. So here a span is
one of changes: each pipeline is in the span of its latest one, and none that changed is missed. Newest first: what
changes while pages are read moves to the front, so that the others move towards the pages still to come. From a
span that has an end it leaves, and may then hide its neighbour; that one is listed again with the next poll, or the
next sweep. The listing leaves out child pipelines unless it is asked for nothing else, so each span is
listed twice: the last page of the first listing leads on to the second.

A row of a listing has no times, no commit, and above all no attempt: it is a sketch (`Page.sketched`), and each
pipeline that changed is asked for as a whole. An answer of 304 saves no budget, but the reading.
"""

import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1
from services.poller.budget import Budget
from services.poller.metrics import REFUSED
from services.poller.provider import (
    Counted,
    Document,
    Done,
    Found,
    Gone,
    Jobs,
    Page,
    Pieces,
    PollFailedError,
    Refused,
    Results,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.providers.gitlab import changes, reports
from services.poller.providers.gitlab.api import PAGE_SIZE, Api, a_list, an_answer
from services.poller.providers.gitlab.fields import BadRowError, an_id, number, part, rows, text
from services.poller.providers.gitlab.mapping import (
    PROVIDER,
    build_of,
    deployment_of,
    job_of,
    sketch_of,
)
from services.poller.providers.gitlab.pipelines import Pipelines, Whole
from services.poller.turns import TurnsOf

CHILDREN = "parent_pipeline"
_MARGIN = timedelta(seconds=1)
_KEPT_ATTEMPTS = 10_000
_WILD = re.compile(r"[*?\[]")

RowT = TypeVar("RowT")


class GitLab:
    """One GitLab, seen with one token."""

    name = PROVIDER

    def __init__(
        self,
        *,
        api_url: str,
        instance: str,
        token: SecretStr | None,
        reserve_percent: float,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`api_url` ends in `/api/v4`."""
        self.instance = instance
        self.account = f"{PROVIDER}/{instance}"
        self._api = Api(
            api_url,
            token=token,
            reserve_percent=reserve_percent,
            timeout_seconds=timeout_seconds,
            transport=transport,
        )
        self._pipelines = Pipelines(self._api)
        self._attempts: OrderedDict[str, int] = OrderedDict()
        """Of the jobs that deployed, by id: they never change."""

    @property
    def budget(self) -> Budget:
        return self._api.calls.budget

    def take_turns(self, turns_of: TurnsOf) -> None:
        self._api.calls.turns = turns_of(self.account)

    async def close(self) -> None:
        await self._api.calls.close()

    # -- builds

    def listing(self, target: Target, span: Span) -> str:
        # Whether GitLab takes the moment itself as after it is not said.
        query: dict[str, str | int] = {"updated_after": _iso(span.since - _MARGIN)}
        if span.until is not None:
            query["updated_before"] = _iso(span.until)
        more: dict[str, str | int] = {"order_by": "updated_at", "sort": "desc", "per_page": PAGE_SIZE}
        return self._api.project(target.name, "/pipelines", **query, **more)

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page | Unchanged:
        answer = await self._api.get(address, target.name, etag=etag)
        if answer.status == 304:
            return Unchanged()
        if answer.status != 200:
            raise self._api.failure(answer, target.name)
        builds, refused = self._read(
            a_list(answer), lambda row: sketch_of(row, instance=self.instance, repository=target.name)
        )
        return Page(
            builds=tuple(builds),
            refused=tuple(refused),
            etag=answer.etag,
            following=answer.links.get("next") or children_of(address),
            sketched=True,
        )

    async def build(
        self, target: Target, run_id: str, attempt: int | None = None, *, etag: str | None = None
    ) -> Found | Unchanged | Gone | Unreadable:
        whole: Whole | Unchanged | Gone | None = None
        if attempt is not None:
            whole = self._pipelines.kept(target, run_id)
        if whole is None or (isinstance(whole, Whole) and attempt is not None and attempt >= whole.latest):
            whole = await self._pipelines.look(target, run_id, etag=etag)
        if isinstance(whole, Unchanged | Gone):
            return whole
        if attempt is not None and attempt > whole.latest:
            # GitLab has deleted the retried jobs, and with them the attempts.
            return Gone(404)
        try:
            build = build_of(
                whole.row,
                whole.executions,
                instance=self.instance,
                repository=target.name,
                attempt=attempt,
                upstream=whole.upstream,
            )
        except BadRowError as error:
            REFUSED.labels(PROVIDER).inc()
            return Unreadable(str(error))
        return Found(build, whole.etag)

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs | Gone:
        """The executions of that attempt's number, and with those of the first the trigger jobs."""
        run_id, attempt = build.build.run_id, build.build.attempt
        whole: Whole | Unchanged | Gone | None = self._pipelines.kept(target, run_id)
        if whole is None:
            whole = await self._pipelines.look(target, run_id)
        if isinstance(whole, Unchanged | Gone):
            return Gone(404) if isinstance(whole, Unchanged) else whole
        if attempt >= whole.latest:
            # The latest attempt's jobs are the last that is asked for: the next to ask wants to know anew.
            self._pipelines.forget(target, run_id)
        own = [one.row for one in whole.executions if one.number == attempt]
        jobs, refused = self._read(
            own, lambda row: job_of(row, build=build.build, otherwise=build.updated_at)
        )
        return Jobs(tuple(jobs), (*whole.refused, *refused))

    # -- targets

    async def discover(self, pattern: str) -> AsyncIterator[Target]:
        """The projects that a pattern fits: `acme/*` those of the group, `acme/**` also those of its subgroups.

        Left out are archived ones, and those without CI.
        """
        if not _WILD.search(pattern):
            yield Target(PROVIDER, self.instance, pattern)
            return
        group = "/".join(_until_wild(pattern.split("/")))
        if not group:
            raise PollFailedError("not_found", f'"{pattern}" names no group: begin with one, as in acme/*.')
        deep = "**" in pattern or pattern.count("/") > group.count("/") + 1
        fits = re.compile(_expression(pattern), re.IGNORECASE)
        async for row in self._projects_of(group, deep=deep):
            path = text(row.get("path_with_namespace"))
            if path and fits.fullmatch(path) and not _is_without_ci(row):
                yield Target(PROVIDER, self.instance, path)

    async def _projects_of(self, group: str, *, deep: bool) -> AsyncIterator[Any]:
        query: dict[str, str | int] = {"archived": "false", "order_by": "id", "per_page": PAGE_SIZE}
        place = group.replace("/", "%2F")
        more = {"include_subgroups": str(deep).lower(), "with_shared": "false"}
        first = self._api.address(f"/groups/{place}/projects", **query, **more)
        if (await self._api.get(first, f"group {group}")).status != 200:
            # A person's own projects are in no group.
            first = self._api.address(f"/users/{place}/projects", **query)
        async for page in self._api.pages(first, f"group or user {group}"):
            for row in rows(page):
                yield row

    # -- what builds leave behind

    def reports(self, target: Target, build: BuildRef) -> AsyncIterator[Document | Results]:
        return reports.found_in(self._api, self._pipelines, target, build)

    def log(self, target: Target, build: BuildRef, job_id: str) -> Pieces:
        del build  # a job's id is enough
        return reports.job_log(self._api, target, job_id)

    async def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        project = await self._api.get(self._api.project(target.name), target.name)
        if project.status != 200:
            raise self._api.failure(project, target.name)
        repository_id = an_id(an_answer(project), "id", "project.id")
        address = self._api.project(
            target.name,
            "/deployments",
            updated_after=_iso(since - _MARGIN),
            order_by="updated_at",
            sort="asc",
            per_page=PAGE_SIZE,
        )
        async for page in self._api.pages(address, f"deployments of {target.name}"):
            for row in page:
                try:
                    yield deployment_of(
                        row,
                        instance=self.instance,
                        repository_id=repository_id,
                        repository=target.name,
                        build=await self._build_behind(target, repository_id, row),
                    )
                except BadRowError:
                    REFUSED.labels(PROVIDER).inc()

    async def _build_behind(self, target: Target, repository_id: str, row: Any) -> BuildRef | None:
        """The attempt whose job deployed; a job does not tell its attempt, the pipeline's jobs do."""
        job = part(row, "deployable") if isinstance(row, dict) else {}
        job_id, run_id = number(job.get("id")), number(part(job, "pipeline").get("id"))
        if job_id is None or run_id is None or run_id < 1:
            return None
        if str(job_id) not in self._attempts:
            whole = await self._pipelines.look(target, str(run_id))
            if isinstance(whole, Whole):
                self._attempts |= {one.job_id: one.number for one in whole.executions}
            while len(self._attempts) > _KEPT_ATTEMPTS:
                self._attempts.popitem(last=False)
        attempt = self._attempts.get(str(job_id))
        if attempt is None:
            return None
        return BuildRef(
            provider=PROVIDER,
            instance=self.instance,
            repository_id=repository_id,
            run_id=str(run_id),
            attempt=attempt,
        )

    async def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        """Every pipeline created in `span`, by its first attempt: a listing tells of no other.

        So a census misses no pipeline, and notices no missing retry. GitLab lists by changes: what was created
        in the span was changed since it began, so that is asked for, and the rest left out.
        """
        address: str | None = self.listing(target, Span(span.since))
        while address is not None:
            page = await self.builds(target, address)
            if isinstance(page, Unchanged):
                return
            for build in page.builds:
                created = build.created_at or build.updated_at
                if created >= span.since and (span.until is None or created < span.until):
                    ended = build.state.is_terminal
                    yield Counted(build.build.run_id, 1, created, ended, build.build.repository_id)
            address = page.following

    # -- changes

    async def rerun(self, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused:
        return await changes.rerun(self._api, self._pipelines, target, build, failed_only=failed_only)

    async def cancel(self, target: Target, build: BuildRef) -> Done | Refused:
        return await changes.cancel(self._api, self._pipelines, target, build)

    async def publish_check(self, target: Target, check: PublishCheckV1) -> Done | Refused:
        return await changes.publish_status(self._api, target, check)

    @staticmethod
    def _read(found: list[Any], read: Callable[[Any], RowT]) -> tuple[list[RowT], list[str]]:
        """The rows that can be read, and why the others cannot."""
        good, refused = [], []
        for row in found:
            try:
                good.append(read(row))
            except BadRowError as error:
                refused.append(str(error))
        REFUSED.labels(PROVIDER).inc(len(refused))
        return good, refused


def children_of(address: str) -> str | None:
    """The listing of child pipelines that follows the one of all others; None where this is it."""
    parts = urlsplit(address)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name not in ("page", "id")]
    if ("source", CHILDREN) in query:
        return None
    return urlunsplit(parts._replace(query=urlencode([*query, ("source", CHILDREN)])))


def _until_wild(segments: list[str]) -> list[str]:
    """The leading segments without a wildcard; the last segment is a project's."""
    wild = next((place for place, one in enumerate(segments) if _WILD.search(one)), len(segments))
    return segments[: min(wild, len(segments) - 1)]


def _expression(pattern: str) -> str:
    """A pattern as a regular expression: `*` stays within a segment, `**` does not."""
    pieces = re.split(r"(\*\*|\*|\?)", pattern)
    words = {"**": ".+", "*": "[^/]+", "?": "[^/]"}
    return "".join(words.get(piece, re.escape(piece)) for piece in pieces)


def _is_without_ci(row: Any) -> bool:
    return (
        row.get("archived") is True
        or row.get("jobs_enabled") is False
        or row.get("builds_access_level") == "disabled"
    )


def _iso(value: datetime) -> str:
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
