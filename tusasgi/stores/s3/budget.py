"""The memory that all operations of a store share."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Budget:
    """Bytes of memory that all operations of a store share; first come, first served."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._waiting: deque[tuple[int, anyio.Event]] = deque()

    @property
    def is_short(self) -> bool:
        """True if somebody waits for memory."""
        return bool(self._waiting)

    async def take(self, size: int) -> int:
        """Wait for so many bytes and return how many there are: not more than there ever are."""
        size = min(size, self._size)
        if not self._waiting and self._left >= size:
            self._left -= size
            return size
        turn = size, anyio.Event()
        self._waiting.append(turn)
        try:
            await turn[1].wait()
        except BaseException:
            if turn[1].is_set():
                self.give(size)
            else:
                self._waiting.remove(turn)
                self._serve()
            raise
        return size

    @asynccontextmanager
    async def taken(self, size: int) -> AsyncIterator[None]:
        """Hold so many bytes, or all there are, until the block ends. Not to be nested."""
        held = await self.take(size)
        try:
            yield
        finally:
            self.give(held)

    def give(self, size: int) -> None:
        self._left += size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._left:
            size, turn = self._waiting.popleft()
            self._left -= size
            turn.set()
