"""GitHub's artifacts and logs: what runs leave behind, for as long as it is kept."""

import hashlib
import io
import time
import zipfile
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.blobs import Blobs
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_search import RefusalError, link, paging
from sandbox.shelves import Artifact

Answer = tuple[int, Any, dict[str, str]]
_LONG_AGO = (1980, 1, 1, 0, 0, 0)


class Leavings:
    """Endpoints of artifacts and logs; `expire` lets those of a run go at once."""

    def __init__(self, lookup: Lookup, blobs: Blobs) -> None:
        self._lookup = lookup
        self._blobs = blobs
        self._expired: set[int] = set()

    def expire(self, run_id: int) -> None:
        self._expired.add(run_id)

    def artifacts(self, request: Request) -> Answer:
        """Newest first, as GitHub lists them."""
        full_name, run_id = self._lookup.full_name(request), request.path_params["run_id"]
        shelf, _ = self._lookup.row(full_name, run_id)
        name = request.query_params.get("name")
        found = [one for one in shelf.artifacts(full_name, run_id) if name in (None, one.name)][::-1]
        page, per_page = paging(request)
        some = found[(page - 1) * per_page : page * per_page]
        base = base_of(request)
        path = f"/repositories/{self._lookup.number(full_name)}/actions/runs/{run_id}/artifacts"
        bodies = [self._body(full_name, one, base) for one in some]
        return 200, {"total_count": len(found), "artifacts": bodies}, link(request, path, len(found))

    def artifact(self, request: Request) -> Answer:
        full_name, one = self._find(request)
        return 200, self._body(full_name, one, base_of(request)), {}

    def download(self, request: Request) -> Answer:
        _, one = self._find(request)
        if self._is_expired(one):
            raise RefusalError(410, "Artifact has expired")
        content, media_type = content_of(one)
        file = f"{one.name}.zip" if not one.bare else next(iter(one.files()))
        address = self._blobs.offer(request, lambda: content, media_type=media_type, file=file.split("/")[-1])
        return 302, None, {"location": address}

    def job(self, request: Request) -> Answer:
        full_name = self._lookup.full_name(request)
        _, run, job = self._lookup.job(full_name, request.path_params["job_id"])
        return 200, shapes.job(run, job, base_of(request)), {}

    def job_log(self, request: Request) -> Answer:
        full_name = self._lookup.full_name(request)
        shelf, run, job = self._lookup.job(full_name, request.path_params["job_id"])
        if run.id in self._expired:
            raise RefusalError(410, "Server Error")
        text = shelf.log(full_name, job.id)
        if text is None:
            raise NOT_FOUND
        return self._text(request, text.encode(), media_type="text/plain", file="job-logs.txt")

    def run_log(self, request: Request) -> Answer:
        """A ZIP with a file for each job."""
        full_name, run_id = self._lookup.full_name(request), request.path_params["run_id"]
        shelf, row = self._lookup.row(full_name, run_id, request.path_params.get("attempt"))
        if run_id in self._expired:
            raise RefusalError(410, "Server Error")
        if row.status != "completed":
            raise NOT_FOUND
        logs = {
            f"{place}_{job.name}.txt": text.encode()
            for place, job in enumerate(shelf.job_states(full_name, run_id, row.attempt))
            if (text := shelf.log(full_name, job.id)) is not None
        }
        return self._text(request, _zip(logs), media_type="application/zip", file=f"logs_{run_id}.zip")

    def _text(self, request: Request, content: bytes, *, media_type: str, file: str) -> Answer:
        address = self._blobs.offer(request, lambda: content, media_type=media_type, file=file)
        return 302, None, {"location": address}

    def _find(self, request: Request) -> tuple[str, Artifact]:
        full_name, number = self._lookup.full_name(request), request.path_params["artifact_id"]
        for shelf in self._lookup.shelves:
            one = shelf.artifact(full_name, number)
            if one is not None:
                return full_name, one
        raise NOT_FOUND

    def _is_expired(self, one: Artifact) -> bool:
        return one.expired or one.run.id in self._expired or one.expires <= time.time()

    def _body(self, full_name: str, one: Artifact, base: str) -> shapes.Body:
        content, _ = content_of(one)
        url = f"{base}/repos/{full_name}/actions/artifacts/{one.id}"
        number = self._lookup.number(full_name)
        return {
            "id": one.id,
            "node_id": shapes.node_id("A", one.id),
            "name": one.name,
            "size_in_bytes": len(content),
            "url": url,
            "archive_download_url": f"{url}/zip",
            "expired": self._is_expired(one),
            "digest": f"sha256:{hashlib.sha256(content).hexdigest()}",
            "created_at": shapes.iso(one.created),
            "updated_at": shapes.iso(one.created),
            "expires_at": shapes.iso(one.expires),
            "workflow_run": {
                "id": one.run.id,
                "repository_id": number,
                "head_repository_id": number,
                "head_branch": one.run.branch,
                "head_sha": one.run.sha,
            },
        }


def content_of(one: Artifact) -> tuple[bytes, str]:
    """An artifact's bytes and their media type: a ZIP, or the one file itself."""
    files = one.files()
    if one.bare:
        return next(iter(files.values())), "application/xml"
    return _zip(files), "application/zip"


def _zip(files: Mapping[str, bytes]) -> bytes:
    """The same files make the same bytes."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, _LONG_AGO), content, zipfile.ZIP_DEFLATED)
    return packed.getvalue()
