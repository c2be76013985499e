"""Chunks gathered to pieces, each of which is stored while the next one is filled."""

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

Chunk = bytes | bytearray | memoryview

_SMALL = 64 * 1024  # smaller chunks are joined: a list of single bytes would weigh 50 times more


class Buffer:
    """Bytes that were added as chunks of any size and are taken from the beginning."""

    def __init__(self) -> None:
        self.size = 0
        self._chunks: list[Chunk] = []

    def add(self, chunk: bytes) -> None:
        """Add a chunk: a long one as it is, a short one by copying it."""
        self.size += len(chunk)
        if len(chunk) >= _SMALL:
            self._chunks.append(chunk)
        elif chunk:
            self._add_small(chunk)

    def _add_small(self, chunk: bytes) -> None:
        last = self._chunks[-1] if self._chunks else None
        if isinstance(last, bytearray) and len(last) + len(chunk) <= _SMALL:
            last += chunk
        else:
            self._chunks.append(bytearray(chunk))

    def take(self, size: int | None = None) -> list[Chunk]:
        """Remove the first bytes and return them; all of them if no size is given."""
        if size is None or size >= self.size:
            taken, self._chunks, self.size = self._chunks, [], 0
            return taken
        taken = []
        self.size -= size
        while size >= len(self._chunks[0]):
            size -= len(self._chunks[0])
            taken.append(self._chunks.pop(0))
        if size > 0:
            view = memoryview(self._chunks[0])
            taken.append(view[:size])
            self._chunks[0] = view[size:]
        return taken


class Gatherer(ABC):
    """Gathers the chunks of one append in `buffer`, and has them stored in pieces.

    Each store derives its own. By default a piece is full when it has `size` bytes, and waits
    `linger` seconds to be filled, so that what a slow client sends does not wait in memory.
    One piece at a time is being stored, while the next one is filled. What has come when the
    chunks end waits no longer.
    """

    def __init__(self, *, size: int, linger: float) -> None:
        self.buffer = Buffer()
        self.failure: Exception | None = None
        """What a task of this store raised, if one did."""
        self.size = size
        self.linger = linger
        self._waits_since = math.inf
        self._refusal: Exception | None = None
        self._is_ended = False
        # What most bodies need of these, which are small and here at once, is nothing.
        self._tasks: TaskGroup | None = None
        self._reading: anyio.CancelScope | None = None
        self._added: anyio.Event | None = None
        self._taken: anyio.Event | None = None
        self._wakes_at = math.inf

    async def gather(self, chunks: AsyncIterable[bytes]) -> None:
        """Read all chunks and have them stored, but for the last ones, which stay in `buffer`.

        So a body that is here already, and fits, is stored by the caller in one step. Raises what
        the chunks raise, after everything was taken back. What a task of the store raises ends
        the reading at once and is raised; what was stored before is kept.
        """
        iterator = aiter(chunks)
        if not await self._read_at_once(iterator):
            await self._read_and_store(iterator)
        if self._refusal is not None:
            await self.take_back()
            raise self._refusal
        if self.failure is not None:
            raise self.failure

    # What a store says.

    async def add(self, chunk: bytes) -> None:
        """Add a chunk to the buffer; may wait until there is memory for it."""
        if self.buffer.size == 0:
            self._wait_from_now()
        self.buffer.add(chunk)

    def take(self, size: int | None = None) -> list[Chunk]:
        """Take bytes from the buffer; what is left there waits as what has just come."""
        self._wait_from_now()
        return self.buffer.take(size)

    @property
    def is_full(self) -> bool:
        """True if nothing more is to be read before a piece was taken from the buffer."""
        return self.buffer.size >= self.size

    @property
    def due(self) -> float:
        """The time of the event loop at which the buffer is to be stored although it is not full.

        It changes when something is added or stored.
        """
        return self._waits_since + self.linger if self.buffer.size else math.inf

    @property
    def waited(self) -> float:
        """Seconds since the first byte came that is in the buffer."""
        return anyio.current_time() - self._waits_since

    @abstractmethod
    async def store(self) -> None:
        """Store a piece. It is taken from the buffer before anything is awaited."""

    @abstractmethod
    async def take_back(self) -> None:
        """Remove what was stored of this append, also if this task is cancelled meanwhile."""

    def start(self, work: Callable[[], Awaitable[None]]) -> None:
        """Begin something in `store` that goes on beside the pieces that follow.

        `gather` waits for its end, and raises what it raises.
        """
        assert self._tasks is not None
        self._tasks.start_soon(self.attempt, work)

    async def attempt(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something; what it raises ends the reading, and is raised by `gather`."""
        try:
            await work()
        except Exception as failure:  # raised by `gather`, outside of the task group
            self.failure = self.failure or failure
            if self._reading is not None:
                self._reading.cancel()

    # The task that reads.

    async def _read_at_once(self, chunks: AsyncIterator[bytes]) -> bool:
        """Read until chunks have to be waited for, or a piece is full; True if that was all."""
        while (chunk := await self._next(chunks)) is not None:
            await self.add(chunk)
            if self.is_full or not getattr(chunks, "is_over", False):
                return False
        return True

    async def _read_and_store(self, chunks: AsyncIterator[bytes]) -> None:
        """Read to the end, while another task stores what was read."""
        async with anyio.create_task_group() as self._tasks:
            self._wait_from_now()
            with anyio.CancelScope() as self._reading:
                if self.failure is None:
                    self._tasks.start_soon(self.attempt, self._store_pieces)
                    await self._read_on(chunks)
            self._is_ended = True
            _signal(self._added)

    async def _read_on(self, chunks: AsyncIterator[bytes]) -> None:
        await self._wait_while_full()
        while (chunk := await self._next(chunks)) is not None:
            await self.add(chunk)
            if self.due < self._wakes_at:
                _signal(self._added)
            if self.is_full:
                await self._wait_while_full()

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        try:
            return await anext(chunks)
        except StopAsyncIteration:
            return None
        except Exception as refusal:  # raised by `gather`, outside of the task group
            self._refusal = refusal
            return None

    async def _wait_while_full(self) -> None:
        _signal(self._added)
        while self.is_full:
            self._taken = anyio.Event()
            await self._taken.wait()

    def _wait_from_now(self) -> None:
        """Have what is in the buffer wait for more, unless nobody would store it beside."""
        if self._tasks is not None:
            self._waits_since = anyio.current_time()

    # The tasks that store.

    async def _store_pieces(self) -> None:
        while self.failure is None:
            if self.is_full or anyio.current_time() >= self.due:
                _signal(self._taken)  # whoever waits for that runs when it is true
                await self.store()
                _signal(self._taken)
            elif self._is_ended:
                return
            else:
                await self._wait_for_more()

    async def _wait_for_more(self) -> None:
        """Wait until a piece is full or due, or until there are no more chunks."""
        self._added = anyio.Event()
        self._wakes_at = self.due
        with anyio.CancelScope(deadline=self._wakes_at):
            await self._added.wait()


def _signal(event: anyio.Event | None) -> None:
    if event is not None:
        event.set()
