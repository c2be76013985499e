"""The body of a request: ASGI `receive` as an async iterable of chunks."""

import math
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from tusasgi.errors import BodyTimeout, ShuttingDown, UploadLocked
from tusasgi.models import Ending

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class Body:
    """The chunks of a request body, none of them empty. Implements `Source`.

    Nothing is received before the first chunk is asked for. The iteration ends when the body
    is complete, when the client left, when `interrupt` was called, when nothing arrived for
    `timeout` seconds (ASGI servers have no such limit), or when `receive` raised an exception;
    `ending` says which it was. What came before is the client's, however it ends.
    """

    def __init__(self, receive: Receive, *, timeout: float | None = 60.0) -> None:
        self._receive = receive
        self._timeout = math.inf if timeout is None else timeout
        self._wait: anyio.CancelScope | None = None
        self._is_interrupted = False
        self._has_left = False
        self._first = b""
        self.failure: Exception | None = None
        """What `receive` raised. It is for those who made `receive`: nobody here can answer it."""
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
        if self._first:
            first, self._first = self._first, b""
            return first
        while self.ending is None:
            if self._is_interrupted:
                self.ending = Ending.INTERRUPTED
                break
            self.is_started = True
            chunk = None
            # One scope per wait: a scope around a `yield` to the store would cancel the store.
            with anyio.move_on_after(self._timeout) as self._wait:
                chunk = await self._receive_chunk()
            self._wait = None
            if chunk is None:
                self.ending = Ending.INTERRUPTED if self._is_interrupted else Ending.TIMED_OUT
            elif chunk:
                return chunk
        raise StopAsyncIteration

    async def is_empty(self) -> bool:
        """True if the body is complete without a byte; the first chunk stays in line."""
        if self.received == 0:
            self._first = await anext(self, b"")
        return self.received == 0 and self.ending is Ending.COMPLETE

    @property
    def has_timed_out(self) -> bool:
        return self.ending is Ending.TIMED_OUT

    @property
    def is_cut(self) -> bool:
        """True once the body ended before all of it had come."""
        return self.ending is not None and self.ending is not Ending.COMPLETE

    def check(self) -> None:
        """Raise what `receive` raised, if it did."""
        if self.failure is not None:
            raise self.failure

    def check_ending(self, *, is_shut_down: bool) -> None:
        """Raise what the client is to hear if the server ended the body, and not the client."""
        if self.has_timed_out:
            raise BodyTimeout(f"nothing arrived for {self._timeout:g} seconds")
        if self.ending is Ending.INTERRUPTED and is_shut_down:
            raise ShuttingDown("this server is about to end: go on, it will be with another one")
        if self.ending is Ending.INTERRUPTED:
            raise UploadLocked("another request has taken over this upload")

    def interrupt(self) -> None:
        """End the iteration, at once if it is waiting for the client."""
        self._is_interrupted = True
        if self._wait is not None:
            self._wait.cancel()

    async def discard(self, *, limit: int, seconds: float) -> None:
        """Receive and drop what still comes, up to a bound, however the iteration ended."""
        with anyio.move_on_after(seconds):
            while self.is_flowing and limit > 0:
                limit -= len(await self._receive_chunk())

    async def left(self) -> None:
        """Return when the client has left; what it sends until then is dropped."""
        while self.is_flowing:
            await self._receive_chunk()
        # Behind a complete body there comes one more message: the client has left.
        if not self._has_left:
            await self._receive_chunk()
        if not self._has_left:
            await anyio.sleep_forever()  # whoever stands between does not tell

    async def _receive_chunk(self) -> bytes:
        """Return what one message brings, which may be nothing."""
        try:
            message = await self._receive()
        except Exception as failure:  # for the app, which lets it pass as it is
            self.failure = failure
            self._end(Ending.FAILED)
            return b""
        if message["type"] == "http.disconnect":
            self._has_left = True
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
