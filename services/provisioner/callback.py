"""Telling the control plane how a run stands."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import httpx

from chassis.outage import Outage
from chassis.retry import Permanent, Transient
from services.provisioner.store import Run

TIMEOUT_SECONDS = 10.0


def report(run: Run, steps: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The body: all of it each time, so that the newest is enough."""
    return {
        "run_id": run.run_id,
        "status": run.outcome or run.status,
        "steps": [{name: _json(value) for name, value in step.items()} for step in steps],
        "error": run.error,
        "repository_url": run.project_url,
        "project_id": run.project_id,
        "commit_sha": run.commit_sha,
        "worker_id": run.worker_id,
        "created_at": _json(run.created_at),
        "started_at": _json(run.started_at),
        "finished_at": _json(run.finished_at),
    }


async def send(url: str, api_key: str | None, body: Mapping[str, Any], *, idempotency_key: str) -> None:
    """PATCH one run's report.

    Raises:
        Permanent: refused for good; the text says what to do.
        Transient: 429, 5xx, an answer that is slow or breaks off.
        Outage: no connection to it can be made.
    """
    address = f"{url.rstrip('/')}/api/v1/provisioning/runs/{quote(str(body['run_id']), safe='')}"
    headers = {"idempotency-key": idempotency_key} | ({"x-api-key": api_key} if api_key else {})
    try:
        async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS) as client:
            answer = await client.patch(address, json=dict(body), headers=headers)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise Outage("control plane", type(error).__name__) from error
    except httpx.TransportError as error:
        raise Transient(f"The control plane did not answer a call-back: {type(error).__name__}") from error
    if answer.is_success:
        return
    said = f"The control plane answered {answer.status_code} to a call-back"
    if answer.status_code == 429 or answer.status_code >= 500:
        wait = answer.headers.get("retry-after", "")
        raise Transient(said, retry_after_seconds=float(wait) if wait.isdecimal() else None)
    if answer.status_code in {401, 403}:
        raise Permanent(f"{said}: set CONTROL_PLANE_API_KEY to a key that it takes, then replay this")
    raise Permanent(f"{said}: look whether CONTROL_PLANE_URL is right, then replay this")


def _json(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
