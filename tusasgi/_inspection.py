"""The first bytes of an upload, judged by the `inspect` hook before one of them is stored."""

from collections.abc import Iterable
from dataclasses import replace

from tusasgi._chunks import Chunks
from tusasgi._errors import TooSmall, TusError, will_pass
from tusasgi._models import Ending, Source, Upload
from tusasgi._settling import Settling, signals_told
from tusasgi.hooks import Hooks
from tusasgi.stores import Store, SupportsRead, SupportsTerminate


class Inspection:
    """Asks the hook, keeps its facts, and removes what it refuses for good."""

    def __init__(self, store: Store, hooks: Hooks, settling: Settling) -> None:
        self._store = store
        self._hooks = hooks
        self._settling = settling

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

    async def judge(self, upload: Upload, chunks: Chunks, source: Source) -> Upload | None:
        """Return the upload with its facts; None if too little came to judge it.

        What was seen stays in the chunks. Raises what the hook raises, after the upload was
        terminated unless that will pass; `TooSmall` for a first append that ends too early, with
        the upload kept.
        """
        if self._hooks.head_size == 0 or upload.is_partial:
            return upload
        if upload.offset > 0 or upload.length == 0:
            return upload
        head = await chunks.head(self._hooks.head_size)
        if not self._is_long_enough(head, upload, source):
            return None
        return await self._inspect(upload, head, chunks, source)

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
        self, upload: Upload, head: bytes, chunks: Chunks, source: Source
    ) -> Upload | None:
        """Return the upload with its facts; None if a cut left too little to refuse it for."""
        try:
            facts = await self._hooks.inspect(upload, head)
        except TusError as refusal:
            if will_pass(refusal):
                raise
            if self._is_cut_short(head, upload, source):
                return None
            await chunks.verify()  # what was damaged on the way is no reason to refuse for good
            await self._settling.call_refused(upload, refusal)
            if isinstance(self._store, SupportsTerminate):
                with signals_told():
                    await self._settling.remove(upload, "terminated")
            raise
        return replace(upload, facts=facts) if facts else upload  # kept with the first byte

    def _is_cut_short(self, head: bytes, upload: Upload, source: Source) -> bool:
        if source.ending is None or source.ending is Ending.COMPLETE:
            return False
        wanted = self._hooks.head_size
        return len(head) < (wanted if upload.length is None else min(wanted, upload.length))
