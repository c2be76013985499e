"""The web page, and a place to ask whether we are alive."""

from pathlib import Path

from sqlalchemy import select
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from examples.roughy.api.errors import NotFound
from examples.roughy.api.routing import resource
from examples.roughy.storage.database import Database
from examples.roughy.storage.tables import SchemaVersion

_HERE = Path(__file__).parents[1]
_STATIC = _HERE / "static"
_TUS_JS = _HERE / "node_modules" / "tus-js-client" / "dist" / "tus.min.js"


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
                Mount("/static", StaticFiles(directory=_STATIC)),
            ]
        return routes

    async def health(self, request: Request) -> Response:
        async with self._db.reading() as session:
            await session.execute(select(SchemaVersion))
        return JSONResponse({"status": "ok"})

    async def index(self, request: Request) -> Response:
        return FileResponse(_STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    async def tus_js(self, request: Request) -> Response:
        """tus-js-client is installed by npm, not copied into this repository."""
        if not _TUS_JS.is_file():
            raise NotFound("tus-js-client is missing: run npm install in examples/roughy")
        return FileResponse(_TUS_JS)
