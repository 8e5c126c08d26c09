"""Test reports over HTTP, on real servers."""

from typing import Any

from aio_pika.abc import AbstractChannel

from chassis.database import Pool
from tests.integration.ingest.conftest import Eventually
from tests.integration.ingest.test_ingest_http import client, logged
from tests.unit.reports.zips import REPORT, zipped

QUERY: dict[str, Any] = {
    "provider": "github",
    "instance": "api.github.com",
    "repository_id": "815",
    "run_id": "42",
    "attempt": 2,
    "repository": "acme/shop",
    "branch": "main",
    "job": "test",
    "source": "target/TEST-a.xml",
}
PATH = "/api/v1/test-reports"


async def test_a_report(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """202 with what was read; the facts are in the log, once however often the same bytes are sent."""
    async with client(amqp_url, database_url, "write") as http:
        answers = [await http.post(PATH, params=QUERY, content=REPORT) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [202, 202], answers[0].text
        (report,) = answers[0].json()["reports"]
        assert report == answers[1].json()["reports"][0]
        assert (report["format"], report["source"], report["totals"]["tests"]) == (
            "junit",
            "target/TEST-a.xml",
            1,
        )
        # Something after it, so that a second copy would be there by now.
        await http.post(PATH, params=QUERY | {"run_id": "43"}, content=REPORT)

        async def arrived() -> bool:
            return len(await logged(service_pool)) >= 2

        await eventually(arrived, timeout=30)
    first, second = await logged(service_pool)
    assert first["type"] == "dev.buildlight.test_report.observed.v1"
    assert first["data"]["report_id"] == report["report_id"]
    assert (first["data"]["last"], first["data"]["job"], first["data"]["build"]["attempt"]) == (
        True,
        "test",
        2,
    )
    assert [case["name"] for case in first["data"]["cases"]] == ["a"]
    assert second["data"]["build"]["run_id"] == "43"


async def test_an_archive(
    amqp_url: str, database_url: str, service_pool: Pool, channel: AbstractChannel, eventually: Eventually
) -> None:
    """Every report in it; one that cannot be read is told and recorded as refused."""
    body = zipped({"a.xml": REPORT, "bad.xml": b"oh", "logo.png": b"\x89PNG"})
    async with client(amqp_url, database_url, "write") as http:
        answer = await http.post(PATH, params=QUERY | {"source": "up.zip"}, content=body)
        assert answer.status_code == 202
        assert [report["source"] for report in answer.json()["reports"]] == ["up.zip/a.xml"]
        assert [refused["source"] for refused in answer.json()["refused"]] == ["up.zip/bad.xml"]

        async def arrived() -> bool:
            return len(await logged(service_pool)) == 2

        await eventually(arrived, timeout=30)
    assert {row["type"] for row in await logged(service_pool)} == {
        "dev.buildlight.test_report.observed.v1",
        "dev.buildlight.test_report.refused.v1",
    }


async def test_what_is_refused(amqp_url: str, database_url: str, channel: AbstractChannel) -> None:
    """No report is 400, an unreadable one and a missing parameter 422, a key without the scope 403."""
    dangerous = b'<!DOCTYPE x [<!ENTITY a "b">]><testsuite/>'
    async with client(amqp_url, database_url, "write") as http:
        none = await http.post(PATH, params=QUERY, content=b"<project/>")
        bad = await http.post(PATH, params=QUERY, content=dangerous)
        unnamed = await http.post(PATH, params={"provider": "github"}, content=REPORT)
    assert [answer.status_code for answer in (none, bad, unnamed)] == [400, 422, 422]
    assert "document type" in bad.json()["error"]["message"]
    assert "run_id" in unnamed.json()["error"]["message"]
    async with client(amqp_url, database_url, "read") as http:
        assert (await http.post(PATH, params=QUERY, content=REPORT)).status_code == 403


async def test_sizes(amqp_url: str, database_url: str, channel: AbstractChannel) -> None:
    """Larger than what others may send, up to its own limit; nobody else's limit grows."""
    async with client(amqp_url, database_url, "write", report_bytes=12_000_000) as http:
        answers = [
            await http.post(path, params=QUERY, content=b" " * size)
            for path, size in ((PATH, 11_000_000), (PATH, 13_000_000), ("/events", 11_000_000))
        ]
    assert [answer.status_code for answer in answers] == [422, 413, 413]
    assert "12,000,000" in answers[1].json()["error"]["message"]
