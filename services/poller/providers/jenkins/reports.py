"""Where the test results of a build are: read by Jenkins itself, else in files that it archived."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

from services.poller.provider import Document, Pieces, PollFailedError, Results, TooLargeError
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.results import FORMAT, is_full, results_of, tree_of
from services.poller.providers.jenkins.values import rows, text

MOST_DOCUMENTS = 500
AT_ONCE = 200
"""How many suites, or children's reports, are asked for at first."""
_MOST_SUITES = 100_000
_REPORT = re.compile(
    r"(?:.*/)?(?:TEST-|[^/]*junit|[^/]*xunit|[^/]*(?:test|surefire|failsafe)[-_.]?(?:result|report))[^/]*\.(?:xml|zip)"
    r"|(?:.*/)?(?:(?:surefire|failsafe|test)-(?:reports|results)|junit)/.*\.xml",
    re.IGNORECASE,
)


async def reports_of(
    api: Api, run: str, artifacts: list[str], what: str
) -> AsyncIterator[Document | Results]:
    """The test results of a build.

    Args:
        api: of the Jenkins.
        run: the build's address.
        artifacts: the paths of the files it archived.
        what: it is, for a person.
    """
    start, count = 0, AT_ONCE
    while start < _MOST_SUITES:
        try:
            found = await api.fetch(f"{run}/testReport", tree_of(start, count), f"the test report of {what}")
        except PollFailedError as failure:
            # Where thousands of tests failed, with all their traces, so many are more than an answer may be.
            if isinstance(failure, TooLargeError) and count == 1:
                problem = f"{failure.detail} What is from suite {start + 1} on is left out."
                yield Results(f"testReport, from suite {start + 1}", FORMAT, (), problem=problem)
                return
            if failure.reason != "nonsense" or count == 1:
                raise
            count = max(1, count // 10)
            continue
        if found is None:
            if start == 0:
                for path in [path for path in artifacts if _REPORT.fullmatch(path)][:MOST_DOCUMENTS]:
                    yield Document(path, _opener(api, f"{run}/artifact/{quote(path)}", path))
            return
        # In a thread: of thousands of cases that is seconds of reading.
        for results in await asyncio.to_thread(_all_of, found, start):
            yield results
        if not is_full(found, count):
            return
        start += count


def _all_of(found: Mapping[str, Any], start: int) -> list[Results]:
    return list(results_of(found, start=start))


def artifacts_in(run: object) -> list[str]:
    """The paths in a build's `artifacts`."""
    found = rows(run, "artifacts") if isinstance(run, dict) else []
    return [path for row in found if (path := text(row.get("relativePath")))]


def _opener(api: Api, address: str, path: str) -> Callable[[], Pieces]:
    @asynccontextmanager
    async def open_it() -> AsyncIterator[AsyncIterator[bytes]]:
        async with api.stream(address, f"the artifact {path}") as download:
            if download is None:
                raise PollFailedError("not_found", f"Jenkins no longer has the artifact {path}.", status=404)
            yield download.chunks

    return open_it
