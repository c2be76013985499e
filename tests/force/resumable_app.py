"""An app made resumable, whose endpoint writes down each call and waits while a file says so."""

import hashlib
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tusasgi import Expiry, Resumable, Uploads
from tusasgi.stores.file import FileStore

_HOURS = timedelta(hours=1)


def create_app() -> Any:
    folder = Path(os.environ["TUSASGI_TEST_FOLDER"])
    calls, waits = folder / "calls", folder / "waits"

    async def take(request: Request) -> PlainTextResponse:
        digest = hashlib.sha256()
        async for chunk in request.stream():
            digest.update(chunk)
        with calls.open("a") as file:
            file.write(f"{digest.hexdigest()}\n")
        while waits.exists():  # noqa: ASYNC110 - nothing tells when a file is gone
            await anyio.sleep(0.02)
        return PlainTextResponse(digest.hexdigest(), 201)

    uploads = Uploads(FileStore(folder / "store"), expiry=Expiry(initial=_HOURS))
    return Resumable(Starlette(routes=[Route("/take", take, methods=["POST"])]), uploads)
