"""The providers' webhooks: what changes in the company is told to whoever asked, as well or as badly as they do.

A provider's part is a `Source`: called again and again, it gives what has changed since, as deliveries ready
but for the signature.  They are `github_hooks`, `gitlab_hooks` and `jenkins_hooks`, in the table in `company`.
"""

import asyncio
import base64
import hashlib
import hmac
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

import httpx

from sandbox.timeline import dice

PROVIDERS: Final = ("github", "gitlab", "jenkins")
TICK_SECONDS: Final = 0.1
TIMEOUT_SECONDS: Final = 10.0
MOST_WAITING: Final = 2000
KEPT_DELIVERIES: Final = 500
GITLAB_FAILURES: Final = 4
"""So many in a row, and GitLab pauses a hook: for a minute, then twice as long each time, up to a day."""
GITLAB_FIRST_PAUSE: Final = 60.0
GITLAB_LONGEST_PAUSE: Final = 86_400.0

CHANCES: Final = ("dropped", "twice", "late", "out_of_order", "unsigned", "forged")


class HookError(ValueError):
    """An order that cannot be carried out; the text says what can."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to a hook: the body's exact bytes, and the provider's headers but for the signature."""

    event: str
    body: bytes
    headers: Mapping[str, str]
    id: str
    """In its header, too; for a person who wants it delivered again."""


Source = Callable[[str], Iterable[Delivery]]
"""Given the provider's address, for links: what has changed since it was last asked. Asked first, nothing has."""


@dataclass
class Hook:
    """Where one provider's deliveries go.  The chances are between 0 and 1, each on its own."""

    number: int
    provider: str
    url: str
    base: str
    secret: str = ""
    signing_token: str = ""
    """GitLab's `whsec_...`; with it deliveries are signed by Standard Webhooks."""
    dropped: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    late_seconds: float = 5.0
    out_of_order: float = 0.0
    """Some wait up to a second, and others overtake them."""
    unsigned: float = 0.0
    forged: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    recent: deque[Delivery] = field(default_factory=lambda: deque(maxlen=KEPT_DELIVERIES))
    failures: int = 0
    paused_until: float = 0.0
    pause: float = GITLAB_FIRST_PAUSE

    def shown(self) -> dict[str, Any]:
        """For a person: everything but the secrets."""
        hidden = {"secret", "signing_token", "counts", "recent", "pause", "base"}
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in hidden}
        return settings | {
            "counts": dict(self.counts),
            "recent": [{"id": one.id, "event": one.event} for one in self.recent],
        }


def signature(hook: Hook, delivery: Delivery, *, forged: bool) -> dict[str, str]:
    """The headers by which the receiver knows who sends; `forged` makes them with another secret."""
    secret = "not the secret" if forged else hook.secret
    if hook.provider == "github":
        digest = hmac.new(secret.encode(), delivery.body, hashlib.sha256).hexdigest()
        return {"X-Hub-Signature-256": f"sha256={digest}"} if secret else {}
    if hook.provider == "gitlab":
        return ({"X-Gitlab-Token": secret} if secret else {}) | _standard(hook, delivery, forged=forged)
    return {"X-Jenkins-Token": secret} if secret else {}


def _standard(hook: Hook, delivery: Delivery, *, forged: bool) -> dict[str, str]:
    """The headers of Standard Webhooks, where the hook has a signing token."""
    if not hook.signing_token:
        return {}
    key = b"forged" if forged else base64.b64decode(hook.signing_token.removeprefix("whsec_"))
    now = str(int(time.time()))
    signed = b".".join((delivery.id.encode(), now.encode(), delivery.body))
    digest = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return {"webhook-id": delivery.id, "webhook-timestamp": now, "webhook-signature": f"v1,{digest}"}


class Hooks:
    """The hooks on order, and who carries them out."""

    def __init__(self, seed: int, sources: Mapping[str, Source]) -> None:
        self._dice = dice("webhooks", seed)
        self._sources = sources
        self._hooks: list[Hook] = []
        self._made = 0
        self._waiting: dict[int, asyncio.Queue[Delivery]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: httpx.AsyncClient | None = None

    def order(self, script: dict[str, Any], bases: Mapping[str, str]) -> Hook:
        """Add a hook; from now on it is told what changes.

        Raises:
            HookError: the order makes no sense.
        """
        provider, url = script.get("provider"), script.get("url")
        if not isinstance(provider, str) or provider not in self._sources:
            raise HookError(f'"provider" must be one of {", ".join(self._sources)}')
        if not isinstance(url, str) or not url.startswith(("http://", "https://")):
            raise HookError('"url" must be an address to deliver to')
        texts, numbers = {"secret", "signing_token"}, {*CHANCES, "late_seconds"}
        unknown = set(script) - {"provider", "url"} - texts - numbers
        if unknown:
            raise HookError(f"unknown: {', '.join(sorted(unknown))}")
        for name in set(script) & numbers:
            value = script[name]
            if not isinstance(value, int | float) or value < 0 or (name in CHANCES and value > 1):
                raise HookError(f'"{name}" must be a number{" between 0 and 1" if name in CHANCES else ""}')
        if provider == "jenkins" and script.get("secret") and "token=" not in url:
            # Its plug-ins set no headers: the token is part of the address.
            url += f"{'&' if '?' in url else '?'}token={quote(script['secret'])}"
        if not self._hooks_of(provider):
            list(self._sources[provider](bases[provider]))
        self._made += 1
        given = {name: script[name] for name in texts | numbers if name in script}
        hook = Hook(self._made, provider, url, bases[provider], **given)
        self._hooks.append(hook)
        return hook

    def clear(self) -> None:
        self._hooks.clear()
        for queue in self._waiting.values():
            while not queue.empty():
                queue.get_nowait()

    def listing(self) -> list[dict[str, Any]]:
        return [hook.shown() for hook in self._hooks]

    def redeliver(self, delivery_id: str) -> bool:
        """Deliver one again, as a person may ask GitHub to; False when it is not known any more."""
        for hook in self._hooks:
            for delivery in tuple(hook.recent):
                if delivery.id == delivery_id:
                    self._spawn(self._send(hook, delivery))
                    return True
        return False

    async def run(self) -> None:
        """Watch and deliver until cancelled."""
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False) as http:
            self._http = http
            try:
                while True:
                    self._look()
                    await asyncio.sleep(TICK_SECONDS)
            finally:
                for task in self._tasks:
                    task.cancel()
                await asyncio.gather(*self._tasks, return_exceptions=True)

    def _hooks_of(self, provider: str) -> list[Hook]:
        return [hook for hook in self._hooks if hook.provider == provider]

    def _look(self) -> None:
        for provider, source in self._sources.items():
            hooks = self._hooks_of(provider)
            if not hooks:
                continue
            for delivery in source(hooks[0].base):
                for hook in hooks:
                    self._fate(hook, delivery)

    def _fate(self, hook: Hook, delivery: Delivery) -> None:
        """Decide what becomes of a delivery: sent in its turn, late, twice, or not at all."""
        hook.recent.append(delivery)
        hook.counts["made"] += 1
        if self._chance(hook.dropped):
            hook.counts["dropped"] += 1
            return
        for _ in range(2 if self._chance(hook.twice) else 1):
            hook.counts["sent"] += 1
            if self._chance(hook.late):
                self._spawn(self._send(hook, delivery, after=hook.late_seconds))
            elif self._chance(hook.out_of_order):
                self._spawn(self._send(hook, delivery, after=self._dice.uniform(0.0, 1.0)))
            else:
                self._queue(hook, delivery)

    def _queue(self, hook: Hook, delivery: Delivery) -> None:
        if hook.number not in self._waiting:
            self._waiting[hook.number] = asyncio.Queue(MOST_WAITING)
            self._spawn(self._deliver(hook, self._waiting[hook.number]))
        try:
            self._waiting[hook.number].put_nowait(delivery)
        except asyncio.QueueFull:
            hook.counts["dropped"] += 1

    async def _deliver(self, hook: Hook, queue: asyncio.Queue[Delivery]) -> None:
        while True:
            await self._send(hook, await queue.get())

    async def _send(self, hook: Hook, delivery: Delivery, *, after: float = 0.0) -> None:
        await asyncio.sleep(after)
        if hook.paused_until > time.time():
            hook.counts["paused"] += 1
            return
        headers = dict(delivery.headers)
        if self._chance(hook.unsigned):
            hook.counts["unsigned"] += 1
        else:
            forged = self._chance(hook.forged)
            hook.counts["forged"] += forged
            headers |= signature(hook, delivery, forged=forged)
        assert self._http is not None
        try:
            answer = await self._http.post(hook.url, content=delivery.body, headers=headers)
            status = str(answer.status_code)
        except httpx.HTTPError:
            status = "unreachable"
        hook.counts[f"answered {status}"] += 1
        self._learn(hook, failed=not status.startswith("2"))

    @staticmethod
    def _learn(hook: Hook, *, failed: bool) -> None:
        """GitLab pauses a hook that fails; the others go on as if nothing were."""
        hook.failures = hook.failures + 1 if failed else 0
        if not failed:
            hook.pause = GITLAB_FIRST_PAUSE
        elif hook.provider == "gitlab" and hook.failures >= GITLAB_FAILURES:
            hook.paused_until = time.time() + hook.pause
            hook.pause = min(GITLAB_LONGEST_PAUSE, hook.pause * 2)

    def _chance(self, chance: float) -> bool:
        return chance > 0 and self._dice.random() < chance

    def _spawn(self, work: Any) -> None:
        if len(self._tasks) >= MOST_WAITING:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def delivery_id(*parts: object) -> str:
    """An id in the shape of a UUID, the same for the same change."""
    return str(UUID(bytes=hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:16], version=4))
