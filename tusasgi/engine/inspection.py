"""The first bytes of an upload, judged by the `inspect` hook before one of them is stored."""

import contextlib
from collections.abc import Awaitable, Iterable
from dataclasses import replace
from typing import TypeVar

import anyio

from tusasgi.engine.chunks import Chunks
from tusasgi.engine.completion import Completion, store_errors_answered
from tusasgi.errors import TooSmall, TusError, will_pass
from tusasgi.hooks import Hooks
from tusasgi.models import Ending, Renewal, Source, Upload
from tusasgi.stores import Store, SupportsRead, SupportsTerminate

T = TypeVar("T")


class Inspection:
    """Asks the hook, keeps its facts, and removes what it refuses for good."""

    def __init__(
        self, store: Store, hooks: Hooks, completion: Completion, renewal: Renewal | None
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._completion = completion
        self._renewal = renewal

    async def judge_whole(self, upload: Upload, parts: Iterable[Upload]) -> Upload:
        """Return a new upload with its facts, which has all its bytes already: those of `parts`.

        Raises what the hook raises; nothing was created yet.
        """
        if self._hooks.head_size == 0:
            return upload
        head = b""
        for part in parts:
            assert isinstance(self._store, SupportsRead)  # or it would not be offered
            stop = min(part.offset, self._hooks.head_size - len(head))
            head += b"".join([chunk async for chunk in self._store.read(part, 0, stop)])
        return replace(upload, facts=await self._hooks.inspect(upload, head))

    async def judge(
        self, stored: Upload, length: int | None, chunks: Chunks, source: Source
    ) -> Upload | None:
        """Return the upload with this length and its facts; None if too little came to judge it.

        What was seen stays in the chunks. However long it takes, the upload does not expire
        meanwhile. Raises what the hook raises, after the upload was terminated unless that will
        pass; `TooSmall` for a first append that ends too early, with the upload kept.
        """
        upload = replace(stored, length=length)
        if self._hooks.head_size == 0 or upload.is_partial:
            return upload
        if upload.offset > 0 or upload.length == 0:
            return upload
        living = _Living(self._store, stored, self._renewal, chunks)
        head = await living.until(chunks.head(self._hooks.head_size))
        if not self._is_long_enough(head, upload, source):
            return None
        return await self._inspect(living, length, head, chunks, source)

    def _is_long_enough(self, head: bytes, upload: Upload, source: Source) -> bool:
        if not head:
            return False  # nothing came, and there is nothing wrong with that
        needed = self._hooks.min_head_size
        if upload.length is not None:
            needed = min(needed, upload.length)
        if len(head) >= needed:
            return True
        if source.ending is Ending.COMPLETE:
            raise TooSmall(
                f"the first append must carry at least {needed} bytes, and carried {len(head)}"
            )
        return False

    async def _inspect(
        self, living: "_Living", length: int | None, head: bytes, chunks: Chunks, source: Source
    ) -> Upload | None:
        """Return the upload with its facts; None if a cut left too little to refuse it for."""
        upload = replace(living.upload, length=length)
        try:
            facts = await living.until(self._hooks.inspect(upload, head))
        except TusError as refusal:
            if will_pass(refusal):
                raise
            if self._is_cut_short(head, upload, source):
                return None
            await chunks.verify()  # what was damaged on the way is no reason to refuse for good
            upload = replace(living.upload, length=length)
            await self._completion.call_refused(upload, refusal)
            if isinstance(self._store, SupportsTerminate):
                with store_errors_answered():
                    await self._completion.remove(upload, "terminated")
            raise
        upload = replace(living.upload, length=length)
        return replace(upload, facts=facts) if facts else upload  # kept with the first byte

    def _is_cut_short(self, head: bytes, upload: Upload, source: Source) -> bool:
        if source.ending is None or source.ending is Ending.COMPLETE:
            return False
        wanted = self._hooks.head_size
        return len(head) < (wanted if upload.length is None else min(wanted, upload.length))


class _Living:
    """An upload that does not expire while its first bytes are gathered and judged."""

    def __init__(
        self, store: Store, upload: Upload, renewal: Renewal | None, chunks: Chunks
    ) -> None:
        self.upload = upload
        """The upload as it is stored, with the date that it has by now."""
        self._store = store
        self._renewal = renewal
        self._chunks = chunks

    async def until(self, work: Awaitable[T]) -> T:
        """Return what the work returns, or raise what it raises."""
        if self._renewal is None or self.upload.expires is None:
            return await work
        failure: Exception
        done = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._renew_until, done, self._renewal)
            try:
                return await work
            except Exception as error:  # raised below: a task group would wrap it
                failure = error
            finally:
                done.set()
        raise failure

    async def _renew_until(self, done: anyio.Event, renewal: Renewal) -> None:
        while not done.is_set():
            with anyio.move_on_after(renewal.interval):
                await done.wait()
            renewed = renewal.during(self.upload)
            if self._chunks.have_come and renewed != self.upload:
                with contextlib.suppress(Exception):  # the append meets it as well, and tells
                    self.upload = await self._store.update(renewed)
