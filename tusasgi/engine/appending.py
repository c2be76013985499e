"""One append to an upload that is held: its bytes, what they make of it, and what follows."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

from tusasgi.engine.chunks import Chunks, CutShort
from tusasgi.engine.completion import Completion, store_errors_answered
from tusasgi.engine.inspection import Inspection
from tusasgi.engine.progress import ProgressTelling
from tusasgi.engine.rules import check_append, check_takes_bytes, declared
from tusasgi.errors import Overrun, Rejected
from tusasgi.lifecycle import Event
from tusasgi.models import Append, Expiry, FinalResponse, Limits, Source, Upload
from tusasgi.observer import Observer
from tusasgi.stores import Store
from tusasgi.stores.capabilities import Capabilities

Conclude = Callable[[Upload], Awaitable[FinalResponse | None]]
"""Returns what the client is told at the end of an upload; None: this is not the end yet."""


class Appending:
    """Brings the bytes of appends to the store. The caller holds the upload."""

    def __init__(
        self,
        store: Store,
        capabilities: Capabilities,
        inspection: Inspection,
        completion: Completion,
        observer: Observer,
        progress: ProgressTelling,
        limits: Limits,
        expiry: Expiry,
    ) -> None:
        self._store = store
        self._capabilities = capabilities
        self._inspection = inspection
        self._completion = completion
        self._observer = observer
        self._progress = progress
        self._limits = limits
        self._expiry = expiry

    def check(self, upload: Upload, append: Append) -> None:
        """Refuse an append that does not fit the upload as it was read, before it is held.

        What is to remove the upload is judged later, when nobody else can use it.
        """
        check_takes_bytes(upload)
        try:
            check_append(append, upload, self._limits)
        except Overrun:
            if not append.overrun_terminates:
                raise

    async def append(
        self, upload: Upload, append: Append, source: Source, conclude: Conclude | None
    ) -> Upload:
        """Add the bytes, complete the upload if they were the last ones, and return it."""
        check_takes_bytes(upload)
        with store_errors_answered():
            upload = await self._completion.complete(upload)
        try:
            check_append(append, upload, self._limits)
            upload = await self._add(upload, append, source, conclude)
        except Overrun:
            if append.overrun_terminates and not upload.is_complete:
                await self._terminate(upload)
            raise
        except Rejected as refusal:  # by the `progressed` hook
            with store_errors_answered():
                await self._completion.refuse(await self._store.get(upload.id), refusal)
            raise
        if upload.is_pending:
            self._observer.changed(upload, Event.FILLED)
        with store_errors_answered():
            return await self._completion.complete(upload)

    async def _terminate(self, upload: Upload) -> None:
        with store_errors_answered():
            await self._completion.remove(upload, "terminated")

    async def _add(
        self, upload: Upload, append: Append, source: Source, conclude: Conclude | None
    ) -> Upload:
        """Store the bytes and what the append declares, and return the upload as it is then."""
        target = self._with_window(declared(upload, append))
        if conclude is not None:
            target = replace(target, is_open=True)  # whatever comes: it is not concluded yet
        progressed = self._progress.of_append()
        chunks = Chunks(source, target, append, self._limits, progressed)
        if append.size != 0 or not target.has_all_bytes:
            upload = await self._store_bytes(upload, target, append, chunks)
        if upload.is_complete:
            return upload  # the last append once more, which brought nothing
        if append.size != 0 and not chunks.is_whole:
            return upload  # nothing is kept of a request that broke at once
        if append.is_last:
            return await self._end(upload, conclude)
        return await self._declare(upload, target)

    def _with_window(self, upload: Upload) -> Upload:
        """Return an upload of an earlier release, which has a date, with what is to move it."""
        return upload if upload.expires is None else self._expiry.given_to(upload)

    async def _store_bytes(
        self, upload: Upload, target: Upload, append: Append, chunks: Chunks
    ) -> Upload:
        """Store the bytes, and with the first of them what is known of the upload by now."""
        try:
            judged = await self._inspection.judge(upload, target, chunks)
            if judged is None:
                return upload
            with store_errors_answered():
                stored = await self._store.append(
                    judged, chunks, staged=append.checksum is not None
                )
        except CutShort:
            return upload
        if stored.offset == upload.offset:
            return replace(upload, version=stored.version)
        if not stored.has_all_bytes:
            self._observer.changed(stored, Event.APPENDED)
        return stored

    async def _declare(self, upload: Upload, target: Upload) -> Upload:
        """Record what an append says of the end, as far as it was not kept with its bytes."""
        if (target.length, target.is_open) == (upload.length, upload.is_open):
            return upload
        with store_errors_answered():
            if target.length is None or target.is_open != upload.is_open:
                return await self._store.update(
                    replace(upload, length=target.length, is_open=target.is_open)
                )
            return await self._capabilities.deferrer.declare_length(upload, target.length)

    async def _end(self, upload: Upload, conclude: Conclude | None) -> Upload:
        """Record that the upload ends here, unless the host does not want it to end yet."""
        if conclude is None:
            return await self._declare(upload, replace(upload, length=upload.offset, is_open=False))
        upload = await self._declare(upload, replace(upload, length=upload.offset, is_open=True))
        with store_errors_answered():
            upload = await self._completion.with_digests(await self._store.finish(upload))
        answer = await conclude(upload)
        if answer is None:
            return upload
        with store_errors_answered():
            return await self._store.update(replace(upload, is_open=False, final_response=answer))
