"""The log of a stage, of a matrix's combination, or of a whole build."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from urllib.parse import quote

from services.poller.provider import LogGoneError
from services.poller.providers.jenkins.answers import failure_of, is_page
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.values import part, rows, text

_MOST_NODES = 1000


@asynccontextmanager
async def log_of(api: Api, job: str, number: int, job_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
    """A log as it comes. Of a stage whose steps cannot be had one by one it is the whole build's.

    Args:
        api: of the Jenkins.
        job: its full name.
        number: of the build.
        job_id: the stage's, the combination's, or `WHOLE`.

    Raises:
        LogGoneError: Jenkins does not have it.
    """
    what = f"the log of {job} #{number}"
    run = f"{api.job(job)}/{number}"
    if job_id.isascii() and job_id.isdigit():
        nodes = await _nodes(api, run, job_id, what)
        if nodes:
            async with aclosing(_one_by_one(api, run, nodes, what)) as pieces:
                yield pieces
            return
    if "=" in job_id:
        run = f"{api.job(job)}/{quote(job_id, safe='')}/{number}"
    async with api.stream(f"{run}/consoleText", what) as download:
        if download is None:
            raise LogGoneError(f"Jenkins no longer has {what}, or does not show it to the user.")
        if is_page(download.headers):
            raise failure_of(download.status, download.headers, what, secret=None)
        yield download.chunks


async def _nodes(api: Api, run: str, stage: str, what: str) -> list[str]:
    """The steps of a stage that wrote something, in order; none where Jenkins does not tell."""
    found = await api.fetch_json(f"{run}/execution/node/{stage}/wfapi/describe", what)
    if found is None:
        return []
    # A stage that has no other stages in it may have written something of its own.
    nodes = [found, *rows(found, "stageFlowNodes")]
    ids = [text(node.get("id")) for node in nodes if part(part(node, "_links"), "log")]
    return [one for one in ids if one and one.isdigit()][:_MOST_NODES]


async def _one_by_one(api: Api, run: str, nodes: list[str], what: str) -> AsyncGenerator[bytes, None]:
    for node in nodes:
        address = f"{run}/execution/node/{node}/log/logText/progressiveText?start=0"
        async with api.stream(address, what) as download:
            if download is not None:
                async for chunk in download.chunks:
                    yield chunk
