"""What a run has left behind: artifacts that may hold test reports, and the logs of its jobs."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial

from buildlight_contracts.builds import BuildRef
from services.poller.provider import Document, LogGoneError, Pieces, PollFailedError, Target
from services.poller.providers.github.api import PAGE_SIZE, Api, object_of
from services.poller.providers.github.artifacts import Artifact, Lasted, artifact_of, promising
from services.poller.providers.github.mapping import moment_of, number_of

_MOST_PAGES = 50
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


async def documents(
    api: Api, target: Target, build: BuildRef, patterns: Sequence[str]
) -> AsyncIterator[Document]:
    """The artifacts of one attempt whose name fits, oldest first."""
    run = f"{api.repository(target.name)}/actions/runs/{build.run_id}"
    found: list[Artifact] = []
    address = f"{run}/artifacts?per_page={PAGE_SIZE}"
    async for _, rows in api.pages(address, target.name, key="artifacts", most=_MOST_PAGES):
        found += [artifact for row in rows if (artifact := artifact_of(row)) is not None]
    chosen = promising(found, patterns)
    if not chosen:
        return
    lasted = await _lasted(api, run, target, build)
    for artifact in chosen:
        if lasted is not None and lasted.holds(artifact.created_at):
            yield Document(
                source=artifact.name,
                open=partial(_download, api, target, artifact),
                size_bytes=artifact.size_bytes,
            )


async def _lasted(api: Api, run: str, target: Target, build: BuildRef) -> Lasted | None:
    """When the attempt was running; None when the run is gone."""
    latest = await api.get(run, target.name)
    if latest.status != 200:
        return None
    body = object_of(latest)
    attempts = number_of(body.get("run_attempt")) or 1
    if attempts <= 1:
        return Lasted()
    started = moment_of(body.get("run_started_at"))
    if build.attempt >= attempts:
        return Lasted(since=started)
    begun = None if build.attempt == 1 else await _started(api, run, target, build.attempt)
    following = build.attempt + 1
    return Lasted(
        since=begun, until=started if following == attempts else await _started(api, run, target, following)
    )


async def _started(api: Api, run: str, target: Target, attempt: int) -> datetime | None:
    answer = await api.get(f"{run}/attempts/{attempt}", target.name)
    return moment_of(object_of(answer).get("run_started_at")) if answer.status == 200 else None


@asynccontextmanager
async def _download(api: Api, target: Target, artifact: Artifact) -> AsyncIterator[AsyncIterator[bytes]]:
    """The artifact's bytes: a ZIP, or the file itself where it was uploaded so.

    Raises:
        PollFailedError: also `not_found` when it has expired since it was listed.
    """
    address = f"{api.repository(target.name)}/actions/artifacts/{artifact.id}/zip"
    async with api.stream(address, target.name) as download:
        if download.status != 200:
            raise PollFailedError(
                "not_found",
                f"The artifact {artifact.name} of {target.name} is no longer there: it has expired or was "
                "deleted. A longer retention-days of its upload keeps it.",
                status=download.status,
            )
        yield download.chunks


def job_log(api: Api, target: Target, job_id: str) -> Pieces:
    """The log of one job; raises LogGoneError when it is entered, or PollFailedError."""
    return _log(api, target, job_id)


@asynccontextmanager
async def _log(api: Api, target: Target, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    async with api.stream(
        f"{api.repository(target.name)}/actions/jobs/{job_id}/logs", target.name
    ) as download:
        if download.status != 200:
            raise LogGoneError(
                f"GitHub has no log of job {job_id} of {target.name}: it has expired, or the job wrote none."
            )
        yield _without_mark(download.chunks)


async def _without_mark(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """GitHub begins a log with a byte order mark."""
    head = b""
    begun = False
    async for piece in pieces:
        if begun:
            yield piece
            continue
        head += piece
        if len(head) >= len(_BYTE_ORDER_MARK):
            begun = True
            yield head.removeprefix(_BYTE_ORDER_MARK)
    if not begun and head:
        yield head
