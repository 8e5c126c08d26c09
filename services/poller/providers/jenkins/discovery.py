"""Which jobs there are behind a pattern."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

from services.poller.provider import PollFailedError
from services.poller.providers.jenkins.api import Api
from services.poller.providers.jenkins.names import Pattern
from services.poller.providers.jenkins.values import kind, rows, text

DEEPEST = 10
MOST_JOBS = 10_000
_LEVELS_AT_ONCE = 3


def _tree(levels: int) -> str:
    # Of the deepest, whether there is anything in it.
    return f"jobs[name,{_tree(levels - 1)}]" if levels else "jobs[name]{0,1}"


TREE = _tree(_LEVELS_AT_ONCE)


async def jobs_behind(api: Api, pattern: Pattern) -> AsyncIterator[str]:
    """The full names of the jobs a pattern means. A multibranch project stands for all its branches.

    Raises:
        PollFailedError: what a plain name names is not there or is a folder, or too many jobs fit.
    """
    found = 0
    waiting = [pattern.root]
    while waiting:
        container = waiting.pop(0)
        what = f"the folder {container}" if container else "Jenkins itself"
        body = await api.read(api.job(container), TREE, what)
        for name in _walk(body, container, pattern, waiting):
            found += 1
            if found > MOST_JOBS:
                raise PollFailedError(
                    "nonsense", f"More than {MOST_JOBS:,} jobs fit {'/'.join(pattern.parts)}. Name fewer."
                )
            yield name
    if not found and not any(sign in part for part in pattern.parts for sign in "*?["):
        name = "/".join(pattern.parts)
        raise PollFailedError(
            "not_found",
            f"There is no job {name}, or the user may not see it. Check JENKINS_JOBS; "
            f"of a folder, write {name}/* for the jobs in it or {name}/** for all below it.",
        )


def _walk(body: Mapping[str, Any], container: str, pattern: Pattern, waiting: list[str]) -> list[str]:
    """The jobs in an answer that fit; folders it does not show whole are added to `waiting`."""
    jobs: list[str] = []
    is_project = "MultiBranchProject" in kind(body)
    level = [(body, container, _LEVELS_AT_ONCE, is_project and pattern.fits(container))]
    while level:
        holder, above, left, all_of_it = level.pop(0)
        for row in rows(holder, "jobs"):
            name = text(row.get("name"))
            if name is None:
                continue
            full_name = f"{above}/{name}" if above else name
            if "jobs" not in row:
                if all_of_it or pattern.fits(full_name):
                    jobs.append(full_name)
                continue
            whole = all_of_it or ("MultiBranchProject" in kind(row) and pattern.fits(full_name))
            if not (whole or pattern.leads_past(full_name)) or full_name.count("/") >= DEEPEST:
                continue
            if left > 1:
                level.append((row, full_name, left - 1, whole))
            elif rows(row, "jobs"):
                waiting.append(full_name)
    return jobs
