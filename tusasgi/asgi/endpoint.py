"""One call of an app with the bytes of an upload, and what the app answers."""

from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import aclosing, suppress
from dataclasses import replace
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from tusasgi.asgi.body import Body, Message, Receive
from tusasgi.asgi.exchange import Scope
from tusasgi.asgi.send import Send
from tusasgi.models import FRAMING_HEADERS, MAX_FINAL_BODY, FinalResponse, Target, Upload
from tusasgi.protocols.contract import Response
from tusasgi.stores import SupportsRead

App = Callable[[Scope, Receive, Send], Awaitable[None]]

_NOT_KEPT = b"The answer was given once, and was too long to be kept.\n"

# What belongs to one message, and not to what it represents.
_OF_THE_MESSAGE = {b"content-length", b"content-digest", b"content-md5", b"content-range"}
_OF_THE_TRANSFER = {b"transfer-encoding", b"expect", b"trailer"}


def target_of(scope: Scope) -> Target:
    """Return the request that an upload stands for, without what identifies its sender."""
    return Target(
        method=scope["method"],
        path=scope["path"],
        raw_path=scope.get("raw_path"),
        query_string=scope.get("query_string", b""),
        headers=tuple(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, value in scope["headers"]
            if _describes_content(name.lower())
        ),
    )


def scope_of(target: Target, scope: Scope, length: int) -> Scope:
    """Return the scope of the whole request: of the target, sent by whoever sent the last byte."""
    described = [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in target.headers
    ]
    own = [
        (name, value)
        for name, value in scope["headers"]
        if not name.lower().startswith((b"upload-", b"content-", b"repr-digest"))
        and name.lower() not in _OF_THE_TRANSFER
    ]
    return {
        **scope,
        "method": target.method,
        "path": target.path,
        "raw_path": target.raw_path,
        "query_string": target.query_string,
        "headers": [*own, *described, (b"content-length", b"%d" % length)],
        "extensions": {},
    }


def _describes_content(name: bytes) -> bool:
    if name == b"repr-digest":
        return True
    return name.startswith(b"content-") and name not in _OF_THE_MESSAGE


class EndpointCall:
    """Calls the app when an upload has all its bytes. Implements `Call`.

    The answer is gathered up to 16 KiB before it is given out, so that it is recorded before the
    client has it; of a longer one the rest is passed on as it comes. An answer of 429 or 5xx does
    not end the upload: the client may ask again, and the app is called again.
    """

    def __init__(
        self, app: App, scope: Scope, body: Body, reader: SupportsRead, tasks: TaskGroup
    ) -> None:
        self._app = app
        self._scope = scope
        self._body = body
        self._reader = reader
        self._tasks = tasks
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._cookies: list[str] = []
        self._gathered = bytearray()
        self._chunks: AsyncGenerator[bytes, None] | None = None
        self._is_whole = False
        self._decided = anyio.Event()
        self._rest: MemoryObjectSendStream[bytes] | None = None
        self._given: MemoryObjectReceiveStream[bytes] | None = None
        self.failure: Exception | None = None
        """What the app raised."""

    async def conclude(self, upload: Upload) -> FinalResponse | None:
        self._tasks.start_soon(self._run, upload)
        await self._decided.wait()
        if self._status is None or not (self._is_whole or self._rest):
            raise self.failure or RuntimeError("the app ended without an answer")
        if self._status == 429 or self._status >= 500:
            return None
        headers = {n: v for n, v in self._headers.items() if n not in FRAMING_HEADERS}
        if self._is_whole:
            return FinalResponse(status=self._status, headers=headers, body=bytes(self._gathered))
        headers["content-type"] = "text/plain; charset=utf-8"
        return FinalResponse(status=self._status, headers=headers, body=_NOT_KEPT)

    def applied_to(self, response: Response) -> Response:
        if self._status is None:
            return response
        # What the protocol says of the upload stays, but that the upload is where the app says.
        own = {name.lower() for name in self._headers}
        kept = {n: v for n, v in response.headers.items() if n.lower() not in own}
        applied = replace(
            response,
            status=self._status,
            headers={**kept, **self._headers},
            cookies=tuple(self._cookies),
        )
        if self._is_whole:
            return replace(applied, body=bytes(self._gathered))
        return replace(applied, body=b"", stream=self._stream())

    def close(self) -> None:
        """Take no more of the answer."""
        if self._given is not None:
            self._given.close()

    async def _run(self, upload: Upload) -> None:
        assert upload.target is not None
        scope = scope_of(upload.target, self._scope, upload.offset)
        read = self._read(upload)
        self._chunks = read
        try:
            async with aclosing(read):
                await self._app(scope, self._receive, self._send)
        except Exception as failure:  # raised by `conclude`, or where the answer is passed on
            self.failure = failure
        finally:
            self._decided.set()
            if self._rest is not None:
                self._rest.close()

    async def _read(self, upload: Upload) -> AsyncGenerator[bytes, None]:
        async for chunk in self._reader.read(upload, 0, upload.offset):
            yield chunk

    async def _receive(self) -> Message:
        if self._chunks is None:
            await self._body.left()
            return {"type": "http.disconnect"}
        chunk = await anext(self._chunks, None)
        if chunk is not None:
            return {"type": "http.request", "body": chunk, "more_body": True}
        self._chunks = None
        return {"type": "http.request", "body": b"", "more_body": False}

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self._begin(message)
        elif message["type"] == "http.response.body":
            more = bool(message.get("more_body", False))
            await self._continue(bytes(message.get("body", b"")), has_more=more)

    def _begin(self, message: MutableMapping[str, Any]) -> None:
        self._status = message["status"]
        for raw_name, raw_value in message.get("headers", ()):
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            if name == "set-cookie":
                self._cookies.append(value)
            elif not name.startswith("upload-"):
                before = self._headers.get(name)
                self._headers[name] = value if before is None else f"{before}, {value}"

    async def _continue(self, chunk: bytes, *, has_more: bool) -> None:
        if self._rest is not None:
            with suppress(anyio.BrokenResourceError):  # nobody is there any more who wants it
                await self._rest.send(chunk)
            return
        self._gathered += chunk
        if len(self._gathered) > MAX_FINAL_BODY:
            self._rest, self._given = anyio.create_memory_object_stream[bytes](0)
            self._decided.set()
        elif not has_more:
            self._is_whole = True
            self._decided.set()

    async def _stream(self) -> AsyncGenerator[bytes, None]:
        yield bytes(self._gathered)
        assert self._given is not None  # there is a rest
        async for chunk in self._given:
            yield chunk
        if self.failure is not None:
            raise self.failure
