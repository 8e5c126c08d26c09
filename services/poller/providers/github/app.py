"""Being a GitHub App: the key signs for the App, and the App gets a token for each installation, good for an hour."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import SecretStr

from services.poller.calls import Answer, Calls
from services.poller.provider import PollFailedError
from services.poller.providers.github.api import Api, object_of

EARLY = timedelta(minutes=5)
"""A token is made again so long before it expires: a long download begins with one that lasts."""
NOT_BELIEVED = (
    "GitHub does not believe that we are the GitHub App. Check the App's id, that its private key is one of those "
    "listed on its page, and this machine's clock."
)
_SIGNED_FOR = timedelta(minutes=9)
"""GitHub takes ten minutes at most, counted by its own clock."""
_CLOCKS_DIFFER = timedelta(seconds=60)
_TRIES = 3


class BadKeyError(ValueError):
    """What was given as the App's private key is none; the text says what is expected."""


@dataclass(frozen=True, slots=True)
class AppKey:
    """What makes us a GitHub App. Without `installation_id` an owner's installation is asked for."""

    app_id: str
    """The App's id or its client id."""
    private_key: SecretStr
    """PEM; line breaks may be written as `\\n`, as they often are in the environment."""
    installation_id: str | None = None


class Signer:
    """Signs for the App. PyJWT and what it needs are loaded only here: most work with a token."""

    def __init__(self, key: AppKey) -> None:
        """Raises BadKeyError."""
        import jwt  # noqa: PLC0415 -- see above
        from jwt.algorithms import RSAAlgorithm  # noqa: PLC0415

        self._encode = jwt.encode
        self._app_id = key.app_id
        pem = key.private_key.get_secret_value().replace("\\n", "\n").strip() + "\n"
        try:
            self._key: Any = RSAAlgorithm(RSAAlgorithm.SHA256).prepare_key(pem)
            self.sign(datetime.now(UTC))
        except (ValueError, TypeError, AttributeError, jwt.PyJWTError):
            # Not what the library says: that may show some of the key.
            raise BadKeyError(
                "The App's private key is no RSA key in PEM. Make one on the App's page, under Private keys."
            ) from None

    def sign(self, now: datetime) -> str:
        """What proves for some minutes that we are the App."""
        claims = {
            "iat": int((now - _CLOCKS_DIFFER).timestamp()),
            "exp": int((now + _SIGNED_FOR - _CLOCKS_DIFFER).timestamp()),
            "iss": self._app_id,
        }
        return str(self._encode(claims, self._key, algorithm="RS256"))


class App:
    """The App itself, which may do little but make tokens for its installations."""

    def __init__(self, key: AppKey, calls: Callable[..., Calls]) -> None:
        """`calls(authorization=...)` makes the calls of an account. Raises BadKeyError."""
        self._key = key
        self._signer = Signer(key)
        self._api = Api(calls(authorization=self._headers), secrets=tuple, unauthorized=NOT_BELIEVED)

    @property
    def app_id(self) -> str:
        return self._key.app_id

    def of_one_installation(self) -> bool:
        """Whether all owners are seen with the same installation's token."""
        return self._key.installation_id is not None

    async def close(self) -> None:
        await self._api.calls.close()

    async def installation_of(self, owner: str) -> str:
        """The id of the App's installation at an organisation or a person.

        Raises:
            PollFailedError: also when the App is not installed there.
        """
        if self._key.installation_id is not None:
            return self._key.installation_id
        for kind in ("orgs", "users"):
            answer = await self._api.get(f"{self._api.calls.base_url}/{kind}/{owner}/installation", owner)
            if answer.status == 200:
                number = object_of(answer).get("id")
                if not isinstance(number, int):
                    raise PollFailedError(
                        "nonsense", f"The App's installation at {owner} has no id.", status=200
                    )
                return str(number)
        raise PollFailedError(
            "not_found",
            f"The GitHub App {self.app_id} is not installed at {owner}. Install it there, or take {owner}'s "
            "repositories out of GITHUB_REPOS.",
            status=404,
        )

    async def token(self, installation: str) -> tuple[str, datetime]:
        """A new token of an installation, and when it expires."""
        address = f"{self._api.calls.base_url}/app/installations/{installation}/access_tokens"
        answer = await self._made(address)
        if answer.status != 201:
            raise self._api.failure(answer, f"installation {installation} of the GitHub App {self.app_id}")
        body = object_of(answer)
        token, until = body.get("token"), body.get("expires_at")
        try:
            expires_at = datetime.fromisoformat(until if isinstance(until, str) else "")
        except ValueError:
            expires_at = datetime.now(UTC) + timedelta(hours=1)
        if not isinstance(token, str) or not token:
            raise PollFailedError(
                "nonsense", "GitHub made a token for the App and did not tell it.", status=201
            )
        return token, expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)

    async def _made(self, address: str) -> Answer:
        """A token more than was needed does no harm: so this is tried again, unlike other changes."""
        for left in range(_TRIES - 1, -1, -1):
            try:
                return await self._api.calls.send("POST", address)
            except PollFailedError as failure:
                if failure.reason != "unreachable" or not left:
                    raise
                await asyncio.sleep(0.3)
        raise AssertionError("the last try returns or raises")

    async def _headers(self) -> Mapping[str, str]:
        return {"authorization": f"Bearer {self._signer.sign(datetime.now(UTC))}"}


class Installation:
    """The App's token for one owner: made when it is first needed, and again before it expires.

    GitHub's ETags are good for one token only. After a change of token each page that is asked for with its old
    ETag comes back whole, once, and brings the ETag it has for the new one.
    """

    def __init__(self, app: App, owner: str) -> None:
        self._app = app
        self._owner = owner
        self._one = asyncio.Lock()
        self._id: str | None = None
        self._token = ""
        self._until = datetime.min.replace(tzinfo=UTC)

    async def headers(self) -> Mapping[str, str]:
        async with self._one:
            if not self._token or self._until - EARLY <= datetime.now(UTC):
                if self._id is None:
                    self._id = await self._app.installation_of(self._owner)
                try:
                    self._token, self._until = await self._app.token(self._id)
                except PollFailedError as failure:
                    if failure.reason == "not_found":
                        self._id = None  # uninstalled, and perhaps installed again
                    raise
            return {"authorization": f"Bearer {self._token}"}

    def renew(self) -> None:
        """Drop the token: GitHub has refused it."""
        self._token = ""

    def secrets(self) -> Collection[str]:
        return (self._token,) if self._token else ()
