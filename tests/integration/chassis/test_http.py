"""The application every service shares, and its errors."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import asyncpg
import httpx
import pytest_asyncio
from fastapi import Body

from chassis.http import HttpError, make_app
from chassis.outage import Outage


@pytest_asyncio.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    app = make_app()

    @app.get("/fails/{how}")
    async def fails(how: str) -> None:
        raise {
            "away": Outage("postgres"),
            "refused": ConnectionRefusedError(111, "refused"),
            "file": FileNotFoundError(2, "no such file", "settings.yaml"),
            "sql": asyncpg.PostgresSyntaxError("at or near"),
            "nul": asyncpg.CharacterNotInRepertoireError("invalid byte sequence"),
            "ours": HttpError(409, "taken", kind="Taken", details={"by": "ada"}),
            "bug": ZeroDivisionError(),
        }[how]

    @app.post("/body")
    async def body(given: Annotated[Any, Body()]) -> Any:
        return given

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as opened:
        yield opened


async def test_outages_are_503_and_faults_are_500(client: httpx.AsyncClient) -> None:
    """A dependency that is away says when to come back; a bug says nothing of its inside."""
    for how, status, kind in (
        ("away", 503, "Unavailable"),
        ("refused", 503, "Unavailable"),
        ("file", 500, "InternalError"),
        ("sql", 500, "InternalError"),
        ("bug", 500, "InternalError"),
    ):
        answer = await client.get(f"/fails/{how}")
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), how
        assert (answer.headers.get("retry-after") == "5") == (status == 503)
        assert "settings.yaml" not in answer.text


async def test_what_no_column_can_hold_is_the_clients_fault(client: httpx.AsyncClient) -> None:
    """422, not a traceback that anyone can make."""
    answer = await client.get("/fails/nul")
    assert (answer.status_code, answer.json()["error"]["type"]) == (422, "ValidationError")


async def test_an_error_of_ours_tells_its_kind_and_details(client: httpx.AsyncClient) -> None:
    """The whole shape."""
    error = (await client.get("/fails/ours")).json()["error"]
    del error["timestamp"]
    assert error == {"message": "taken", "type": "Taken", "details": {"by": "ada"}, "path": "/fails/ours"}


async def test_no_documentation_is_fetched_from_elsewhere(client: httpx.AsyncClient) -> None:
    """FastAPI's own pages, which load scripts from the internet, are off."""
    for path in ("/docs", "/redoc"):
        assert (await client.get(path)).status_code == 404


async def test_a_body_that_says_it_is_too_large_is_refused_unread(client: httpx.AsyncClient) -> None:
    """By its Content-Length alone; a small one passes."""
    headers = {"Content-Length": str(11 * 1_048_576), "Content-Type": "application/json"}
    answer = await client.post("/body", content=b"{}", headers=headers)
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "TooLarge")
    assert (await client.post("/body", json={"a": 1})).json() == {"a": 1}
