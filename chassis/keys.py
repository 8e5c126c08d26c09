"""API keys: who may do what. Only their SHA-256 is ever stored.

The scopes are `read`, `write` (bring in events and reports, ask for backfills and repositories), `act` (have a CI
provider act on builds, with the provider's token) and `admin`; none includes another. The keys are the api
service's; every service asks through its published functions `api.check_key` and `api.identify_key`.
"""

import hashlib
from collections.abc import Awaitable, Callable

from starlette.requests import HTTPConnection

from chassis.database import Pool
from chassis.http import HttpError

COOKIE = "buildlight_key"


def digest(key: str) -> bytes:
    """What is stored of a key. Keys are long and random, so one plain hash is enough."""
    return hashlib.sha256(key.encode()).digest()


def key_of(connection: HTTPConnection, *, cookie: bool = False) -> str | None:
    """The key a request or WebSocket came with: `Authorization: Bearer`, `X-API-Key`, or (`cookie`) the cookie.

    The cookie is for a browser's reads only: a browser sends it along with requests that other sites make.
    """
    scheme, _, credentials = connection.headers.get("authorization", "").partition(" ")
    bearer = credentials if scheme.lower() == "bearer" else ""
    key = bearer.strip() or connection.headers.get("x-api-key", "").strip()
    return key or (connection.cookies.get(COOKIE) if cookie else None) or None


async def check(key: str | None, scope: str, pool: Pool) -> None:
    """Let a key with `scope` (`read`, `write`, `act` or `admin`) pass.

    Raises:
        HttpError: 401 without a key or with one that is unknown or revoked, 403 when it lacks the scope.
    """
    _expect(scope, await pool.fetchval("SELECT api.check_key($1)", digest(_given(key))))


async def holder(key: str | None, scope: str, pool: Pool) -> str:
    """The name of a key that has `scope`; raises as `check` does."""
    row = await pool.fetchrow("SELECT name, scopes FROM api.identify_key($1)", digest(_given(key)))
    _expect(scope, row["scopes"] if row else None)
    assert row is not None
    return str(row["name"])


def _given(key: str | None) -> str:
    if key is None:
        raise HttpError(
            401,
            "This needs an API key: send `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return key


def _expect(scope: str, scopes: list[str] | None) -> None:
    if scopes is None:
        raise HttpError(401, "This API key is not known", headers={"WWW-Authenticate": "Bearer"})
    if scope not in scopes:
        raise HttpError(403, f"This API key lacks the scope {scope!r}")


def requires(scope: str, pool: Pool) -> Callable[[HTTPConnection], Awaitable[None]]:
    """A FastAPI dependency that raises what `check` does."""

    async def dependency(connection: HTTPConnection) -> None:
        await check(key_of(connection, cookie=scope == "read"), scope, pool)

    return dependency


def identifies(scope: str, pool: Pool) -> Callable[[HTTPConnection], Awaitable[str]]:
    """A FastAPI dependency that gives the name of the key, and raises what `check` does. Takes no cookie."""

    async def dependency(connection: HTTPConnection) -> str:
        return await holder(key_of(connection), scope, pool)

    return dependency
