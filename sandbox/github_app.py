"""A GitHub App and its installations: who it is, and the tokens it gets."""

import base64
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.budget import Budget
from sandbox.catalogue import Person
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_search import RefusalError
from sandbox.ledger import Ledger

APP_ID = 4242
CLIENT_ID = "Iv23liSandboxApp0001"
TOKEN_SECONDS = 3600.0
_LONGEST_SECONDS = 600.0
_CLOCKS_DIFFER = 60.0
KEPT = 1_000

Answer = tuple[int, Any, dict[str, str]]


@dataclass(slots=True)
class Given:
    """A token that an installation was given."""

    owner: str
    until: float
    budget: Budget


@dataclass(slots=True)
class Apps:
    """The App is installed at every owner of repositories; an installation has one budget for all its tokens."""

    lookup: Lookup
    ledger: Ledger
    limit: int
    public_key: str | None = None
    """PEM. Without it whatever is signed is believed, as long as its claims are right."""
    token_seconds: float = TOKEN_SECONDS
    tokens: dict[str, Given] = field(default_factory=dict)
    budgets: dict[str, Budget] = field(default_factory=dict)

    def given(self, token: str) -> Given | None:
        """What a token is good for, while it is."""
        given = self.tokens.get(token)
        return given if given is not None and given.until > time.time() else None

    def revoke(self) -> None:
        """Refuse all tokens that were given so far."""
        self.tokens.clear()

    def require(self, token: str) -> None:
        """Believe that the App itself asks, or refuse in GitHub's words."""
        claims = _claims(token)
        if claims is None or not self._is_signed(token):
            raise RefusalError(401, "A JSON web token could not be decoded")
        now = time.time()
        until, since = claims.get("exp"), claims.get("iat")
        if str(claims.get("iss")) not in (str(APP_ID), CLIENT_ID):
            raise RefusalError(404, "Integration not found")
        if not isinstance(until, int) or until <= now:
            raise RefusalError(401, "'Expiration time' claim ('exp') must be a numeric value in the future")
        if until > now + _LONGEST_SECONDS + _CLOCKS_DIFFER:
            raise RefusalError(401, "'Expiration time' claim ('exp') is too far in the future")
        if not isinstance(since, int) or since > now + _CLOCKS_DIFFER:
            raise RefusalError(401, "'Issued at' claim ('iat') must be an Integer representing a past time")

    def _is_signed(self, token: str) -> bool:
        if self.public_key is None:
            return True
        import jwt  # noqa: PLC0415 -- only for those who want signatures to be looked at

        try:
            jwt.decode(token, self.public_key, algorithms=["RS256"], options={"verify_exp": False})
        except jwt.PyJWTError:
            return False
        return True

    def installation(self, request: Request) -> Answer:
        owner = str(request.path_params["owner"])
        if "repo" in request.path_params:
            self.lookup.known(request)
        elif not self.lookup.repositories(owner):
            raise NOT_FOUND
        return 200, _installation(owner, base_of(request)), {}

    def create_token(self, request: Request) -> Answer:
        owners = {name.split("/")[0] for name in self.lookup.repositories()}
        owner = next(
            (one for one in sorted(owners) if number_of(one) == request.path_params["installation"]), None
        )
        if owner is None:
            raise NOT_FOUND
        token, until = f"ghs_{secrets.token_hex(18)}", time.time() + self.token_seconds
        budget = self.budgets.setdefault(owner, Budget(self.limit))
        self.tokens[token] = Given(owner, until, budget)
        if len(self.tokens) > KEPT:
            del self.tokens[next(iter(self.tokens))]
        self.ledger.effect("github", "installation_token", owner=owner)
        body = {
            "token": token,
            "expires_at": shapes.iso(until),
            "permissions": {"actions": "write", "checks": "write", "metadata": "read"},
            "repository_selection": "all",
        }
        return 201, body, {}


def number_of(owner: str) -> int:
    """The id of the App's installation at an owner."""
    return 51_000 + sum(byte * (place + 1) for place, byte in enumerate(owner.lower().encode()))


def _installation(owner: str, base: str) -> shapes.Body:
    """An `installation`."""
    number = number_of(owner)
    url = f"{base}/app/installations/{number}"
    return {
        "id": number,
        "account": shapes.user(Person(owner, owner, 9000 + sum(owner.encode()), "Organization"), base),
        "repository_selection": "all",
        "access_tokens_url": f"{url}/access_tokens",
        "repositories_url": f"{base}/installation/repositories",
        "html_url": f"{base}/organizations/{owner}/settings/installations/{number}",
        "app_id": APP_ID,
        "app_slug": "buildlight-sandbox",
        "target_id": 9000 + sum(owner.encode()),
        "target_type": "Organization",
        "permissions": {"actions": "write", "checks": "write", "metadata": "read"},
        "events": ["workflow_job", "workflow_run"],
        "created_at": "2026-01-09T15:30:00.000Z",
        "updated_at": "2026-01-09T15:30:00.000Z",
        "single_file_name": None,
        "suspended_by": None,
        "suspended_at": None,
    }


def _claims(token: str) -> dict[str, Any] | None:
    parts = token.split(".")
    if len(parts) != 3 or not parts[2]:
        return None
    try:
        head, claims = (
            json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2]
        )
    except ValueError:
        return None
    return (
        claims if isinstance(claims, dict) and isinstance(head, dict) and head.get("alg") == "RS256" else None
    )
