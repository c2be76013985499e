"""A response on its way out, also to a client that is still sending."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio

from tusasgi._body import Body
from tusasgi._errors import InvalidRequest
from tusasgi._headers import Headers
from tusasgi._models import Ending
from tusasgi._protocol import Response, body_size, expects_continue

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

# A client that is busy sending reads no answer, and loses it when the connection is closed on
# it. So the answer goes out whole, and what still comes is read and dropped, within bounds.
_LINGER_BYTES = 8 * 1024 * 1024
_LINGER_SECONDS = 2.0
# A rest this small costs less to read than a new connection.
_SMALL_REST = 64 * 1024


class _ClientLeft(Exception):
    """The server has nobody to send to any more. (An `OSError` may also be the store's.)"""


async def send_response(
    response: Response, send: Send, *, body: Body, headers: Headers, http_version: str
) -> None:
    """Send a response, whatever was read of the request body. A client that left is no error."""

    async def send_if_there(message: MutableMapping[str, Any]) -> None:
        try:
            await send(message)
        except OSError:  # ASGI servers may raise it when the client has left
            raise _ClientLeft from None

    rest = _rest(body, headers)
    try:
        if rest <= 0:
            await _send_all(response, send_if_there)
        elif response.stream is not None or _is_silent(body, headers):
            await _send_all(_closing(response, http_version), send_if_there)
        else:
            await _send_early(response, send_if_there, body, rest, http_version)
    except _ClientLeft:
        return  # nobody reads this answer


def _is_silent(body: Body, headers: Headers) -> bool:
    """True if nothing comes now: the client went quiet, or waits for a 100 Continue.

    A read would bring about the 100, and with it the body.
    """
    if body.ending is Ending.TIMED_OUT:
        return True
    return not body.is_started and expects_continue(headers)


def _rest(body: Body, headers: Headers) -> float:
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


async def _send_all(response: Response, send: Send) -> None:
    await send(_start(response))
    if response.stream is not None:
        async with aclosing(response.stream) as chunks:
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": response.body})


async def _send_early(
    response: Response, send: Send, body: Body, rest: float, http_version: str
) -> None:
    if rest <= _SMALL_REST:
        await body.discard(limit=_SMALL_REST, seconds=_LINGER_SECONDS)
    if body.is_flowing:
        await _send_while_reading(_closing(response, http_version), send, body)
    else:
        await _send_all(response, send)


async def _send_while_reading(response: Response, send: Send, body: Body) -> None:
    await send(_start(response))
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    await body.discard(limit=_LINGER_BYTES, seconds=_LINGER_SECONDS)
    # Read on while the end is sent: hypercorn cannot take it while its own queue of body
    # messages is full.
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read_on, body)
        await _send_end(send)
        tasks.cancel_scope.cancel()


async def _read_on(body: Body) -> None:
    await body.discard(limit=_LINGER_BYTES, seconds=_LINGER_SECONDS)


async def _send_end(send: Send) -> None:
    # Caught here, because a task group would wrap it.
    try:
        await send({"type": "http.response.body", "body": b""})
    except _ClientLeft:
        return


def _closing(response: Response, http_version: str) -> Response:
    if not http_version.startswith("1"):
        return response  # from HTTP/2 on the header is forbidden, and not needed
    return replace(response, headers={**response.headers, "Connection": "close"})


def _start(response: Response) -> dict[str, Any]:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers.items()
    ]
    # Without a length some servers frame an empty answer as chunks; 204 must not have one.
    if response.stream is None and response.status != 204:
        headers.append((b"content-length", b"%d" % len(response.body)))
    return {"type": "http.response.start", "status": response.status, "headers": headers}
