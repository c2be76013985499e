"""What clients of the IETF draft upload to, beside what it was asked for: run by uvicorn.

`/files/` is a `TusApp` as it comes, with downloads, and `/films` an endpoint behind `Resumable`.
`/seen` says what came of it. Pages of `TUSASGI_TEST_ORIGIN` may upload; `/page` is an empty one.
"""

import hashlib
import os
from datetime import timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Mount, Route

from tusasgi import Expiry, Hooks, Resumable, TusApp, Upload, Uploads
from tusasgi.lifecycle import Event
from tusasgi.observer import Observer
from tusasgi.server.cors import cors_middleware
from tusasgi.server.settings import Settings
from tusasgi.stores.memory import MemoryStore


class Seen(Observer):
    """Requests in their order, and what became of the uploads at `/files/`."""

    def __init__(self) -> None:
        self.requests: list[dict[str, str]] = []
        self.created: dict[str, str] = {}
        """The protocol of each upload by its id."""
        self.completed: list[str] = []
        self.removed: list[str] = []
        self.films: list[str] = []
        """The SHA-256 of each body that the endpoint was called with."""

    def changed(self, upload: Upload, event: Event) -> None:
        if event is Event.CREATED:
            self.created[upload.id] = upload.protocol
        elif event is Event.REMOVED:
            self.removed.append(upload.id)


class Completions(Hooks):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    async def completed(self, upload: Upload) -> None:
        self._seen.completed.append(upload.id)


class Watched:
    """Middleware that notes the head of every request."""

    def __init__(self, app: Any, seen: Seen) -> None:
        self._app = app
        self._seen = seen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode(): value.decode() for name, value in scope["headers"]}
            path = scope["path"].removeprefix(scope["root_path"])
            self._seen.requests.append({"method": scope["method"], "path": path, **headers})
        await self._app(scope, receive, send)


def create_app() -> Starlette:
    seen = Seen()

    async def show(request: Request) -> JSONResponse:
        return JSONResponse(vars(seen))

    async def page(request: Request) -> HTMLResponse:
        return HTMLResponse("<!doctype html><title></title><body>")

    async def take_film(request: Request) -> JSONResponse:
        seen.films.append(hashlib.sha256(await request.body()).hexdigest())
        return JSONResponse({"number": len(seen.films)}, status_code=201)

    files = Uploads(MemoryStore(), hooks=Completions(seen), observer=seen)
    films = Uploads(MemoryStore(), expiry=Expiry(initial=timedelta(hours=1)))
    site = Starlette(routes=[Route("/films", take_film, methods=["POST"])])
    return Starlette(
        routes=[
            Route("/seen", show),
            Route("/page", page),
            Mount("/files", TusApp(files, downloads=True)),
            Mount("/", Resumable(site, films)),
        ],
        middleware=[
            Middleware(Watched, seen=seen),
            *cors_middleware(Settings(cors_origin=[os.environ["TUSASGI_TEST_ORIGIN"]])),
        ],
    )
