"""What the servers of this suite run: one engine on files, under several doors.

`/files/` is a plain one, `/quick/` gives up on a silent client soon, `/picky/` refuses what
begins with `NO` and whose key is a status, and `/page` is something for a browser to start from.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from tusasgi import (
    Fact,
    Hooks,
    OffsetConflict,
    Operation,
    Request,
    TusApp,
    Unauthorized,
    UnsupportedMedia,
    Upload,
    Uploads,
)
from tusasgi.stores.file import FileStore

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Picky(Hooks):
    head_size = 64 * 1024

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        if operation is Operation.APPEND:
            match request.headers.get("authorization"):
                case "Bearer 401":
                    raise Unauthorized("your key has run out")
                case "Bearer 409":
                    raise OffsetConflict("somebody else was here", offset=0)

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        if head.startswith(b"NO"):
            raise UnsupportedMedia("this is not what we collect")
        return {}


store = FileStore(os.environ["TUSASGI_TEST_FOLDER"])
uploads = Uploads(store)
doors = {
    "files": TusApp(uploads, prefix="/files", downloads=True),
    "quick": TusApp(uploads, prefix="/quick", receive_timeout=0.5),
    "picky": TusApp(Uploads(store, hooks=Picky()), prefix="/picky"),
}


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    door = scope["path"].split("/")[1] if scope["type"] == "http" else "files"
    if door == "page":
        headers = [(b"content-type", b"text/html"), (b"content-length", b"15")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"<!doctype html>"})
    else:
        await doors[door](scope, receive, send)
