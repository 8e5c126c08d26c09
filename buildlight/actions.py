"""`buildlight rerun` and `buildlight cancel`: ask for an action on a build, and wait for what comes of it."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from uuid import uuid4

PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.5
Told = Mapping[str, Any]
"""As the API answers at `/api/v1/actions/{request_id}`."""


class Api(Protocol):
    def find(self, path: str) -> Any: ...

    def request(self, method: str, path: str, **options: Any) -> Any: ...


def ask(client: Api, action: str, build_id: str, body: Mapping[str, Any] | None = None) -> Told:
    """Ask for it, and return how it stands: as accepted, when that is all there is to see yet."""
    accepted = client.request(
        "POST",
        f"/api/v1/builds/{build_id}/{action}",
        json=body or {},
        headers={"Idempotency-Key": str(uuid4())},
    )
    return _look(client, {"detail": None, "url": None, **accepted})


def follow(
    client: Api,
    told: Told,
    *,
    patience_seconds: float = PATIENCE_SECONDS,
    sleep: Callable[[float], None] = time.sleep,
) -> Told:
    """How it stands once it is settled, or when the patience is over."""
    looks = round(patience_seconds / _LOOK_SECONDS)
    for _ in range(looks):
        if told["status"] != "queued":
            return told
        sleep(_LOOK_SECONDS)
        told = _look(client, told)
    return told


def _look(client: Api, told: Told) -> Told:
    """How it stands now. An API beside the one that accepted it knows nothing of it until a poller has begun."""
    now: Told | None = client.find(f"/api/v1/actions/{told['request_id']}")
    return told if now is None else now


def in_words(told: Told) -> str:
    """What came of it, in a line."""
    if told["status"] == "queued":
        return f"queued as {told['request_id']}; look at /api/v1/actions/{told['request_id']}"
    where = f" ({told['url']})" if told["url"] else ""
    return f"{told['status']}: {told['detail']}{where}"
