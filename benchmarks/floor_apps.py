"""The three apps that `floor` compares, behind one server.

    /drop/<size>          (a) reads the body and drops it
    /write/<name>/<offset>/<length>
                          (b) reads the body and writes it to a file, as well as we know how:
                          gathered into pieces of 1 MiB, written with one system call each in a
                          worker thread while the next piece arrives, flushed when complete
    /tus/…                (c) TusApp with FileStore

The folder is named by the environment variable FLOOR_DIR.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tusasgi import TusApp, Uploads
from tusasgi.stores.file import FileStore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

PIECE = 1024 * 1024
FOLDER = os.environ["FLOOR_DIR"]
tus = TusApp(Uploads(FileStore(os.path.join(FOLDER, "tus"))), prefix="/tus")


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan" or scope["path"].startswith("/tus"):
        await tus(scope, receive, send)
        return
    kind, *rest = scope["path"].strip("/").split("/")
    if kind == "drop":
        await _drop(receive)
    else:
        await _write(os.path.join(FOLDER, rest[0]), int(rest[1]), int(rest[2]), receive)
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


async def _drop(receive: Receive) -> None:
    while (await receive()).get("more_body", False):
        pass


async def _write(path: str, offset: int, length: int, receive: Receive) -> None:
    loop = asyncio.get_running_loop()
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    running: asyncio.Future[int] | None = None
    more = True
    try:
        while more:
            piece, size = [], 0
            while more and size < PIECE:
                message = await receive()
                piece.append(message.get("body", b""))
                size += len(piece[-1])
                more = message.get("more_body", False)
            if running is not None:
                await running
            running = loop.run_in_executor(None, _write_piece, file, piece, offset)
            offset += size
        if running is not None:
            await running
        if offset == length:
            await loop.run_in_executor(None, os.fsync, file)
    finally:
        os.close(file)


def _write_piece(file: int, piece: list[bytes], offset: int) -> int:
    size = sum(map(len, piece))
    written = os.pwritev(file, piece, offset)
    if written != size:
        raise OSError("short write")
    return written
