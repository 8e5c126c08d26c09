"""GitLab's REST API as such: addresses, pages, and what its refusals mean."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlencode

import httpx
from pydantic import SecretStr

from services.poller.calls import Answer, Calls, Download
from services.poller.provider import PollFailedError, Reason, Refused
from services.poller.providers.gitlab.fields import text
from services.poller.providers.gitlab.mapping import PROVIDER

PAGE_SIZE = 100
_MOST_PAGES = 100
_REFUSALS = (400, 403, 404, 405, 409, 422)


class Api:
    """The API behind one address, with one token."""

    def __init__(
        self,
        api_url: str,
        *,
        token: SecretStr | None,
        reserve_percent: float,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._token = token
        headers = {"accept": "application/json", "user-agent": "buildlight"}
        if token is not None:
            # Takes personal, group and project access tokens, and OAuth's.
            headers["authorization"] = f"Bearer {token.get_secret_value()}"
        self.calls = Calls(
            api_url,
            provider=PROVIDER,
            headers=headers,
            limits_prefix="ratelimit-",
            reserve_percent=reserve_percent,
            timeout_seconds=timeout_seconds,
            transport=transport,
        )

    def project(self, name: str, path: str = "", **query: str | int) -> str:
        """An address below a project's, which is named by its id or its whole path."""
        return self.address(f"/projects/{quote(name, safe='')}{path}", **query)

    def address(self, path: str, **query: str | int) -> str:
        return f"{self.calls.base_url}{path}" + (f"?{urlencode(query)}" if query else "")

    async def get(self, address: str, what: str, *, etag: str | None = None) -> Answer:
        """An answer of 200, 304, 404 or 410; every other one raises PollFailedError. `what` names it in errors."""
        answer = await self.calls.get(address, etag=etag)
        if answer.status not in (200, 304, 404, 410):
            raise self.failure(answer, what)
        return answer

    async def pages(self, address: str, what: str) -> AsyncIterator[list[Any]]:
        """The rows of a listing, page by page.

        Raises:
            PollFailedError: also when it is not there, and when it has too many pages: some rows would be lost
                unseen.
        """
        for _ in range(_MOST_PAGES):
            answer = await self.get(address, what)
            if answer.status != 200:
                raise self.failure(answer, what)
            yield a_list(answer)
            if "next" not in answer.links:
                return
            address = answer.links["next"]
        raise PollFailedError(
            "nonsense", f"GitLab lists more than {_MOST_PAGES * PAGE_SIZE:,} rows for {what}."
        )

    async def post(self, address: str, what: str, body: Mapping[str, Any] | None = None) -> Answer | Refused:
        """Ask for a change; what GitLab will not do is Refused."""
        answer = await self.calls.send("POST", address, body)
        if answer.status in (200, 201, 202):
            return answer
        if answer.status in _REFUSALS:
            words = self._said(answer) or f"status {answer.status}"
            advice = (
                " Does the token have the scope api, and its owner the right?" if answer.status == 403 else ""
            )
            return Refused(f"GitLab will not change {what}: {words}.{advice}")
        raise self.failure(answer, what)

    @asynccontextmanager
    async def stream(self, address: str, what: str) -> AsyncIterator[Download]:
        """A body of 200, 404 or 410 as it comes; every other answer raises PollFailedError."""
        async with self.calls.stream(address) as download:
            if download.status not in (200, 404, 410):
                raise self.failure(Answer(download.status, download.headers, {}, b""), what)
            yield download

    def failure(self, answer: Answer, what: str) -> PollFailedError:
        """Why GitLab did not answer as it should, and what a person can do about it."""
        if answer.status == 429:
            self.calls.refused(answer)
        said = self._said(answer)
        reason, advice = reason_of(answer.status, what)
        return PollFailedError(
            reason, advice + (f' GitLab says: "{said}"' if said else ""), status=answer.status
        )

    def _said(self, answer: Answer) -> str:
        """GitLab's own words, without the token should they ever repeat it."""
        try:
            body = answer.json()
        except PollFailedError:
            return ""
        words = (
            next((body[k] for k in ("message", "error_description", "error") if body.get(k)), "")
            if isinstance(body, dict)
            else ""
        )
        said = text(words if isinstance(words, str) else str(words), 300) or ""
        return said.replace(self._token.get_secret_value(), "[redacted]") if self._token else said


def reason_of(status: int, what: str) -> tuple[Reason, str]:
    if status == 429:
        return "rate_limited", "GitLab wants no more calls for now. Polling goes on when it allows."
    if status == 401:
        return "unauthorized", "GitLab refuses the token: it is wrong, expired or revoked. Make a new one."
    if status == 403:
        return "forbidden", (
            f"GitLab does not let the token read {what}: it needs the scope read_api, its owner the role "
            "Reporter, and the project CI/CD switched on."
        )
    if status in (404, 410):
        return "not_found", f"There is no {what}, or the token may not see it. Check the name and the token."
    if status >= 500:
        return "server_error", f"GitLab answered {status}. It is asked again."
    return "nonsense", f"GitLab answered {status}, which was not expected. Check the API's address."


def a_list(answer: Answer) -> list[Any]:
    rows = answer.json()
    if not isinstance(rows, list):
        raise PollFailedError(
            "nonsense",
            "The answer is no list. Check the API's address: it ends in /api/v4.",
            status=answer.status,
        )
    return rows


def an_answer(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise PollFailedError(
            "nonsense",
            "The answer is no JSON object. Check the API's address: it ends in /api/v4.",
            status=answer.status,
        )
    return body
