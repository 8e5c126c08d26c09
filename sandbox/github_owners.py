"""Who is on GitHub, and which repositories are theirs."""

from typing import Any

from starlette.requests import Request

from sandbox import github_shapes as shapes
from sandbox.address import base_of
from sandbox.catalogue import PEOPLE, Person, stranger
from sandbox.github_lookup import NOT_FOUND, Lookup
from sandbox.github_search import link, paging

Answer = tuple[int, Any, dict[str, str]]
ARCHIVED = "attic"
"""Every organisation also has this repository, which is archived, and in which nothing happens."""


class Owners:
    """Endpoints of organisations and people; whoever has repositories here is an organisation."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup

    def user(self, request: Request) -> Answer:
        return 200, shapes.token_owner(PEOPLE[0], base_of(request)), {}

    def organization(self, request: Request) -> Answer:
        owner = request.path_params["owner"]
        names = self._lookup.repositories(owner)
        if not names:
            raise NOT_FOUND
        person = Person(owner, owner, 9000 + sum(owner.encode()), "Organization")
        return 200, shapes.organization(person, len(names), base_of(request)), {}

    def of_organization(self, request: Request) -> Answer:
        bodies = self._bodies(request, request.path_params["owner"])
        if not bodies:
            raise NOT_FOUND
        return 200, *self._page(request, f"/orgs/{request.path_params['owner']}/repos", bodies)

    def of_user(self, request: Request) -> Answer:
        """Only somebody known, or an organisation: both are listed here."""
        owner = request.path_params["owner"]
        bodies = self._bodies(request, owner)
        if not bodies and owner not in {person.login for person in PEOPLE}:
            raise NOT_FOUND
        return 200, *self._page(request, f"/users/{owner}/repos", bodies)

    def of_token(self, request: Request) -> Answer:
        bodies = self._bodies(request, PEOPLE[0].login)
        return 200, *self._page(request, "/user/repos", bodies)

    def of_installation(self, request: Request) -> Answer:
        bodies = self._bodies(request, request.state.owner)
        some, headers = self._page(request, "/installation/repositories", bodies)
        return 200, {"total_count": len(bodies), "repository_selection": "all", "repositories": some}, headers

    def _bodies(self, request: Request, owner: str) -> list[shapes.Body]:
        base = base_of(request)
        names = sorted(self._lookup.repositories(owner))
        found = [self._lookup.repository(name) or stranger(name) for name in names]
        bodies = [shapes.full_repository(repository, base) for repository in found]
        if not bodies:
            return []
        attic = shapes.full_repository(stranger(f"{names[0].split('/')[0]}/{ARCHIVED}"), base)
        return [*bodies, attic | {"archived": True}]

    @staticmethod
    def _page(
        request: Request, path: str, bodies: list[shapes.Body]
    ) -> tuple[list[shapes.Body], dict[str, str]]:
        page, per_page = paging(request)
        return bodies[(page - 1) * per_page : page * per_page], link(request, path, len(bodies))
