"""Chunks of any size gathered to pieces, each stored while the next is filled."""

import io
from collections.abc import AsyncIterable, Awaitable, Callable

import anyio


class Gatherer:
    """Gathers chunks and has `store` keep them, in pieces of at most `size` bytes.

    `store` is called with a piece, and whether it is known to be the last. A piece waits `linger`
    seconds to be filled, so that what a slow client sends does not wait in memory. Two pieces are
    held at the most: one that is filled, one on its way.
    """

    def __init__(
        self, store: Callable[[bytes, bool], Awaitable[None]], *, size: int, linger: float
    ) -> None:
        self._store = store
        self._piece_size = size
        self._linger = linger
        self._filling = io.BytesIO()
        self._size = 0
        self._failure: Exception | None = None
        self._is_ended = False
        self._changed: anyio.Event | None = None
        self._taken: anyio.Event | None = None

    async def gather(self, chunks: AsyncIterable[bytes]) -> Exception | None:
        """Have all chunks stored. Return what they raised, once nothing more is on its way.

        Raises what `store` raised; pieces before that one are stored.
        """
        refusal: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            try:
                async for chunk in chunks:
                    await self._add(chunk)
                    if self._failure is not None:
                        break
            except Exception as error:  # returned below, outside of the group
                refusal = error
                self._size = 0
            self._is_ended = True
            _signal(self._changed)
        if refusal is None and self._failure is not None:
            raise self._failure
        return refusal

    # The task that brings the chunks.

    async def _add(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest and self._failure is None:
            room = self._piece_size - self._size
            if room == 0:
                await self._wait_for_room()
                continue
            is_first = self._size == 0
            self._size += self._filling.write(rest[:room])
            rest = rest[room:]
            if is_first or self._size == self._piece_size:  # nobody waits for the others
                _signal(self._changed)

    async def _wait_for_room(self) -> None:
        while self._size == self._piece_size and self._failure is None:
            self._taken = anyio.Event()
            await self._taken.wait()

    # The task that has them stored.

    async def _run(self) -> None:
        while self._failure is None:
            await self._wait_for_piece()
            if self._size == 0:
                break
            piece = self._take()
            try:
                await self._store(piece, self._is_ended)
            except Exception as failure:  # raised again by `gather`
                self._failure = failure
            del piece  # or it would be held while the next one is awaited
        _signal(self._taken)

    def _take(self) -> bytes:
        filled, self._filling = self._filling, io.BytesIO()
        self._size = 0
        _signal(self._taken)
        return filled.getvalue()  # its own bytes, not a copy

    async def _wait_for_piece(self) -> None:
        """Wait for the first byte and then, for a while, for the piece to be full."""
        while self._size == 0 and not self._is_ended:
            await self._change()
        with anyio.move_on_after(self._linger):
            while self._size < self._piece_size and not self._is_ended:
                await self._change()

    async def _change(self) -> None:
        self._changed = anyio.Event()
        await self._changed.wait()


def _signal(event: anyio.Event | None) -> None:
    if event is not None:
        event.set()
