"""The web page, and a place to ask whether we are alive."""

from pathlib import Path
from typing import Any

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from examples.roughy.api.errors import NotFound
from examples.roughy.api.routing import resource
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import SchemaVersion
from tusasgi.server.web import UPLOADER, content_of

_HERE = Path(__file__).parents[1]
_STATIC = _HERE / "static"
_TUS_JS = _HERE / "node_modules" / "tus-js-client" / "dist" / "tus.min.js"
_ALWAYS_ASK = {"Cache-Control": "no-cache"}  # its parts are of one version


class Pages:
    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> list[BaseRoute]:
        routes: list[BaseRoute] = [
            resource("/health", get=self.health),
            resource("/static/tus.min.js", get=self.tus_js),
        ]
        if _STATIC.is_dir():
            routes += [
                resource("/", get=self.index),
                *(_uploader(name) for name in UPLOADER),
                Mount("/static", _Static(directory=_STATIC)),
            ]
        return routes

    async def health(self, request: Request) -> Response:
        async with self._db.reading() as session:
            await session.execute(select(SchemaVersion))
        return JSONResponse({"status": "ok"})

    async def index(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers=_ALWAYS_ASK)

    async def tus_js(self, request: Request) -> Response:
        """tus-js-client is installed by npm, not copied into this repository."""
        if not _TUS_JS.is_file():
            raise NotFound("tus-js-client is missing: run npm install in examples/roughy")
        return FileResponse(_TUS_JS)


class _Static(StaticFiles):
    def file_response(self, *args: Any, **options: Any) -> Response:
        answer = super().file_response(*args, **options)
        answer.headers.update(_ALWAYS_ASK)
        return answer


def _uploader(name: str) -> Route:
    """What the page shares with that of `tusasgi serve --page` comes from the library."""
    content_type, body = content_of(name)

    async def read(request: Request) -> Response:
        return Response(body, headers={**_ALWAYS_ASK, "Content-Type": content_type})

    return resource(f"/static/tusasgi/{name}", get=read)
