"""Showing a verdict on a commit: as a check run when we are a GitHub App, else as a commit status."""

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from buildlight_contracts.commands import Annotation, PublishCheckV1
from services.poller.provider import Done, Refused, Target
from services.poller.providers.github.api import PAGE_SIZE, Api, object_of
from services.poller.providers.github.mapping import number_of, text_of

MOST_ANNOTATIONS = 50
"""Of one request; more are added by changing the check run again."""
_LONGEST_DESCRIPTION = 140
_MOST_PAGES = 10
_CHECK_ADVICE = "Give the GitHub App the permission `checks: write` and accept it at the installation."
_STATUS_ADVICE = "Give it `repo:status`, or `commit statuses: write`."
STATES: Mapping[str, str] = {"success": "success", "failure": "failure", "neutral": "success"}
"""A commit status knows no neutral: it must hold up nothing."""


async def publish_check_run(api: Api, target: Target, check: PublishCheckV1) -> Done | Refused:
    """Make a check run, fifty annotations a request. Asked again it goes on with what it has made."""
    sha = await _commit(api, target, check)
    if isinstance(sha, Refused):
        return sha
    made = await _made_before(api, target, check, sha)
    checks = f"{api.repository(target.name)}/check-runs"
    what = f"the checks of {target.name}"
    batches = batched(check.annotations, number_of(_output(made).get("annotations_count")) or 0)
    if made is None:
        body = _body(check, batches[0]) | {"name": check.name, "head_sha": sha}
        answer = await api.send("POST", checks, body, what, advice=_CHECK_ADVICE)
        if isinstance(answer, Refused):
            return answer
        made, batches = object_of(answer), batches[1:]
    number, url = number_of(made.get("id")), text_of(made.get("html_url"))
    for batch in batches:
        if batch:
            answer = await api.send(
                "PATCH", f"{checks}/{number}", _body(check, batch), what, advice=_CHECK_ADVICE
            )
            if isinstance(answer, Refused):
                return answer
    return Done(f"The check run {check.name} says {check.conclusion}.", url)


async def publish_status(api: Api, target: Target, check: PublishCheckV1) -> Done | Refused:
    """Set the commit's status of this name; it has room for one line and no annotations."""
    sha = await _commit(api, target, check)
    if isinstance(sha, Refused):
        return sha
    body = {
        "state": STATES[check.conclusion],
        "context": check.name,
        "description": short(check.title),
        "target_url": check.details_url,
    }
    answer = await api.send(
        "POST",
        f"{api.repository(target.name)}/statuses/{quote(sha, safe='')}",
        {name: value for name, value in body.items() if value is not None},
        f"commit {sha[:12]} of {target.name}",
        advice=_STATUS_ADVICE,
    )
    if isinstance(answer, Refused):
        return answer
    left_out = f" {len(check.annotations)} annotations are left out: they need a GitHub App."
    detail = f"The commit status {check.name} says {STATES[check.conclusion]}."
    return Done(detail + (left_out if check.annotations else ""), check.details_url)


def batched(annotations: Sequence[Annotation], already: int) -> list[tuple[Annotation, ...]]:
    """What is left of the annotations, in batches that one request takes; at least one, which may be empty."""
    left = tuple(annotations[already:])
    return [left[i : i + MOST_ANNOTATIONS] for i in range(0, len(left), MOST_ANNOTATIONS)] or [()]


def short(text: str) -> str:
    """As much as a commit status has room for."""
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_DESCRIPTION else line[: _LONGEST_DESCRIPTION - 3].rstrip() + "..."


def _body(check: PublishCheckV1, annotations: Sequence[Annotation]) -> dict[str, Any]:
    body: dict[str, Any] = {
        "status": "completed",
        "conclusion": check.conclusion,
        "external_id": str(check.request_id),
        "output": {
            "title": check.title,
            "summary": check.summary,
            "annotations": [
                {
                    "path": note.path,
                    "start_line": note.line,
                    "end_line": note.line,
                    "annotation_level": note.level,
                    "title": note.title,
                    "message": note.message,
                }
                for note in annotations
            ],
        },
    }
    return body if check.details_url is None else body | {"details_url": check.details_url}


async def _commit(api: Api, target: Target, check: PublishCheckV1) -> str | Refused:
    """The commit of the build as GitHub has it: what others say of a build must not choose it."""
    run = f"{api.repository(target.name)}/actions/runs/{check.build.run_id}"
    answer = await api.get(run, target.name)
    sha = text_of(object_of(answer).get("head_sha")) if answer.status == 200 else None
    return sha or Refused(
        f"GitHub has no run {check.build.run_id} of {target.name} (any more), so no commit to show a verdict on."
    )


async def _made_before(api: Api, target: Target, check: PublishCheckV1, sha: str) -> Mapping[str, Any] | None:
    """The check run that an earlier try of the same request has made: its answer may have been lost."""
    query = urlencode({"check_name": check.name, "filter": "all", "per_page": PAGE_SIZE})
    address = f"{api.repository(target.name)}/commits/{quote(sha, safe='')}/check-runs?{query}"
    async for _, rows in api.pages(address, target.name, key="check_runs", most=_MOST_PAGES):
        for row in rows:
            if isinstance(row, dict) and row.get("external_id") == str(check.request_id):
                return row
    return None


def _output(made: Mapping[str, Any] | None) -> Mapping[str, Any]:
    output = made.get("output") if made else None
    return output if isinstance(output, dict) else {}
