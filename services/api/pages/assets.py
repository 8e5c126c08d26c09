"""The pages' own styles and scripts, and those taken from npm. Nothing comes from the internet."""

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Response

from chassis.http import HttpError
from services.api.conditional import Conditional
from services.api.pages.frame import SECURITY, render

STATIC = Path(__file__).parent.parent / "static"
NODE_MODULES = Path(__file__).parents[3] / "node_modules"
VENDOR = {
    "htmx.min.js": "htmx.org/dist/htmx.min.js",
    "swagger-ui.css": "swagger-ui-dist/swagger-ui.css",
    "swagger-ui-bundle.js": "swagger-ui-dist/swagger-ui-bundle.js",
}


def router() -> APIRouter:
    routes = APIRouter(include_in_schema=False, route_class=Conditional)
    own = {path.name: path for path in STATIC.iterdir() if path.is_file()}

    @routes.get("/static/vendor/{name}")
    async def vendor(name: str) -> Response:
        if name not in VENDOR:
            raise HttpError(404, f"No file {name!r}")
        try:
            return _file(NODE_MODULES / VENDOR[name])
        except FileNotFoundError:
            raise HttpError(404, f"{name} is not installed; run `npm ci` in the checkout") from None

    @routes.get("/static/{name}")
    async def static(name: str) -> Response:
        if name not in own:
            raise HttpError(404, f"No file {name!r}")
        return _file(own[name])

    @routes.get("/favicon.ico")
    async def favicon() -> Response:
        return _file(own["favicon.svg"])

    @routes.get("/docs")
    async def docs() -> Response:
        return render("docs.html")

    return routes


def _file(path: Path) -> Response:
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return Response(path.read_bytes(), media_type=kind, headers=SECURITY)
