"""What older systems post to `/api/webhook/*`, as facts. Pure.

Two shapes come: the short one of `buildlight_contracts.older`, and what the older worker sends, a row of the
provider's API inside a frame like a webhook's. GitHub's row has the real ids, and so is the poll's own fact.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from buildlight_contracts.catalogue import explain
from buildlight_contracts.older import OlderBuild, observed
from services.poller.providers.github.mapping import BadRowError, build_of
from services.poller.seen import Seen

_RUN = re.compile(r"/actions/runs/(\d{1,19})(?:/|$)")


class BadOlderError(ValueError):
    """The body is of no shape that is read; the text names the fields."""


def github(body: Mapping[str, Any], *, instance: str) -> Seen:
    """A run of GitHub Actions.

    With the provider's ids it is recorded as the provider's; else, as it was posted. Either way `refresh`
    names the run, where its number can be told.

    Raises:
        BadOlderError: it is of neither shape.
    """
    run = body.get("workflow_run")
    if not isinstance(run, dict):
        build = _read(body)
        return Seen((observed(build, "github"),), _refresh(build))
    place = _part(body, "repository")
    row = {**run, "repository": run.get("repository") or place}
    try:
        fact = build_of(row, instance=instance, repository=_text(place, "full_name"))
    except BadRowError:
        build = _read(_short(run, place))
        return Seen((observed(build, "github"),), _refresh(build))
    return Seen((fact,), ((fact.repository, fact.build.run_id),))


def jenkins(body: Mapping[str, Any]) -> Seen:
    """A build of Jenkins's, as it was posted.

    Raises:
        BadOlderError: it is of neither shape.
    """
    row = body.get("build")
    if not isinstance(row, dict):
        return Seen((observed(_read(body), "jenkins"),))
    begun, lasted = row.get("timestamp"), row.get("duration")
    is_going = row.get("building") is True or row.get("result") is None
    told = {
        "pipeline": body.get("name"),
        "repo": body.get("name"),
        "status": "in_progress" if is_going else row.get("result"),
        "started_at": _milliseconds(begun),
        "duration_seconds": lasted / 1000 if isinstance(lasted, int) and not is_going else None,
        "url": row.get("url"),
    }
    return Seen((observed(_read(told), "jenkins"),))


def is_notification(body: Mapping[str, Any]) -> bool:
    """Whether it comes from Jenkins's notification plug-in: it tells phases, which the API does not."""
    return "phase" in _part(body, "build")


def _short(run: Mapping[str, Any], place: Mapping[str, Any]) -> dict[str, Any]:
    """A run without all its ids, in the short shape."""
    ended = run.get("status") == "completed" or run.get("conclusion") is not None
    return {
        "pipeline": run.get("name") or run.get("path"),
        "repo": place.get("full_name") or place.get("name"),
        "branch": run.get("head_branch"),
        "status": run.get("conclusion") or run.get("status"),
        "started_at": run.get("run_started_at") or run.get("created_at"),
        "completed_at": run.get("updated_at") if ended else None,
        "url": run.get("html_url"),
    }


def _read(body: Mapping[str, Any]) -> OlderBuild:
    try:
        return OlderBuild.model_validate(body)
    except ValidationError as error:
        raise BadOlderError(explain(error)) from None


def _refresh(build: OlderBuild) -> tuple[tuple[str, str], ...]:
    found = _RUN.search(build.url or "")
    return ((build.repo, found[1]),) if found else ()


def _part(body: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = body.get(key)
    return part if isinstance(part, dict) else {}


def _text(part: Mapping[str, Any], key: str) -> str:
    value = part.get(key)
    return value if isinstance(value, str) else ""


def _milliseconds(value: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(value / 1000, UTC) if isinstance(value, int) else None
    except (ValueError, OverflowError, OSError):
        return None
