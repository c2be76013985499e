"""Locks within one process and one event loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from tusasgi.arguments import check_seconds
from tusasgi.errors import UploadLocked


class _Lock:
    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt
        self.waiters: list[_Waiter] = []  # an empty deque is ten times as large


class _Waiter:
    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.interrupt = interrupt
        self.turn = anyio.Event()


class MemoryLocker:
    """Hands a lock over at once, inside one process.

    `patience` is how long a newcomer waits for the holder, in seconds. Waiters are served in
    their order, and each is interrupted as soon as it holds the lock while others still wait:
    the newest request is the one that goes on.
    """

    def __init__(self, *, patience: float = 5.0) -> None:
        check_seconds("patience", patience, may_be_none=False, may_be_zero=True)
        self._patience = patience
        self._locks: dict[str, _Lock] = {}

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        if upload_id not in self._locks:
            self._locks[upload_id] = _Lock(interrupt)
        elif take_over:
            await self._wait_for_turn(upload_id, interrupt)
        else:
            raise UploadLocked("another request holds the upload")
        try:
            yield
        finally:
            self._pass_on(upload_id)

    async def _wait_for_turn(self, upload_id: str, interrupt: Callable[[], None]) -> None:
        lock, waiter = self._locks[upload_id], _Waiter(interrupt)
        lock.waiters.append(waiter)
        has_turn = False
        try:
            lock.interrupt()
            with anyio.move_on_after(self._patience):
                await waiter.turn.wait()
            has_turn = waiter.turn.is_set()
        finally:
            if not has_turn:
                self._withdraw(upload_id, waiter)
        if not has_turn:
            raise UploadLocked("another request holds the upload and does not let go")

    def _withdraw(self, upload_id: str, waiter: _Waiter) -> None:
        if waiter.turn.is_set():  # cancelled in the very moment of its turn
            self._pass_on(upload_id)
        else:
            self._locks[upload_id].waiters.remove(waiter)

    def _pass_on(self, upload_id: str) -> None:
        lock = self._locks[upload_id]
        if not lock.waiters:
            del self._locks[upload_id]
            return
        waiter = lock.waiters.pop(0)
        lock.interrupt = waiter.interrupt
        waiter.turn.set()
        if lock.waiters:
            lock.interrupt()
