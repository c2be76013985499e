"""Interim responses (1xx) over uvicorn: protocol classes that offer them to the app as ASGI.

An app finds the extension `http.response.informational` in its scope, and sends a message of this
type with a `status` and `headers` as often as it likes before its response begins.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol
from uvicorn.protocols.http.flow_control import FlowControl

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_EXTENSION = "http.response.informational"
_STATUSES = range(102, 200)  # 100 is sent by uvicorn itself, and 101 ends HTTP
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")
_OF_THE_CONNECTION = {b"connection", b"content-length", b"transfer-encoding", b"upgrade"}


class InterimResponses(asyncio.Protocol):
    """To be put before an HTTP/1.1 protocol class of uvicorn, which then sends interim responses.

    They are offered over HTTP/1.1 alone: a client of 1.0 takes the first response for the last.
    One that cannot be sent as it is, or comes after the response has begun, is a `RuntimeError`
    for the app. A client that does not read makes the app wait, and for one that has left nothing
    is sent.
    """

    app: App
    flow: FlowControl
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.app = partial(_with_interim, self.app, self.flow, self.transport)


class InterimProtocol(InterimResponses, AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """The protocol class that uvicorn takes by itself, with interim responses."""


async def _with_interim(
    app: App,
    flow: FlowControl,
    transport: asyncio.Transport,
    scope: MutableMapping[str, Any],
    receive: Receive,
    send: Send,
) -> None:
    if scope["http_version"] != "1.1":
        return await app(scope, receive, send)
    scope.setdefault("extensions", {})[_EXTENSION] = {}
    outlet = _InterimSender(send, flow, transport)
    try:
        return await app(scope, receive, outlet.send)
    finally:
        outlet.close()


class _InterimSender:
    """What one request sends: interim responses, and then its response."""

    def __init__(self, send: Send, flow: FlowControl, transport: asyncio.Transport) -> None:
        self._send = send
        self._flow = flow
        self._transport = transport
        self._is_open = True

    async def send(self, message: Message) -> None:
        if message["type"] == _EXTENSION:
            await self._send_interim(message)
        else:
            self.close()
            await self._send(message)

    def close(self) -> None:
        """Let no interim response out any more, and none that waits for the client either."""
        self._is_open = False

    async def _send_interim(self, message: Message) -> None:
        head = _head(message["status"], message.get("headers", ()))
        if not self._is_open:
            raise RuntimeError("an interim response comes before the response, not after")
        while self._flow.write_paused:  # several may have waited, and each adds to what is held
            await self._flow.drain()
        if self._is_open and not self._transport.is_closing():
            self._transport.write(head)


def _head(status: int, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return the interim response as it goes over the wire."""
    if status not in _STATUSES:
        raise RuntimeError(f"{status!r} is not the status of an interim response")
    lines = [b"HTTP/1.1 %d " % status]
    for name, value in headers:
        if not _NAME.fullmatch(name) or name.lower() in _OF_THE_CONNECTION:
            raise RuntimeError(f"{name!r} is not a header of an interim response")
        if not _VALUE.fullmatch(value):
            raise RuntimeError(f"the value of {name!r} cannot be sent")
        lines.append(b"%b: %b" % (name, value))
    return b"\r\n".join([*lines, b"", b""])
