"""The locks on uploads, and those who append while they hold one."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

from tusasgi.errors import ShuttingDown
from tusasgi.lockers import Locker
from tusasgi.models import Source
from tusasgi.observer import Observer


def _no_interrupt() -> None:
    """Nothing to stop: this holder waits for no client."""


_holdings: ContextVar[tuple["_Holding", ...]] = ContextVar("holdings", default=())
"""What the running task holds, or what the one held that it was started by."""


class Locks:
    """Holds uploads for the engine, tells the observer how long that took, and ends all appends."""

    def __init__(self, locker: Locker, observer: Observer) -> None:
        self.is_shut_down = False
        self._locker = locker
        self._observer = observer
        self._sources: set[Source] = set()

    def hold(
        self,
        upload_id: str,
        interrupt: Callable[[], None] = _no_interrupt,
        *,
        take_over: bool = True,
    ) -> "_Holding":
        """Hold the upload as `Locker.lock` does."""
        lock = self._locker.lock(upload_id, interrupt=interrupt, take_over=take_over)
        return _Holding(self, upload_id, lock)

    def is_held_here(self, upload_id: str) -> bool:
        """True within a hook that is called with this upload held, and in tasks that it starts."""
        return any(
            one.locks is self and one.upload_id == upload_id and one.is_held
            for one in _holdings.get()
        )

    def waited(self, seconds: float) -> None:
        """Note that a lock was waited for, in vain or not."""
        self._observer.lock_waited(seconds)

    @contextlib.contextmanager
    def interruptible(self, source: Source) -> Iterator[None]:
        """Let `shut_down` interrupt the source. Raises `ShuttingDown` once that was called."""
        if self.is_shut_down:
            raise ShuttingDown("this server is about to end: try again, it will be another one")
        self._sources.add(source)
        try:
            yield
        finally:
            self._sources.discard(source)

    def shut_down(self) -> None:
        """Interrupt all sources, and take no new ones."""
        self.is_shut_down = True
        for source in self._sources:
            source.interrupt()


class _Holding:
    """A lock of a locker, and who holds it."""

    def __init__(
        self, locks: Locks, upload_id: str, lock: AbstractAsyncContextManager[object]
    ) -> None:
        self.locks = locks
        self.upload_id = upload_id
        self.is_held = False
        self._lock = lock

    async def __aenter__(self) -> None:
        began = time.perf_counter()
        try:
            await self._lock.__aenter__()
        finally:
            self.locks.waited(time.perf_counter() - began)
        self.is_held = True
        self._outer = _holdings.get()
        _holdings.set((*self._outer, self))

    async def __aexit__(self, *raised: Any) -> bool | None:
        self.is_held = False
        _holdings.set(self._outer)
        return await self._lock.__aexit__(*raised)
