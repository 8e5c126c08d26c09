"""The logs of failed jobs are kept in part, whatever they hold, and whole ones are sent on."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from buildlight_contracts.collection import LARGEST_EXCERPT, BuildLogCapturedV1
from buildlight_contracts.states import State
from services.poller.collecting import Limits
from services.poller.collection_store import CollectionStore
from services.poller.job_logs import LogLimits
from services.poller.provider import MustWaitError, PollFailedError
from services.poller.queues import COLLECT
from tests.integration.poller.conftest import Intake
from tests.integration.poller.test_poller_actions import depth
from tests.pretend_provider import (
    PretendProvider,
    a_build,
    a_job,
    breaking,
    hanging,
    poured,
    ref,
)
from tests.station_stage import Station, collect, station
from tests.unit.reports.job_logs import BEGAN, PYTEST, github

pytestmark = [pytest.mark.timeout(120), pytest.mark.usefixtures("intake")]

SMALL = Limits(logs=LogLimits(most_bytes=2_000_000, most_seconds=2.0), most_seconds=60.0)
SECRET = "ghp_" + "abcdefghijklmnopqrstuvwxyz0123456789"
LOG = github(("make test", f"token {SECRET}\n{PYTEST}"))


@pytest.fixture
def provider() -> PretendProvider:
    build = ref()
    return PretendProvider(
        runs={"100": a_build(build)},
        its_jobs=[a_job(build, 1), a_job(build, 2, State.SUCCESS), a_job(build, 3, steps=())],
        logs={"1": poured(LOG), "2": poured(b"fine\n"), "3": poured(b"make: *** [all] Error 2\n")},
    )


async def test_the_failed_jobs_logs_are_kept(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """One excerpt a failed job, secrets masked; asked again, nothing is fetched again."""
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        done = await running.collected()
        await running.send(collect())
        await running.send(collect(ref("200"), failed=False))
        await running.collected(ref("200"))
        await intake.settle()
    assert (done["logs"], done["detail"]) == (2, None)
    facts = {fact.job_id: fact for fact in intake.facts(BuildLogCapturedV1)}
    assert set(facts) == {"1", "3"}
    assert provider.asked["log"] == 2
    first = facts["1"]
    assert first.found_by == "failure_line"
    assert "assert 12 == 7" in first.excerpt
    assert SECRET[4:] not in first.excerpt
    assert first.step == "Tests"
    assert facts["3"].excerpt == "make: *** [all] Error 2"
    assert intake.ids().most_common(1)[0][1] == 1


async def test_another_end_is_collected_anew(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """An attempt that ended again, later; an older request that comes after it is done with already."""
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        await running.collected()
        await running.send(collect(ended_at=BEGAN.replace(year=2027)))
        async with asyncio.timeout(30):
            while (await running.collected())["ended_at"].year != 2027:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await running.send(collect(ref("200")))
        await running.send(collect())
        await running.collected(ref("200"))
    assert provider.asked["log"] == 4


async def test_killed_in_the_middle_it_takes_up_what_is_left(
    database_url: str,
    amqp_url: str,
    intake: Intake,
    provider: PretendProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if the process died after publishing the second log: that one is published again, by the same id."""
    keep, kept = CollectionStore.keep_log, []

    async def die_once(self: CollectionStore, *args: Any, **options: Any) -> None:
        kept.append(args)
        if len(kept) == 2:
            raise ConnectionResetError("as if killed here")
        await keep(self, *args, **options)

    monkeypatch.setattr(CollectionStore, "keep_log", die_once)
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        done = await running.collected()
        await intake.settle()
    assert done["logs"] == 2
    assert (provider.asked["log 1"], provider.asked["log 3"]) == (1, 2)
    assert sorted(intake.ids().values()) == [1, 2]


async def test_one_log_that_fails_does_not_hold_up_the_others(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """It breaks off twice, and comes whole with the third try; the other one was kept at once."""
    provider.fails["log 1"] = [
        PollFailedError("unreachable", "It stopped."),
        PollFailedError("nonsense", "What?"),
    ]
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        done = await running.collected()
        await intake.settle()
    assert (done["logs"], done["detail"]) == (2, None)
    assert [fact.job_id for fact in intake.facts(BuildLogCapturedV1)] == ["3", "1"]
    assert provider.asked["log 3"] == 1


async def test_what_never_comes_is_a_dead_letter(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider, eventually: Any
) -> None:
    """With what could be had published, and the reason to be seen meanwhile."""
    provider.fails["log 1"] = [PollFailedError("server_error", "502.") for _ in range(9)]
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        await eventually(lambda: depth(amqp_url, COLLECT.dead), timeout=30)
        kept = await running.collection()
        await intake.settle()
    assert kept["status"] == "running"
    assert kept["detail"] == "the log of job 1: 502."
    assert [fact.job_id for fact in intake.facts(BuildLogCapturedV1)] == ["3"]


async def test_waiting_for_a_rate_limit_spends_no_attempt(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """More waits than there are tries: it is collected all the same."""
    provider.fails["build"] = [MustWaitError(0.1, "the reserve is reached") for _ in range(6)]
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        done = await running.collected()
    assert done["logs"] == 2


async def test_a_log_that_is_gone(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """Nothing to wait for: noted, and done."""
    del provider.logs["1"]
    async with station(database_url, amqp_url, provider) as running:
        await running.send(collect())
        done = await running.collected()
    assert (done["logs"], done["detail"]) == (1, "The log of job 1 has expired.")


@pytest.mark.parametrize(
    "pour",
    [
        poured(b"x" * 65_536, times=1000),
        poured(b"E   assert no\n" * 5000, times=1000),
        poured(b"\x00\xff\xfe\x1b]" * 16_000, times=1000),
        poured("main.c:1:1: error: no\r\n".encode("utf-16"), times=1),
        hanging(b"error: it hangs\n"),
    ],
    ids=["a line without end", "failures without end", "binary", "UTF-16", "a stream that hangs"],
)
async def test_whatever_a_log_is_the_others_flow_on(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider, pour: Any
) -> None:
    """Read as far as the limits let, kept as an excerpt of bounded size, in bounded memory."""
    provider.logs["1"], provider.runs["200"] = pour, a_build(ref("200"))
    async with station(database_url, amqp_url, provider, limits=SMALL) as running:
        tracemalloc.start()
        await running.send(collect())
        await running.send(collect(ref("200")))
        await running.collected()
        await running.collected(ref("200"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        await intake.settle()
    facts = intake.facts(BuildLogCapturedV1)
    assert {(fact.build.run_id, fact.job_id) for fact in facts} == {
        ("100", "1"), ("100", "3"), ("200", "1"), ("200", "3"),
    }  # fmt: skip
    assert all(len(fact.excerpt) <= LARGEST_EXCERPT for fact in facts)
    assert peak < 30_000_000


async def test_not_a_byte_in_time(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider, eventually: Any
) -> None:
    """A log that is silent fails alone."""
    provider.logs["1"] = hanging()
    limits = Limits(logs=LogLimits(most_seconds=0.2))
    async with station(database_url, amqp_url, provider, limits=limits) as running:
        await running.send(collect())
        await eventually(lambda: depth(amqp_url, COLLECT.dead), timeout=30)
        kept = await running.collection()
    assert "Nothing came of the log of job 1" in kept["detail"]
    assert kept["logs"] == 1


async def test_a_try_that_takes_too_long_goes_on_later(
    database_url: str, amqp_url: str, intake: Intake, provider: PretendProvider
) -> None:
    """What was done by then is remembered, and the message is given back long before RabbitMQ takes it away."""
    provider.its_jobs.reverse()
    stuck = [True]

    async def once() -> AsyncIterator[bytes]:
        if stuck.pop() if stuck else False:
            await asyncio.Event().wait()
        yield b"error: at last\n"

    provider.logs["1"] = once
    limits = Limits(logs=LogLimits(most_seconds=60.0), most_seconds=0.5)
    async with station(database_url, amqp_url, provider, limits=limits) as running:
        await running.send(collect())
        done = await running.collected()
    assert done["logs"] == 2
    assert provider.asked["log 3"] == 1


# -- whole logs


async def get(running: Station, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client:
        return await client.get(path, **options)


def path_of(job: str | None = None) -> str:
    return f"/api/v1/builds/{ref().build_id}" + (f"/jobs/{job}/log" if job else "/log")


async def test_a_whole_log(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    """As plain text, line by line as it is at its provider, but for control sequences and secrets."""
    async with station(database_url, amqp_url, provider) as running:
        answer = await get(running, path_of("1"))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    lines = answer.text.splitlines()
    assert len(lines) == LOG.decode().count("\n")
    assert "token [masked]" in lines
    assert "Run make test" in lines
    assert "\x1b" not in answer.text
    assert provider.opened == 0


async def test_the_steps_of_a_log(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    async with station(database_url, amqp_url, provider) as running:
        answer = await get(running, path_of("1"), params={"format": "steps"})
    body = answer.json()
    assert [(step["name"], step["failed"]) for step in body["steps"]] == [
        ("Set up job", False),
        ("Run make test", True),
        ("Post job cleanup", False),
        ("Cleaning up orphan processes", False),
    ]
    assert body["steps"][1]["duration_seconds"] > 0
    assert body["job_id"] == "1"


async def test_the_logs_of_all_jobs(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    """One after the other, each below its name; one that is gone says so."""
    del provider.logs["2"]
    async with station(database_url, amqp_url, provider) as running:
        text = (await get(running, path_of())).text
    assert [line for line in text.splitlines() if line.startswith("===== job")] == [
        "===== job 1 (1, failure)",
        "===== job 2 (2, success)",
        "===== job 3 (3, failure)",
    ]
    assert "(The log of job 2 has expired.)" in text
    assert text.endswith("make: *** [all] Error 2\n")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PollFailedError("server_error", "GitHub answered 500."), 502),
        (PollFailedError("not_found", "There is no acme/shop."), 404),
        (MustWaitError(30, "the provider asked to wait"), 503),
    ],
)
async def test_what_can_be_refused_is(
    database_url: str, amqp_url: str, provider: PretendProvider, error: Exception, status: int
) -> None:
    """Before the first byte a status says what is wrong."""
    provider.fails["log"] = [error]
    async with station(database_url, amqp_url, provider) as running:
        answer = await get(running, path_of("1"))
        assert answer.status_code == status
        assert answer.json()["error"]["message"]
        assert answer.headers.get("retry-after") == ("30" if status == 503 else None)
        assert (await get(running, path_of("99"))).status_code == 404
        strange = ref("999").build_id
        assert (await get(running, f"/api/v1/builds/{strange}/log")).status_code == 404
        for odd in ("%2E%2E", "a%2Fb", "a%00", "a%3Fb", "x" * 300):
            assert (await get(running, path_of(odd))).status_code in (404, 422)
    assert provider.asked["log"] == 2


async def test_a_log_that_breaks_off(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    """What came is sent, and then why it ends."""
    provider.logs["1"] = breaking(PollFailedError("unreachable", "GitHub stopped."), b"one\ntwo\n")
    async with station(database_url, amqp_url, provider) as running:
        text = (await get(running, path_of("1"))).text
    assert text.endswith("[the log ends here: GitHub stopped.]\n")


async def test_so_many_at_once_and_no_more(
    database_url: str, amqp_url: str, provider: PretendProvider, eventually: Any
) -> None:
    """A place is given back when a reader goes away in the middle of an endless log."""
    provider.logs["1"] = poured(b"and so on\n" * 2000, times=10_000_000)
    async with station(database_url, amqp_url, provider, at_once=1) as running:
        async with (
            httpx.AsyncClient(base_url=running.url, trust_env=False, timeout=20) as client,
            client.stream("GET", path_of("1")) as answer,
        ):
            await anext(answer.aiter_bytes())
            busy = await get(running, path_of("3"))
            assert busy.status_code == 503
            assert busy.headers["retry-after"] == "10"
        await eventually(lambda: provider.opened == 0, timeout=30)
        assert (await get(running, path_of("3"))).status_code == 200


async def test_a_log_is_cut_at_its_limit(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    provider.logs["1"] = poured(b"and so on\n" * 2000, times=10_000_000)
    async with station(database_url, amqp_url, provider, most_bytes=100_000) as running:
        text = (await get(running, path_of("1"))).text
    assert text.endswith("[the log is cut here: 100,000 bytes of it are shown]\n")


async def test_reading_may_need_a_key(database_url: str, amqp_url: str, provider: PretendProvider) -> None:
    """As every other read does then."""
    async with station(database_url, amqp_url, provider, reads_need_key=True) as running:
        assert (await get(running, path_of("1"))).status_code == 401
        await running.database.execute(
            "INSERT INTO api.keys (name, digest, scopes) VALUES ('a', sha256('reader-key'), ARRAY['read'])"
        )
        assert (await get(running, path_of("1"), headers={"X-API-Key": "reader-key"})).status_code == 200
