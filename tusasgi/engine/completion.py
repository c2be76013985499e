"""What has to follow on the last byte or on a removal, as steps that may be repeated.

The order is always: the store, the hook, the record. Whatever fails or dies on the way is found
again by the next request or sweep, so a hook is called at least once. The caller holds the lock
on the upload, so the hooks of one upload never overlap and come in the order of its life.

Hooks that may not refuse are called through one door (`_call`): whatever leaves such a hook, a
`TusError` about another upload too, means that the hook failed, and nothing else.
"""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial

import anyio
from anyio.to_thread import run_sync

from tusasgi.engine.lifecycle import Event
from tusasgi.errors import (
    TryAgain,
    TusError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadPending,
)
from tusasgi.hooks import Hooks
from tusasgi.models import Removal, Upload
from tusasgi.observer import Observer
from tusasgi.stores import (
    BytesLost,
    PartLost,
    Store,
    StoreError,
    SupportsConcat,
    SupportsRead,
    SupportsTerminate,
    WriteConflict,
)


@contextlib.contextmanager
def store_errors_answered() -> Iterator[None]:
    """Turn what a store tells the engine into what a client is told."""
    try:
        yield
    except WriteConflict:
        raise UploadLocked("another request is changing this upload") from None
    except PartLost:
        raise UploadNotFound("the uploads that this one was to be joined from are gone") from None
    except BytesLost:
        raise UploadExpired("the bytes of this upload are no longer stored: start anew") from None


class Completion:
    """Brings uploads to the end of what was begun."""

    def __init__(
        self,
        store: Store,
        hooks: Hooks,
        observer: Observer,
        *,
        has_digest: bool,
        hook_timeout: float | None,
    ) -> None:
        self._store = store
        self._hooks = hooks
        self._observer = observer
        self._has_digest = has_digest
        self._hook_timeout = hook_timeout

    async def complete(self, upload: Upload) -> Upload:
        """Return the upload, joined and completed if it was on its way there.

        Raises `UploadPending` with the failure as its cause; everything may be repeated. Raises
        `PartLost`, after the upload was removed, and `BytesLost`: there is no way on.
        """
        if not upload.is_pending:
            return upload
        try:
            if not upload.has_all_bytes:
                upload = await self._join(upload)
            return await self._complete(upload)
        except WriteConflict:
            return await self._completed_elsewhere(upload)
        except (StoreError, TusError):
            raise
        except Exception as failure:
            raise UploadPending(
                "all bytes are here, but processing them failed; it will be repeated"
            ) from failure

    async def _completed_elsewhere(self, upload: Upload) -> Upload:
        """Return the upload if another server, which no lock keeps out, was faster."""
        found = await self._store.get(upload.id)
        if found.is_complete and found.removal is None:
            return found
        raise UploadPending("all bytes are here and are being processed by another server")

    async def remove(self, upload: Upload, removal: Removal) -> None:
        """Remove the upload; from the first step on nobody can use it any more.

        Raises `UploadPending` with the failure as its cause if the hook failed, and `WriteConflict`
        if somebody else is writing to it.
        """
        if not isinstance(self._store, SupportsTerminate):
            raise TypeError(f"{type(self._store).__name__} cannot terminate uploads")
        if upload.removal is None:
            upload = await self._store.update(replace(upload, removal=removal))
            self._observer.changed(upload, Event(removal))
        hook = self._hooks.expired if upload.removal == "expired" else self._hooks.terminated
        await self._call(partial(hook, upload), "the upload is being removed; it will be repeated")
        await self._store.terminate(upload.id)
        self._observer.changed(upload, Event.REMOVED)

    async def call_refused(self, upload: Upload, refusal: TusError) -> None:
        """Tell the host that an inspection refused the upload. Raises `UploadPending`."""
        await self._call(
            partial(self._hooks.refused, upload, refusal),
            "the upload could not be judged to the end; send the same again",
        )

    async def _call(self, hook: Callable[[], Awaitable[None]], message: str) -> None:
        """Call a hook that may not refuse; what leaves it is the cause of an `UploadPending`."""
        try:
            with anyio.fail_after(self._hook_timeout):
                await hook()
        except TryAgain as failure:
            raise UploadPending(message, retry_after=failure.retry_after) from failure
        except Exception as failure:
            raise UploadPending(message) from failure

    async def _join(self, upload: Upload) -> Upload:
        assert isinstance(self._store, SupportsConcat)  # or nobody could have announced it
        try:
            joined = await self._store.concat(upload)
        except PartLost:
            await self.remove(upload, "terminated")
            raise
        self._observer.changed(joined, Event.JOINED)
        return joined

    async def _complete(self, upload: Upload) -> Upload:
        upload = await self._store.finish(upload)
        if not upload.is_partial:
            upload = await self._with_digest(upload)
        complete = replace(upload, is_complete=True)
        if not upload.is_partial:
            await self._call(
                partial(self._hooks.completed, complete),
                "all bytes are here, but processing them failed; it will be repeated",
            )
        complete = await self._store.update(complete)
        self._observer.changed(complete, Event.COMPLETED)
        return complete

    async def _with_digest(self, upload: Upload) -> Upload:
        """Return the upload with its digest, recorded so that a failing hook costs it once.

        Computed here, and not while the bytes arrive: the state of a running hash cannot be
        kept over a restart, and this way it tells of the bytes as they are stored.
        """
        if not self._has_digest or upload.sha256 is not None:
            return upload
        assert isinstance(self._store, SupportsRead)  # checked by the engine
        running = hashlib.sha256()
        async for chunk in self._store.read(upload, 0, upload.offset):
            await run_sync(running.update, chunk)
        return await self._store.update(replace(upload, sha256=running.hexdigest()))
