"""A name for each request, the same in its answer, in the log and in hooks."""

import re
import uuid
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tusasgi.server.logs import request_id

_HEADER = b"x-request-id"
_FIT = re.compile(rb"[A-Za-z0-9._~:/+=-]{1,128}")  # what cannot break a line of a log


class RequestIds:
    """Takes the `X-Request-ID` that a client or a proxy has sent, or makes one.

    Hooks find it in `request.state["request_id"]`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = _given(scope["headers"]) or uuid.uuid4().hex
        request_id.set(name)
        state = {**scope.get("state", {}), "request_id": name}

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (_HEADER, name.encode())]
                message = {**message, "headers": headers}
            await send(message)

        await self._app({**scope, "state": state}, receive, send_named)


def _given(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Return the name that the request brings along, if it is one and fit to be repeated."""
    names = [value for name, value in headers if name == _HEADER]
    if len(names) == 1 and _FIT.fullmatch(names[0]):
        return names[0].decode()
    return None
