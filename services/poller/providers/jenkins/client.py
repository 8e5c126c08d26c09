"""Jenkins by its JSON API, as a `services.poller.provider.Provider`.

Jenkins has no ETags, no filters by time and no rate limits. An idle poll asks, for each stretch of time it
lists, for the job's last build alone; a page is read again only when there is a newer one, or when a build on
it was still going on.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any

import httpx
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1, BuildRef, JobObservedV1
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1
from buildlight_contracts.states import State
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
    PollFailedError,
    Refused,
    Results,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.providers.jenkins import actions
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.discovery import jobs_behind
from services.poller.providers.jenkins.logs import log_of
from services.poller.providers.jenkins.mapping import (
    BUILD_FIELDS,
    PROVIDER,
    WHOLE_FIELDS,
    Place,
    build_of,
    jobs_of,
    origin_of,
    place_of,
    stage_of,
)
from services.poller.providers.jenkins.names import Pattern, Run, run_id_of, run_of
from services.poller.providers.jenkins.origins import Origins
from services.poller.providers.jenkins.recent import Recent
from services.poller.providers.jenkins.reports import artifacts_in, reports_of
from services.poller.providers.jenkins.values import BadRowError, moment, number, part, rows, text
from services.poller.providers.jenkins.windows import Window
from services.poller.turns import TurnsOf

PAGE_SIZE = 100
_CENSUS_PAGE = 1000
_MOST_FAILED_STAGES = 10
_PLACE_FIELDS = "fullName,property[_class]"


class Jenkins:
    """One Jenkins, seen as one user."""

    name = PROVIDER

    def __init__(
        self,
        *,
        url: str,
        instance: str,
        username: str | None,
        token: SecretStr | None,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`url` as in JENKINS_URL, with the path Jenkins lives under; `token` is an API token of the user."""
        self.instance = instance
        self.account = f"{PROVIDER}/{instance}"
        self._api = Api(
            url=url, username=username, token=token, timeout_seconds=timeout_seconds, transport=transport
        )
        self._places: Recent[str, Place] = Recent(10_000)
        self._origins = Origins(self._api, instance)

    @property
    def budget(self) -> Budget:
        return self._api.calls.budget

    def take_turns(self, turns_of: TurnsOf) -> None:
        self._api.calls.turns = turns_of(self.account)

    async def close(self) -> None:
        await self._api.calls.close()

    # -- builds

    def listing(self, target: Target, span: Span) -> str:
        """The job's address with the span: what is asked of Jenkins knows no spans."""
        return Window(span).address(self._api.job(target.name))

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page | Unchanged:
        """One page of builds. The `etag` is the job's last build; it stands for a page on which all have ended."""
        window, job, what = Window.read(address), self._api.job(target.name), f"the job {target.name}"
        if etag is not None:
            latest = await self._api.read(job, "lastBuild[number,timestamp]", what)
            if _name_of(part(latest, "lastBuild")) == etag:
                return Unchanged()
        end = window.start + PAGE_SIZE
        tree = (
            f"{_PLACE_FIELDS},lastBuild[number,timestamp],allBuilds[{BUILD_FIELDS}]{{{window.start},{end}}}"
        )
        shown = await self._api.read(job, tree, what)
        all_rows = shown.get("allBuilds")
        if not isinstance(all_rows, list):
            raise _no_job(target, shown)
        self._expect_name(target, shown)
        place = place_of(shown)
        self._places.put(target.name, place)
        times = [moment(row.get("timestamp")) if isinstance(row, dict) else None for row in all_rows]
        wanted = [
            row for row, when in zip(all_rows, times, strict=True) if when is None or window.holds(when)
        ]
        parents = await self._origins.of(target.name, wanted, all_rows)
        builds, refused = [], []
        for row in wanted:
            try:
                builds.append(self._build(target, row, place, parents))
            except BadRowError as error:
                refused.append(str(error))
        REFUSED.labels(PROVIDER).inc(len(refused))
        # The first page names its own newest build: another may have begun while Jenkins was answering.
        newest = all_rows[0] if all_rows and window.start == 0 else shown.get("lastBuild")
        going = frozenset(build.build.run_id for build in builds if build.state is State.RUNNING)
        stands = not refused and all(build.state.is_terminal for build in builds)
        is_last = len(all_rows) < PAGE_SIZE or any(
            when is not None and when < window.span.since for when in times
        )
        return Page(
            builds=tuple(builds),
            refused=tuple(refused),
            etag=_name_of(newest) if stands else None,
            going=going,
            following=None if is_last else Window(window.span, end).address(job),
        )

    @staticmethod
    def _expect_name(target: Target, job: Mapping[str, Any]) -> None:
        """Jenkins finds jobs whatever the case of their names; in facts a job must have one name."""
        name = text(job.get("fullName"))
        if name is not None and name != target.name:
            raise PollFailedError(
                "not_found", f"Jenkins calls {target.name} {name}. Write it so in JENKINS_JOBS.", status=200
            )

    async def build(
        self, target: Target, run_id: str, attempt: int | None = None, *, etag: str | None = None
    ) -> Found | Unchanged | Gone | Unreadable:
        """One build; `run_id` may be a bare number, as in a notification, for whichever build has it now."""
        del etag
        run = run_of(run_id)
        if run is None or attempt not in (None, 1):
            return Gone(404)
        place = await self._place(target)
        if place is None:
            return Gone(404)
        found = await self._api.fetch(self._address(target, run), BUILD_FIELDS, f"the job {target.name}")
        if found is None or not _is_meant(found, run):
            return Gone(404)
        parents = await self._origins.of(target.name, [found], [found])
        try:
            return Found(self._build(target, found, place, parents))
        except BadRowError as error:
            REFUSED.labels(PROVIDER).inc()
            return Unreadable(str(error))

    def _build(
        self,
        target: Target,
        row: Any,
        place: Place,
        parents: Mapping[tuple[str, int], BuildRef],
    ) -> BuildObservedV1:
        origin = origin_of(row, target.name)
        return build_of(
            row,
            instance=self.instance,
            job=target.name,
            place=place,
            parent=parents.get(origin) if origin else None,
        )

    async def _place(self, target: Target) -> Place | None:
        """What the job is; asked once in the life of the process. None when there is no such job."""
        known = self._places.get(target.name)
        if known is not None:
            return known
        found = await self._api.fetch(self._api.job(target.name), _PLACE_FIELDS, f"the job {target.name}")
        if found is None:
            return None
        self._places.put(target.name, place_of(found))
        return self._places.get(target.name)

    # -- jobs

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs | Gone:
        """The stages of a pipeline; else the combinations of a matrix, or one job that stands for the build."""
        run = run_of(build.build.run_id)
        place = await self._place(target)
        if run is None or place is None:
            return Gone(404)
        stages = await self._stages(target, run) if place.is_pipeline else None
        if stages is None or (not stages and build.state.is_terminal):
            return await self._whole(target, run, build)
        jobs, refused = [], []
        failed = 0
        for stage in stages:
            try:
                job = stage_of(stage, build=build)
                if job.state.is_bad and failed < _MOST_FAILED_STAGES:
                    failed += 1
                    job = stage_of(stage, build=build, steps=await self._steps(target, run, job))
                jobs.append(job)
            except BadRowError as error:
                refused.append(str(error))
        REFUSED.labels(PROVIDER).inc(len(refused))
        return Jobs(tuple(jobs), tuple(refused))

    async def _stages(self, target: Target, run: Run) -> list[Any] | None:
        """The stages; None where Jenkins has no Pipeline REST API plugin, which tells them."""
        address = f"{self._address(target, run)}/wfapi/describe"
        found = await self._api.fetch_json(address, f"the stages of {target.name}")
        stages = found.get("stages") if found else None
        return stages if isinstance(stages, list) else None

    async def _steps(self, target: Target, run: Run, stage: JobObservedV1) -> list[Any]:
        """The steps of a stage, which take a call: asked for where one of them failed."""
        if not stage.job_id.isdigit():
            return []
        address = f"{self._address(target, run)}/execution/node/{stage.job_id}/wfapi/describe"
        found = await self._api.fetch_json(address, f"the steps of {target.name}")
        return list(rows(found, "stageFlowNodes")) if found else []

    async def _whole(self, target: Target, run: Run, build: BuildObservedV1) -> Jobs | Gone:
        found = await self._api.fetch(self._address(target, run), WHOLE_FIELDS, f"the job {target.name}")
        if found is None or not _is_meant(found, run):
            return Gone(404)
        try:
            return Jobs(tuple(jobs_of(found, build=build)))
        except BadRowError as error:
            REFUSED.labels(PROVIDER).inc()
            return Jobs((), (str(error),))

    # -- what else there is

    async def discover(self, pattern: str) -> AsyncIterator[Target]:
        async for name in jobs_behind(self._api, Pattern.read(pattern)):
            yield Target(PROVIDER, self.instance, name)

    async def reports(self, target: Target, build: BuildRef) -> AsyncIterator[Document | Results]:
        found = await self._known(target, build, "timestamp,artifacts[relativePath]")
        if found is None:
            return
        run, body = found
        what = f"{target.name} #{run.number}"
        async for report in reports_of(self._api, self._address(target, run), artifacts_in(body), what):
            yield report

    def log(
        self, target: Target, build: BuildRef, job_id: str
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        run = run_of(build.run_id)
        return log_of(self._api, target.name, run.number if run else 0, job_id)

    async def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        """None: Jenkins does not know deployments."""
        del target, since
        none: tuple[DeploymentObservedV1, ...] = ()
        for deployment in none:
            yield deployment

    async def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        window, start = Window(span), 0
        while True:
            tree = f"allBuilds[number,timestamp,building]{{{start},{start + _CENSUS_PAGE}}}"
            shown = await self._api.read(self._api.job(target.name), tree, f"the job {target.name}")
            page = rows(shown, "allBuilds")
            older = False
            for row in page:
                count, stamp = number(row.get("number")), number(row.get("timestamp"))
                created = moment(stamp)
                if count is None or stamp is None or created is None:
                    continue
                older = older or created < span.since
                if window.holds(created):
                    ended = row.get("building") is False
                    yield Counted(run_id_of(count, stamp), 1, created, ended, target.name)
            if older or len(page) < _CENSUS_PAGE:
                return
            start += _CENSUS_PAGE

    # -- what it is asked to do

    async def rerun(self, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused:
        if failed_only:
            return Refused(
                "Jenkins cannot run only what failed: its API starts whole builds. Ask for all of it, or use "
                '"Restart from Stage" in Jenkins.'
            )
        found = await self._known(target, build, actions.RUN_FIELDS)
        if found is None:
            return _no_longer(target, build)
        return await actions.build_again(self._api, target.name, found[0].number, found[1])

    async def cancel(self, target: Target, build: BuildRef) -> Done | Refused:
        found = await self._known(target, build, actions.RUN_FIELDS)
        if found is None:
            return _no_longer(target, build)
        return await actions.stop(self._api, target.name, found[0].number, found[1])

    async def publish_check(self, target: Target, check: PublishCheckV1) -> Done | Refused:
        del target, check
        return Refused(
            "Jenkins keeps no verdicts on commits. Publish the check at the host of the repository, on GitHub or "
            "GitLab, for the same commit."
        )

    async def _known(
        self, target: Target, build: BuildRef, tree: str
    ) -> tuple[Run, Mapping[str, Any]] | None:
        """A build by its reference, and what Jenkins has of it; None when it has that very build no longer."""
        run = run_of(build.run_id)
        if run is None:
            return None
        found = await self._api.fetch(
            self._address(target, run), tree, f"the build {target.name} #{run.number}"
        )
        return (run, found) if found is not None and _is_meant(found, run) else None

    def _address(self, target: Target, run: Run) -> str:
        return f"{self._api.job(target.name)}/{run.number}"


def _is_meant(body: Mapping[str, Any], run: Run) -> bool:
    """Whether it is that build, and not one of a job that was made again under the same name."""
    return run.timestamp_ms is None or number(body.get("timestamp")) == run.timestamp_ms


def _name_of(row: Any) -> str | None:
    """What stands for a page whose newest build this is."""
    count, stamp = (
        (number(row.get(key)) for key in ("number", "timestamp")) if isinstance(row, dict) else (None, None)
    )
    return None if count is None or stamp is None else run_id_of(count, stamp)


def _no_job(target: Target, body: Mapping[str, Any]) -> PollFailedError:
    what = (
        "is a folder or project, and has no builds of its own" if text(body.get("fullName")) else "is no job"
    )
    return PollFailedError(
        "not_found",
        f"{target.name} {what}. In JENKINS_JOBS write {target.name}/* for the jobs in it.",
        status=200,
    )


def _no_longer(target: Target, build: BuildRef) -> Refused:
    return Refused(
        f"Jenkins no longer has {target.name} {build.run_id.partition('@')[0]}: it was deleted, or its job was."
    )
