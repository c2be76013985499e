"""What has to follow on the last byte or on a removal, as steps that may be repeated.

The order is always: the store, the hook, the record. (What the hook `destination` says is recorded
before the store does it: the next attempt must find what this one has left.) Whatever fails or
dies on the way is found again by the next request or sweep, so a hook is called at least once. The
caller holds the lock on the upload, so the hooks of one upload never overlap and come in the order
of its lifecycle.

Whatever leaves a hook that may not refuse means that it failed, and nothing else: see `calling`.
"""

import contextlib
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TypeVar

from anyio.to_thread import run_sync

from tusasgi.checksums import ALGORITHMS
from tusasgi.destinations import check_destination
from tusasgi.engine.calling import called
from tusasgi.engine.locks import Locks
from tusasgi.engine.telling import Telling
from tusasgi.errors import (
    ChecksumMismatch,
    Rejected,
    TusError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadPending,
)
from tusasgi.hooks import Hooks, is_overridden
from tusasgi.lifecycle import Event
from tusasgi.models import Removal, Upload
from tusasgi.observer import Observer
from tusasgi.stores import (
    BytesLost,
    DestinationTaken,
    PartLost,
    Store,
    StoreError,
    WriteConflict,
)
from tusasgi.stores.capabilities import Capabilities

T = TypeVar("T")

_NOT_CREATED = "the upload could not be made known; try again"
_INCOMPLETE = "all bytes are here, but processing them failed; it will be repeated"


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
        capabilities: Capabilities,
        hooks: Hooks,
        locks: Locks,
        observer: Observer,
        telling: Telling,
        *,
        has_digest: bool,
        removes_parts: bool,
        hook_timeout: float | None,
    ) -> None:
        self._store = store
        self._capabilities = capabilities
        self._hooks = hooks
        self._locks = locks
        self._observer = observer
        self._telling = telling
        self._has_digest = has_digest
        self._removes_parts = removes_parts
        self._hook_timeout = hook_timeout
        self._in_completed: set[str] = set()  # uploads whose `completed` hook is running here

    async def complete(self, upload: Upload) -> Upload:
        """Return the upload, joined and completed if it was on its way there.

        Raises `UploadPending` with the failure as its cause; everything may be repeated. Raises
        `PartLost`, `ChecksumMismatch` and `Rejected`, after the upload was removed, and
        `BytesLost`: then it can never be complete.
        """
        if not upload.is_pending:
            return upload
        try:
            if not upload.has_all_bytes:
                upload = await self._join(upload)
            return await self._finish(upload)
        except WriteConflict:
            return await self._completed_elsewhere(upload)
        except (StoreError, TusError):
            raise
        except Exception as failure:
            raise UploadPending(_INCOMPLETE) from failure

    async def remove(self, upload: Upload, removal: Removal) -> None:
        """Remove the upload; from the first step on nobody can use it any more.

        What is to be told of it is left to those who tell, and the rest of the removal with it.

        Raises `UploadPending` with the failure as its cause if the hook failed, and `WriteConflict`
        if somebody else is writing to it.
        """
        terminator, is_new = self._capabilities.terminator, upload.removal is None
        if is_new:
            is_complete = upload.is_complete or self._is_taken(upload)
            removed = replace(upload, removal=removal, is_complete=is_complete)
            upload = await self._store.update(removed)
            self._observer.changed(upload, Event(removal))
        if upload.destination is not None and not upload.is_complete:
            await self._capabilities.hander.take_back(upload)
        hook = self._hooks.expired if upload.removal == "expired" else self._hooks.terminated
        await self._call(partial(hook, upload), "the upload is being removed; it will be repeated")
        if self._telling.is_due(upload):  # then the record stays until everything is told
            self._telling.removed(upload.id, is_new=is_new)
            return
        await terminator.terminate(upload.id)
        self._observer.changed(upload, Event.REMOVED)

    def _is_taken(self, upload: Upload) -> bool:
        """True if the host removes, in its `completed` hook, what has been handed over to it."""
        return upload.destination is not None and upload.id in self._in_completed

    async def refuse(self, upload: Upload, refusal: TusError) -> None:
        """Remove an upload that a hook refused, where the store can, and tell the host.

        Raises `UploadPending` if a hook failed, and `WriteConflict`.
        """
        await self._call(
            partial(self._hooks.refused, upload, refusal),
            "the upload could not be judged to the end; send the same again",
        )
        if self._capabilities.can_terminate:
            with contextlib.suppress(UploadNotFound):  # the hook has removed it
                await self.remove(upload, "terminated")
        refusal.is_final = True

    async def _completed_elsewhere(self, upload: Upload) -> Upload:
        """Return the upload if another server, which no lock keeps out, was faster."""
        found = await self._store.get(upload.id)
        if found.is_complete and found.removal is None:
            return found
        raise UploadPending("all bytes are here and are being processed by another server")

    async def _call(
        self,
        hook: Callable[[], Awaitable[T]],
        message: str,
        *,
        refusals: tuple[type[TusError], ...] = (),
    ) -> T:
        return await called(hook, message, timeout=self._hook_timeout, refusals=refusals)

    async def _join(self, upload: Upload) -> Upload:
        try:
            joined = await self._capabilities.joiner.concat(upload)
        except PartLost:
            await self.remove(upload, "terminated")
            raise
        self._observer.changed(joined, Event.JOINED)
        return joined

    async def _finish(self, upload: Upload) -> Upload:
        upload = await self._store.finish(upload)
        if not upload.is_partial:
            upload = await self._handed_over(await self.with_digests(upload))
        complete = replace(upload, is_complete=True)
        if not upload.is_partial:
            complete = await self._told_complete(upload, complete)
            complete = self._telling.with_untold(complete, Event.COMPLETED)
        if self._removes_parts:
            await self._remove_parts(upload)
        with contextlib.suppress(UploadNotFound):  # the hook has removed it
            complete = await self._update(complete)
        self._observer.changed(complete, Event.COMPLETED)
        if self._telling.is_due(complete):
            self._telling.happened(complete.id)
        return complete

    async def _handed_over(self, upload: Upload) -> Upload:
        """Return the upload with its bytes where the host wants them, if it does."""
        upload = await self._with_destination(upload)
        if upload.destination is None:
            return upload
        try:
            async with self._locks.hold(_lock_of(upload.destination)):
                await self._capabilities.hander.hand_over(upload)
        except DestinationTaken as failure:
            await self._store.update(replace(upload, destination=None))  # the hook is asked again
            raise UploadPending(_INCOMPLETE) from failure
        except UploadLocked as failure:
            raise UploadPending(_INCOMPLETE) from failure
        return upload

    async def _with_destination(self, upload: Upload) -> Upload:
        """Return the upload with what the hook says, recorded: what is repeated is the same."""
        if upload.destination is not None or not is_overridden(self._hooks, "destination"):
            return upload
        named = await self._call(partial(self._hooks.destination, upload), _INCOMPLETE)
        if named is None:
            return upload
        destination = check_destination("what the hook destination returns", named)
        return await self._update(replace(upload, destination=destination))

    async def _told_complete(self, upload: Upload, complete: Upload) -> Upload:
        """Call the `completed` hook, and return the upload with what it answers."""
        hook = partial(self._hooks.completed, complete)
        try:
            with self._calling_completed(upload.id):
                answer = await self._call(hook, _INCOMPLETE, refusals=(Rejected,))
        except Rejected as refusal:
            await self.refuse(upload, refusal)
            raise
        return replace(complete, final_response=answer or complete.final_response)

    @contextlib.contextmanager
    def _calling_completed(self, upload_id: str) -> Iterator[None]:
        self._in_completed.add(upload_id)
        try:
            yield
        finally:
            self._in_completed.discard(upload_id)

    async def _remove_parts(self, upload: Upload) -> None:
        """Remove the uploads that this one was joined from, before anything says that it is done.

        So whatever fails or dies here is done again.
        """
        for part_id in dict.fromkeys(upload.parts):
            async with self._locks.hold(part_id):
                with contextlib.suppress(UploadNotFound):  # removed before, or by another final one
                    await self.remove(await self._store.get(part_id), "terminated")

    async def tell_created(self, upload: Upload) -> Upload:
        """Call the `created` hook for what was just stored; remove the upload if it fails."""
        if not is_overridden(self._hooks, "created"):
            return upload  # most hosts have none, and creations are many
        try:
            answer = await self._call(partial(self._hooks.created, upload), _NOT_CREATED)
        except UploadPending:
            if self._capabilities.can_terminate:
                await self.remove(upload, "terminated")
            raise
        if answer is None:
            return upload
        return await self._update(replace(upload, final_response=answer))

    async def _update(self, upload: Upload) -> Upload:
        """Record what a hook was called for. Raises `UploadNotFound` if it has removed the upload.

        The record of one that was removed is still there while it is to be told of.
        """
        if self._telling.is_on and (await self._store.get(upload.id)).removal is not None:
            raise UploadNotFound()
        return await self._store.update(upload)

    async def with_digests(self, upload: Upload) -> Upload:
        """Return the upload with its digest, recorded so that a failing hook costs it once.

        Computed here, and not while the bytes arrive: the state of a running hash cannot be
        kept over a restart, and this way it tells of the bytes as they are stored. Raises
        `ChecksumMismatch` for bytes that are not those of the upload's checksum.
        """
        wanted = self._algorithms_of(upload)
        if not wanted or upload.sha256 is not None:
            return upload
        digests = await self._digests_of(upload, wanted)
        expected = upload.checksum
        if expected is not None and digests[expected.algorithm] != expected.digest:
            await self.remove(upload, "terminated")
            raise ChecksumMismatch(f"the upload has another {expected.algorithm} than was said")
        if "sha256" not in digests:
            return upload
        return await self._store.update(replace(upload, sha256=digests["sha256"].hex()))

    def _algorithms_of(self, upload: Upload) -> set[str]:
        wanted = {"sha256"} if self._has_digest else set()
        return wanted | ({upload.checksum.algorithm} if upload.checksum is not None else set())

    async def _digests_of(self, upload: Upload, algorithms: set[str]) -> dict[str, bytes]:
        running = {name: ALGORITHMS[name]() for name in algorithms}
        async for chunk in self._capabilities.reader.read(upload, 0, upload.offset):
            for digest in running.values():
                await run_sync(digest.update, chunk)
        return {name: digest.digest() for name, digest in running.items()}


def _lock_of(destination: str) -> str:
    """Return what is locked while a destination is taken: one of two uploads that want it waits."""
    return hashlib.sha256(destination.encode()).hexdigest()
