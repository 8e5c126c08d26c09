"""GitHub Actions by its REST API, as a `services.poller.provider.Provider`."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from buildlight_contracts.builds import BuildObservedV1
from services.poller.budget import Budget
from services.poller.calls import Answer, Calls
from services.poller.metrics import REFUSED
from services.poller.provider import (
    Found,
    Gone,
    Jobs,
    Page,
    PollFailedError,
    Reason,
    Span,
    Target,
    Unchanged,
    Unreadable,
)
from services.poller.providers.github.mapping import PROVIDER, BadRowError, build_of, job_of
from services.poller.turns import TurnsOf

MOST_LISTED = 1000
"""A filtered listing tells how many there are but shows no more than so many."""
_PAGE_SIZE = 100
_MOST_JOB_PAGES = 50

RowT = TypeVar("RowT")


class GitHub:
    """One GitHub, seen with one token."""

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
        self.instance = instance
        self.account = f"{PROVIDER}/{instance}"
        self._token = token
        headers = {
            "accept": "application/vnd.github+json",
            "x-github-api-version": "2022-11-28",
            "user-agent": "buildlight",
        }
        if token is not None:
            headers["authorization"] = f"Bearer {token.get_secret_value()}"
        self._calls = Calls(
            api_url,
            provider=PROVIDER,
            headers=headers,
            limits_prefix="x-ratelimit-",
            reserve_percent=reserve_percent,
            timeout_seconds=timeout_seconds,
            transport=transport,
        )

    @property
    def budget(self) -> Budget:
        return self._calls.budget

    def take_turns(self, turns_of: TurnsOf) -> None:
        self._calls.turns = turns_of(self.account)

    async def close(self) -> None:
        await self._calls.close()

    def listing(self, target: Target, span: Span) -> str:
        created = f">={_iso(span.since)}"
        if span.until is not None:
            # GitHub's ranges include both ends.
            created = f"{_iso(span.since)}..{_iso(span.until - timedelta(seconds=1))}"
        query = urlencode({"created": created, "per_page": _PAGE_SIZE})
        return f"{self._repository(target)}/actions/runs?{query}"

    async def builds(self, target: Target, address: str, *, etag: str | None = None) -> Page | Unchanged:
        answer = await self._calls.get(address, etag=etag)
        if answer.status == 304:
            return Unchanged()
        self._expect_ok(answer, target)
        body = _body(answer)
        rows = _rows(body, "workflow_runs", answer)
        total = body.get("total_count")
        builds, refused = self._read(
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
        which = "" if attempt is None else f"/attempts/{attempt}"
        answer = await self._calls.get(f"{self._repository(target)}/actions/runs/{run_id}{which}", etag=etag)
        if answer.status == 304:
            return Unchanged()
        if answer.status in (404, 410):
            return Gone(answer.status)
        self._expect_ok(answer, target)
        try:
            build = build_of(answer.json(), instance=self.instance, repository=target.name)
        except BadRowError as error:
            REFUSED.labels(PROVIDER).inc()
            return Unreadable(str(error))
        return Found(build, answer.etag)

    async def jobs(self, target: Target, build: BuildObservedV1) -> Jobs | Gone:
        run = f"{self._repository(target)}/actions/runs/{build.build.run_id}"
        address = f"{run}/attempts/{build.build.attempt}/jobs?per_page={_PAGE_SIZE}"
        rows: list[Any] = []
        for _ in range(_MOST_JOB_PAGES):
            answer = await self._calls.get(address)
            if answer.status in (404, 410):
                return Gone(answer.status)
            self._expect_ok(answer, target)
            rows += _rows(_body(answer), "jobs", answer)
            if "next" not in answer.links:
                break
            address = answer.links["next"]
        jobs, refused = self._read(rows, lambda row: job_of(row, build=build))
        return Jobs(tuple(jobs), tuple(refused))

    def _repository(self, target: Target) -> str:
        return f"{self._calls.base_url}/repos/{target.name}"

    @staticmethod
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

    def _expect_ok(self, answer: Answer, target: Target) -> None:
        if answer.status == 200:
            return
        said = self._said(answer)
        if is_rate_limit(answer.status, answer.headers, said):
            self._calls.refused(answer)
        raise failure_of(answer.status, answer.headers, said, target.name)

    def _said(self, answer: Answer) -> str:
        """GitHub's own words, without the token should they ever repeat it."""
        try:
            message = answer.json().get("message")
        except (PollFailedError, AttributeError):
            return ""
        said = message[:300] if isinstance(message, str) else ""
        return said.replace(self._token.get_secret_value(), "[redacted]") if self._token else said


def is_rate_limit(status: int, headers: Mapping[str, str], said: str) -> bool:
    """Whether a refusal is about the number of calls: GitHub says that with 403 as well as 429."""
    if status == 429:
        return True
    spent = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    return status == 403 and (spent or "rate limit" in said.lower())


def failure_of(status: int, headers: Mapping[str, str], said: str, target: str) -> PollFailedError:
    """Why GitHub did not answer with 200, and what a person can do about it."""
    words = f' GitHub says: "{said}"' if said else ""
    reason: Reason
    if is_rate_limit(status, headers, said):
        reason, text = "rate_limited", "GitHub wants no more calls for now. Polling goes on when it allows."
    elif status == 401:
        reason, text = "unauthorized", "GitHub refuses the token. Make a new one and set GITHUB_TOKEN."
    elif status == 403:
        reason, text = "forbidden", f"The token may not read the actions of {target}. Give it that right."
    elif status in (404, 410):
        reason = "not_found"
        text = f"There is no {target}, or the token may not see it. Check GITHUB_REPOS and the token."
    elif status >= 500:
        reason, text = "server_error", f"GitHub answered {status}. It is asked again."
    else:
        reason, text = "nonsense", f"GitHub answered {status}, which was not expected. Check GITHUB_API_URL."
    return PollFailedError(reason, text + words, status=status)


def _body(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise PollFailedError("nonsense", "The answer is no JSON object. Check GITHUB_API_URL.", status=200)
    return body


def _rows(body: Mapping[str, Any], key: str, answer: Answer) -> list[Any]:
    rows = body.get(key)
    if not isinstance(rows, list):
        raise PollFailedError(
            "nonsense", f'The answer has no list "{key}". Check GITHUB_API_URL.', status=answer.status
        )
    return rows


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
