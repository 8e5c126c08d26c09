"""What all endpoints of GitLab's share: its groups, refusals, bodies of requests, and pages of listings."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.address import base_of
from sandbox.gitlab_shapes import Body, Group


@dataclass(frozen=True, slots=True)
class RefusalError(Exception):
    """An error answer with GitLab's body."""

    status: int
    body: Body


ACME = Group(100, "acme", "Acme")
GROUPS = (
    ACME,
    Group(123, "platform", "Platform", ACME),
    Group(124, "my-team", "My Team"),
    Group(1, "sandbox", "Sandbox Robot", kind="user"),
)
"""The last is the token owner's own namespace, where a project lands that names none."""


def missing(what: str) -> RefusalError:
    return RefusalError(404, {"message": f"404 {what} Not Found"})


def search(request: Request, *texts: str) -> bool:
    wanted = request.query_params.get("search", "").lower()
    return any(wanted in text.lower() for text in texts)


async def body_of(request: Request) -> Body:
    """JSON or a form, as GitLab takes either."""
    if request.method not in ("POST", "PUT", "PATCH"):
        return {}
    if request.headers.get("content-type", "").startswith("application/json"):
        try:
            body = await request.json()
        except ValueError:
            raise RefusalError(400, {"error": "The provided JSON is invalid"}) from None
        return body if isinstance(body, dict) else {}
    text = (await request.body()).decode(errors="replace")
    return dict(parse_qsl(text))


def page_of(request: Request, rows: list[Any]) -> Response:
    """One page of a listing with GitLab's pagination headers."""
    page = number(request, "page", 1)
    per_page = min(number(request, "per_page", 20), 100)
    last = max(1, -(-len(rows) // per_page))
    neighbours = {
        "prev": page - 1 if 1 < page <= last + 1 else None,
        "next": page + 1 if page < last else None,
        "first": 1,
        "last": last,
    }
    others = [
        (name, value)
        for name, value in request.query_params.multi_items()
        if name not in ("page", "per_page")
    ]
    path = quote(request.scope["path"].removeprefix(request.scope.get("root_path", "")), safe="/%")
    address = base_of(request) + path
    links = [
        f'<{address}?{urlencode([*others, ("page", number), ("per_page", per_page)])}>; rel="{relation}"'
        for relation, number in neighbours.items()
        if number
    ]
    headers = {
        "link": ", ".join(links),
        "x-page": str(page),
        "x-per-page": str(per_page),
        "x-prev-page": str(neighbours["prev"] or ""),
        "x-next-page": str(neighbours["next"] or ""),
        "x-total": str(len(rows)),
        "x-total-pages": str(last),
    }
    return JSONResponse(rows[(page - 1) * per_page : page * per_page], headers=headers)


def number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default
