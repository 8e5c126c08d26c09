"""The poller's HTTP side: the providers' webhooks, and the older systems' paths for them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import Counter
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from buildlight_contracts import older as older_bodies
from buildlight_contracts.builds import BuildObservedV1
from buildlight_contracts.catalogue import BadMessage
from buildlight_contracts.commands import RefreshBuildV1
from buildlight_contracts.envelope import Fact
from chassis.broker import Broker
from chassis.database import Pool
from chassis.http import HttpError
from chassis.keys import requires
from chassis.outage import Outage
from chassis.retry import Permanent
from services.poller import older, webhooks
from services.poller.attempt_store import AttemptStore
from services.poller.attempts import is_to_be_looked_at
from services.poller.deliveries import Deliveries
from services.poller.metrics import FACTS
from services.poller.provider import Target
from services.poller.seen import Seen
from services.poller.webhook_settings import OLDER_PATHS, WebhookSettings
from services.poller.webhooks import BadBodyError, Door, FactsOf, Letter

READ_SECONDS = 10.0
"""How long a body may take to arrive."""
ANSWER_SECONDS = 8.0
"""Providers hang up after ten."""
MOST_IN_HAND_BYTES = 32 * 1_048_576
"""Of all bodies that are being read or worked on at once; more are asked to come later."""
REFRESH_LIFETIME = timedelta(minutes=5)
_AT_ONCE = 50

WEBHOOKS = Counter(
    "buildlight_poller_webhooks_total",
    "Webhooks by what came of them: accepted, duplicate, ignored, unsigned, forged, malformed, too_large or busy.",
    ["provider", "outcome"],
)

Watched = Callable[[str, str, str], Awaitable[Target | None]]
"""Finds, by provider, instance and name, what is polled."""

log = structlog.get_logger()


class Answer(BaseModel):
    accepted: int = Field(description="How many facts it carried; RabbitMQ has them.", examples=[1])
    refreshes: int = Field(default=0, description="How many builds will be looked at because of it.")
    ignored: str | None = Field(default=None, description="Why nothing came of it, or of a part of it.")


class Hands:
    """Counts the bytes of the bodies in hand, so that many large ones at once cannot fill the memory."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0

    @contextmanager
    def load(self) -> Iterator[Callable[[int], int]]:
        """Give what takes so many bytes more, and tells how many there are; all are put down at the end.

        Taking raises HttpError 503 when it is too much for now.
        """
        held = 0

        def take(size: int) -> int:
            nonlocal held
            if self._held + size > self._most:
                message = "too much at once; try again shortly"
                raise HttpError(503, message, kind="Unavailable", headers={"Retry-After": "5"})
            self._held += size
            held += size
            return held

        try:
            yield take
        finally:
            self._held -= held


class Reception:
    """Takes one webhook to its end: read, checked, mapped, published, remembered."""

    def __init__(
        self,
        broker: Broker,
        deliveries: Deliveries,
        attempts: AttemptStore,
        watched: Watched,
        *,
        largest_bytes: int,
    ) -> None:
        self._broker = broker
        self._attempts = attempts
        self._deliveries = deliveries
        self._watched = watched
        self._largest = largest_bytes
        self._hands = Hands(MOST_IN_HAND_BYTES)

    async def receive(self, door: Door, request: Request, token: str | None) -> Answer:
        """The answer when everything it told is safe with RabbitMQ.

        Raises:
            HttpError: what is wrong with it. Outage: it was not taken, or not surely, and may come again.
        """
        try:
            # What is not even signed is not worth reading.
            _refuse(door.check(Letter(request.headers, b"", datetime.now(UTC), token)), only="unsigned")
            with self._hands.load() as take:
                body = await self._read(request, take)
                letter = Letter(request.headers, body, datetime.now(UTC), token)
                answer, outcome = await self._take(door, letter)
        except HttpError as error:
            log.info("webhook refused", provider=door.provider, kind=error.kind, reason=error.detail)
            WEBHOOKS.labels(door.provider, _OUTCOMES.get(error.kind or "", "malformed")).inc()
            raise
        WEBHOOKS.labels(door.provider, outcome).inc()
        return answer

    async def receive_older(
        self, request: Request, provider: str, instance: str, read: Callable[[dict[str, Any]], Seen]
    ) -> Answer:
        """The same for what an older system posts, whose key has been checked."""
        with self._hands.load() as take:
            body = _json(request, await self._read(request, take))
            try:
                seen = read(body)
            except (older.BadOlderError, BadMessage) as error:
                raise HttpError(422, str(error), kind="ValidationError") from None
            async with _in_time():
                seen = await self._without_doubles(provider, instance, seen)
                return await self.publish(provider, instance, seen)

    async def _without_doubles(self, provider: str, instance: str, seen: Seen) -> Seen:
        """Of a run that is polled, what was posted without its ids would be a second build: it is only looked at."""
        polled = tuple([p for p in seen.refresh if await self._watched(provider, instance, p[0])])
        posted = all(
            isinstance(fact, BuildObservedV1) and fact.build.instance == older_bodies.INSTANCE
            for fact in seen.facts
        )
        return Seen(() if polled and posted else seen.facts, polled)

    async def _read(self, request: Request, take: Callable[[int], int]) -> bytes:
        length = request.headers.get("content-length", "")
        declared = int(length) if length.isascii() and length.isdigit() and len(length) < 20 else 0
        pieces: list[bytes] = []
        try:
            async with asyncio.timeout(READ_SECONDS):
                if declared > self._largest:
                    raise _too_large(self._largest)
                async for piece in request.stream():
                    if take(len(piece)) > self._largest:
                        raise _too_large(self._largest)
                    pieces.append(piece)
        except TimeoutError:
            raise HttpError(
                408, f"the body took longer than {READ_SECONDS:.0f} s", kind="Malformed"
            ) from None
        except ClientDisconnect:
            raise HttpError(400, "the body ends early", kind="Malformed") from None
        return b"".join(pieces)

    async def _take(self, door: Door, letter: Letter) -> tuple[Answer, str]:
        _refuse(door.check(letter))
        try:
            event, key = webhooks.event_of(door, letter), webhooks.key_of(door, letter)
        except BadBodyError as error:
            raise HttpError(400, str(error), kind="Malformed") from None
        body = _json(letter, letter.body, takes_forms=door.takes_forms)
        async with _in_time():
            if key is not None and await self._deliveries.has(key):
                return Answer(accepted=0, ignored="this delivery was taken before"), "duplicate"
            try:
                seen = door.facts_of(event, body, instance=door.instance)
            except ValueError as error:
                seen = Seen(ignored=str(error))
            answer = await self.publish(door.provider, door.instance, seen)
            # Killed before this, a second delivery publishes again, and the log has it once.
            if key is not None:
                await self._deliveries.keep(key, door.provider)
        return answer, "accepted" if answer.accepted or answer.refreshes else "ignored"

    async def publish(self, provider: str, instance: str, seen: Seen) -> Answer:
        """Publish what was told, confirmed: the facts first, then a refresh of each build that is polled."""
        notes = [seen.ignored] if seen.ignored else []
        accepted = 0
        facts, looks = await self._sorted(seen.facts)
        for start in range(0, len(facts), _AT_ONCE):
            told = await asyncio.gather(*(self._record(f) for f in facts[start : start + _AT_ONCE]))
            accepted += sum(note is None for note in told)
            notes += [note for note in told if note is not None]
        refreshes = 0
        for name, run_id in dict.fromkeys((*seen.refresh, *looks)):
            target = await self._watched(provider, instance, name)
            if target is None:
                notes.append(f"{name} is not polled: what was told is kept, nothing is fetched")
            else:
                await self._refresh(target, run_id)
                refreshes += 1
        return Answer(accepted=accepted, refreshes=refreshes, ignored="; ".join(notes[:3]) or None)

    async def _sorted(self, told: Sequence[Fact]) -> tuple[list[Fact], list[tuple[str, str]]]:
        """What is published as it was told, and the runs to look at instead: see `is_to_be_looked_at`."""
        facts: list[Fact] = []
        looks: list[tuple[str, str]] = []
        for fact in told:
            if isinstance(fact, BuildObservedV1) and await self._is_for_a_look(fact):
                looks.append((fact.repository, fact.build.run_id))
            else:
                facts.append(fact)
        return facts, looks

    async def _is_for_a_look(self, build: BuildObservedV1) -> bool:
        if build.state.is_terminal:
            return False
        if not is_to_be_looked_at(build, await self._attempts.one(build.build.build_id)):
            return False
        # What nobody polls is told by its webhooks alone.
        return await self._watched(build.build.provider, build.build.instance, build.repository) is not None

    async def _record(self, fact: Fact) -> str | None:
        try:
            await self._broker.record(fact)
        except Permanent as error:
            # Too large for any queue: its neighbours are none the worse for it.
            log.warning("webhook's fact refused", type=fact.type, reason=str(error))
            return str(error)
        except LookupError as error:
            raise Outage("rabbitmq", str(error)) from error
        FACTS.labels(fact.type).inc()
        return None

    async def _refresh(self, target: Target, run_id: str) -> None:
        now = datetime.now(UTC)
        command = RefreshBuildV1(
            provider=target.provider,
            instance=target.instance,
            target=target.name,
            run_id=run_id,
            priority="high",
            reason="webhook",
            due_at=now,
        )
        try:
            await self._broker.command(command, expires_at=now + REFRESH_LIFETIME)
        except LookupError as error:
            raise Outage("rabbitmq", str(error)) from error


_OUTCOMES = {"Unsigned": "unsigned", "Forged": "forged", "TooLarge": "too_large", "Unavailable": "busy"}


def _json(told: Request | Letter, body: bytes, *, takes_forms: bool = False) -> dict[str, Any]:
    headers = told.headers
    try:
        return webhooks.body_of(
            headers.get("content-type", ""),
            headers.get("content-encoding", ""),
            body,
            takes_forms=takes_forms,
        )
    except BadBodyError as error:
        raise HttpError(400, str(error), kind="Malformed") from None


def _refuse(verdict: webhooks.Genuine | webhooks.Refused, *, only: str | None = None) -> None:
    if isinstance(verdict, webhooks.Refused) and only in (None, verdict.kind):
        status = 401 if verdict.kind == "unsigned" else 403
        raise HttpError(status, verdict.reason, kind=verdict.kind.title())


def _too_large(largest: int) -> HttpError:
    return HttpError(
        413, f"a webhook may have {largest:,} bytes; the poll will see the build", kind="TooLarge"
    )


@asynccontextmanager
async def _in_time() -> AsyncIterator[None]:
    """Turn what takes too long into an outage: the provider must hear of it before it hangs up."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except TimeoutError as error:
        raise Outage("a server of ours", f"no answer within {ANSWER_SECONDS:.0f} s") from error


def router(
    settings: WebhookSettings,
    instances: Mapping[str, str],
    facts_of: Mapping[str, FactsOf],
    watched: Watched,
    pool: Pool,
    broker: Broker,
) -> APIRouter:
    """`POST /webhooks/<provider>`, and the older systems' `/api/webhook/*`.

    By provider: `instances` has the name of its installation, `facts_of` what its webhooks mean; one without
    has no address.
    """
    reception = Reception(
        broker, Deliveries(pool), AttemptStore(pool), watched, largest_bytes=settings.webhook_max_bytes
    )
    routes = APIRouter(tags=["webhooks"])

    def add(door: Door) -> None:
        async def receive(request: Request, token: Annotated[str | None, Query()] = None) -> Answer:
            return await reception.receive(door, request, token)

        routes.add_api_route(
            f"/webhooks/{door.provider}",
            receive,
            methods=["POST"],
            status_code=202,
            name=f"{door.provider}_webhook",
            openapi_extra=_body({"type": "object"}),
            summary=f"A webhook of {door.provider}",
            description="202 once RabbitMQ has what it told; sending it again is harmless. "
            "503 with Retry-After while a server of ours is away.",
        )

    for door in webhooks.doors(settings, instances, facts_of):
        add(door)

    def key(path: str) -> list[Any]:
        return [] if path in settings.open_paths else [Depends(requires("write", pool))]

    github, jenkins = OLDER_PATHS
    posted = _body(older_bodies.OlderBuild.model_json_schema())

    @routes.post(
        github, status_code=202, dependencies=key(github), tags=["older paths"], openapi_extra=posted
    )
    async def older_github(request: Request) -> Answer:
        """A run of GitHub Actions as older systems post it: see docs/webhooks.md."""
        instance = instances["github"]

        def read(body: dict[str, Any]) -> Seen:
            return older.github(body, instance=instance)

        return await reception.receive_older(request, "github", instance, read)

    @routes.post(
        jenkins, status_code=202, dependencies=key(jenkins), tags=["older paths"], openapi_extra=posted
    )
    async def older_jenkins(request: Request) -> Answer:
        """A build of Jenkins's as older systems post it: see docs/webhooks.md."""

        def read(body: dict[str, Any]) -> Seen:
            # Its plug-in posts here as well, and is understood as at its own address.
            if "jenkins" in facts_of and older.is_notification(body):
                return facts_of["jenkins"]("", body, instance=instances["jenkins"])
            return older.jenkins(body)

        instance = instances.get("jenkins", older_bodies.INSTANCE)
        return await reception.receive_older(request, "jenkins", instance, read)

    return routes


def _body(schema: dict[str, Any]) -> dict[str, Any]:
    """For OpenAPI: the routes read their bodies themselves."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}
