"""What is sent to GitHub, and what is made of its answers."""

import gzip
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from buildlight_contracts.commands import PublishCheckV1
from buildlight_contracts.testing import example
from services.poller import calls
from services.poller.provider import Done, Page, PollFailedError, Refused, Span, Target
from services.poller.providers.github.api import is_rate_limit
from services.poller.providers.github.client import GitHub

TARGET = Target("github", "github.test", "acme/shop")
API = "https://github.test/api/v3"


def github(answer: Callable[[httpx.Request], httpx.Response]) -> GitHub:
    return GitHub(
        api_url=API,
        instance="github.test",
        token=SecretStr("ghp_secret"),
        reserve_percent=10,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
    )


async def listed(provider: GitHub) -> Page:
    page = await provider.builds(TARGET, provider.listing(TARGET, Span(datetime(2026, 3, 2, tzinfo=UTC))))
    assert isinstance(page, Page)
    return page


EMPTY = {"total_count": 0, "workflow_runs": []}


async def test_what_is_asked() -> None:
    """The span in GitHub's own words, a hundred a page, with token and version."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=EMPTY)

    provider = github(answer)
    await listed(provider)
    assert str(asked[0].url) == (
        f"{API}/repos/acme/shop/actions/runs?created=%3E%3D2026-03-02T00%3A00%3A00Z&per_page=100"
    )
    assert asked[0].headers["authorization"] == "Bearer ghp_secret"
    assert asked[0].headers["accept"] == "application/vnd.github+json"
    closed = Span(datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 2, tzinfo=UTC))
    assert "created=2026-03-01T00%3A00%3A00Z..2026-03-01T23%3A59%3A59Z" in provider.listing(TARGET, closed)


async def test_the_token_stays_at_home() -> None:
    """A redirect to another host is followed without it; one at home, with it."""
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        moves = {
            "/api/v3/repos/acme/shop/actions/runs": f"{API}/moved",
            "/api/v3/moved": "https://other.test/",
        }
        if to := moves.get(request.url.path):
            return httpx.Response(301, headers={"location": to})
        return httpx.Response(200, json=EMPTY)

    await listed(github(answer))
    assert seen == [("github.test", "Bearer ghp_secret")] * 2 + [("other.test", None)]


async def test_a_next_page_elsewhere_is_refused() -> None:
    """A Link to another host is not followed."""
    provider = github(lambda _: httpx.Response(200, json=EMPTY))
    with pytest.raises(PollFailedError, match="another host, evil.test") as caught:
        await provider.builds(TARGET, "https://evil.test/page2")
    assert caught.value.reason == "nonsense"


async def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts what comes out of the compression."""
    monkeypatch.setattr(calls, "LARGEST_ANSWER_BYTES", 100_000)
    bomb = gzip.compress(b" " * 1_000_000)
    provider = github(lambda _: httpx.Response(200, content=bomb, headers={"content-encoding": "gzip"}))
    with pytest.raises(PollFailedError, match="more than 100,000 bytes"):
        await listed(provider)


async def test_a_redirect_loop_ends() -> None:
    """After a few hops it is nonsense."""
    provider = github(lambda request: httpx.Response(302, headers={"location": str(request.url)}))
    with pytest.raises(PollFailedError, match="redirects without end"):
        await listed(provider)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"workflow_runs": 7}', b"[" * 100_000])
async def test_nonsense_is_called_so(body: bytes) -> None:
    """Whatever comes instead of a listing."""
    with pytest.raises(PollFailedError) as caught:
        await listed(github(lambda _: httpx.Response(200, content=body)))
    assert caught.value.reason == "nonsense"


async def test_short_faults_of_the_network_are_ridden_out() -> None:
    """Two lost connections and then an answer are a success; the token is in no error."""
    faults = [httpx.ConnectError("refused"), httpx.ReadTimeout("slow")]

    def answer(_: httpx.Request) -> httpx.Response:
        if faults:
            raise faults.pop()
        return httpx.Response(200, json=EMPTY)

    assert (await listed(github(answer))).builds == ()


async def test_the_token_is_in_no_error() -> None:
    """Not even when GitHub repeats it."""
    said = {"message": "Bad credentials: ghp_secret"}
    with pytest.raises(PollFailedError, match="redacted") as caught:
        await listed(github(lambda _: httpx.Response(401, json=said)))
    assert "ghp_secret" not in str(caught.value)
    assert (caught.value.reason, caught.value.status) == ("unauthorized", 401)


@pytest.mark.parametrize(
    ("status", "headers", "said", "limited"),
    [
        (429, {}, "", True),
        (403, {"x-ratelimit-remaining": "0"}, "", True),
        (403, {"retry-after": "60"}, "", True),
        (403, {}, "You have exceeded a secondary rate limit.", True),
        (403, {"x-ratelimit-remaining": "12"}, "Resource not accessible by integration", False),
        (404, {"x-ratelimit-remaining": "0"}, "", False),
    ],
)
def test_what_counts_as_a_rate_limit(status: int, headers: dict[str, str], said: str, limited: bool) -> None:
    """GitHub uses 403 for both a missing right and too many calls."""
    assert is_rate_limit(status, headers, said) is limited


async def test_a_verdict_is_shown_on_the_runs_own_commit() -> None:
    """Whatever commit others said the build is of; without the run on none."""
    sent: list[tuple[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.raw_path.decode().removeprefix("/api/v3/repos/acme/shop")
        sent.append((request.method, path))
        runs = {"/actions/runs/30433642": {"head_sha": "a/../b"}}
        return httpx.Response(
            200 if path in runs or request.method == "POST" else 404, json=runs.get(path, {})
        )

    check = example(PublishCheckV1, commit_sha="0" * 40)
    there = check.build.model_copy(update={"run_id": "30433642"})
    wanted = check.model_copy(update={"build": there})
    assert isinstance(await github(answer).publish_check(TARGET, wanted), Done)
    assert sent[-1] == ("POST", "/statuses/a%2F..%2Fb")
    gone = check.model_copy(update={"build": there.model_copy(update={"run_id": "1"})})
    assert isinstance(await github(answer).publish_check(TARGET, gone), Refused)


@pytest.mark.parametrize("sha", ["", "c0ffee", "0" * 41, "../../user/keys", "0" * 40 + "\n", "A" * 40])
def test_a_verdict_wants_a_whole_commit_id(sha: str) -> None:
    """It becomes part of an address that is called with the token."""
    with pytest.raises(ValueError, match="commit_sha"):
        example(PublishCheckV1, commit_sha=sha)
