"""What GitHub can be asked to do: run again, cancel, delete; check runs and commit statuses."""

import json
import re
import time
from typing import Any

from starlette.requests import Request

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.catalogue import PEOPLE
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_search import RefusalError, link, paging
from sandbox.ledger import Ledger
from sandbox.shelves import Shelf

Answer = tuple[int, Any, dict[str, str]]
MOST_ANNOTATIONS = 50
KEPT = 5_000
_CONCLUSIONS = (
    "action_required",
    "cancelled",
    "failure",
    "neutral",
    "success",
    "skipped",
    "stale",
    "timed_out",
)
_LEVELS = ("notice", "warning", "failure")


class Changes:
    """Endpoints that change something; what was really done is in the ledger."""

    def __init__(self, lookup: Lookup, ledger: Ledger) -> None:
        self._lookup = lookup
        self._ledger = ledger
        self._checks: dict[int, shapes.Body] = {}
        self._statuses: dict[tuple[str, str], list[shapes.Body]] = {}
        self._next = 70_000_000

    # -- runs

    def rerun(self, request: Request) -> Answer:
        return self._rerun(request, failed_only=False)

    def rerun_failed(self, request: Request) -> Answer:
        return self._rerun(request, failed_only=True)

    def _rerun(self, request: Request, *, failed_only: bool) -> Answer:
        full_name, run_id, shelf, status = self._run(request)
        if status != "completed":
            raise RefusalError(403, "This workflow is already running")
        jobs = shelf.job_states(full_name, run_id, shelf.attempts(full_name, run_id)[-1])
        if failed_only and all(job.conclusion in ("success", "skipped") for job in jobs):
            raise RefusalError(403, "This workflow run cannot be retried")
        shelf.rerun(full_name, run_id, PEOPLE[0], failed_only=failed_only)
        self._ledger.effect("github", "rerun", repository=full_name, run=run_id, failed_only=failed_only)
        return 201, {}, {}

    def cancel(self, request: Request) -> Answer:
        full_name, run_id, shelf, status = self._run(request)
        if status == "completed":
            raise RefusalError(409, "Cannot cancel a workflow run that is completed.")
        shelf.cancel(full_name, run_id)
        self._ledger.effect("github", "cancel", repository=full_name, run=run_id)
        return 202, {}, {}

    def delete(self, request: Request) -> Answer:
        full_name, run_id, shelf, status = self._run(request)
        if status != "completed":
            raise RefusalError(403, "Cannot delete a workflow run that is not completed")
        shelf.delete(full_name, run_id)
        self._ledger.effect("github", "delete", repository=full_name, run=run_id)
        return 204, None, {}

    def _run(self, request: Request) -> tuple[str, int, Shelf, str | None]:
        full_name, run_id = self._lookup.full_name(request), request.path_params["run_id"]
        shelf, row = self._lookup.row(full_name, run_id)
        if shelf.state(full_name, run_id) is None:
            raise RefusalError(403, "Must have admin rights to Repository.")  # only recorded
        return full_name, run_id, shelf, row.status

    # -- check runs

    def create_check(self, request: Request) -> Answer:
        full_name, body = self._lookup.known(request), _json(request)
        owner = _installation(request)
        for name in ("name", "head_sha"):
            if not isinstance(body.get(name), str) or not body[name]:
                raise RefusalError(422, f'Invalid request.\n\n"{name}" wasn\'t supplied.')
        self._next += 1
        check = {
            "id": self._next,
            "node_id": shapes.node_id("CR", self._next),
            "head_sha": body["head_sha"],
            "name": body["name"],
            "repository": full_name,
            "owner": owner,
            "started_at": shapes.iso(time.time()),
            "annotations": [],
        }
        self._checks[self._next] = check
        if len(self._checks) > KEPT:
            del self._checks[next(iter(self._checks))]
        self._change(check, body)
        self._ledger.effect("github", "check_run", repository=full_name, **_told(check))
        return 201, self._check(check, base_of(request)), {}

    def update_check(self, request: Request) -> Answer:
        full_name, body = self._lookup.known(request), _json(request)
        _installation(request)
        check = self._checks.get(request.path_params["check_id"])
        if check is None or check["repository"] != full_name:
            raise NOT_FOUND
        self._change(check, body)
        self._ledger.effect("github", "check_run_update", repository=full_name, **_told(check))
        return 200, self._check(check, base_of(request)), {}

    def check(self, request: Request) -> Answer:
        full_name = self._lookup.known(request)
        check = self._checks.get(request.path_params["check_id"])
        if check is None or check["repository"] != full_name:
            raise NOT_FOUND
        return 200, self._check(check, base_of(request)), {}

    def checks_of_commit(self, request: Request) -> Answer:
        full_name, query = self._lookup.known(request), request.query_params
        found = [
            check
            for check in reversed(self._checks.values())
            if check["repository"] == full_name
            and check["head_sha"] == request.path_params["sha"]
            and query.get("check_name") in (None, check["name"])
        ]
        if query.get("filter", "latest") == "latest":
            found = list({check["name"]: check for check in reversed(found)}.values())
        page, per_page = paging(request)
        base = base_of(request)
        bodies = [self._check(check, base) for check in found[(page - 1) * per_page : page * per_page]]
        path = (
            f"/repositories/{self._lookup.number(full_name)}/commits/{request.path_params['sha']}/check-runs"
        )
        return 200, {"total_count": len(found), "check_runs": bodies}, link(request, path, len(found))

    @staticmethod
    def _change(check: shapes.Body, body: shapes.Body) -> None:
        output = body.get("output") or {}
        annotations = output.get("annotations") or []
        if len(annotations) > MOST_ANNOTATIONS:
            raise RefusalError(
                422,
                f"Invalid request.\n\nNo more than {MOST_ANNOTATIONS} items are allowed; "
                f"{len(annotations)} were supplied.",
            )
        if "conclusion" in body and body["conclusion"] not in _CONCLUSIONS:
            raise RefusalError(
                422, f"Invalid request.\n\n{body['conclusion']} is not a member of {_CONCLUSIONS}."
            )
        for note in annotations:
            wanted = {"path", "start_line", "end_line", "annotation_level", "message"}
            if not wanted <= set(note) or note["annotation_level"] not in _LEVELS:
                raise RefusalError(422, f"Invalid request.\n\n{sorted(wanted - set(note))} weren't supplied.")
        if output and not (output.get("title") and output.get("summary")):
            raise RefusalError(422, "Invalid request.\n\nMissing the title or the summary of the output.")
        for name in ("status", "conclusion", "details_url", "external_id"):
            if name in body:
                check[name] = body[name]
        if check.get("conclusion"):
            check |= {
                "status": "completed",
                "completed_at": body.get("completed_at") or shapes.iso(time.time()),
            }
        if output:
            check |= {"title": output["title"], "summary": output["summary"]}
        # Annotations are added to those that are there.
        check["annotations"] = [*check["annotations"], *annotations]

    @staticmethod
    def _check(check: shapes.Body, base: str) -> shapes.Body:
        """A `check-run`."""
        api = f"{base}/repos/{check['repository']}"
        return {
            "id": check["id"],
            "node_id": check["node_id"],
            "head_sha": check["head_sha"],
            "external_id": check.get("external_id", ""),
            "url": f"{api}/check-runs/{check['id']}",
            "html_url": f"{base}/{check['repository']}/runs/{check['id']}",
            "details_url": check.get("details_url"),
            "status": check.get("status", "queued"),
            "conclusion": check.get("conclusion"),
            "started_at": check["started_at"],
            "completed_at": check.get("completed_at"),
            "output": {
                "title": check.get("title"),
                "summary": check.get("summary"),
                "text": None,
                "annotations_count": len(check["annotations"]),
                "annotations_url": f"{api}/check-runs/{check['id']}/annotations",
            },
            "name": check["name"],
            "check_suite": {"id": check["id"] * 3},
            "app": None,
            "pull_requests": [],
        }

    # -- commit statuses

    def create_status(self, request: Request) -> Answer:
        full_name, body = self._lookup.known(request), _json(request)
        sha = request.path_params["sha"]
        if body.get("state") not in ("error", "failure", "pending", "success"):
            raise RefusalError(422, "Validation Failed: state is not included in the list")
        if len(body.get("description") or "") > 140:
            raise RefusalError(422, "Validation Failed: description is too long (maximum is 140 characters)")
        if body.get("target_url") and not re.match(r"https?://", body["target_url"]):
            raise RefusalError(422, "Validation Failed: target_url must use http(s) scheme")
        self._next += 1
        base = base_of(request)
        status = {
            "url": f"{base}/repos/{full_name}/statuses/{sha}",
            "avatar_url": f"{base}/avatars/{PEOPLE[0].number}",
            "id": self._next,
            "node_id": shapes.node_id("SC", self._next),
            "state": body["state"],
            "description": body.get("description"),
            "target_url": body.get("target_url"),
            "context": body.get("context", "default"),
            "created_at": shapes.iso(time.time()),
            "updated_at": shapes.iso(time.time()),
            "creator": shapes.user(PEOPLE[0], base),
        }
        kept = self._statuses.setdefault((full_name, sha), [])
        kept.insert(0, status)
        if len(self._statuses) > KEPT:
            del self._statuses[next(iter(self._statuses))]
        told = {name: status[name] for name in ("state", "context", "description", "target_url")}
        self._ledger.effect("github", "commit_status", repository=full_name, sha=sha, **told)
        return 201, status, {}

    def statuses_of_commit(self, request: Request) -> Answer:
        full_name = self._lookup.known(request)
        return 200, self._statuses.get((full_name, request.path_params["sha"]), []), {}


def _told(check: shapes.Body) -> shapes.Body:
    told = {name: check.get(name) for name in ("name", "conclusion", "title", "external_id", "head_sha")}
    return told | {"check_run": check["id"], "annotations": len(check["annotations"])}


def _installation(request: Request) -> str:
    owner: str | None = getattr(request.state, "owner", None)
    if owner is None:
        raise RefusalError(403, "You must authenticate via a GitHub App.")
    return owner


def _json(request: Request) -> shapes.Body:
    try:
        body = json.loads(request.state.body or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise RefusalError(400, "Problems parsing JSON")
    return body
