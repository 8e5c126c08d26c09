"""What every page shares: templates with escaping on, and headers that let nothing foreign in."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.api.pages import words

SECURITY = {
    # Titles and commit messages are anybody's text: should one ever slip through as markup, it runs nothing.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "font-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals |= {"look": words.look, "raw": words.raw}
_environment.filters |= {
    "duration": words.duration,
    "ago": words.ago,
    "stamp": words.stamp,
    "iso": words.iso,
    "web_address": words.web_address,
    "percent": words.percent,
}


def render(template: str, *, status: int = 200, **values: Any) -> HTMLResponse:
    html = _environment.get_template(template).render(now=datetime.now(UTC), **values)
    return HTMLResponse(html, status, {**SECURITY, "Vary": "Accept, Cookie"})


def wants_html(request: Request) -> bool:
    """Whether a browser asks; curl and programs that take anything get JSON."""
    return "text/html" in request.headers.get("accept", "")
