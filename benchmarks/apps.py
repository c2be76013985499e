"""Apps to run behind a server of ASGI apps: SETUP names one of them, FOLDER says where to write.

All are TusApp with a FileStore, but for the floor.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import timedelta
from typing import Any

from benchmarks.contenders import DEFAULT, FLOOR, LOCKED, SLIDING, UNFLUSHED
from tusasgi import Expiry, TusApp, Uploads
from tusasgi.lockers.file import FileLocker
from tusasgi.stores.file import FileStore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_PIECE = 512 * 1024
_WINDOW = timedelta(days=2)


def memory_locker(folder: str) -> App:
    return TusApp(Uploads(FileStore(folder)))


def file_locker(folder: str) -> App:
    return TusApp(Uploads(FileStore(folder), locker=FileLocker(os.path.join(folder, "locks"))))


def sliding_expiry(folder: str) -> App:
    expiry = Expiry(initial=_WINDOW, after_append=_WINDOW)
    return TusApp(Uploads(FileStore(folder), expiry=expiry))


def without_flushes(folder: str) -> App:
    return TusApp(Uploads(FileStore(folder, durability="none")))


class Floor:
    """What a server of uploads cannot do without, as fast as we know how.

    A creation makes a file, a PATCH opens it, writes and closes it, in a worker thread; pieces
    of a long body are written while the next one arrives. A HEAD is answered at once. Nothing
    is checked, recorded, locked or flushed.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._count = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        answer = {
            "POST": self._create,
            "HEAD": self._head,
            "PATCH": self._append,
            "DELETE": self._remove,
        }[scope["method"]]
        status, headers = await answer(scope, receive)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body"})

    async def _create(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        self._count += 1
        path = f"/{self._count}"
        await _in_thread(_make, self._folder + path)
        return 201, [(b"location", path.encode()), (b"content-length", b"0")]

    async def _head(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        return 200, [(b"upload-offset", b"0"), (b"cache-control", b"no-store")]

    async def _append(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        path = self._folder + scope["path"]
        offset = int(dict(scope["headers"])[b"upload-offset"])
        writing: Awaitable[None] | None = None
        more = True
        while more:
            piece: list[bytes] = []
            size = 0
            while more and size < _PIECE:
                message = await receive()
                piece.append(message.get("body", b""))
                size += len(piece[-1])
                more = message.get("more_body", False)
            if writing is not None:
                await writing
            writing = _in_thread(_write, path, piece, offset)
            offset += size
        if writing is not None:
            await writing
        return 204, [(b"upload-offset", str(offset).encode())]

    async def _remove(self, scope: Message, receive: Receive) -> tuple[int, Any]:
        await _in_thread(os.unlink, self._folder + scope["path"])
        return 204, []


def _in_thread(function: Callable[..., None], *arguments: object) -> Awaitable[None]:
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def _make(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def _write(path: str, piece: list[bytes], offset: int) -> None:
    file = os.open(path, os.O_WRONLY)
    try:
        if os.pwritev(file, piece, offset) != sum(map(len, piece)):
            raise OSError("short write")
    finally:
        os.close(file)


SETUPS: dict[str, Callable[[str], App]] = {
    FLOOR: Floor,
    DEFAULT: memory_locker,
    LOCKED: file_locker,
    SLIDING: sliding_expiry,
    UNFLUSHED: without_flushes,
}


def app() -> App:
    """Build what the environment names, in the process that will run it."""
    return SETUPS[os.environ["SETUP"]](os.environ["FOLDER"])
