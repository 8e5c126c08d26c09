"""One call of a provider's API, guarded: in its turn, within the budget, of bounded size and time."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import stamina

from services.poller import budget as budgets
from services.poller.metrics import REQUESTS
from services.poller.provider import MustWaitError, PollFailedError, TooLargeError
from services.poller.turns import OwnTurns, Turns

LARGEST_ANSWER_BYTES = 32 * 1_048_576
"""A hundred runs of GitHub's are some 2 MiB."""
ATTEMPTS = 3
_MOST_REDIRECTS = 3


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `headers` have lower-case names, `links` the addresses of the Link header by relation."""

    status: int
    headers: Mapping[str, str]
    links: Mapping[str, str]
    body: bytes

    @property
    def etag(self) -> str | None:
        return self.headers.get("etag")

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            PollFailedError: it is none.
        """
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            raise PollFailedError(
                "nonsense",
                f"The answer is not JSON ({len(self.body):,} bytes). Does the API's address lead to the API?",
                status=self.status,
            ) from None


@dataclass(frozen=True, slots=True)
class Download:
    """An answer whose body is read as it comes: of any length, which is the reader's to limit."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


def longest_call_seconds(timeout_seconds: float) -> float:
    """How long one call can take at most, tries and pauses and all, given the timeout of one request."""
    return 2 * timeout_seconds * ATTEMPTS + 10.0


Headers = Callable[[], Awaitable[Mapping[str, str]]]
"""Gives the headers that name the caller: they may change, as a GitHub App's token does every hour."""


class Calls:
    """The calls of one account. Knows its budget, and makes one call at a time, each in its turn."""

    def __init__(
        self,
        base_url: str,
        *,
        provider: str,
        headers: Mapping[str, str],
        limits_prefix: str,
        reserve_percent: float,
        timeout_seconds: float,
        authorization: Headers | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`headers` and `authorization` go to the host of `base_url` alone; `limits_prefix` as in `budget.learn`."""
        self.base_url = base_url.rstrip("/")
        self.budget = budgets.Budget()
        self._origin = _origin(httpx.URL(self.base_url))
        self._provider = provider
        self._headers = dict(headers)
        self._authorization = authorization
        self._prefix = limits_prefix
        self._reserve_percent = reserve_percent
        self.turns: Turns = OwnTurns()
        self._http = httpx.AsyncClient(timeout=timeout_seconds, transport=transport)
        self._deadline_seconds = timeout_seconds * 2

    async def close(self) -> None:
        await self._http.aclose()

    def refused(self, answer: Answer) -> None:
        """Note that this answer refused the call for want of budget."""
        self.budget = budgets.refused(self.budget, answer.headers, now=datetime.now(UTC))
        if self.budget.blocked_until is not None:
            self.turns.refused(self.budget.blocked_until)

    async def get(self, address: str, *, etag: str | None = None) -> Answer:
        """GET an address; what the status means is the caller's to say.

        Raises:
            MustWaitError: the budget has no call left for us.
            PollFailedError: no answer, an endless one, or an address that is not the provider's.
        """
        return await self._guarded("GET", address, {"if-none-match": etag} if etag else {}, tries=ATTEMPTS)

    async def send(
        self,
        method: str,
        address: str,
        body: Mapping[str, Any] | None = None,
        *,
        form: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask for a change, with JSON or a form; raises as `get` does.

        Tried once: whether it took effect may not be known.
        """
        content = {"data": form} if form is not None else {"json": body}
        return await self._guarded(method, address, {}, tries=1, content=content)

    @asynccontextmanager
    async def stream(self, address: str, *, accept: str | None = None) -> AsyncIterator[Download]:
        """GET an address and read its body as it comes; raises as `get` does, also while it is read.

        Redirects are followed, also to other hosts, which are not told who asks. The turn is over when the
        body begins: other calls of the account go on meanwhile, for what is long is the body, and that costs
        no budget.
        """
        url, headers = self._at_home(address), {"accept": accept} if accept else {}
        for _ in range(_MOST_REDIRECTS + 1):
            response = await self._opened(url, headers)
            try:
                if response.next_request is None:
                    yield Download(response.status_code, response.headers, response.aiter_bytes())
                    return
                url = response.next_request.url
            except httpx.HTTPError as error:
                REQUESTS.labels(self._provider, "unreachable").inc()
                raise PollFailedError(
                    "unreachable", f"{url.host} stopped in the middle of an answer ({_why(error)})."
                ) from None
            finally:
                await response.aclose()
        raise PollFailedError(
            "nonsense", f"{self._origin[1]} redirects without end. Check the API's address."
        )

    async def _opened(self, url: httpx.URL, headers: Mapping[str, str]) -> httpx.Response:
        """The answer to a GET, its body still to come; at home in its turn, until it answers."""
        at_home = _origin(url) == self._origin
        async with self._turn() if at_home else nullcontext():
            if at_home:
                self._allowed(str(url))
            try:
                async with asyncio.timeout(self._deadline_seconds):
                    ours = await self._headers_for(url)
                    request = self._http.build_request("GET", url, headers=ours | dict(headers))
                    response = await self._http.send(request, stream=True)
            except (httpx.HTTPError, TimeoutError) as error:
                REQUESTS.labels(self._provider, "unreachable").inc()
                raise PollFailedError(
                    "unreachable",
                    f"No answer from {url.host} ({_why(error)}). Check the network and the provider's status page.",
                ) from None
            REQUESTS.labels(self._provider, str(response.status_code)).inc()
            if at_home:
                self._learn(response.headers)
        return response

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """A turn to call, with what all replicas know of the budget; what is learnt in it is theirs, too."""
        async with self.turns.take() as turn:
            if turn.budget is not None:
                self.budget = turn.budget
            try:
                yield
            finally:
                turn.budget = self.budget

    def _allowed(self, address: str) -> httpx.URL:
        decision = budgets.decide(self.budget, now=datetime.now(UTC), reserve_percent=self._reserve_percent)
        if isinstance(decision, budgets.Wait):
            raise MustWaitError(decision.seconds, decision.reason)
        return self._at_home(address)

    def _at_home(self, address: str) -> httpx.URL:
        url = httpx.URL(address)
        if _origin(url) != self._origin:
            # The token must not follow a link to wherever it leads.
            raise PollFailedError(
                "nonsense", f"A link leads to another host, {url.host}. Check the API's address."
            )
        return url

    def _learn(self, headers: Mapping[str, str]) -> None:
        self.budget = budgets.learn(self.budget, headers, now=datetime.now(UTC), prefix=self._prefix)

    async def _headers_for(self, url: httpx.URL) -> dict[str, str]:
        if _origin(url) != self._origin:
            return {}
        return self._headers | dict(await self._authorization() if self._authorization else {})

    async def _guarded(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        *,
        tries: int,
        content: Mapping[str, Any] | None = None,
    ) -> Answer:
        async with self._turn():
            url = self._allowed(address)
            answer = await self._patiently(method, url, headers, tries, content or {})
            self._learn(answer.headers)
            return answer

    async def _patiently(
        self,
        method: str,
        url: httpx.URL,
        headers: Mapping[str, str],
        tries: int,
        content: Mapping[str, Any],
    ) -> Answer:
        """Through short faults of the network; everything longer is the schedule's business."""
        try:
            async for attempt in stamina.retry_context(
                on=(httpx.TransportError, TimeoutError),
                attempts=tries,
                timeout=None,
                wait_initial=0.2,
                wait_max=2.0,
                wait_jitter=0.2,
            ):
                with attempt:
                    return await self._once(method, url, headers, content)
        except (httpx.HTTPError, TimeoutError) as error:
            REQUESTS.labels(self._provider, "unreachable").inc()
            raise PollFailedError(
                "unreachable",
                f"No answer from {url.host} in {tries} {'tries' if tries > 1 else 'try'} ({_why(error)}). "
                "Check the network, the API's address and the provider's status page.",
            ) from None
        raise AssertionError("a retry ends with an answer or an error")

    async def _once(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], content: Mapping[str, Any]
    ) -> Answer:
        async with asyncio.timeout(self._deadline_seconds):
            for _ in range(_MOST_REDIRECTS + 1):
                ours = await self._headers_for(url)
                async with self._http.stream(
                    method, url, headers=ours | (dict(headers) if ours else {}), **content
                ) as response:
                    REQUESTS.labels(self._provider, str(response.status_code)).inc()
                    if response.next_request is None or not self._may_follow(method, response):
                        return Answer(
                            status=response.status_code,
                            headers={k.lower(): v for k, v in response.headers.items()},
                            links={k: str(v["url"]) for k, v in response.links.items() if k and "url" in v},
                            body=await self._read(response),
                        )
                    url = response.next_request.url
        raise PollFailedError(
            "nonsense", f"{self._origin[1]} redirects without end. Check the API's address."
        )

    def _may_follow(self, method: str, response: httpx.Response) -> bool:
        """A change is asked for again only where that is meant (307, 308: a renamed repository), and at home."""
        if method == "GET" or response.next_request is None:
            return True
        return response.status_code in (307, 308) and _origin(response.next_request.url) == self._origin

    @staticmethod
    async def _read(response: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > LARGEST_ANSWER_BYTES:
                raise TooLargeError(
                    f"An answer of more than {LARGEST_ANSWER_BYTES:,} bytes. Check the API's address.",
                    status=response.status_code,
                )
        return bytes(body)


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _why(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
