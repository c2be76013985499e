"""Chunks to a bucket: when what of them is stored, and when others see it."""

import math
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager

import anyio

from tusasgi.stores.gathering import Gatherer
from tusasgi.stores.renewing import renewing
from tusasgi.stores.s3.appending import Appender
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.manifest import Manifest
from tusasgi.stores.s3.progress import Progress
from tusasgi.stores.s3.rope import Rope

_FIRST_SAVE = 1.0  # seconds: then others see that somebody is writing
_SAVE = 5.0  # seconds of work that the death of a server may cost


class Writer(Gatherer):
    """Adds chunks to an upload: one part is filled while another is on its way.

    What does not fill a part is kept in front of the next one: in the manifest while it is short,
    as a segment when it is not. Holds at most two parts. From its first byte on the upload does
    not expire, however long the bytes are gathered, or on their way to the bucket.
    """

    def __init__(self, appender: Appender, *, budget: Budget) -> None:
        # How long a part is may change on the way: `is_full` and `due` go by the progress.
        super().__init__(size=appender.part_size, linger=_SAVE)
        self._appender = appender
        self._budget = budget
        self._held = 0  # bytes of the budget that the buffer has
        self._has_come = False  # a byte, wherever it is by now
        self._save_at = math.inf

    async def run(self, chunks: AsyncIterable[bytes]) -> Manifest:
        """Store the chunks and return the manifest with them.

        Raises what the chunks raise, after everything was taken back; raises its own failure,
        and keeps what was committed before.
        """
        async with self._appender.cleaning_up():
            if self._appender.renewal is None:
                await self._append(chunks)
            else:
                interval = self._appender.renewal.interval
                await renewing(self._append(chunks), self._renew, interval=interval)
        return self._appender.committed

    async def _append(self, chunks: AsyncIterable[bytes]) -> None:
        self._save_at = anyio.current_time() + _FIRST_SAVE
        try:
            await self.gather(chunks)
            await self._finish()
        finally:
            self._budget.give(self._held)

    # What is gathered.

    async def add(self, chunk: bytes) -> None:
        self._has_come = self._has_come or bool(chunk)
        if self._appender.would_expire:
            await self._renew()
        if not self._held and self._progress(len(chunk)).needs_memory:
            self._held = await self._budget.take(self._appender.part_size)
        self.buffer.add(chunk)

    @property
    def is_full(self) -> bool:
        return self._progress().fills_part

    @property
    def due(self) -> float:
        if self._is_ended:  # `_finish` keeps the rest
            return math.inf
        return self._save_at if self._progress().is_worth_saving else math.inf

    def _progress(self, more: int = 0) -> Progress:
        """Return how far this append is once so many bytes more are in the buffer."""
        return Progress(
            draft=self._appender.draft,
            shown=self._appender.committed.offset,
            buffered=self.buffer.size + more,
            length=self._appender.length,
            part_size=self._appender.part_size,
            is_staged=self._appender.is_staged,
        )

    # What is stored.

    async def store(self) -> None:
        if self.is_full:
            await self._store_part()
        else:
            await self._save()

    async def _store_part(self) -> None:
        missing = self._appender.part_size - self._appender.draft.rest_size
        with self._taken_from_buffer(max(0, missing)) as content:
            await self._appender.add_part(content)
        if anyio.current_time() >= self.due:
            await self._show(reserve=True)

    async def _save(self) -> None:
        """Make safe what came, and give back the memory of a client that takes its time."""
        if not self._progress().has_unshown_parts:
            with self._taken_from_buffer() as content:
                await self._appender.add_rest(content)
        await self._show(reserve=self._appender.draft.multipart_id is not None)

    async def _show(self, *, reserve: bool) -> None:
        if self._progress().may_be_shown:
            await self._appender.publish(reserve=reserve)
        self._save_at = anyio.current_time() + _SAVE

    async def _finish(self) -> None:
        """Keep the last bytes, and let everybody see all."""
        progress = self._progress()
        if progress.has_all and progress.draft.multipart_id is not None:
            if progress.waiting:
                self._held = self._held or await self._budget.take(self._appender.part_size)
                await self._appender.add_part(Rope(self.take()))
        elif progress.buffered:
            await self._appender.add_rest(Rope(self.take()), is_whole=progress.has_all)
        await self._appender.finish()

    async def take_back(self) -> None:
        with anyio.CancelScope(shield=True):  # cancelled or not, nothing of it is kept
            await self._appender.take_back()

    @contextmanager
    def _taken_from_buffer(self, size: int | None = None) -> Iterator[Rope]:
        """Take bytes from the buffer, and give their memory back when they are stored."""
        held, self._held = self._held, 0
        try:
            yield Rope(self.take(size))
        finally:
            self._budget.give(held)

    # The date.

    async def _renew(self) -> None:
        """Keep the upload from expiring. The append ends if that fails: it may be overtaken."""
        if self._has_come:
            await self.attempt(self._appender.renew)
