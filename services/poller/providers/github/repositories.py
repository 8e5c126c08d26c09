"""Which repositories an owner has."""

from collections.abc import AsyncIterator
from fnmatch import fnmatchcase
from typing import Any

from services.poller.provider import PollFailedError
from services.poller.providers.github.api import PAGE_SIZE, Api, object_of
from services.poller.providers.github.mapping import text_of

_MOST_PAGES = 100


async def repositories(api: Api, pattern: str, *, installed: bool) -> AsyncIterator[str]:
    """Full names that fit `pattern`, such as `acme/*`; archived and disabled ones build nothing and are left out.

    `installed`: we are a GitHub App, and see what its installation was given.

    Raises:
        PollFailedError: also when there is no such owner, or no listing of its repositories.
    """
    owner = pattern.partition("/")[0]
    address, key = (
        ("/installation/repositories?", "repositories") if installed else (await _listing(api, owner), None)
    )
    seen: set[str] = set()
    found = False
    async for _, rows in api.pages(
        f"{api.calls.base_url}{address}per_page={PAGE_SIZE}", owner, key=key, most=_MOST_PAGES
    ):
        found = True
        for row in rows:
            name = _name(row)
            if name is not None and name not in seen and fnmatchcase(name.lower(), pattern.lower()):
                seen.add(name)
                yield name
    if not found:
        raise PollFailedError(
            "not_found",
            f"GitHub has no repositories of {owner} for this token. Check GITHUB_REPOS and the token.",
            status=404,
        )


async def _listing(api: Api, owner: str) -> str:
    """Where an owner's repositories are listed: an organisation's, our own, or another person's public ones."""
    base = api.calls.base_url
    if (await api.get(f"{base}/orgs/{owner}", owner)).status == 200:
        return f"/orgs/{owner}/repos?type=all&"
    # A token of an App's or of a workflow belongs to no user: 403.
    try:
        me = await api.get(f"{base}/user", owner)
    except PollFailedError as failure:
        if failure.reason != "forbidden":
            raise
    else:
        login = text_of(object_of(me).get("login")) if me.status == 200 else None
        if login is not None and login.lower() == owner.lower():
            return "/user/repos?affiliation=owner&"
    return f"/users/{owner}/repos?type=owner&"


def _name(row: Any) -> str | None:
    if not isinstance(row, dict) or row.get("archived") is True or row.get("disabled") is True:
        return None
    name = text_of(row.get("full_name"))
    return name if name and name.count("/") == 1 else None
