"""The decisions behind what GitHub is asked and told."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import Annotation
from buildlight_contracts.deployments import CheckObservedV1
from buildlight_contracts.states import State
from services.poller.promising import REPORT_NAMES
from services.poller.provider import (
    Document,
    LogGoneError,
    MustWaitError,
    PollFailedError,
    Refused,
    Span,
    Target,
)
from services.poller.providers.github.api import refusal_of
from services.poller.providers.github.app import AppKey
from services.poller.providers.github.artifacts import (
    Artifact,
    Lasted,
    artifact_of,
    promising,
)
from services.poller.providers.github.checks import batched, short
from services.poller.providers.github.client import GitHub
from services.poller.providers.github.deployments import run_and_job
from services.poller.providers.github.webhook import facts_of
from services.poller.turns import OwnTurns
from tests.corpora import corpus

API = "https://github.test/api/v3"
TARGET = Target("github", "github.test", "acme/shop")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
BUILD = BuildRef(provider="github", instance="github.test", repository_id="1", run_id="7")


def github(answer: Any, **options: Any) -> GitHub:
    return GitHub(
        api_url=API,
        instance="github.test",
        reserve_percent=10,
        timeout_seconds=5,
        transport=httpx.MockTransport(answer),
        **{"token": SecretStr("ghp_secret"), **options},
    )


def artifact(name: str, *, minutes: int | None = 0, number: int = 1, expired: bool = False) -> Artifact:
    created = None if minutes is None else NOON + timedelta(minutes=minutes)
    return Artifact(number, name, 10, expired, created)


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("test-results", True),
        ("JUnit (ubuntu, 3.11)", True),
        ("playwright-report", True),
        ("surefire", True),
        ("coverage", False),
        ("image-amd64", False),
        ("dist", False),
    ],
)
def test_which_artifacts_promise_reports(name: str, wanted: bool) -> None:
    """By name, in any case: GitHub tells nothing else before the download."""
    assert bool(promising([artifact(name)], REPORT_NAMES)) is wanted


def test_artifacts_come_oldest_first_and_once() -> None:
    """One that moved to the next page while it was listed is seen twice."""
    rows = [
        artifact("test-b", minutes=2, number=3),
        artifact("test-a", minutes=1, number=2),
        artifact("test-b", minutes=2, number=3),
        artifact("test-gone", number=4, expired=True),
        artifact("test-undated", minutes=None, number=5),
    ]
    assert [one.name for one in promising(rows, ("test*",))] == ["test-a", "test-b", "test-undated"]


def test_whose_an_artifact_is() -> None:
    """An attempt's are those made from its start until the next one's."""
    second = Lasted(NOON, NOON + timedelta(minutes=5))
    assert second.holds(NOON)
    assert not second.holds(NOON - timedelta(seconds=1))
    assert not second.holds(NOON + timedelta(minutes=5))
    assert not second.holds(None)
    assert Lasted(NOON).holds(NOON + timedelta(days=1))
    assert Lasted(NOON).holds(None)
    assert Lasted().holds(NOON - timedelta(days=1))


def _recorded(folder: Path, prefix: str) -> list[Any]:
    """The JSON objects of GitHub's answers in some of PyGithub's recordings."""
    found = []
    for path in sorted(folder.glob(f"{prefix}*.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    continue  # a request's headers, as Python writes them
    return found


def test_recorded_artifacts_are_read() -> None:
    """Each that GitHub was recorded to list."""
    bodies = _recorded(corpus("api/github/pygithub-replay"), "Artifact")
    rows = [row for body in bodies for row in body.get("artifacts", ())]
    assert len(rows) > 5
    for row in rows:
        read = artifact_of(row)
        assert read is not None
        assert (read.id, read.name, read.expired) == (row["id"], row["name"], row["expired"])
        assert read.created_at is not None
    odds: tuple[Any, ...] = (None, [], {}, {"id": "7", "name": "x"}, {"id": 7}, {"id": True, "name": "x"})
    for odd in odds:
        assert artifact_of(odd) is None


def test_recorded_check_runs_are_read() -> None:
    """A check run is in a delivery as the API shows it."""
    bodies = _recorded(corpus("api/github/pygithub-replay"), "CheckRun")
    rows = [row for body in bodies for row in (body.get("check_runs") or [body]) if "check_suite" in row]
    assert len(rows) > 5
    repository = {"id": 1, "full_name": "acme/shop"}
    told = 0
    for row in rows:
        seen = facts_of("check_run", {"check_run": row, "repository": repository}, instance="github.test")
        for fact in seen.facts:
            assert isinstance(fact, CheckObservedV1)
            assert fact.state is not State.UNKNOWN
            told += 1
        assert seen.facts or seen.refresh or seen.ignored
    assert told


@pytest.mark.parametrize(
    ("page", "found"),
    [
        ("https://github.com/acme/shop/actions/runs/30433642/job/399444496", ("30433642", "399444496")),
        ("https://github.com/acme/shop/actions/runs/30433642/attempts/2", ("30433642", None)),
        ("https://github.com/acme/shop/runs/4687056418?check_suite_focus=true", (None, "4687056418")),
        ("https://ci.example/runs/12/x", (None, None)),
        ("", (None, None)),
        (None, (None, None)),
    ],
)
def test_where_a_status_leads(page: Any, found: tuple[str | None, str | None]) -> None:
    """In both ways in which GitHub writes the page of a job."""
    assert run_and_job({"log_url": page}) == found
    assert run_and_job({"log_url": "", "target_url": page}) == found


def test_annotations_in_batches() -> None:
    """Fifty at a time, from where an earlier try got to; there is always one request to make."""
    notes = [Annotation(path="a.py", line=n + 1, title="t", message="m") for n in range(120)]
    assert [len(batch) for batch in batched(notes, 0)] == [50, 50, 20]
    assert [batch[0].line for batch in batched(notes, 50)] == [51, 101]
    assert batched(notes, 120) == batched([], 0) == [()]


def test_a_short_description() -> None:
    """One line, and never more than GitHub takes."""
    assert short("3 flaky\n tests") == "3 flaky tests"
    assert len(short("x" * 141)) == 140
    assert short("x" * 141).endswith("...")
    assert short("x" * 140) == "x" * 140


@pytest.mark.parametrize("status", [403, 404, 409, 410, 422])
def test_a_refusal_says_what_github_said(status: int) -> None:
    """And what it was about."""
    text = refusal_of(status, "Must have admin rights", "run 7 of acme/shop", "Give it the right.")
    assert 'GitHub says: "Must have admin rights"' in text
    assert "run 7 of acme/shop" in text
    assert ("Give it the right." in text) is (status in (403, 404, 410))


async def test_what_is_wrong_with_a_change_is_told_whole() -> None:
    """GitHub's message and its errors, without the token."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json={"run_attempt": 1})
        errors = ["too old", {"message": "ghp_secret is bad"}, {"code": "custom"}, 7, None]
        return httpx.Response(422, json={"message": "Validation Failed", "errors": errors})

    refused = await github(answer).rerun(TARGET, BUILD, failed_only=False)
    assert isinstance(refused, Refused)
    assert 'GitHub says: "Validation Failed; too old; [redacted] is bad; custom"' in refused.detail


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"7", b'{"message": 7, "errors": 7}'])
async def test_a_refusal_in_any_shape(body: bytes) -> None:
    """It is a refusal all the same."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={}) if request.method == "GET" else httpx.Response(403, content=body)

    assert isinstance(await github(answer).cancel(TARGET, BUILD), Refused)


async def test_a_log_that_is_not_ours_to_read() -> None:
    """It is forbidden, not gone: somebody may give the token the right."""

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(403, json={"message": "Must have admin rights to Repository."})

    with pytest.raises(PollFailedError, match="admin rights") as caught:
        async with github(answer).log(TARGET, BUILD, "9"):
            pass
    assert caught.value.reason == "forbidden"


@pytest.mark.parametrize(
    "pieces", [(b"\xef", b"\xbb\xbfhello"), (b"\xef\xbb\xbf", b"hello"), (b"hello",), (b"he", b"llo")]
)
async def test_a_logs_mark_is_left_out(pieces: tuple[bytes, ...]) -> None:
    """However its bytes are cut."""

    async def body() -> Any:
        for piece in pieces:
            yield piece

    async with github(lambda _: httpx.Response(200, content=body())).log(TARGET, BUILD, "9") as log:
        assert b"".join([piece async for piece in log]) == b"hello"
    async with github(lambda _: httpx.Response(200, content=b"\xef")).log(TARGET, BUILD, "9") as log:
        assert b"".join([piece async for piece in log]) == b"\xef"
    with pytest.raises(LogGoneError):
        async with github(lambda _: httpx.Response(410)).log(TARGET, BUILD, "9"):
            pass


async def test_artifacts_without_a_promise_cost_one_call() -> None:
    """Only when one is wanted it is asked which attempt made it."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        rows = [{"id": 1, "name": "dist", "created_at": "2026-03-02T12:00:00Z", "expired": False}, None, 7]
        return httpx.Response(200, json={"total_count": 3, "artifacts": rows})

    found: list[Document] = [one async for one in github(answer).reports(TARGET, BUILD)]  # type: ignore[misc]
    assert found == []
    assert asked == ["/api/v3/repos/acme/shop/actions/runs/7/artifacts"]


async def test_a_persons_own_repositories_are_all_seen() -> None:
    """Those of the token's owner with the private ones; of another person, those that are public."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path.removeprefix("/api/v3"))
        if asked[-1].startswith("/orgs/"):
            return httpx.Response(404)
        if asked[-1] == "/user":
            return httpx.Response(200, json={"login": "Mona"})
        rows = [{"full_name": "mona/notes"}, {"full_name": "mona/old", "archived": True}, {"full_name": 7}, 7]
        return httpx.Response(200, json=rows)

    provider = github(answer)
    assert [one.name async for one in provider.discover("mona/*")] == ["mona/notes"]
    assert [one.name async for one in provider.discover("hubot/*")] == []
    assert [path for path in asked if path.endswith("/repos")] == ["/user/repos", "/users/hubot/repos"]


async def test_no_listing_loses_rows_unseen() -> None:
    """A listing without end is a failure rather than a part of it."""

    def answer(request: httpx.Request) -> httpx.Response:
        body = {"artifacts": [{"id": 1, "name": "test", "created_at": "2026-03-02T12:00:00Z"}]}
        return httpx.Response(200, json=body, headers={"link": f'<{request.url}>; rel="next"'})

    with pytest.raises(PollFailedError, match="lists more than 5,000 rows"):
        _ = [one async for one in github(answer).reports(TARGET, BUILD)]


async def test_with_one_token_all_owners_take_turns() -> None:
    """One account, whoever owns what is asked for, before and after the first call."""
    provider = github(lambda _: httpx.Response(200, json={"total_count": 0, "workflow_runs": []}))
    provider.listing(TARGET, Span(NOON))
    asked: list[str] = []
    turns = OwnTurns()

    def turns_of(account: str) -> OwnTurns:
        asked.append(account)
        return turns

    provider.take_turns(turns_of)
    provider.listing(Target("github", "github.test", "other/shop"), Span(NOON))
    assert asked == [provider.account]


async def test_an_apps_budgets_are_those_of_its_installations() -> None:
    """Each owner's is kept apart; the tightest is what is told, and what is known stays."""
    left = {"acme": 4000, "other": 200}

    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v3").split("/")
        if path[-1] == "installation":
            return httpx.Response(200, json={"id": {"acme": 1, "other": 2}[path[2]]})
        if path[-1] == "access_tokens":
            until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
            return httpx.Response(201, json={"token": f"ghs_{path[3]}", "expires_at": until})
        owner = path[2]
        assert request.headers["authorization"] == f"Bearer ghs_{[*left].index(owner) + 1}"
        reset = str(int((datetime.now(UTC) + timedelta(hours=1)).timestamp()))
        return httpx.Response(
            200,
            json={"total_count": 0, "workflow_runs": []},
            headers={
                "x-ratelimit-limit": "5000",
                "x-ratelimit-remaining": str(left[owner]),
                "x-ratelimit-reset": reset,
            },
        )

    provider = github(answer, token=None, app=AppKey("12", SecretStr(_private_key())))
    for owner in left:
        where = Target("github", "github.test", f"{owner}/x")
        await provider.builds(where, provider.listing(where, Span(NOON)))
    assert provider.budget.remaining == 200
    # Another owner's want of calls holds up nobody else.
    where = Target("github", "github.test", "other/x")
    with pytest.raises(MustWaitError):
        await provider.builds(where, provider.listing(where, Span(NOON)))
    where = Target("github", "github.test", "acme/x")
    await provider.builds(where, provider.listing(where, Span(NOON)))
    # So each has turns of its own, also one that is first asked for later.
    accounts: list[str] = []

    def turns_of(account: str) -> OwnTurns:
        accounts.append(account)
        return OwnTurns()

    provider.take_turns(turns_of)
    provider.listing(Target("github", "github.test", "New/x"), Span(NOON))
    assert accounts == [f"{provider.account}/{owner}" for owner in ("acme", "other", "new")]
    await provider.close()


def _private_key() -> str:
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
