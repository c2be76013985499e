"""Chunks to a file, in worker threads, while the next chunks arrive."""

import os
from collections.abc import AsyncIterable, Callable

import anyio
from anyio.to_thread import run_sync

from tusasgi._errors import TusError
from tusasgi.stores._files import close_alone, no_room_is_store_full, write_all

_BATCH_SIZE = 512 * 1024
_LINGER = 0.02  # seconds a batch waits to be filled, so that a slow client holds no memory
_BATCH_CHUNKS = 1024  # IOV_MAX on every system we know; tiny chunks cost more than their bytes


class Writer:
    """Adds chunks to the end of one file.

    The file is opened with the first batch, by `open_file` in a worker thread; `before_last` is
    called there before the bytes are written that reach `length`. `offset` is where the written
    bytes end.
    """

    def __init__(
        self,
        open_file: Callable[[], int],
        offset: int,
        *,
        length: int | None = None,
        before_last: Callable[[], None] = lambda: None,
    ) -> None:
        self.offset = offset
        self._start = offset
        self._open_file = open_file
        self._length = length
        self._before_last = before_last
        self._file: int | None = None
        self._failure: Exception | None = None
        self._batch: list[bytes] = []
        self._size = 0
        self._is_ended = False
        # Events exist only while somebody waits for them: thousands of slow clients add up.
        self._arrived: anyio.Event | None = None
        self._filled: anyio.Event | None = None
        self._taken: anyio.Event | None = None

    async def write(self, chunks: AsyncIterable[bytes]) -> None:
        """Write all chunks.

        Raises what they raise, after everything was taken back; raises its own failure, and
        keeps what was written before.
        """
        refusal: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run)
            try:
                async for chunk in chunks:
                    if self._is_full:
                        await self._wait_for_room()
                    if self._failure is not None:
                        break
                    self._add(chunk)
            except Exception as error:  # raised below, outside of the group
                refusal = error
            self._end(discard=refusal is not None)
        if refusal is not None:
            with anyio.CancelScope(shield=True):  # cancelled or not, nothing of it is kept
                await run_sync(self._take_back)
            raise refusal
        if self._failure is not None:
            raise self._failure

    def flush(self) -> None:
        """Have everything on the disk. Blocks."""
        if self._file is not None:
            with no_room_is_store_full():
                os.fsync(self._file)

    def close(self) -> None:
        if self._file is not None:
            close_alone(self._file)

    # The task that brings the chunks.

    @property
    def _is_full(self) -> bool:
        return self._size >= _BATCH_SIZE or len(self._batch) >= _BATCH_CHUNKS

    def _add(self, chunk: bytes) -> None:
        """Add a chunk to the batch that is written next."""
        self._batch.append(chunk)
        self._size += len(chunk)
        _signal(self._arrived)
        if self._is_full:
            _signal(self._filled)

    async def _wait_for_room(self) -> None:
        """Wait until a full batch is on its way to the disk, or cannot be."""
        while self._is_full and self._failure is None:
            self._taken = anyio.Event()
            await self._taken.wait()

    def _end(self, *, discard: bool) -> None:
        """Let the other task end when everything is written, or at once with `discard`."""
        if discard:
            self._batch = []
        self._is_ended = True
        _signal(self._arrived)
        _signal(self._filled)

    # The task that has them written.

    async def _run(self) -> None:
        while self._failure is None:
            await self._wait_for_batch()
            batch, self._batch = self._batch, []
            size, self._size = self._size, 0
            _signal(self._taken)
            if batch:
                await run_sync(self._write, batch, size)
            elif self._is_ended:
                return
        _signal(self._taken)

    async def _wait_for_batch(self) -> None:
        if not self._batch and not self._is_ended:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        if not self._is_full and not self._is_ended:
            self._filled = anyio.Event()
            with anyio.move_on_after(_LINGER):
                await self._filled.wait()

    # What runs in worker threads.

    def _write(self, batch: list[bytes], size: int) -> None:
        try:
            with no_room_is_store_full():
                if self._file is None:
                    self._file = self._open_file()
                if self._length is not None and self.offset + size >= self._length:
                    self._before_last()
                self.offset = write_all(self._file, batch, self.offset)
        except (OSError, TusError) as failure:
            self._failure = failure

    def _take_back(self) -> None:
        if self._file is not None:
            os.ftruncate(self._file, self._start)


def _signal(event: anyio.Event | None) -> None:
    if event is not None:
        event.set()
