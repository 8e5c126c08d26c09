"""GitHub's ways of listing: filters, its search syntax for dates, pages and the Link header."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from starlette.datastructures import QueryParams
from starlette.requests import Request

from sandbox.address import base_of
from sandbox.shelves import Row

SEARCH_CAP = 1000
SEARCH_FILTERS = ("actor", "branch", "check_suite_id", "created", "event", "head_sha", "status")


@dataclass(frozen=True, slots=True)
class RefusalError(Exception):
    """An error that GitHub would answer with `message`."""

    status: int
    message: str


def found(rows: list[Row], query: QueryParams) -> tuple[list[Row], int]:
    """The rows a query asks for, and how many of them GitHub would let one page through.

    A filtered listing tells how many there are but gives no more than the first thousand.
    """
    chosen = [row for row in rows if _wanted(row, query)]
    if created := query.get("created"):
        within = _window(created)
        chosen = [row for row in chosen if within(_parse(row.created_at))]
    filtered = any(name in query for name in SEARCH_FILTERS)
    return chosen, min(len(chosen), SEARCH_CAP) if filtered else len(chosen)


def paging(request: Request) -> tuple[int, int]:
    """Page and page size, forgiving as GitHub is: nonsense means the default, too much means the most."""
    page = _number(request.query_params.get("page"), 1)
    return page, min(_number(request.query_params.get("per_page"), 30), 100)


def link(request: Request, path: str, total: int) -> dict[str, str]:
    """The Link header, when there is more than one page."""
    page, per_page = paging(request)
    last = max(1, -(-total // per_page))
    pages: dict[str, int] = {}
    if page > 1:
        pages |= {"prev": min(page - 1, last)}
    if page < last:
        pages |= {"next": page + 1, "last": last}
    if page > 1:
        pages |= {"first": 1}
    if not pages:
        return {}
    others = [(name, value) for name, value in request.query_params.multi_items() if name != "page"]
    addresses = {
        relation: f"{base_of(request)}{path}?{urlencode([*others, ('page', number)])}"
        for relation, number in pages.items()
    }
    return {"link": ", ".join(f'<{address}>; rel="{relation}"' for relation, address in addresses.items())}


def _number(text: str | None, default: int) -> int:
    return int(text) if text and text.isdecimal() and int(text) > 0 else default


def _wanted(row: Row, query: QueryParams) -> bool:
    status = query.get("status")
    wants = (("branch", row.branch), ("event", row.event), ("actor", row.actor), ("head_sha", row.sha))
    return (not status or status in (row.status, row.conclusion)) and all(
        name not in query or query[name] == value for name, value in wants
    )


def _window(text: str) -> Callable[[datetime], bool]:
    """`>=2026-01-01`, `2026-01-01..2026-01-02T12:00:00Z`, `*..2026-01-01`, or one day; ends are included."""
    for sign in (">=", "<=", ">", "<"):
        if text.startswith(sign):
            first, last = _span(text.removeprefix(sign))
            tests: dict[str, Callable[[datetime], bool]] = {
                ">=": first.__le__,
                "<=": last.__ge__,
                ">": last.__lt__,
                "<": first.__gt__,
            }
            return tests[sign]
    low, dots, high = text.partition("..")
    begin = datetime.min.replace(tzinfo=UTC) if low == "*" else _span(low)[0]
    high = high if dots else low
    end = datetime.max.replace(tzinfo=UTC) if high == "*" else _span(high)[1]
    return lambda moment: begin <= moment <= end


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _span(text: str) -> tuple[datetime, datetime]:
    """The first and last moment of a day or a second; both inclusive."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RefusalError(422, f"Validation Failed: {text!r} is not a date") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if len(text) == len("2026-01-01"):
        return moment, moment + timedelta(days=1) - timedelta(seconds=1)
    return moment, moment
