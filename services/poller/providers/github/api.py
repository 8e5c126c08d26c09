"""GitHub's REST API, call by call: whose token goes along, and what each answer means."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any

from services.poller.calls import Answer, Calls, Download
from services.poller.provider import PollFailedError, Reason, Refused

PAGE_SIZE = 100
_GONE = (404, 410)
_REFUSALS = (403, 404, 409, 410, 422)
_LONGEST_REFUSAL_BYTES = 65_536


class Api:
    """The calls made with one token, or with the tokens of one installation of an App."""

    def __init__(
        self,
        calls: Calls,
        *,
        secrets: Callable[[], Collection[str]],
        renew: Callable[[], None] | None = None,
        unauthorized: str = "GitHub refuses the token. Make a new one and set GITHUB_TOKEN.",
    ) -> None:
        """`secrets` must be in no error; `renew` drops a token that was refused, where there can be another.

        `unauthorized` says what a 401 means and what to do.
        """
        self._unauthorized = unauthorized
        self.calls = calls
        self._secrets = secrets
        self._renew = renew

    def repository(self, name: str) -> str:
        """The address of a repository; `name` as in `acme/shop`."""
        return f"{self.calls.base_url}/repos/{name}"

    async def get(self, address: str, what: str, *, etag: str | None = None) -> Answer:
        """GET `address`, which is about `what`; the answer's status is 200, 304, 404 or 410.

        Raises:
            PollFailedError: any other status, as `failure_of` explains it.
        """
        answer = await self.calls.get(address, etag=etag)
        if answer.status == 401 and self._renew is not None:
            self._renew()
            answer = await self.calls.get(address, etag=etag)
        if answer.status not in (200, 304, *_GONE):
            raise self.failure(answer, what)
        return answer

    async def need(self, address: str, what: str, *, etag: str | None = None) -> Answer:
        """As `get`, where 404 and 410 are failures too."""
        answer = await self.get(address, what, etag=etag)
        if answer.status in _GONE:
            raise self.failure(answer, what)
        return answer

    async def pages(
        self, address: str, what: str, *, key: str | None, most: int
    ) -> AsyncIterator[tuple[Answer, list[Any]]]:
        """The pages of a listing with their rows, under `key` or as they are; nothing when it is not there.

        Raises:
            PollFailedError: also when there are more than `most` pages: some rows would be lost unseen.
        """
        for _ in range(most):
            answer = await self.get(address, what)
            if answer.status in _GONE:
                return
            yield answer, rows_of(answer, key)
            if "next" not in answer.links:
                return
            address = answer.links["next"]
        raise PollFailedError("nonsense", f"GitHub lists more than {most * PAGE_SIZE:,} rows for {what}.")

    async def send(
        self, method: str, address: str, body: Mapping[str, Any] | None, what: str, *, advice: str
    ) -> Answer | Refused:
        """Ask for a change. `advice` says what to do when the token lacks the right.

        Raises:
            PollFailedError: a later try may succeed.
        """
        answer = await self.calls.send(method, address, body)
        if answer.status == 401 and self._renew is not None:
            # Refused before anything was done, so that a second try does nothing twice.
            self._renew()
            answer = await self.calls.send(method, address, body)
        if 200 <= answer.status < 300:
            return answer
        said = self.said(answer)
        if answer.status in _REFUSALS and not is_rate_limit(answer.status, answer.headers, said):
            return Refused(refusal_of(answer.status, said, what, advice))
        raise self.failure(answer, what)

    @asynccontextmanager
    async def stream(self, address: str, what: str) -> AsyncIterator[Download]:
        """GET something long; the answer's status is 200, 404 or 410."""
        for may_renew in (self._renew is not None, False):
            async with self.calls.stream(address) as download:
                if download.status == 401 and may_renew and self._renew is not None:
                    self._renew()
                    continue
                if download.status not in (200, *_GONE):
                    raise self.failure(await _read(download), what)
                yield download
                return

    def failure(self, answer: Answer, what: str) -> PollFailedError:
        said = self.said(answer)
        if is_rate_limit(answer.status, answer.headers, said):
            self.calls.refused(answer)
        if answer.status == 401:
            words = f' GitHub says: "{said}"' if said else ""
            return PollFailedError("unauthorized", self._unauthorized + words, status=401)
        return failure_of(answer.status, answer.headers, said, what)

    def said(self, answer: Answer) -> str:
        """GitHub's own words, without the token should they ever repeat it."""
        try:
            body = answer.json()
            message = body.get("message")
        except (PollFailedError, AttributeError):
            return ""
        errors = body.get("errors")
        words = [message, *(_word(error) for error in (errors[:3] if isinstance(errors, list) else ()))]
        said = "; ".join(word for word in words if word and isinstance(word, str))[:300]
        for secret in self._secrets():
            said = said.replace(secret, "[redacted]")
        return said


def is_rate_limit(status: int, headers: Mapping[str, str], said: str) -> bool:
    """Whether a refusal is about the number of calls: GitHub says that with 403 as well as 429."""
    if status == 429:
        return True
    spent = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
    return status == 403 and (spent or "rate limit" in said.lower())


def failure_of(status: int, headers: Mapping[str, str], said: str, what: str) -> PollFailedError:
    """Why GitHub did not answer with 200, nor with 401, and what a person can do about it."""
    words = f' GitHub says: "{said}"' if said else ""
    reason: Reason
    if is_rate_limit(status, headers, said):
        reason, text = "rate_limited", "GitHub wants no more calls for now. Polling goes on when it allows."
    elif status == 403:
        reason, text = "forbidden", f"The token may not read the actions of {what}. Give it that right."
    elif status in _GONE:
        reason = "not_found"
        text = f"There is no {what}, or the token may not see it. Check GITHUB_REPOS and the token."
    elif status >= 500:
        reason, text = "server_error", f"GitHub answered {status}. It is asked again."
    else:
        reason, text = "nonsense", f"GitHub answered {status}, which was not expected. Check GITHUB_API_URL."
    return PollFailedError(reason, text + words, status=status)


def refusal_of(status: int, said: str, what: str, advice: str) -> str:
    """Why GitHub will not change `what`, in its own words, and what a person can do about it."""
    words = f' GitHub says: "{said}"' if said else ""
    if status == 403:
        return f"GitHub does not allow it for {what}.{words} If the token lacks a right: {advice}"
    if status in _GONE:
        return f"There is no {what} any more, or the token may not change it.{words} {advice}"
    if status == 409:
        return f"{what} is not in a state in which that can be done.{words} Look at it again."
    return f"GitHub answered {status} and will not do it for {what}.{words}"


def object_of(answer: Answer) -> Mapping[str, Any]:
    body = answer.json()
    if not isinstance(body, dict):
        raise PollFailedError(
            "nonsense", "The answer is no JSON object. Check GITHUB_API_URL.", status=answer.status
        )
    return body


def rows_of(answer: Answer, key: str | None) -> list[Any]:
    rows = answer.json() if key is None else object_of(answer).get(key)
    if not isinstance(rows, list):
        what = "is no list" if key is None else f'has no list "{key}"'
        raise PollFailedError("nonsense", f"The answer {what}. Check GITHUB_API_URL.", status=answer.status)
    return rows


def _word(error: Any) -> Any:
    """What one of the `errors` of a refusal says, in whichever shape it has."""
    return error.get("message") or error.get("code") if isinstance(error, dict) else error


async def _read(download: Download) -> Answer:
    """The beginning of an answer that is not what was wanted."""
    body = bytearray()
    async for piece in download.chunks:
        body += piece
        if len(body) > _LONGEST_REFUSAL_BYTES:
            break
    headers = {name.lower(): value for name, value in download.headers.items()}
    return Answer(download.status, headers, {}, bytes(body))
