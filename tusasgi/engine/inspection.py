"""The first bytes of an upload, judged by the `inspect` hook before one of them is stored."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import TypeVar

from tusasgi.engine.chunks import Chunks
from tusasgi.engine.completion import Completion, store_errors_answered
from tusasgi.errors import TooSmall, TusError, will_pass
from tusasgi.hooks import Hooks
from tusasgi.models import Fact, Upload
from tusasgi.repeating import repeating
from tusasgi.stores import Store
from tusasgi.stores.capabilities import Capabilities
from tusasgi.stores.renewal import renewal_interval, renewed_if_due

T = TypeVar("T")


class Inspection:
    """Asks the hook, keeps its facts, and removes what it refuses for good."""

    def __init__(
        self,
        store: Store,
        capabilities: Capabilities,
        hooks: Hooks,
        completion: Completion,
        clock: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._capabilities = capabilities
        self._hooks = hooks
        self._completion = completion
        self._clock = clock

    async def judge_whole(self, upload: Upload, parts: Iterable[Upload]) -> Upload:
        """Return a new upload with its facts, which has all its bytes already: those of `parts`.

        Raises what the hook raises; nothing was created yet.
        """
        if self._hooks.head_size == 0:
            return upload
        head = b""
        for part in parts:
            stop = min(part.offset, self._hooks.head_size - len(head))
            read = self._capabilities.reader.read(part, 0, stop)
            head += b"".join([chunk async for chunk in read])
        return _with_facts(upload, await self._hooks.inspect(upload, head))

    async def judge(self, stored: Upload, target: Upload, chunks: Chunks) -> Upload | None:
        """Return `target` with its facts; None if too little came to judge it.

        `target` is what the first byte makes of the upload that is `stored`. What was seen stays
        in the chunks. However long it takes, the upload does not expire meanwhile. Raises what the
        hook raises, after the upload was terminated unless that will pass; `TooSmall` for a first
        append that ends too early, with the upload kept.
        """
        if not self._is_wanted(target):
            return target
        stored = replace(stored, expires_after=target.expires_after, grace=target.grace)
        living = _Living(self._store, stored, self._clock, chunks)
        head = await living.until(chunks.head(self._hooks.head_size))
        if self._is_too_short(head, target, chunks):
            return None
        try:
            facts = await living.until(self._hooks.inspect(living.dated(target), head))
        except TusError as refusal:
            if not will_pass(refusal) and self._is_head_cut(head, target, chunks):
                return None
            await self._refuse(living, target, chunks, refusal)
            raise
        return _with_facts(living.dated(target), facts)

    def _is_wanted(self, upload: Upload) -> bool:
        """True if these are the first bytes of something that a host would know by them."""
        is_beginning = upload.offset == 0 and upload.length != 0 and not upload.is_partial
        return is_beginning and self._hooks.head_size > 0

    def _is_too_short(self, head: bytes, upload: Upload, chunks: Chunks) -> bool:
        """True if a cut left too little to judge. Raises `TooSmall` if the client sent too little.

        Nothing at all is wrong with an append that brings nothing.
        """
        needed = _at_most(self._hooks.min_head_size, upload.length)
        if head and len(head) < needed and chunks.is_whole:
            raise TooSmall(
                f"the first append must carry at least {needed} bytes, and carried {len(head)}"
            )
        return len(head) < max(needed, 1)

    def _is_head_cut(self, head: bytes, upload: Upload, chunks: Chunks) -> bool:
        return chunks.is_cut and len(head) < _at_most(self._hooks.head_size, upload.length)

    async def _refuse(
        self, living: "_Living", target: Upload, chunks: Chunks, refusal: TusError
    ) -> None:
        """Remove an upload that is refused for good. Raises what makes that impossible."""
        if will_pass(refusal):
            return
        await chunks.verify()  # what was damaged on the way is no reason to refuse for good
        with store_errors_answered():
            await self._completion.refuse(living.dated(target), refusal)


def _at_most(size: int, length: int | None) -> int:
    return size if length is None else min(size, length)


def _with_facts(upload: Upload, facts: Mapping[str, Fact]) -> Upload:
    return replace(upload, facts={**upload.facts, **facts}) if facts else upload


class _Living:
    """An upload that does not expire while its first bytes are gathered and judged."""

    def __init__(
        self, store: Store, upload: Upload, clock: Callable[[], datetime], chunks: Chunks
    ) -> None:
        self._upload = upload  # as it is stored
        self._store = store
        self._clock = clock
        self._chunks = chunks

    def dated(self, target: Upload) -> Upload:
        """Return the target with the date and the version that the upload has by now."""
        return replace(target, expires=self._upload.expires, version=self._upload.version)

    async def until(self, work: Awaitable[T]) -> T:
        """Return what the work returns, or raise what it raises."""
        interval = renewal_interval(self._upload)
        return await (work if interval is None else repeating(work, self._renew, interval=interval))

    async def _renew(self) -> None:
        renewed = renewed_if_due(self._upload, self._clock())
        if self._chunks.have_come and renewed != self._upload:
            self._upload = await self._store.update(renewed)
