"""Chunks to a file, in worker threads, while the next chunks arrive."""

from collections.abc import AsyncIterable

import anyio
from anyio.abc import TaskGroup

from tusasgi.stores.file.appending import Appending
from tusasgi.stores.file.files import Workers

_BATCH_SIZE = 512 * 1024
_LINGER = 0.02  # seconds a batch waits to be filled, so that a slow client holds no memory
_BATCH_CHUNKS = 1024  # IOV_MAX on every system we know; tiny chunks cost more than their bytes


class Writer:
    """Feeds the chunks of one append to its steps, and flushes on the way.

    The bytes are written by the threads of `writing`, and flushed by those of `flushing`, one
    flush at a time, while the next ones are written. Whoever cancels, no thread is at work any
    more when `write` has ended.
    """

    def __init__(self, appending: Appending, *, writing: Workers, flushing: Workers) -> None:
        self._appending = appending
        self._writing = writing
        self._flushing = flushing
        self._is_flushing = False
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
            tasks.start_soon(self._run, tasks)
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
            # Cancelled or not, nothing of it is kept.
            await self._writing.run_surely(self._appending.take_back)
            raise refusal
        if self._failure is not None:
            raise self._failure

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

    async def _run(self, tasks: TaskGroup) -> None:
        while self._failure is None:
            await self._wait_for_batch()
            batch, self._batch = self._batch, []
            size, self._size = self._size, 0
            _signal(self._taken)
            if batch:
                await self._write(batch, size)
            elif self._is_ended:
                return
            if self._appending.is_to_be_flushed and not self._is_flushing:
                self._is_flushing = True
                tasks.start_soon(self._flush)
        _signal(self._taken)

    async def _wait_for_batch(self) -> None:
        if not self._batch and not self._is_ended:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        if not self._is_full and not self._is_ended:
            self._filled = anyio.Event()
            with anyio.move_on_after(_LINGER):
                await self._filled.wait()

    async def _write(self, batch: list[bytes], size: int) -> None:
        try:
            await self._writing.run(self._appending.write, batch, size)
        except Exception as failure:  # raised at the end, outside of the group
            self._failure = failure

    # The tasks that have them flushed.

    async def _flush(self) -> None:
        try:
            await self._flushing.run(self._appending.flush)
        except Exception as failure:  # raised at the end, outside of the group
            self._failure = failure
            for event in (self._arrived, self._filled, self._taken):
                _signal(event)
        finally:
            self._is_flushing = False


def _signal(event: anyio.Event | None) -> None:
    if event is not None:
        event.set()
