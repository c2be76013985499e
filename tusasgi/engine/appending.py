"""One append to an upload that is held: its bytes, what they make of it, and what follows."""

from dataclasses import replace

from tusasgi.engine.chunks import Chunks, CutShort
from tusasgi.engine.completion import Completion, store_errors_answered
from tusasgi.engine.inspection import Inspection
from tusasgi.engine.rules import check_append, check_takes_bytes, declared
from tusasgi.errors import Overrun
from tusasgi.lifecycle import Event
from tusasgi.models import Append, Limits, Renewal, Source, Upload
from tusasgi.observer import Observer
from tusasgi.stores import Store
from tusasgi.stores.capabilities import Capabilities


class Appending:
    """Brings the bytes of appends to the store. The caller holds the upload."""

    def __init__(
        self,
        store: Store,
        capabilities: Capabilities,
        inspection: Inspection,
        completion: Completion,
        observer: Observer,
        limits: Limits,
        renewal: Renewal | None,
    ) -> None:
        self._store = store
        self._capabilities = capabilities
        self._inspection = inspection
        self._completion = completion
        self._observer = observer
        self._limits = limits
        self._renewal = renewal

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

    async def append(self, upload: Upload, append: Append, source: Source) -> Upload:
        """Add the bytes, complete the upload if they were the last ones, and return it."""
        check_takes_bytes(upload)
        with store_errors_answered():
            upload = await self._completion.complete(upload)
        try:
            check_append(append, upload, self._limits)
            upload = await self._add(upload, append, source)
        except Overrun:
            if append.overrun_terminates and not upload.is_complete:
                await self._terminate(upload)
            raise
        if upload.is_pending:
            self._observer.changed(upload, Event.FILLED)
        with store_errors_answered():
            return await self._completion.complete(upload)

    async def _terminate(self, upload: Upload) -> None:
        with store_errors_answered():
            await self._completion.remove(upload, "terminated")

    async def _add(self, upload: Upload, append: Append, source: Source) -> Upload:
        """Store the bytes and what the append declares, and return the upload as it is then."""
        target = declared(upload, append)
        chunks = Chunks(source, target, append, self._limits)
        if append.size != 0 or not target.has_all_bytes:
            upload = await self._store_bytes(upload, target, append, chunks)
        if upload.is_complete:
            return upload  # the last append once more, which brought nothing
        if append.size == 0 or chunks.is_whole:  # nothing is kept of a request that broke at once
            upload = await self._declare(upload, target, append)
        return upload

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
                    judged, chunks, staged=append.checksum is not None, renewal=self._renewal
                )
        except CutShort:
            return upload
        if stored.offset == upload.offset:
            return replace(upload, version=stored.version)
        if not stored.has_all_bytes:
            self._observer.changed(stored, Event.APPENDED)
        return stored

    async def _declare(self, upload: Upload, target: Upload, append: Append) -> Upload:
        """Record what the append says of the end, as far as it was not kept with its bytes."""
        length = upload.offset if append.is_last else target.length
        is_open = target.is_open and not append.is_last
        if (length, is_open) == (upload.length, upload.is_open):
            return upload
        with store_errors_answered():
            if length is None or is_open != upload.is_open:
                return await self._store.update(replace(upload, length=length, is_open=is_open))
            return await self._capabilities.deferrer.declare_length(upload, length)
