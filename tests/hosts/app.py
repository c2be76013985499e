"""What the servers of this suite run: one engine on files, under several doors.

`/files/` is a plain one, `/quick/` gives up on a silent client soon, `/picky/` refuses what
begins with `NO` and whose key is a status, and `/page` is something for a browser to start from.
`/open/` has no limit for what a client takes, so that servers which can send files by themselves.
`/endless/` has a download of a terabyte, `/stuck/` gives up soon on a client that takes nothing
of it, and `/reading` tells how many are being read, and how many bytes were.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from datetime import UTC, datetime
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
from tusasgi.stores.memory import MemoryStore

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


class Endless(MemoryStore):
    """Every upload is there, complete, and a terabyte of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.readers = 0
        self.read_bytes = 0

    async def get(self, upload_id: str) -> Upload:
        born, size = datetime(2026, 1, 1, tzinfo=UTC), 2**40
        return Upload(id=upload_id, length=size, offset=size, created=born, is_complete=True)

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        self.readers += 1
        try:
            for _ in range(start, stop, 256 * 1024):
                self.read_bytes += 256 * 1024
                yield bytes(256 * 1024)
        finally:
            self.readers -= 1


endless = Endless()
store = FileStore(os.environ["TUSASGI_TEST_FOLDER"])
uploads = Uploads(store)
doors = {
    "files": TusApp(uploads, prefix="/files", downloads=True),
    "quick": TusApp(uploads, prefix="/quick", receive_timeout=0.5),
    "open": TusApp(uploads, prefix="/open", downloads=True, send_timeout=None),
    "picky": TusApp(Uploads(store, hooks=Picky()), prefix="/picky"),
    "endless": TusApp(Uploads(endless), prefix="/endless", downloads=True),
    "stuck": TusApp(Uploads(endless), prefix="/stuck", downloads=True, send_timeout=0.5),
}


async def show(page: bytes, send: Send) -> None:
    headers = [(b"content-type", b"text/html"), (b"content-length", b"%d" % len(page))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": page})


async def app(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
    door = scope["path"].split("/")[1] if scope["type"] == "http" else "files"
    if door == "page":
        await show(b"<!doctype html>", send)
    elif door == "reading":
        await show(b"%d %d" % (endless.readers, endless.read_bytes), send)
    else:
        await doors[door](scope, receive, send)
