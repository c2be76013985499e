"""A response on its way out, also to a client that is still sending."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import anyio
import anyio.lowlevel

from tusasgi.asgi.body import Body, Receive
from tusasgi.errors import InvalidRequest
from tusasgi.protocols.contract import Interim, Response
from tusasgi.protocols.headers import Headers, body_size, expects_continue

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

INTERIM = "http.response.informational"
"""The extension of ASGI by which an interim response goes out, where the server has it."""

PATHSEND = "http.response.pathsend"
"""The extension of ASGI by which a server sends a file by itself."""

_MIB = 1024 * 1024

# A client that is busy sending reads no answer, and loses it when the connection is closed on
# it. So the answer goes out whole, and what still comes is read and dropped, within bounds.
_LINGER_BYTES = 8 * _MIB
_LINGER_SECONDS = 2.0
# Over HTTP/2 there are other uploads on the connection, and hypercorn ends it with all of them
# when bytes come for a request that is answered. So there the bounds are wider.
_SHARED_LINGER_BYTES = 64 * _MIB
_SHARED_LINGER_SECONDS = 30.0
# A rest this small costs less to read than a new connection.
_SMALL_REST = 64 * 1024


# What is sent at once of a stream: small enough for a slow client to take it in time.
_PIECE = 256 * 1024


class _ClientLeft(Exception):
    """The server has nobody to send to any more. (An `OSError` may also be the store's.)"""


class _Outlet:
    """A `send` that ends with `_ClientLeft` when the client has left, or takes nothing for long.

    Servers differ in what a `send` to nobody does: it raises, does nothing, or waits for ever.
    """

    def __init__(self, send: Send, timeout: float | None) -> None:
        self._send = send
        self._timeout = math.inf if timeout is None else timeout
        self._wait: anyio.CancelScope | None = None
        self._is_closed = False

    async def __call__(self, *messages: MutableMapping[str, Any]) -> None:
        is_sent = False
        if not self._is_closed:
            with anyio.move_on_after(self._timeout) as self._wait:
                try:
                    for message in messages:
                        await self._send(message)
                except OSError:  # ASGI servers may raise it when the client has left
                    raise _ClientLeft from None
                is_sent = True
            self._wait = None
        if not is_sent:
            raise _ClientLeft

    def close(self) -> None:
        """Send no more, and wait no longer for what is being sent."""
        self._is_closed = True
        if self._wait is not None:
            self._wait.cancel()


async def send_response(
    response: Response,
    send: Send,
    *,
    body: Body,
    headers: Headers,
    http_version: str,
    timeout: float | None = 60.0,
    sends_files: bool = False,
) -> None:
    """Send a response, whatever was read of the request body. A client that left is no error.

    Neither is one that takes nothing for `timeout` seconds: it is left alone, with the response
    incomplete, which servers take for a reason to end the connection. A stream is not read on
    then, and closed. Without a `timeout` a file is left to a server that `sends_files`, which does
    not tell whether the client takes it.
    """
    outlet = _Outlet(send, timeout)
    rest = _Rest(body, headers, http_version)
    is_left_to_server = sends_files and timeout is None and not rest.is_coming
    try:
        if response.stream is None:
            await _send_whole(response, outlet, rest)
        elif response.path is not None and is_left_to_server:
            await response.stream.aclose()
            await outlet(_start(response))
            await outlet({"type": PATHSEND, "path": response.path})
        else:
            await _send_stream(response, response.stream, outlet, rest)
    except _ClientLeft:
        return  # nobody reads this answer


async def send_interim(interim: Interim, send: Send, *, timeout: float | None) -> bool:
    """Send an interim response. False: the client has left, or takes nothing for `timeout` seconds.

    The server has to offer `INTERIM`, and the response must not have begun.
    """
    headers = raw_headers(interim.headers)
    try:
        await _Outlet(send, timeout)(
            {"type": INTERIM, "status": interim.status, "headers": headers}
        )
    except _ClientLeft:
        return False
    return True


async def send_download(
    response: Response,
    scope: Mapping[str, Any],
    receive: Receive,
    send: Send,
    *,
    timeout: float | None = 60.0,
) -> None:
    """Send what `download` answers, in an endpoint of the host's own, as `TusApp` does.

    The bytes are read as the client takes them, and no more of them when it has left or takes
    nothing for `timeout` seconds.
    """
    await send_response(
        response,
        send,
        body=Body(receive),
        headers=Headers(scope["headers"]),
        http_version=scope.get("http_version", "1.1"),
        timeout=timeout,
        sends_files=PATHSEND in scope.get("extensions", {}),
    )


class _Rest:
    """What of the request body is still to come while its answer goes out."""

    def __init__(self, body: Body, headers: Headers, http_version: str) -> None:
        self.body = body
        self.size = _size_of_rest(body, headers)
        self._is_shared = not http_version.startswith("1")
        # A read would bring about the 100 Continue that such a client waits for, and the body.
        # Behind the answer none is sent, but the body may come all the same: of a client that has
        # waited long enough (curl: a second), or that was sent a 100 before anybody asked for it.
        self._is_waiting = not body.is_started and expects_continue(headers)
        self.is_silent = body.has_timed_out or (self._is_waiting and self._is_shared)

    @property
    def is_coming(self) -> bool:
        return self.body.is_flowing and self.size > 0

    @property
    def _is_held_back(self) -> bool:
        return self.is_silent or self._is_waiting

    def close(self, response: Response) -> Response:
        """Return the response as it has to be when this is coming and will not be read."""
        if not self.is_coming or self._is_shared:
            return response  # from HTTP/2 on the header is forbidden, and not needed
        return replace(response, headers={**response.headers, "Connection": "close"})

    async def read_if_small(self) -> None:
        if self.is_coming and not self._is_held_back and self.size <= _SMALL_REST:
            await self.body.discard(limit=_SMALL_REST, seconds=_LINGER_SECONDS)

    async def linger(self) -> None:
        """Read and drop what comes, within bounds."""
        await self.body.discard(
            limit=_SHARED_LINGER_BYTES if self._is_shared else _LINGER_BYTES,
            seconds=_SHARED_LINGER_SECONDS if self._is_shared else _LINGER_SECONDS,
        )

    async def read_on(self) -> None:
        await self.body.discard(limit=_LINGER_BYTES, seconds=_LINGER_SECONDS)


def _size_of_rest(body: Body, headers: Headers) -> float:
    """Return how much the client may still send, infinity if that is not known."""
    if not body.is_flowing:
        return 0
    try:
        size = body_size(headers)
    except InvalidRequest:
        return math.inf
    if size is not None:
        # What has come to its announced end may still lack the message that says so.
        return max(size - body.received, 1 if body.is_started else 0)
    return math.inf if body.is_started or "transfer-encoding" in headers else 0


async def _send_whole(response: Response, outlet: _Outlet, rest: _Rest) -> None:
    await rest.read_if_small()
    start, body = _start(rest.close(response)), response.body
    if not rest.is_coming or rest.is_silent:
        await outlet(start, {"type": "http.response.body", "body": body})
        return
    await outlet(start, {"type": "http.response.body", "body": body, "more_body": True})
    await rest.linger()
    # Read on while the end is sent: hypercorn cannot take it while its own queue of body
    # messages is full.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rest.read_on)
        with suppress(_ClientLeft):  # suppressed here, because a task group would wrap it
            await outlet({"type": "http.response.body", "body": b""})
        tasks.cancel_scope.cancel()


async def _send_stream(
    response: Response, stream: AsyncGenerator[bytes, None], outlet: _Outlet, rest: _Rest
) -> None:
    """Send piece by piece, and read no more from the store once the client is seen to leave."""
    failure: Exception | None = None
    async with aclosing(stream), anyio.create_task_group() as tasks:
        try:
            await outlet(_start(rest.close(response)))
            if not rest.is_silent:
                tasks.start_soon(_close_when_left, outlet, rest.body)
            await _send_pieces(stream, outlet)
        except Exception as raised:  # raised again below: a task group would wrap it
            failure = raised
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _send_pieces(stream: AsyncGenerator[bytes, None], send: Send) -> None:
    async for chunk in stream:
        # Neither a store in memory nor a send to nobody need ever wait: let others run, one of
        # whom hears that the client has left.
        await anyio.lowlevel.checkpoint()
        for start in range(0, len(chunk), _PIECE):
            piece = chunk if len(chunk) <= _PIECE else chunk[start : start + _PIECE]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _close_when_left(outlet: _Outlet, body: Body) -> None:
    await body.left()
    outlet.close()


def raw_headers(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers as ASGI wants them."""
    return [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()
    ]


def _start(response: Response) -> dict[str, Any]:
    headers = raw_headers(response.headers)
    headers += [(b"set-cookie", cookie.encode("latin-1")) for cookie in response.cookies]
    # Without a length some servers frame an empty answer as chunks; 204 must not have one. (The
    # answer to a HEAD may have the length of what GET would bring.)
    has_length = response.status in (204, 304) or any(n == b"content-length" for n, _ in headers)
    if response.stream is None and not has_length:
        headers.append((b"content-length", b"%d" % len(response.body)))
    return {"type": "http.response.start", "status": response.status, "headers": headers}
