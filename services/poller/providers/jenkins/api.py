"""Jenkins' JSON API: what to ask for is a `tree`, and everything but the data asked for is a failure."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode

import httpx
from pydantic import SecretStr

from services.poller.calls import Answer, Calls, Download
from services.poller.provider import PollFailedError
from services.poller.providers.jenkins.answers import failure_of, is_page
from services.poller.providers.jenkins.mapping import PROVIDER
from services.poller.providers.jenkins.names import path_of

_LARGE_BYTES = 1_048_576


class Api:
    """One Jenkins, seen as one user."""

    def __init__(
        self,
        *,
        url: str,
        username: str | None,
        token: SecretStr | None,
        timeout_seconds: float,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        headers = {"accept": "application/json", "user-agent": "buildlight"}
        self._secret = token.get_secret_value() if token else None
        if username and self._secret:
            pair = f"{username}:{self._secret}".encode()
            headers["authorization"] = f"Basic {b64encode(pair).decode()}"
        self._crumb: dict[str, str] = {}
        self.calls = Calls(
            url,
            provider=PROVIDER,
            headers=headers,
            # Jenkins itself has no limits and says nothing of any.
            limits_prefix="x-ratelimit-",
            reserve_percent=0,
            timeout_seconds=timeout_seconds,
            authorization=self._crumbs,
            transport=transport,
        )

    def job(self, full_name: str) -> str:
        """The address of a job or folder, without a slash at its end."""
        return f"{self.calls.base_url}{path_of(full_name)}"

    async def fetch(self, address: str, tree: str, what: str) -> Mapping[str, Any] | None:
        """What Jenkins has of an object; None when it has no such object.

        Args:
            address: of the object, without a slash at its end.
            tree: the fields to ask for.
            what: it is, for a person.

        Raises:
            PollFailedError: any other answer.
        """
        return await self.fetch_json(f"{address}/api/json?{urlencode({'tree': tree})}", what)

    async def fetch_json(self, address: str, what: str) -> Mapping[str, Any] | None:
        answer = await self.calls.get(address)
        if answer.status in (404, 410):
            return None
        self.expect_ok(answer, what)
        # A test report may have many megabytes: that is long enough for others to notice.
        body = await asyncio.to_thread(answer.json) if len(answer.body) > _LARGE_BYTES else answer.json()
        if not isinstance(body, dict):
            raise PollFailedError("nonsense", "The answer is no JSON object. Check JENKINS_URL.", status=200)
        return body

    async def read(self, address: str, tree: str, what: str) -> Mapping[str, Any]:
        """As `fetch`, for what must be there."""
        found = await self.fetch(address, tree, what)
        if found is None:
            raise failure_of(404, {}, what, secret=self._secret)
        return found

    def expect_ok(self, answer: Answer, what: str) -> None:
        if answer.status == 200 and not is_page(answer.headers):
            return
        if answer.status == 429:
            self.calls.refused(answer)
        raise failure_of(answer.status, answer.headers, what, secret=self._secret)

    @asynccontextmanager
    async def stream(self, address: str, what: str) -> AsyncIterator[Download | None]:
        """A text or a file as it comes; None when Jenkins does not have it."""
        async with self.calls.stream(address) as download:
            if download.status in (404, 410):
                yield None
                return
            if download.status != 200:
                raise failure_of(download.status, download.headers, what, secret=self._secret)
            yield download

    async def post(self, address: str, form: Mapping[str, str] | None = None) -> Answer:
        """Ask for a change; with a crumb where Jenkins wants one, which it does not of an API token since 2.96."""
        answer = await self.calls.send("POST", address, form=form)
        if answer.status == 403 and b"crumb" in answer.body.lower() and await self._take_crumb():
            return await self.calls.send("POST", address, form=form)
        return answer

    def failure(self, answer: Answer, what: str) -> PollFailedError:
        return failure_of(answer.status, answer.headers, what, secret=self._secret)

    async def _take_crumb(self) -> bool:
        """Ask for a crumb, which goes with the session's cookie; False when Jenkins gives none."""
        self._crumb = {}
        found = await self.fetch_json(f"{self.calls.base_url}/crumbIssuer/api/json", "the crumb")
        field, crumb = (found.get(key) for key in ("crumbRequestField", "crumb")) if found else (None, None)
        if isinstance(field, str) and isinstance(crumb, str):
            self._crumb = {field: crumb}
        return bool(self._crumb)

    async def _crumbs(self) -> Mapping[str, str]:
        return self._crumb
