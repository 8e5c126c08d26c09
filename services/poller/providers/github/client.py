"""GitHub Actions by its REST API, as a `services.poller.provider.Provider`."""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1, BuildRef
from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1
from services.poller.budget import Budget
from services.poller.calls import Calls
from services.poller.metrics import REFUSED
from services.poller.promising import REPORT_NAMES
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
from services.poller.providers.github import changes, checks, deployments, reports
from services.poller.providers.github.api import PAGE_SIZE, Api, object_of, rows_of
from services.poller.providers.github.app import App, AppKey, Installation
from services.poller.providers.github.mapping import (
    PROVIDER,
    BadRowError,
    attempt_of,
    build_of,
    id_of,
    job_of,
    moment_of,
    number_of,
    object_at,
    part_of,
    state_of,
    text_of,
)
from services.poller.providers.github.repositories import repositories
from services.poller.spans import halves
from services.poller.turns import TurnsOf

MOST_LISTED = 1000
"""A filtered listing tells how many there are but shows no more than so many."""
_MOST_JOB_PAGES = 50

RowT = TypeVar("RowT")


class GitHub:
    """One GitHub, seen with one token or as one GitHub App.

    An App has a token, a budget and turns of its own for each owner it is installed at. `budget` is then the
    tightest of them.
    """

    name = PROVIDER

    def __init__(
        self,
        *,
        api_url: str,
        instance: str,
        token: SecretStr | None = None,
        app: AppKey | None = None,
        report_artifacts: Sequence[str] = REPORT_NAMES,
        reserve_percent: float,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`report_artifacts` are patterns for names, in any case. With `app`, `token` is not used.

        Raises:
            BadKeyError: the App's key is none.
        """
        self.instance = instance
        self._token = token
        self._patterns = tuple(report_artifacts)
        headers = {
            "accept": "application/vnd.github+json",
            "x-github-api-version": "2022-11-28",
            "user-agent": "buildlight",
        }
        self._make_calls = partial(
            Calls,
            api_url,
            provider=PROVIDER,
            limits_prefix="x-ratelimit-",
            reserve_percent=reserve_percent,
            timeout_seconds=timeout_seconds,
            transport=transport,
        )
        self._headers = headers
        self._app = App(app, partial(self._make_calls, headers=headers)) if app else None
        self.account = f"{PROVIDER}/{instance}" + (f"/apps/{self._app.app_id}" if self._app else "")
        self._turns_of: TurnsOf | None = None
        self._by_owner: dict[str, Api] = {}

    @property
    def budget(self) -> Budget:
        known = [api.calls.budget for api in self._by_owner.values()]
        return min(known, key=_left, default=Budget())

    def take_turns(self, turns_of: TurnsOf) -> None:
        self._turns_of = turns_of
        for owner, api in self._by_owner.items():
            api.calls.turns = turns_of(self._account_of(owner))

    async def close(self) -> None:
        for api in self._by_owner.values():
            await api.calls.close()
        if self._app is not None:
            await self._app.close()

    # -- runs and jobs

    def listing(self, target: Target, span: Span) -> str:
        created = f">={_iso(span.since)}"
        if span.until is not None:
            # GitHub's ranges include both ends.
            created = f"{_iso(span.since)}..{_iso(span.until - timedelta(seconds=1))}"
        query = urlencode({"created": created, "per_page": PAGE_SIZE})
        return f"{self._api(target).repository(target.name)}/actions/runs?{query}"

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page | Unchanged:
        answer = await self._api(target).need(address, target.name, etag=etag)
        if answer.status == 304:
            return Unchanged()
        rows = rows_of(answer, "workflow_runs")
        total = object_of(answer).get("total_count")
        builds, refused = _read(
            rows, lambda row: build_of(row, instance=self.instance, repository=target.name)
        )
        return Page(
            builds=tuple(builds),
            refused=tuple(refused),
            etag=answer.etag,
            following=answer.links.get("next"),
            capped=isinstance(total, int) and total > MOST_LISTED,
        )

    async def build(
        self, target: Target, run_id: str, attempt: int | None = None, *, etag: str | None = None
    ) -> Found | Unchanged | Gone | Unreadable:
        api, which = self._api(target), "" if attempt is None else f"/attempts/{attempt}"
        answer = await api.get(
            f"{api.repository(target.name)}/actions/runs/{run_id}{which}", target.name, etag=etag
        )
        if answer.status == 304:
            return Unchanged()
        if answer.status != 200:
            return Gone(answer.status)
        try:
            build = build_of(answer.json(), instance=self.instance, repository=target.name)
        except BadRowError as error:
            REFUSED.labels(PROVIDER).inc()
            return Unreadable(str(error))
        return Found(build, answer.etag)

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs | Gone:
        api = self._api(target)
        run = f"{api.repository(target.name)}/actions/runs/{build.build.run_id}"
        address = f"{run}/attempts/{build.build.attempt}/jobs?per_page={PAGE_SIZE}"
        rows: list[Any] = []
        for _ in range(_MOST_JOB_PAGES):
            answer = await api.get(address, target.name)
            if answer.status != 200:
                return Gone(answer.status)
            rows += rows_of(answer, "jobs")
            if "next" not in answer.links:
                break
            address = answer.links["next"]
        jobs, refused = _read(rows, lambda row: job_of(row, build=build))
        return Jobs(tuple(jobs), tuple(refused))

    async def census(self, target: Target, span: Span) -> AsyncIterator[Counted]:
        """One call for a hundred runs: a run's number of attempts says that the earlier ones exist, and ended."""
        capped = False
        address: str | None = self.listing(target, span) + "&exclude_pull_requests=true"
        listed: dict[str, list[Counted]] = {}
        while address is not None and not capped:
            answer = await self._api(target).need(address, target.name)
            total = object_of(answer).get("total_count")
            capped = isinstance(total, int) and total > MOST_LISTED
            rows, _ = _read(
                [] if capped else rows_of(answer, "workflow_runs"), partial(_counted, otherwise_at=span.since)
            )
            # A run that begins meanwhile moves another to the next page, where it is seen again.
            listed |= {row[0].run_id: row for row in rows}
            address = answer.links.get("next")
        for attempts in listed.values():
            for attempt in attempts:
                yield attempt
        if not capped:
            return
        # Of a span without an end the half is not known; what a clock ahead of ours calls tomorrow is in it.
        until = span.until or max(span.since, datetime.now(UTC)) + timedelta(days=1)
        narrower = halves(Span(span.since, until))
        if narrower is None:
            raise PollFailedError(
                "nonsense",
                f"{target.name} has more than {MOST_LISTED:,} runs from {span.since.isoformat()} on within "
                "two minutes, and GitHub shows no more: they cannot be counted.",
            )
        for half in narrower:
            async for attempt in self.census(target, half):
                yield attempt

    async def discover(self, pattern: str) -> AsyncIterator[Target]:
        owner, _, name = pattern.partition("/")
        if not owner or not name or "/" in name or any(sign in owner for sign in "*?["):
            raise PollFailedError(
                "not_found",
                f"{pattern!r} names no owner's repositories: write it as in acme/* or acme/shop-*.",
            )
        api = self._api_of(owner)
        async for found in repositories(api, pattern, installed=self._app is not None):
            yield Target(self.name, self.instance, found)

    # -- what a run has left

    def reports(self, target: Target, build: BuildRef) -> AsyncIterator[Document | Results]:
        return reports.documents(self._api(target), target, build, self._patterns)

    def log(self, target: Target, build: BuildRef, job_id: str) -> Pieces:
        del build  # a job's id says it all
        return reports.job_log(self._api(target), target, job_id)

    def deployments(self, target: Target, since: datetime) -> AsyncIterator[DeploymentObservedV1]:
        return deployments.deployments(self._api(target), target, since, instance=self.instance)

    # -- what is asked of GitHub

    async def rerun(self, target: Target, build: BuildRef, *, failed_only: bool) -> Done | Refused:
        return await changes.rerun(self._api(target), target, build, failed_only=failed_only)

    async def cancel(self, target: Target, build: BuildRef) -> Done | Refused:
        return await changes.cancel(self._api(target), target, build)

    async def publish_check(self, target: Target, check: PublishCheckV1) -> Done | Refused:
        publish = checks.publish_check_run if self._app is not None else checks.publish_status
        return await publish(self._api(target), target, check)

    # -- whose token

    def _api(self, target: Target) -> Api:
        return self._api_of(target.name.partition("/")[0])

    def _api_of(self, owner: str) -> Api:
        key = "" if self._app is None or self._app.of_one_installation() else owner.lower()
        if key not in self._by_owner:
            self._by_owner[key] = self._new_api(owner)
            if self._turns_of is not None:
                self._by_owner[key].calls.turns = self._turns_of(self._account_of(key))
        return self._by_owner[key]

    def _new_api(self, owner: str) -> Api:
        if self._app is not None:
            installation = Installation(self._app, owner)
            api = Api(
                self._make_calls(headers=self._headers, authorization=installation.headers),
                secrets=installation.secrets,
                renew=installation.renew,
                unauthorized=f"GitHub refuses the App's token for {owner}. Is its installation there suspended?",
            )
        else:
            secret = self._token.get_secret_value() if self._token is not None else ""
            authorization = {"authorization": f"Bearer {secret}"} if secret else {}
            secrets: Collection[str] = (secret,) if secret else ()
            api = Api(self._make_calls(headers=self._headers | authorization), secrets=lambda: secrets)
        return api

    def _account_of(self, owner: str) -> str:
        return f"{self.account}/{owner}" if owner else self.account


def _read(rows: list[Any], read: Callable[[Any], RowT]) -> tuple[list[RowT], list[str]]:
    """The rows that can be read, and why the others cannot."""
    good, refused = [], []
    for row in rows:
        try:
            good.append(read(row))
        except BadRowError as error:
            refused.append(str(error))
    REFUSED.labels(PROVIDER).inc(len(refused))
    return good, refused


def _counted(row: Any, *, otherwise_at: datetime) -> list[Counted]:
    """The attempts of a run, of which at least there is one."""
    run = object_at(row, "the run")
    run_id, attempts = id_of(run, "id"), attempt_of(run)
    created = moment_of(run.get("created_at")) or otherwise_at
    ended = state_of(text_of(run.get("status")), text_of(run.get("conclusion"))).is_terminal
    repository = number_of(part_of(run, "repository").get("id"))
    repository_id = None if repository is None else str(repository)
    return [Counted(run_id, n, created, ended or n < attempts, repository_id) for n in range(1, attempts + 1)]


def _left(budget: Budget) -> tuple[bool, float]:
    """How much is left of a budget, for comparison: the one that may not be spent at all comes first."""
    is_free = budget.blocked_until is None or budget.blocked_until <= datetime.now(UTC)
    if budget.limit is None or budget.remaining is None:
        return is_free, 1.0
    return is_free, budget.remaining / max(1, budget.limit)


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
