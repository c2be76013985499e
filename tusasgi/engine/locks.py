"""The locks on uploads, and those who append while they hold one."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from tusasgi.errors import ShuttingDown
from tusasgi.lockers import Locker
from tusasgi.models import Source
from tusasgi.observer import Observer


def _no_interrupt() -> None:
    """Nothing to stop: this holder waits for no client."""


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
        return _Holding(lock, self._observer)

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
    """A lock of a locker that tells the observer how long it was waited for, in vain or not."""

    def __init__(self, lock: AbstractAsyncContextManager[object], observer: Observer) -> None:
        self._lock = lock
        self._observer = observer

    async def __aenter__(self) -> None:
        began = time.perf_counter()
        try:
            await self._lock.__aenter__()
        finally:
            self._observer.lock_waited(time.perf_counter() - began)

    async def __aexit__(self, *raised: Any) -> bool | None:
        return await self._lock.__aexit__(*raised)
