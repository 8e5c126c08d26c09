"""What a delivered webhook is: genuine or not, which body it has, which delivery it is. Pure decisions."""

import base64
import hashlib
import hmac
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol
from urllib.parse import parse_qs

from services.poller.provider import Target
from services.poller.seen import Seen
from services.poller.webhook_settings import WebhookSettings, signing_key

LONGEST_ID = 255
"""Characters of a delivery's id or an event's name; no provider's have half as many."""
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_LONGEST_TOLD = 80


@dataclass(frozen=True, slots=True)
class Letter:
    """A request as it came. `headers` finds names in any case; `token` is what the address carried as `token=`."""

    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    token: str | None = None


@dataclass(frozen=True, slots=True)
class Genuine:
    by: str


@dataclass(frozen=True, slots=True)
class Refused:
    """`reason` says for a person what is wrong and what to do, and never shows a secret."""

    kind: Literal["unsigned", "forged"]
    reason: str


Check = Callable[[Letter], Genuine | Refused]


class FactsOf(Protocol):
    """A provider's mapping: pure; raises ValueError for a body that names no build and no job."""

    def __call__(self, event: str, body: Any, *, instance: str) -> Seen: ...


@dataclass(frozen=True, slots=True)
class Door:
    """Where one provider's webhooks come in."""

    provider: str
    instance: str
    facts_of: FactsOf
    check: Check
    event_header: str | None
    """Names the event; without one the body itself tells."""
    id_headers: tuple[str, ...]
    """Any of them names the delivery, the first one there counts."""
    takes_forms: bool = False


class BadBodyError(ValueError):
    """The body cannot be read; the text says for a person why not."""


# -- who sent it


class GitHubSignature:
    """`X-Hub-Signature-256`: HMAC-SHA256 of the body with one of the secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._keys = tuple(secret.encode() for secret in secrets)

    def __call__(self, letter: Letter) -> Genuine | Refused:
        told = letter.headers.get("x-hub-signature-256", "")
        if not told:
            return Refused(
                "unsigned",
                "no X-Hub-Signature-256: set a secret at the webhook, the one in "
                "BUILDLIGHT_GITHUB_WEBHOOK_SECRET",
            )
        if not self._keys:
            return _nothing_to_check_with("GITHUB", "BUILDLIGHT_GITHUB_WEBHOOK_SECRET")
        if _any_matches(
            _raw(told),
            (
                b"sha256=" + hmac.new(key, letter.body, hashlib.sha256).hexdigest().encode()
                for key in self._keys
            ),
        ):
            return Genuine("signature")
        return Refused(
            "forged",
            "X-Hub-Signature-256 is not this body's: the webhook's secret is none of "
            "BUILDLIGHT_GITHUB_WEBHOOK_SECRET, or the body was changed on its way",
        )


class GitLabSignature:
    """A signature by Standard Webhooks where there is one, else the shared secret in `X-Gitlab-Token`."""

    def __init__(
        self, secrets: Iterable[str], signing_tokens: Iterable[str], *, tolerance_seconds: float
    ) -> None:
        self._secrets = tuple(secret.encode() for secret in secrets)
        self._keys = tuple(map(signing_key, signing_tokens))
        self._tolerance = tolerance_seconds

    def __call__(self, letter: Letter) -> Genuine | Refused:
        signatures = letter.headers.get("webhook-signature", "")
        token = letter.headers.get("x-gitlab-token", "")
        if signatures and self._keys:
            return self._signed(letter, signatures)
        if token and self._secrets:
            if _any_matches(_raw(token), self._secrets):
                return Genuine("token")
            return Refused("forged", "X-Gitlab-Token is none of BUILDLIGHT_GITLAB_WEBHOOK_SECRET")
        if not self._secrets and not self._keys and (signatures or token):
            return _nothing_to_check_with(
                "GITLAB", "BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN or BUILDLIGHT_GITLAB_WEBHOOK_SECRET"
            )
        wanted = "webhook-signature" if self._keys else "X-Gitlab-Token"
        return Refused("unsigned", f"no {wanted}: set a signing token or a secret token at the webhook")

    def _signed(self, letter: Letter, signatures: str) -> Genuine | Refused:
        number, told_at = letter.headers.get("webhook-id", ""), letter.headers.get("webhook-timestamp", "")
        if not number or not told_at.isascii() or not told_at.isdigit() or len(told_at) > 12:
            return Refused(
                "forged", "webhook-id and webhook-timestamp (in seconds) belong to webhook-signature"
            )
        away = letter.received_at.timestamp() - int(told_at)
        signed = b".".join((_raw(number), told_at.encode(), letter.body))
        expected = [
            b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()) for key in self._keys
        ]
        matches = [_any_matches(_raw(one), expected) for one in signatures.split()[:10]]
        if not any(matches):
            return Refused(
                "forged",
                "webhook-signature is not this body's: the webhook's signing token is none of "
                "BUILDLIGHT_GITLAB_WEBHOOK_SIGNING_TOKEN",
            )
        if abs(away) > self._tolerance:
            return Refused(
                "forged",
                f"webhook-timestamp is {abs(away):.0f} s {'old' if away > 0 else 'ahead'}; "
                f"{self._tolerance:.0f} s are allowed: check both clocks",
            )
        return Genuine("signature")


class SharedToken:
    """Jenkins signs nothing: a token in `X-Jenkins-Token`, or in the address as `?token=`."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secret.encode() for secret in secrets)

    def __call__(self, letter: Letter) -> Genuine | Refused:
        header = letter.headers.get("x-jenkins-token", "")
        told = _raw(header) if header else (letter.token or "").encode(errors="replace")
        if not told:
            return Refused(
                "unsigned",
                "no token: put ?token=..., the one in BUILDLIGHT_JENKINS_WEBHOOK_SECRET, to the address",
            )
        if not self._secrets:
            return _nothing_to_check_with("JENKINS", "BUILDLIGHT_JENKINS_WEBHOOK_SECRET")
        if _any_matches(told, self._secrets):
            return Genuine("token")
        return Refused("forged", "the token is none of BUILDLIGHT_JENKINS_WEBHOOK_SECRET")


def or_unsigned(check: Check) -> Check:
    """`check`, but for what comes without any signature: the operator allowed that by name."""

    def lenient(letter: Letter) -> Genuine | Refused:
        verdict = check(letter)
        return Genuine("nothing") if isinstance(verdict, Refused) and verdict.kind == "unsigned" else verdict

    return lenient


def _nothing_to_check_with(provider: str, variables: str) -> Refused:
    return Refused(
        "forged",
        f"there is no secret to check it with: set {variables}, or allow unsigned ones by "
        f"BUILDLIGHT_WEBHOOKS_UNSIGNED={provider.lower()}",
    )


def _any_matches(told: bytes, expected: Iterable[bytes]) -> bool:
    """Compares with each of them, in constant time, and with all whichever matches."""
    return any([hmac.compare_digest(told, one) for one in expected])  # noqa: C419 -- no short cut


def _raw(header: str) -> bytes:
    """The bytes a header came in."""
    return header.encode("latin-1", "replace")


# -- what it says


def body_of(content_type: str, content_encoding: str, body: bytes, *, takes_forms: bool) -> dict[str, Any]:
    """The JSON object in a body.

    Raises:
        BadBodyError: another type, compressed, not UTF-8, no JSON, no object, or one that says a thing twice.
    """
    media, _, parameters = content_type.partition(";")
    media = media.strip().lower()
    if content_encoding.strip().lower() not in ("", "identity"):
        raise BadBodyError(f"Content-Encoding {_told(content_encoding)}: bodies are taken uncompressed")
    charset = parameters.lower().partition("charset=")[2].partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise BadBodyError(f"charset {_told(charset)}: JSON is sent in UTF-8")
    if media == _FORM and takes_forms:
        body = _from_form(body)
    elif media != _JSON and not (media.startswith("application/") and media.endswith("+json")):
        taken = f"{_JSON} or {_FORM}" if takes_forms else _JSON
        raise BadBodyError(f"Content-Type {_told(content_type) or 'missing'}: send {taken}")
    try:
        found = json.loads(body.decode(), object_pairs_hook=_once_each, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise BadBodyError(f"the body is not UTF-8: byte {error.start:,} of {len(body):,}") from None
    except RecursionError:
        raise BadBodyError("the body is nested too deep") from None
    except ValueError as error:
        raise BadBodyError(f"the body of {len(body):,} bytes is not JSON: {_told(str(error))}") from None
    if not isinstance(found, dict):
        raise BadBodyError("the body is JSON, but no object")
    return found


def _from_form(body: bytes) -> bytes:
    """The field `payload` of GitHub's other content type."""
    try:
        # Signature first, then this: the signature is over the form as it was sent.
        fields = parse_qs(
            body.decode("ascii"),
            strict_parsing=True,
            errors="strict",
            max_num_fields=10,
            keep_blank_values=True,
        )
    except ValueError as error:
        raise BadBodyError(f"the body is no form: {_told(str(error))}") from None
    payload = fields.get("payload", [])
    if len(payload) != 1:
        raise BadBodyError("the form has no field payload, or several")
    return payload[0].encode()


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"{_told(repr(twice))} stands more than once in one object")
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _told(text: str) -> str:
    return text if len(text) <= _LONGEST_TOLD else f"{text[:_LONGEST_TOLD]}..."


def event_of(door: Door, letter: Letter) -> str:
    """The event's name as the provider says it, "" where it says none.

    Raises:
        BadBodyError: it is too long to be one.
    """
    return _short(letter, door.event_header) if door.event_header else ""


def key_of(door: Door, letter: Letter) -> bytes | None:
    """By which a delivery is known again: over its id and its body. None where the provider gives no id.

    The id is not signed, so that an id seen before with another body is another delivery.

    Raises:
        BadBodyError: the id is too long to be one.
    """
    for header in door.id_headers:
        if number := _short(letter, header):
            body = hashlib.sha256(letter.body).digest()
            return hashlib.sha256(f"{door.provider}/{door.instance}\0{number}\0".encode() + body).digest()
    return None


def _short(letter: Letter, header: str) -> str:
    value = letter.headers.get(header, "")
    if len(value) > LONGEST_ID:
        raise BadBodyError(f"{header} has {len(value):,} characters; {LONGEST_ID} are read")
    return value


# -- which build it is about


def among(targets: Iterable[Target], wanted: Target) -> Target | None:
    """The one of `targets` that is meant; upper and lower case are one, but not to Jenkins."""
    for target in targets:
        if (target.provider, target.instance) == (wanted.provider, wanted.instance) and _folded(
            target
        ) == _folded(wanted):
            return target
    return None


def _folded(target: Target) -> str:
    return target.name if target.provider == "jenkins" else target.name.casefold()


# -- put together


def doors(
    settings: WebhookSettings, instances: Mapping[str, str], facts_of: Mapping[str, FactsOf]
) -> tuple[Door, ...]:
    """The doors of the providers whose webhooks have a meaning."""

    def opened(provider: str, check: Check, *, event: str | None, ids: tuple[str, ...]) -> Iterable[Door]:
        if provider in facts_of:
            lenient = provider in settings.webhooks_unsigned
            yield Door(
                provider,
                instances[provider],
                facts_of[provider],
                or_unsigned(check) if lenient else check,
                event,
                ids,
                takes_forms=provider == "github",
            )

    def plain(secrets: Iterable[Any]) -> list[str]:
        return [secret.get_secret_value() for secret in secrets]

    gitlab = GitLabSignature(
        plain(settings.gitlab_webhook_secrets),
        plain(settings.gitlab_webhook_signing_tokens),
        tolerance_seconds=settings.webhook_tolerance_seconds,
    )
    return (
        *opened(
            "github",
            GitHubSignature(plain(settings.github_webhook_secrets)),
            event="x-github-event",
            ids=("x-github-delivery",),
        ),
        *opened(
            "gitlab",
            gitlab,
            event="x-gitlab-event",
            ids=("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
        ),
        *opened("jenkins", SharedToken(plain(settings.jenkins_webhook_secrets)), event=None, ids=()),
    )
