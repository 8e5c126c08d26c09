"""A small client of Buildlight's own HTTP API, for the command line."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
from dotenv import dotenv_values

RUNNING = Path(".buildlight")
"""Where `buildlight up` leaves the address and the admin key of what it runs."""

_NOT_FOUND = 404


class ClientError(Exception):
    """What the server said was wrong, or that it cannot be reached. `status` is its HTTP status, if any."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Client:
    def __init__(self, url: str, key: str | None) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False)
        self._url = url

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """BUILDLIGHT_URL and BUILDLIGHT_API_KEY; else what `buildlight up` left in this folder."""
        left = dotenv_values(RUNNING / "env") if (RUNNING / "env").exists() else {}
        url = environ.get("BUILDLIGHT_URL") or left.get("BUILDLIGHT_URL") or "http://127.0.0.1:8080"
        key = environ.get("BUILDLIGHT_API_KEY")
        key_file = RUNNING / "admin-key"
        # This machine's key goes to what runs on this machine, and nowhere else.
        if not key and url == left.get("BUILDLIGHT_URL") and key_file.exists():
            key = key_file.read_text(encoding="utf-8").strip()
        return cls(url, key)

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.request("GET", path, params=query)

    def find(self, path: str) -> Any:
        """As `get`; None when there is no such thing, or not yet."""
        try:
            # Not a subclass's, which may end the program instead.
            return Client.request(self, "GET", path)
        except ClientError as error:
            if error.status != _NOT_FOUND:
                raise
            return None

    def post(self, path: str, body: Any) -> Any:
        return self.request("POST", path, json=body)

    def upload(self, path: str, file: Path, query: Mapping[str, Any]) -> Any:
        """Send a file as it is, a piece at a time; raises as `request` does."""
        with file.open("rb") as content:
            return self.request(
                "POST",
                path,
                params=query,
                content=content,
                headers={"Content-Type": "application/octet-stream"},
                timeout=httpx.Timeout(30, read=600),
            )

    def request(self, method: str, path: str, **options: Any) -> Any:
        """The answer's JSON.

        Raises:
            ClientError: the server is not there, or refused.
        """
        try:
            response = self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None
        if response.is_error:
            raise _refused(response)
        return response.json()

    def stream(self, path: str) -> Iterator[bytes]:
        """The answer's bytes as they come; raises as `request` does, also while they come."""
        try:
            with self._http.stream("GET", path, timeout=httpx.Timeout(30, read=300)) as response:
                if response.is_error:
                    response.read()
                    raise _refused(response)
                yield from response.iter_bytes()
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _unreachable(self, error: httpx.TransportError) -> ClientError:
        return ClientError(
            f"cannot reach {self._url}: {error}. Is `buildlight up` running? Set BUILDLIGHT_URL."
        )


def _refused(response: httpx.Response) -> ClientError:
    try:
        message = response.json()["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = response.text[:200]
    return ClientError(f"{response.status_code}: {message}", response.status_code)
