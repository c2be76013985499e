"""A server in one kind of trouble, which ends when `/calm` is asked for: run by uvicorn.

`TUSASGI_TEST_TROUBLE` says which. `/told` says what has happened so far.
"""

import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from tusasgi import Hooks, StoreUnavailable, TusApp, Upload, Uploads
from tusasgi.observer import Observer, Outcome
from tusasgi.stores.memory import MemoryStore

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_FAILURES = 2


class Told(Observer):
    """Counts what clients do, as JSON."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, int]] = []
        self.received = 0
        self.completions = 0

    def request_ended(self, outcome: Outcome) -> None:
        self.requests.append((outcome.operation, outcome.status))
        self.received += outcome.received

    def as_json(self) -> bytes:
        return json.dumps(vars(self)).encode()


class SlowHooks(Hooks):
    """`completed` takes as long as the trouble."""

    def __init__(self, told: Told, is_calm: anyio.Event) -> None:
        self._told = told
        self._is_calm = is_calm

    async def completed(self, upload: Upload) -> None:
        self._told.completions += 1
        await self._is_calm.wait()


class FailingHooks(Hooks):
    """`completed` fails a few times, and then works."""

    def __init__(self, told: Told) -> None:
        self._told = told

    async def completed(self, upload: Upload) -> None:
        self._told.completions += 1
        if self._told.completions <= _FAILURES:
            raise RuntimeError("the database of the host is away")


class LostStore(MemoryStore):
    """Cannot be reached any more once half of an upload is stored, until the trouble ends."""

    def __init__(self, is_calm: anyio.Event) -> None:
        super().__init__()
        self._is_calm = is_calm
        self._is_lost = False

    async def get(self, upload_id: str) -> Upload:
        self._check()
        return await super().get(upload_id)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        self._check()
        stored = await super().append(upload, self._half(upload, chunks), **options)
        self._check()
        return stored

    def _check(self) -> None:
        if self._is_lost and not self._is_calm.is_set():
            raise StoreUnavailable("the store of this test cannot be reached")

    async def _half(self, upload: Upload, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        assert upload.length is not None
        reached = upload.offset
        async for chunk in chunks:
            yield chunk
            reached += len(chunk)
            if not self._is_lost and reached >= upload.length // 2:
                self._is_lost = True
                return


def create_app() -> App:
    trouble = os.environ["TUSASGI_TEST_TROUBLE"]
    told, is_calm = Told(), anyio.Event()
    store = LostStore(is_calm) if trouble == "lost-store" else MemoryStore()
    hooks: Hooks = Hooks()
    if trouble == "slow-hook":
        hooks = SlowHooks(told, is_calm)
    elif trouble == "failing-hook":
        hooks = FailingHooks(told)
    tus = TusApp(Uploads(store, hooks=hooks, observer=told), prefix="/files", downloads=True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in ("/told", "/calm"):
            await tus(scope, receive, send)
            return
        if scope["path"] == "/calm":
            is_calm.set()
        body = told.as_json()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
