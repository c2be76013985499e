"""What the servers of `test_interim.py` run: uploads at `/files/`, and ASGI by hand beside them.

`/offered` answers whether interim responses may be sent. `/echo` answers with what it was sent,
after two interim responses where they may be. `/late` sends one in the middle of its answer,
`/broken` one with a header in a header, `/flood` as many as the client takes, `/raise` as well,
behind the back of an app that fails, and `/flooded` answers how many that were.
`TUSASGI_TEST_INTERVAL` is how many seconds there are between two reports of progress.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from tusasgi import TusApp, Uploads
from tusasgi.asgi import progress
from tusasgi.server.interim import InterimResponses
from tusasgi.stores.file import FileStore

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

INTERIM = "http.response.informational"

progress._INTERVAL = float(os.environ["TUSASGI_TEST_INTERVAL"])
files = TusApp(
    Uploads(FileStore(os.environ["TUSASGI_TEST_FOLDER"])), prefix="/files", downloads=True
)
flooded = 0
left_behind: set[asyncio.Task[None]] = set()


class InterimH11Protocol(InterimResponses, H11Protocol):
    """The pure parser, as a host puts it together."""


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http" or scope["path"].startswith("/files"):
        await files(scope, receive, send)
    else:
        await _BY_HAND[scope["path"]](scope, receive, send)


async def _offered(scope: Message, receive: Receive, send: Send) -> None:
    await _say(b"yes" if INTERIM in scope.get("extensions", {}) else b"no", send)


async def _echo(scope: Message, receive: Receive, send: Send) -> None:
    if INTERIM in scope.get("extensions", {}):
        await send({"type": INTERIM, "status": 104, "headers": [(b"location", b"/here")]})
        await send({"type": INTERIM, "status": 199})
    body, is_whole = b"", False
    while not is_whole:
        message = await receive()
        body += message.get("body", b"")
        is_whole = not message.get("more_body", False)
    await _say(body, send)


async def _late(scope: Message, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"some", "more_body": True})
    await send({"type": INTERIM, "status": 104, "headers": []})


async def _broken(scope: Message, receive: Receive, send: Send) -> None:
    headers = [(b"location", b"/here\r\nset-cookie: mine")]
    await send({"type": INTERIM, "status": 104, "headers": headers})


async def _flood(scope: Message, receive: Receive, send: Send) -> None:
    global flooded
    flooding = asyncio.create_task(_send_many(send))
    while (await receive())["type"] != "http.disconnect":
        pass
    flooding.cancel()
    flooded = -1


async def _raise(scope: Message, receive: Receive, send: Send) -> None:
    left_behind.add(asyncio.create_task(_send_many(send)))
    while (before := flooded) == 0 or not await _has_stopped_at(before):
        pass
    raise ValueError("what is left behind goes on")


async def _send_many(send: Send) -> None:
    global flooded
    flooded = 0
    while True:
        headers = [(b"location", b"/" + b"a" * 1000)]
        await send({"type": INTERIM, "status": 104, "headers": headers})
        flooded += 1
        await asyncio.sleep(0)


async def _has_stopped_at(count: int) -> bool:
    await asyncio.sleep(0.3)
    return flooded == count


async def _flooded(scope: Message, receive: Receive, send: Send) -> None:
    await _say(b"%d" % flooded, send)


async def _say(text: bytes, send: Send) -> None:
    headers = [(b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


_BY_HAND = {
    "/offered": _offered,
    "/echo": _echo,
    "/late": _late,
    "/broken": _broken,
    "/flood": _flood,
    "/raise": _raise,
    "/flooded": _flooded,
}
