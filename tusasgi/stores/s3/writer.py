"""Chunks to a bucket: when what of them is stored, and when others see it."""

import math
from collections.abc import AsyncIterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import anyio

from tusasgi.repeating import repeating
from tusasgi.stores.gathering import Gatherer
from tusasgi.stores.s3.appending import Appender, Outgoing
from tusasgi.stores.s3.budget import Budget
from tusasgi.stores.s3.manifest import Manifest
from tusasgi.stores.s3.progress import Progress
from tusasgi.stores.s3.rope import Rope
from tusasgi.stores.s3.window import Window

_FIRST_SAVE = 1.0  # seconds: then others see that somebody is writing
_SAVE = 5.0  # seconds of work that the death of a server may cost


class Writer(Gatherer):
    """Adds chunks to an upload: one part is filled while others are on their way.

    What does not fill a part is kept in front of the next one: in the manifest while it is short,
    as a segment when it is not. Parts may arrive in any order; what is stored, and shown, ends
    before the first that has not. Holds a part, and as many more as `window` says. From its first
    byte on the upload does not expire, however long the bytes are gathered, or on their way to
    the bucket.
    """

    def __init__(self, appender: Appender, *, budget: Budget, window: Window) -> None:
        # How long a part is may change on the way: `is_full` and `due` go by the progress.
        super().__init__(size=appender.part_size, linger=_SAVE)
        self._appender = appender
        self._budget = budget
        self._window = window
        self._arrived = anyio.Event()  # a part, since this was made
        self._held = 0  # bytes of the budget that the buffer has
        self._has_come = False  # a byte, wherever it is by now
        self._save_at = math.inf
        self._known_progress: Progress | None = None

    async def run(self, chunks: AsyncIterable[bytes]) -> Manifest:
        """Store the chunks and return the manifest with them.

        Raises what the chunks raise, after everything was taken back; raises its own failure,
        and keeps what was committed before.
        """
        async with self._appender.cleaning_up():
            interval = self._appender.renewal_interval
            if interval is None:
                await self._append(chunks)
            else:
                await repeating(self._append(chunks), self._renew, interval=interval)
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
        if not self._held and self._progress.needs_memory(self.buffer.size + len(chunk)):
            self._held = await self._budget.take(self._appender.part_size)
        self.buffer.add(chunk)

    @property
    def is_full(self) -> bool:
        return self._progress.fills_part(self.buffer.size)

    @property
    def due(self) -> float:
        # The rest is kept by `_finish`.
        is_due = not self._is_ended and self._progress.is_worth_saving(self.buffer.size)
        return self._save_at if is_due else math.inf

    @property
    def _progress(self) -> Progress:
        """How far this append is. The last one is kept: chunks may be small, and many."""
        draft, committed = self._appender.draft, self._appender.committed
        under_way = self._appender.bytes_under_way
        known = self._known_progress
        if (
            known is None
            or known.draft is not draft
            or known.committed is not committed
            or known.under_way != under_way
        ):
            known = self._known_progress = Progress(
                draft,
                committed,
                under_way=under_way,
                length=self._appender.length,
                part_size=self._appender.part_size,
                is_staged=self._appender.is_staged,
            )
        return known

    # What is stored.

    async def store(self) -> None:
        if self.is_full:
            await self._store_part()
        else:
            await self._save()

    async def _store_part(self) -> None:
        """Send a part, and wait until another one may follow."""
        missing = max(0, self._progress.missing_in_part)
        with ExitStack() as stack:
            # Not to be named here, or it would be held until the wait below is over.
            part = await self._appender.begin_part(
                stack.enter_context(self._taken_from_buffer(missing))
            )
            self.start(partial(self._send, part, stack.pop_all()))
        most = 1 if self._budget.is_short else self._window.size
        await self._wait_until_under_way(most - 1)
        if anyio.current_time() >= self.due:
            await self._show(reserve=True)

    async def _send(self, part: Outgoing, memory: ExitStack) -> None:
        before, start = self._appender.under_way, anyio.current_time()
        try:
            with memory:
                await self._appender.send(part)
            since = self._appender.draft.used_to - part.number
            self._window.arrived(anyio.current_time() - start, among=before + since)
        finally:
            self._arrived.set()

    async def _wait_until_under_way(self, most: int) -> None:
        """Wait until at most so many parts are on their way. Raises what one of them raised."""
        self._appender.take_in()
        while self._appender.under_way > most:
            if self.failure is not None:
                raise self.failure
            self._arrived = anyio.Event()
            await self._arrived.wait()
            self._appender.take_in()

    async def _save(self) -> None:
        """Make safe what came, and give back the memory of a client that takes its time."""
        if self._progress.has_unshown(self.buffer.size):
            if not self._appender.has_unshown:
                await self._wait_until_under_way(self._appender.under_way - 1)
        else:
            with self._taken_from_buffer() as content:
                await self._wait_until_under_way(0)
                await self._appender.add_rest(content)
        await self._show(reserve=self._appender.draft.multipart_id is not None)

    async def _show(self, *, reserve: bool) -> None:
        if self._progress.may_be_shown(self.buffer.size):
            await self._appender.publish(reserve=reserve)
        self._save_at = anyio.current_time() + _SAVE

    async def _finish(self) -> None:
        """Keep the last bytes, and let everybody see all."""
        self._appender.take_in()
        draft = self._appender.draft
        has_all = self._progress.has_all(self.buffer.size)
        if has_all and draft.multipart_id is not None:
            if self.buffer.size + draft.rest_size > 0:
                self._held = self._held or await self._budget.take(self._appender.part_size)
                await self._appender.add_part(Rope(self.take()))
        elif self.buffer.size > 0:
            await self._appender.add_rest(Rope(self.take()), is_whole=has_all)
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
