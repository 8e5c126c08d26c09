"""Uploaded reports leave the rest of ingest its turn, and have their limits."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from typing import cast

import httpx

from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import make_app
from services.ingest.http_reports import PATH, UploadLimits, router
from tests.unit.reports.zips import REPORT, zipped

QUERY = {
    "provider": "github",
    "instance": "api.github.com",
    "repository_id": "8",
    "run_id": "4",
    "repository": "acme/shop",
}


class Keys:
    async def fetchval(self, *_: object) -> list[str]:
        return ["write"]


class Log:
    def __init__(self) -> None:
        self.facts: list[object] = []

    async def record(self, fact: object) -> None:
        self.facts.append(fact)


def client(limits: UploadLimits | None = None, log: Log | None = None) -> httpx.AsyncClient:
    app = make_app()
    app.include_router(router(cast("Pool", Keys()), cast("Broker", log or Log()), limits))
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://ingest", headers={"x-api-key": "k"}, timeout=60
    )


async def slowly(begun: asyncio.Event, hold: asyncio.Event) -> AsyncIterator[bytes]:
    begun.set()
    yield REPORT[:10]
    await hold.wait()
    yield REPORT[10:]


async def test_others_have_their_turn() -> None:
    """A few bytes that inflate to megabytes: the loop goes round with every 64 KiB of them."""
    plain = b"<testsuite name='s'>" + b"<testcase classname='c' name='n'/>" * 100_000 + b"</testsuite>"
    turns, over = 0, False

    async def count() -> None:
        nonlocal turns
        while not over:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with client() as http:
        answer = await http.post(PATH, params=QUERY | {"source": "a.xml.gz"}, content=gzip.compress(plain))
    over = True
    await counting
    assert answer.status_code == 202, answer.text
    assert answer.json()["reports"][0]["totals"]["tests"] == 100_000
    assert turns >= len(plain) // 65_536


async def test_so_many_at_one_time() -> None:
    """One too many waits, and is then told to come again; with a place it is read."""
    begun, hold = asyncio.Event(), asyncio.Event()
    async with client(UploadLimits(at_once=1, wait_seconds=0.3)) as http:
        first = asyncio.create_task(http.post(PATH, params=QUERY, content=slowly(begun, hold)))
        await begun.wait()
        busy = await http.post(PATH, params=QUERY, content=REPORT)
        hold.set()
        assert (await first).status_code == 202
        again = await http.post(PATH, params=QUERY, content=REPORT)
    assert (busy.status_code, busy.headers["Retry-After"]) == (503, "10")
    assert again.status_code == 202


async def test_an_upload_takes_so_long_at_most() -> None:
    """A body that does not come is not waited for, and gives its place back."""
    async with client(UploadLimits(at_once=1, most_seconds=2.0)) as http:
        late = await http.post(PATH, params=QUERY, content=slowly(asyncio.Event(), asyncio.Event()))
        assert late.status_code == 408
        assert "send the same again" in late.json()["error"]["message"]
        assert (await http.post(PATH, params=QUERY, content=REPORT)).status_code == 202


async def test_not_all_that_is_refused_is_told() -> None:
    """Of an archive of files that cannot be read the first are named, and all are counted and recorded."""
    log = Log()
    async with client(log=log) as http:
        body = zipped({f"{n}.xml": b"oh" for n in range(70)})
        answer = await http.post(PATH, params=QUERY | {"source": "up.zip"}, content=body)
    assert answer.status_code == 422
    details = answer.json()["error"]["details"]
    assert (len(details["refused"]), details["refused_count"], len(log.facts)) == (50, 70, 70)
