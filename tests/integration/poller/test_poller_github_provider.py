"""GitHub as a provider, on the sandbox's GitHub: without a poller around it."""

import io
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from pydantic import SecretStr

from buildlight_contracts.builds import BuildRef
from buildlight_contracts.commands import Annotation, PublishCheckV1
from buildlight_contracts.deployments import DeploymentObservedV1, DeploymentState
from services.poller.provider import (
    Document,
    Done,
    Found,
    Jobs,
    LogGoneError,
    Page,
    PollFailedError,
    Refused,
    Span,
    Target,
    Unchanged,
)
from services.poller.providers.github.app import AppKey, BadKeyError
from services.poller.providers.github.client import GitHub
from tests.integration.poller.conftest import Sandbox

pytestmark = pytest.mark.timeout(200)
INSTANCE = "sandbox"
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def target(name: str) -> Target:
    return Target("github", INSTANCE, name)


@asynccontextmanager
async def watching(sandbox: Sandbox, **options: Any) -> AsyncIterator[GitHub]:
    """GitHub with the sandbox's token, unless it is told otherwise."""
    given: dict[str, Any] = {
        "api_url": sandbox.github,
        "instance": INSTANCE,
        "token": SecretStr("sandbox-token"),
        "reserve_percent": 10,
        "timeout_seconds": 30,
    }
    provider = GitHub(**given | options)
    try:
        yield provider
    finally:
        await provider.close()


@pytest.fixture(scope="module")
def keys() -> tuple[str, str]:
    """A private and a public key, in PEM."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        ).decode(),
        private.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )


@pytest.fixture
def app(bare: Sandbox, keys: tuple[str, str]) -> AppKey:
    """The App whose signatures the sandbox looks at."""
    bare.control("POST", "/github/app", json={"public_key": keys[1]})
    return AppKey("4242", SecretStr(keys[0]))


def ref(run: dict[str, Any], attempt: int = 1) -> BuildRef:
    return BuildRef(
        provider="github",
        instance=INSTANCE,
        repository_id=str(run["repository"]["id"]),
        run_id=str(run["id"]),
        attempt=attempt,
    )


def tokens_made(sandbox: Sandbox) -> int:
    effects = sandbox.control("GET", "/effects", params={"target": "github"})["effects"]
    return sum(effect["kind"] == "installation_token" for effect in effects)


# -- who asks


async def test_an_app_signs_and_is_given_a_token(bare: Sandbox, app: AppKey) -> None:
    """The signature is a real one; one token serves all calls for an owner, and another owner has another."""
    bare.run(repository="acme/one")
    bare.run(repository="other/two")
    async with watching(bare, app=app, token=None) as provider:
        for name in ("acme/one", "acme/one", "other/two"):
            page = await provider.builds(target(name), provider.listing(target(name), Span(SINCE)))
            assert isinstance(page, Page)
            assert len(page.builds) == 1
        assert provider.account == "github/sandbox/apps/4242"
        assert provider.budget.remaining is not None
    assert tokens_made(bare) == 2
    assert bare.spent() == 0  # nothing of the other token's


async def test_a_stranger_with_a_key_of_his_own_is_refused(
    bare: Sandbox, app: AppKey, keys: tuple[str, str]
) -> None:
    """The sandbox looks at signatures: a wrong key is told as such."""
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    pem = other.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    bare.control("POST", "/github/app", json={"public_key": pem.decode()})
    bare.run(repository="acme/one")
    async with watching(bare, app=app, token=None) as provider:
        with pytest.raises(PollFailedError, match="does not believe") as caught:
            await provider.builds(target("acme/one"), provider.listing(target("acme/one"), Span(SINCE)))
    assert caught.value.reason == "unauthorized"
    assert keys[0][40:80] not in caught.value.detail


async def test_what_is_no_key(bare: Sandbox) -> None:
    """It is said at once, and not shown."""
    for pem in ("", "secret-rubbish", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----"):
        with pytest.raises(BadKeyError, match="no RSA key in PEM") as caught:
            GitHub(
                api_url=bare.github,
                instance=INSTANCE,
                app=AppKey("4242", SecretStr(pem)),
                reserve_percent=0,
                timeout_seconds=5,
            )
        assert "rubbish" not in str(caught.value)


async def test_an_app_that_is_not_installed(bare: Sandbox, app: AppKey) -> None:
    """What to do about it is said."""
    async with watching(bare, app=app, token=None) as provider:
        with pytest.raises(PollFailedError, match="is not installed at nobody") as caught:
            await provider.builds(target("nobody/x"), provider.listing(target("nobody/x"), Span(SINCE)))
    assert caught.value.reason == "not_found"


async def test_a_token_is_made_again_before_it_expires(bare: Sandbox, app: AppKey) -> None:
    """One that lasts less than some minutes more is not used; the key's line breaks may be written out."""
    bare.run(repository="acme/one")
    bare.control("POST", "/github/app", json={"token_seconds": 120})
    escaped = AppKey(app.app_id, SecretStr(app.private_key.get_secret_value().replace("\n", "\\n")))
    async with watching(bare, app=escaped, token=None) as provider:
        address = provider.listing(target("acme/one"), Span(SINCE))
        await provider.builds(target("acme/one"), address)
        await provider.builds(target("acme/one"), address)
        assert tokens_made(bare) == 2
        bare.control("POST", "/github/app", json={"token_seconds": 3600})
        await provider.builds(target("acme/one"), address)
        await provider.builds(target("acme/one"), address)
    assert tokens_made(bare) == 3


async def test_a_revoked_token_is_made_again_once(bare: Sandbox, app: AppKey) -> None:
    """After a 401 there is one new token; pages are read once more under it, and are then unchanged again."""
    bare.run(repository="acme/one")
    async with watching(bare, app=app, token=None) as provider:
        address = provider.listing(target("acme/one"), Span(SINCE))
        first = await provider.builds(target("acme/one"), address)
        assert isinstance(first, Page)
        assert await provider.builds(target("acme/one"), address, etag=first.etag) == Unchanged()
        bare.control("POST", "/github/app", json={"revoke": True})
        second = await provider.builds(target("acme/one"), address, etag=first.etag)
        assert isinstance(second, Page)
        assert (second.builds, second.etag != first.etag) == (first.builds, True)
        assert await provider.builds(target("acme/one"), address, etag=second.etag) == Unchanged()
        assert tokens_made(bare) == 2
        bare.fault("auth", path="/actions/runs")
        with pytest.raises(PollFailedError) as caught:
            await provider.builds(target("acme/one"), address)
        assert caught.value.reason == "unauthorized"
    assert tokens_made(bare) == 3


# -- what runs leave


async def documents(provider: GitHub, build: BuildRef, name: str) -> list[Document]:
    found = [one async for one in provider.reports(target(name), build)]
    assert all(isinstance(one, Document) for one in found)
    return [one for one in found if isinstance(one, Document)]


async def read(document: Document) -> bytes:
    async with document.open() as pieces:
        return b"".join([piece async for piece in pieces])


async def test_living_reports_are_found_and_read(company: Sandbox) -> None:
    """Each is a ZIP from another host, which refuses tokens; coverage and the like are left alone."""
    async with watching(company) as provider:
        page = await provider.builds(target("acme/shop"), provider.listing(target("acme/shop"), Span(SINCE)))
        assert isinstance(page, Page)
        build = next(one for one in page.builds if one.raw_conclusion == "success" and one.workflow == "ci")
        found = await documents(provider, build.build, "acme/shop")
        assert {one.source for one in found} == {
            "test-results-unit-1",
            "test-results-unit-2",
            "test-results-integration",
        }
        for one in found:
            content = await read(one)
            assert len(content) == one.size_bytes
            assert zipfile.ZipFile(io.BytesIO(content)).namelist() == ["reports/junit.xml"]
    assert company.control("GET", "/requests", params={"target": "blobs"})["by_status"] == {"200": 3}


async def test_artifacts_go_to_the_attempt_that_made_them(bare: Sandbox) -> None:
    """GitHub keeps them by run: it is by their time that an attempt's are told; expired ones cannot be had."""
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)

    def at(minutes: int) -> str:
        return (begin + timedelta(minutes=minutes)).isoformat()

    def artifact(name: str, minutes: int, **more: Any) -> dict[str, Any]:
        return {"name": name, "files": {"junit.xml": "<testsuite/>"}, "created_at": at(minutes), **more}

    run = bare.run(
        repository="acme/again",
        status="completed",
        conclusion="failure",
        created_at=at(0),
        artifacts=[artifact("JUnit-first", 3), artifact("image", 4), artifact("test-old", 4, expired=True)],
    )
    for begun in (10, 20):
        bare.advance(
            run["id"],
            new_attempt=True,
            run_started_at=at(begun),
            status="completed",
            conclusion="success",
            updated_at=at(begun + 5),
            artifacts=[artifact(f"test-results-{begun}", begun + 4)],
        )
    async with watching(bare) as provider:
        for attempt, sources in ((1, ["JUnit-first"]), (2, ["test-results-10"]), (3, ["test-results-20"])):
            found = await documents(provider, ref(run, attempt), "acme/again")
            assert [one.source for one in found] == sources
        gone = ref(run).model_copy(update={"run_id": "5"})
        assert await documents(provider, gone, "acme/again") == []
    async with watching(bare, report_artifacts=("IMAGE",)) as provider:
        assert [one.source for one in await documents(provider, ref(run), "acme/again")] == ["image"]


async def test_a_bare_file_and_one_that_expires_meanwhile(bare: Sandbox) -> None:
    """A file that was uploaded as it is comes as it is; what is gone by now is told as not found."""
    run = bare.run(
        repository="acme/bare",
        status="completed",
        artifacts=[{"name": "junit.xml", "files": {"junit.xml": "<testsuite/>"}, "bare": True}],
    )
    async with watching(bare) as provider:
        [one] = await documents(provider, ref(run), "acme/bare")
        assert await read(one) == b"<testsuite/>"
        bare.control("POST", f"/github/runs/{run['id']}/expire")
        with pytest.raises(PollFailedError, match="no longer there") as caught:
            await read(one)
        assert (caught.value.reason, caught.value.status) == ("not_found", 410)
        assert await documents(provider, ref(run), "acme/bare") == []


async def test_more_artifacts_than_a_page(bare: Sandbox) -> None:
    """All pages are read."""
    artifacts = [{"name": f"test-{n}", "files": {"a.xml": "<testsuite/>"}} for n in range(130)]
    run = bare.run(repository="acme/many", status="completed", artifacts=artifacts)
    async with watching(bare) as provider:
        assert len(await documents(provider, ref(run), "acme/many")) == 130


async def test_a_jobs_log(bare: Sandbox) -> None:
    """As text without a mark; what never was, or is no more, is gone."""
    jobs = [
        {"name": "unit", "status": "completed", "conclusion": "failure", "log": "\ufeffé: it failed\n"},
        {"name": "slow", "status": "in_progress"},
    ]
    run = bare.run(repository="acme/logs", status="in_progress", jobs=jobs)
    async with watching(bare) as provider:
        build = await provider.build(target("acme/logs"), str(run["id"]))
        assert isinstance(build, Found)
        got = await provider.jobs(target("acme/logs"), build.build)
        assert isinstance(got, Jobs)
        unit, slow = (job.job_id for job in got.jobs)
        async with provider.log(target("acme/logs"), ref(run), unit) as pieces:
            assert b"".join([piece async for piece in pieces]).decode() == "é: it failed\n"
        for job_id in (slow, "7"):
            with pytest.raises(LogGoneError):
                async with provider.log(target("acme/logs"), ref(run), job_id):
                    pass
        bare.control("POST", f"/github/runs/{run['id']}/expire")
        with pytest.raises(LogGoneError):
            async with provider.log(target("acme/logs"), ref(run), unit):
                pass
        bare.fault("rate_limit", path="/logs", times=1)
        with pytest.raises(PollFailedError) as caught:
            async with provider.log(target("acme/logs"), ref(run), unit):
                pass
        assert caught.value.reason == "rate_limited"
        assert provider.budget.blocked_until is not None


# -- what is asked of it


async def test_a_rerun_is_seen_as_another_attempt(bare: Sandbox) -> None:
    """Asked twice for one attempt it is done once; while it runs it is refused in GitHub's words."""
    jobs = [
        {"name": "lint", "status": "completed", "conclusion": "success"},
        {"name": "unit", "status": "completed", "conclusion": "failure"},
    ]
    run = bare.run(repository="acme/again", status="completed", conclusion="failure", jobs=jobs)
    where = target("acme/again")
    async with watching(bare) as provider:
        done = await provider.rerun(where, ref(run), failed_only=True)
        assert isinstance(done, Done)
        assert "attempt 2" in done.detail
        twice = await provider.rerun(where, ref(run), failed_only=True)
        assert isinstance(twice, Done)
        assert "already" in twice.detail
        found = await provider.build(where, str(run["id"]))
        assert isinstance(found, Found)
        assert (found.build.build.attempt, found.build.raw_status) == (2, "queued")
        got = await provider.jobs(where, found.build)
        assert isinstance(got, Jobs)
        assert [(job.name, job.raw_status) for job in got.jobs] == [("lint", "completed"), ("unit", "queued")]
        refused = await provider.rerun(where, ref(run, 2), failed_only=False)
        assert isinstance(refused, Refused)
        assert '"This workflow is already running"' in refused.detail
        late = await provider.cancel(where, ref(run, 1))
        assert isinstance(late, Refused)
        assert "attempt 2 is the latest" in late.detail
        assert isinstance(await provider.cancel(where, ref(run, 2)), Done)
        ended = await provider.build(where, str(run["id"]))
        assert isinstance(ended, Found)
        assert ended.build.raw_conclusion == "cancelled"
        over = await provider.cancel(where, ref(run, 2))
        assert isinstance(over, Refused)
        assert "Cannot cancel a workflow run that is completed." in over.detail
        assert isinstance(await provider.rerun(where, ref(run, 2), failed_only=False), Done)
    effects = bare.control("GET", "/effects", params={"target": "github"})["effects"]
    assert [effect["kind"] for effect in effects] == ["rerun", "cancel", "rerun"]


async def test_what_may_succeed_later_is_no_refusal(bare: Sandbox) -> None:
    """A server that errs or wants no more calls is not the last word; a run that is gone is."""
    run = bare.run(repository="acme/later", status="completed", conclusion="failure")
    where = target("acme/later")
    async with watching(bare) as provider:
        bare.fault("status", status=502, path="/rerun$", times=1)
        with pytest.raises(PollFailedError, match="502"):
            await provider.rerun(where, ref(run), failed_only=False)
        assert isinstance(await provider.cancel(where, ref(run).model_copy(update={"run_id": "5"})), Refused)
        bare.fault("secondary_limit", path="/rerun$", times=1, seconds=30)
        with pytest.raises(PollFailedError) as caught:
            await provider.rerun(where, ref(run), failed_only=False)
        assert caught.value.reason == "rate_limited"


def check(run: dict[str, Any], annotations: int, **changes: Any) -> PublishCheckV1:
    notes = tuple(
        Annotation(path="src/cart.py", line=n + 1, title=f"note {n}", message="flaky")
        for n in range(annotations)
    )
    given: dict[str, Any] = {
        "request_id": uuid4(),
        "build": ref(run),
        "repository": run["repository"]["full_name"],
        "by": "test",
        "commit_sha": run["head_sha"],
        "name": "flaky tests",
        "conclusion": "neutral",
        "title": "3 flaky tests, " + "of many " * 30,
        "summary": "They passed when they were run again.",
        "details_url": "https://buildlight.test/",
        "annotations": notes,
    }
    return PublishCheckV1(**given | changes)


async def test_an_app_publishes_a_check_run(bare: Sandbox, app: AppKey) -> None:
    """Fifty annotations a request; asked again, nothing is made twice, also when an answer was lost midway."""
    run = bare.run(repository="acme/checked", status="completed")
    wanted = check(run, 120)
    async with watching(bare, app=app, token=None) as provider:
        bare.fault("status", status=502, path=r"/check-runs/\d+$", times=1, after=True)
        with pytest.raises(PollFailedError):
            await provider.publish_check(target("acme/checked"), wanted)
        done = await provider.publish_check(target("acme/checked"), wanted)
        assert isinstance(done, Done)
        assert done.url is not None
        assert isinstance(await provider.publish_check(target("acme/checked"), wanted), Done)
    effects = bare.control("GET", "/effects", params={"target": "github"})["effects"]
    told = [(e["kind"], e["annotations"]) for e in effects if e["kind"].startswith("check_run")]
    assert told[:3] == [("check_run", 50), ("check_run_update", 100), ("check_run_update", 120)]
    assert {annotations for _, annotations in told[3:]} <= {120}
    assert {UUID(e["external_id"]) for e in effects if "external_id" in e} == {wanted.request_id}


async def test_a_token_publishes_a_commit_status(bare: Sandbox) -> None:
    """One line, and nothing that holds up a merge for a neutral verdict."""
    run = bare.run(repository="acme/checked", status="completed")
    async with watching(bare) as provider:
        done = await provider.publish_check(target("acme/checked"), check(run, 2))
        assert isinstance(done, Done)
        assert "2 annotations are left out" in done.detail
        refused = await provider.publish_check(
            target("acme/checked"), check(run, 0, details_url="javascript:alert(1)")
        )
        assert isinstance(refused, Refused)
        assert "http(s) scheme" in refused.detail
    [effect] = bare.control("GET", "/effects", params={"target": "github"})["effects"]
    assert (effect["kind"], effect["state"], effect["context"]) == ("commit_status", "success", "flaky tests")
    assert len(effect["description"]) <= 140


# -- what there is


async def counted(provider: GitHub, name: str, span: Span) -> set[tuple[str, int, bool]]:
    rows = [one async for one in provider.census(target(name), span)]
    assert len({(one.run_id, one.attempt) for one in rows}) == len(rows)
    return {(one.run_id, one.attempt, one.ended) for one in rows}


async def test_a_census_counts_every_attempt(company: Sandbox) -> None:
    """The same attempts as can be read one by one, at a call for a hundred runs."""
    async with watching(company) as provider:
        every: set[tuple[str, int, bool]] = set()
        for name in company.repositories():
            every |= await counted(provider, name, Span(datetime.now(UTC) - timedelta(days=30)))
    served = company.served()
    assert {(run, attempt) for run, attempt, _ in every} == {(run, attempt) for run, attempt, *_ in served}
    going = {
        (run, attempt)
        for run, attempt, status, conclusion in served
        if status != "completed" or conclusion == "action_required"
    }
    assert {(run, attempt) for run, attempt, ended in every if not ended} == going
    assert sum(company.asked().values()) < 12


async def test_a_census_of_more_than_is_shown(bare: Sandbox) -> None:
    """A span that GitHub would cut off is halved until it is shown whole; a minute too full is a failure."""
    begin = datetime(2026, 3, 1, tzinfo=UTC)

    def script(n: int, **more: Any) -> dict[str, Any]:
        created = (begin + timedelta(minutes=n % 1300)).isoformat()
        return {
            "repository": "acme/huge",
            "id": 1000 + n,
            "created_at": created,
            "status": "completed",
            **more,
        }

    bare.control(
        "POST",
        "/github/runs",
        json=[script(n, conclusion="success", run_attempt=1 + n % 2) for n in range(2400)],
    )
    async with watching(bare) as provider:
        span = Span(begin, begin + timedelta(days=1))
        assert len(await counted(provider, "acme/huge", span)) == 3600
        bare.forget()
        assert len(await counted(provider, "acme/huge", Span(begin))) == 3600
        # 24 full pages, those that are half full, and a few spans that are asked for in vain.
        assert sum(bare.asked().values()) < 60
        at = (begin + timedelta(days=3)).isoformat()
        bare.control(
            "POST", "/github/runs", json=[script(n) | {"id": 9000 + n, "created_at": at} for n in range(1001)]
        )
        with pytest.raises(PollFailedError, match="cannot be counted"):
            await counted(provider, "acme/huge", Span(begin + timedelta(days=3)))


async def test_deployments_in_all_their_states(company: Sandbox) -> None:
    """Each status is a state of its own, oldest first, and leads to the attempt that deployed."""
    name = company.repositories()[0]
    async with watching(company) as provider:
        facts = [
            one async for one in provider.deployments(target(name), datetime.now(UTC) - timedelta(days=30))
        ]
        by_id: dict[str, list[DeploymentObservedV1]] = {}
        for fact in facts:
            by_id.setdefault(fact.deployment_id, []).append(fact)
        assert len(by_id) > 3
        assert {fact.environment for fact in facts} == {"staging", "production"}
        assert all(fact.is_production is (fact.environment == "production") for fact in facts)
        served = {(run, attempt) for run, attempt, *_ in company.served()}
        for states in by_id.values():
            times = [fact.updated_at for fact in states]
            assert times == sorted(times)
            last = states[-1]
            if last.state is not DeploymentState.PENDING:
                assert last.build is not None
                assert (last.build.run_id, last.build.attempt) in served
        assert {DeploymentState.SUCCESS, DeploymentState.INACTIVE} <= {fact.state for fact in facts}
        newest = max(fact.updated_at for fact in facts)
        later = [one async for one in provider.deployments(target(name), newest)]
        assert 1 <= len({one.deployment_id for one in later}) < len(by_id)


@pytest.mark.parametrize("as_app", [False, True])
async def test_repositories_are_discovered(bare: Sandbox, app: AppKey, as_app: bool) -> None:
    """An owner's, by pattern and in any case, without the archived one; another owner's not."""
    for name in ("acme/shop", "acme/shop-admin", "acme/docs", "other/shop"):
        bare.run(repository=name)
    options: dict[str, Any] = {"app": app, "token": None} if as_app else {}
    async with watching(bare, **options) as provider:

        async def found(pattern: str) -> list[str]:
            return [one.name async for one in provider.discover(pattern)]

        assert await found("acme/*") == ["acme/docs", "acme/shop", "acme/shop-admin"]
        assert await found("ACME/shop*") == ["acme/shop", "acme/shop-admin"]
        with pytest.raises(PollFailedError):
            await found("nobody/*")
        for nonsense in ("*/shop", "acme", "acme/", "a/b/*"):
            with pytest.raises(PollFailedError, match="acme/"):
                await found(nonsense)
