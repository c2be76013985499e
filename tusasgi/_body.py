"""The body of a request: ASGI `receive` as an async iterable of chunks."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from tusasgi._models import Ending

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Body:
    """The chunks of a request body, none of them empty. Implements `Source`.

    Nothing is received before the first chunk is asked for. The iteration ends when the body
    is complete, when the client left, when `interrupt` was called, or when nothing arrived for
    `timeout` seconds (ASGI servers have no such limit); `ending` says which it was.
    """

    def __init__(self, receive: Receive, *, timeout: float | None = 60.0) -> None:
        self._receive = receive
        self._timeout = math.inf if timeout is None else timeout
        self._wait: anyio.CancelScope | None = None
        self._is_interrupted = False
        self.ending: Ending | None = None
        self.is_started = False
        """True once the server was asked for bytes; it may have sent `100 Continue` then."""
        self.is_flowing = True
        """True while the client may still be sending."""
        self.received = 0
        """Bytes that came so far."""

    def __aiter__(self) -> "Body":
        return self

    async def __anext__(self) -> bytes:
        while self.ending is None:
            if self._is_interrupted:
                self.ending = Ending.INTERRUPTED
                break
            self.is_started = True
            message = None
            # One scope per wait: a scope around a `yield` to the store would cancel the store.
            with anyio.move_on_after(self._timeout) as self._wait:
                message = await self._receive()
            self._wait = None
            if message is None:
                self.ending = Ending.INTERRUPTED if self._is_interrupted else Ending.TIMED_OUT
            elif chunk := self._take(message):
                return chunk
        raise StopAsyncIteration

    def interrupt(self) -> None:
        """End the iteration, at once if it is waiting for the client."""
        self._is_interrupted = True
        if self._wait is not None:
            self._wait.cancel()

    async def discard(self, *, limit: int, seconds: float) -> None:
        """Receive and drop what still comes, up to a bound, however the iteration ended."""
        with anyio.move_on_after(seconds):
            while self.is_flowing and limit > 0:
                limit -= len(self._take(await self._receive()))

    def _take(self, message: Message) -> bytes:
        if message["type"] == "http.disconnect":
            self._end(Ending.CLIENT_LEFT)
            return b""
        if not message.get("more_body", False):
            self._end(Ending.COMPLETE)
        chunk: bytes = message.get("body", b"")
        self.received += len(chunk)
        return chunk

    def _end(self, ending: Ending) -> None:
        self.is_flowing = False
        if self.ending is None:
            self.ending = ending
