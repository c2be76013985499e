"""The lifecycle of an upload: the one place where store, locker and hooks meet. Knows no HTTP."""

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import datetime
from typing import Literal, NoReturn

import anyio

from tusasgi.arguments import (
    check_choices,
    check_derived,
    check_fulfils,
    check_integer,
    check_seconds,
    check_type,
)
from tusasgi.engine.appending import Appending, Conclude
from tusasgi.engine.completion import Completion, store_errors_answered
from tusasgi.engine.inspection import Inspection
from tusasgi.engine.listing import Listing
from tusasgi.engine.locks import Locks
from tusasgi.engine.progress import ProgressTelling
from tusasgi.engine.rules import (
    check_alive,
    check_has_bytes,
    check_length,
    check_part,
    check_size,
    joined_length,
    limits_of,
    unusable_part,
)
from tusasgi.engine.sweeping import Sweep
from tusasgi.engine.telling import Telling
from tusasgi.errors import UploadExpired, UploadLocked, UploadNotFound, UploadPending
from tusasgi.fields import check_creation
from tusasgi.hooks import Hooks, is_overridden
from tusasgi.lifecycle import TOLD, Event, State, state_of
from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.models import (
    Append,
    Creation,
    Expiry,
    Limits,
    Operation,
    Page,
    Removal,
    Request,
    Source,
    Upload,
    check_upload_id,
    utc_now,
)
from tusasgi.observer import Guarded, Observer
from tusasgi.stores import Store
from tusasgi.stores.capabilities import Capabilities

_TURN = 1.0  # seconds that those who only look wait for somebody who completes the upload


def _random_id() -> str:
    # 122 random bits: the id is what keeps strangers away where `authorize` lets everybody in.
    return uuid.uuid4().hex


def _check_parts(
    store: Store, locker: Locker, hooks: Hooks, observer: Observer, limits: Limits, expiry: Expiry
) -> None:
    """Refuse what is of another kind, before anything depends on it."""
    check_fulfils("store", store, Store)
    check_fulfils("locker", locker, Locker)
    check_derived("hooks", hooks, Hooks)
    check_derived("observer", observer, Observer)
    check_type("limits", limits, Limits)
    check_type("expiry", expiry, Expiry)


class Uploads:
    """The engine. One object serves any number of requests and tasks of one event loop.

    `store` is any `Store`; what it supports beyond the core decides what is offered. Without a
    `locker` one process is assumed: give a locker that reaches as far as your store does.
    `digest` has the SHA-256 of all bytes computed before the `completed` hook, by reading them
    back. With `remove_parts` partial uploads are removed when the final upload that they were
    joined into is complete, and are of no use for another one. `observer` is told what happens.
    `hook_timeout` is how many seconds a hook that follows on something (`created`, `completed`,
    `refused`, `terminated`, `expired`) may take before it counts as failed; None lets it take for
    ever. `clock` returns aware UTC; `new_id` makes ids where neither host nor hook chooses one.
    """

    def __init__(
        self,
        store: Store,
        *,
        locker: Locker | None = None,
        hooks: Hooks | None = None,
        limits: Limits | None = None,
        expiry: Expiry | None = None,
        digest: Literal["sha256"] | None = None,
        remove_parts: bool = False,
        observer: Observer | None = None,
        hook_timeout: float | None = 600.0,
        clock: Callable[[], datetime] = utc_now,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        locker = MemoryLocker() if locker is None else locker
        observer = Observer() if observer is None else observer
        self.store = store
        self.hooks = Hooks() if hooks is None else hooks
        self.limits = Limits() if limits is None else limits
        self.expiry = Expiry() if expiry is None else expiry
        _check_parts(store, locker, self.hooks, observer, self.limits, self.expiry)
        check_seconds("hook_timeout", hook_timeout)
        self.observer = Guarded(observer)
        self.capabilities = Capabilities(store)
        self._clock = clock
        self._new_id = new_id
        self._check_can_expire(self.expiry)
        self._check_can_follow(digest, remove_parts=remove_parts)
        self._check_can_tell()
        self._locks = Locks(locker, self.observer)
        self._telling = Telling(
            store,
            self.capabilities,
            self.hooks,
            self._locks,
            self.observer,
            clock,
            hook_timeout=hook_timeout,
        )
        self._progress = ProgressTelling(self.hooks, self.observer, hook_timeout=hook_timeout)
        self._completion = Completion(
            store,
            self.capabilities,
            self.hooks,
            self._locks,
            self.observer,
            self._telling,
            has_digest=digest is not None,
            removes_parts=remove_parts,
            hook_timeout=hook_timeout,
        )
        self._inspection = Inspection(store, self.capabilities, self.hooks, self._completion, clock)
        self._appending = Appending(
            store,
            self.capabilities,
            self._inspection,
            self._completion,
            self.observer,
            self._progress,
            self.limits,
            self.expiry,
        )

    @property
    def is_shut_down(self) -> bool:
        """True once `shutdown` was called."""
        return self._locks.is_shut_down

    def now(self) -> datetime:
        """Return the time by the clock of the engine, as aware UTC."""
        return self._clock()

    @property
    def can_concatenate(self) -> bool:
        """True if final uploads can be made, with a look at their first bytes if one is wanted."""
        can_look = self.hooks.head_size == 0 or self.capabilities.can_read
        return self.capabilities.can_join and can_look

    # What requests may do. A host that calls the engine itself needs no permission.

    async def admit(self, request: Request, operation: Operation, upload_id: str) -> Upload:
        """Return the upload if this request may do this to it; nothing leaks if it may not."""
        try:
            upload = await self.store.get(check_upload_id(upload_id))
        except UploadNotFound:
            await self.hooks.authorize(request, operation, None)
            raise
        await self.hooks.authorize(request, operation, upload)
        if operation is Operation.TERMINATE and upload.removal is not None:
            return upload  # begun before, and this request may bring it to its end
        self._check_alive(upload)
        if operation is not Operation.TERMINATE:  # what is left of it can be removed
            check_has_bytes(upload)
        return upload

    async def admit_creation(self, request: Request) -> None:
        """Return if this request may create an upload."""
        await self.hooks.authorize(request, Operation.CREATE, None)

    # The lifecycle of an upload.

    async def create(
        self,
        *,
        length: int | None,
        metadata: Mapping[str, bytes] | None = None,
        upload_id: str | None = None,
        owner: str | None = None,
    ) -> Upload:
        """Create an upload of `length` bytes; None declares the length later.

        Raises `TooLarge` or `TooSmall` outside the limits, `UploadExists` for a taken id, what
        the `creating` hook raises, and `ValueError` for metadata that no client could have sent
        (a key that is not printable ASCII, say). Nothing is left of a refused creation. If what
        follows on the creation of an empty upload fails (`UploadPending`), the upload is there,
        and the next request or sweep goes on with it.
        """
        return await self.create_from(
            Creation(
                length=length,
                metadata={} if metadata is None else metadata,
                upload_id=upload_id,
                owner=owner,
            )
        )

    async def create_from(self, creation: Creation, request: Request | None = None) -> Upload:
        """Create an upload as `create` does, from a value and on behalf of a request.

        A final upload (one with `parts`) is joined and completed before this returns; what
        interrupts that is taken up again as above.
        """
        parts = await self._get_parts(creation, request)
        if creation.parts:
            creation = replace(creation, length=joined_length(parts, creation.length))
        creation = await self.hooks.creating(creation, request)
        check_type(f"what {type(self.hooks).__name__}.creating returns", creation, Creation)
        check_creation(creation)
        upload = self._new_upload(creation)
        if not upload.is_partial and (upload.parts or upload.length == 0):
            upload = await self._inspection.judge_whole(upload, parts)
        # Nobody else can know a random id yet, but the sweeper finds what is to be completed.
        if creation.upload_id is None and not upload.is_pending:
            return await self._create(upload)
        async with self._locks.hold(upload.id):
            return await self._create(upload)

    async def get(self, upload_id: str) -> Upload:
        """Return the upload as it stands, without disturbing a running append.

        What has to follow on its last byte and failed is repeated first, see `complete`. Raises
        `UploadNotFound`, or `UploadExpired` for one that was not finished in time.
        """
        return await self.complete(await self._get_alive(upload_id))

    async def complete(self, upload: Upload) -> Upload:
        """Return the upload once what has to follow on its last byte is done.

        Takes up joining and completion where they were left. Raises `UploadPending` if they
        fail, or if somebody else is completing it; a final upload that somebody else is joining
        is returned as it stands.
        """
        if not upload.is_pending:
            return upload
        async with AsyncExitStack() as held:
            if await self._get_turn(upload, held):
                return await self._complete(await self._get_alive(upload.id))
        if upload.parts and not upload.has_all_bytes:
            return upload
        raise UploadPending("all bytes are here and are being processed")

    async def append(
        self,
        upload_id: str,
        append: Append,
        source: Source,
        *,
        admitted: Upload | None = None,
        conclude: Conclude | None = None,
    ) -> Upload:
        """Add the bytes of `source` and return the upload with its new offset.

        Whoever else appends to the upload is stopped first, with its bytes kept; an append that
        does not fit stops nobody. Everything is judged before the first byte is asked for. What
        arrives before the client leaves, stops sending or is interrupted is kept. Nothing is kept
        of an append that runs past the end, that has another checksum than it says, or that has
        one and does not come whole; the length that it declares is then not kept either.
        `admitted` is the upload as it was just read, if it was. With `conclude` the last append
        ends the upload only if that returns what the client is to be told; it is called with
        the upload held, and all its bytes there to be read.
        """
        upload = await self._get_alive(upload_id) if admitted is None else admitted
        if not upload.is_pending:
            self._appending.check(upload, append)
        with self._locks.interruptible(source):
            async with AsyncExitStack() as held:
                await self._take_over(upload_id, source, held)
                upload = await self._read_again(upload_id, admitted)
                return await self._appending.append(upload, append, source, conclude)

    async def list(
        self,
        *,
        owner: str | None = None,
        state: State | None = None,
        after: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of the uploads that are there: all, or those of an owner or in a state.

        Nothing is disturbed or taken up. Reads the record of each upload that it passes, wanted or
        not, until it has `limit` of them; `after` is that of the page before. Raises `TypeError` if
        the store cannot list.
        """
        check_integer("limit", limit, is_positive=True)
        now = self._clock()

        def is_wanted(upload: Upload) -> bool:
            is_theirs = owner is None or upload.owner == owner
            return is_theirs and (state is None or state_of(upload, now) is state)

        ids = self.capabilities.lister.ids(after=after)
        return await Listing(self.store, is_wanted).page(ids, limit)

    async def kept(self, upload_id: str) -> int:
        """Return how many bytes of the upload stay, whatever becomes of the append that runs."""
        if self.capabilities.reports_progress:
            return await self.capabilities.reporter.kept(upload_id)
        return (await self.store.get(upload_id)).offset

    async def stop(self, upload_id: str) -> Upload:
        """Stop whoever appends to the upload, with its bytes kept, and return it as it is then.

        The offset holds until somebody else appends: where the store has versions, writers on
        other servers cannot add to it either. Raises `UploadLocked` if the upload is not let go.
        """
        async with self._locks.hold(check_upload_id(upload_id)):
            upload = await self._get_alive(upload_id)
            if not self.capabilities.has_versions or upload.is_complete:
                return upload
            with store_errors_answered():
                return await self.store.update(upload)

    async def terminate(self, upload_id: str, *, missing_ok: bool = False) -> None:
        """Remove the upload, finished or not, and stop whoever is appending to it.

        Raises `UploadNotFound` if there is none, unless that is `missing_ok`. From within a hook of
        the same upload it is removed at once, before the hook goes on; what the client is told
        follows from the hook.
        """
        if self._locks.is_held_here(upload_id):
            await self._terminate_from_hook(upload_id, missing_ok=missing_ok)
            return
        async with self._locks.hold(upload_id):
            upload = await self._find(upload_id, missing_ok=missing_ok)
            if upload is None:
                return
            if upload.removal is None:
                await self.hooks.terminating(upload)
            await self._remove(upload, "terminated")

    async def _terminate_from_hook(self, upload_id: str, *, missing_ok: bool) -> None:
        """Remove the upload whose hook calls, unless the hook is about its removal already.

        `terminating` is not asked: it is the host itself that wants it.
        """
        upload = await self._find(upload_id, missing_ok=missing_ok)
        if upload is not None and upload.removal is None:
            await self._remove(upload, "terminated")

    async def _find(self, upload_id: str, *, missing_ok: bool) -> Upload | None:
        try:
            return await self.store.get(check_upload_id(upload_id))
        except UploadNotFound:
            if missing_ok:
                return None
            raise

    async def discard(self, upload_id: str) -> None:
        """Remove what is left of a creation that was refused on the way, if anything is.

        An upload whose bytes are all there stays: it was not refused, and what follows on its
        last byte is repeated.
        """
        if not self.capabilities.can_terminate:
            return
        async with self._locks.hold(upload_id):
            with contextlib.suppress(UploadNotFound):
                upload = await self.store.get(upload_id)
                if not upload.has_all_bytes:
                    await self._remove(upload, "terminated")

    async def sweep(self) -> int:
        """Remove what has expired and return how many uploads were removed.

        Takes up what requests had to leave: joining, completions and removals that failed or
        died, and tells what is still to be told, by itself where `deliver` does not run. Costs
        what is due, not what is stored, and looks after several uploads at a time.
        Safe beside running appends, which are left alone, and beside other sweepers. Raises an
        `ExceptionGroup` of what failed, after everything was tried; the next sweep tries it again.
        """
        if not self.capabilities.can_sweep:
            return 0  # then no expiry can be set either
        sweep = Sweep(
            self.store,
            self.capabilities,
            self._locks,
            self._completion,
            self._telling,
            self._clock,
        )
        await sweep.run()
        if not self._telling.is_delivering:
            sweep.failures += await self._telling.deliver_once()
        self.observer.swept(sweep.removed, len(sweep.failures))
        if sweep.failures:
            raise ExceptionGroup(
                f"{len(sweep.failures)} of the uploads could not be looked after", sweep.failures
            )
        return sweep.removed

    async def deliver(self) -> NoReturn:
        """Have the hooks told (`tell`, `progressed`) of what happens as it happens.

        Runs until cancelled, beside the sweeps: what failed is told again after a while, longer
        each time. What it does not come to, here or in other processes, is told by a sweep, and
        so is everything where nothing calls this; but nothing of progress.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._progress.deliver)
            await self._telling.deliver()
        raise AssertionError("it ends by being cancelled")

    def shutdown(self) -> None:
        """Stop every running append, with its bytes kept, and take no new ones.

        Their clients are told to try again (`ShuttingDown`). Returns at once, and is to be
        called in the event loop, before the server waits for its requests to end.
        """
        self._locks.shut_down()

    # The steps.

    async def _take_over(self, upload_id: str, source: Source, held: AsyncExitStack) -> None:
        """Hold the upload for an append, and stop whoever else appends to it."""
        try:
            await held.enter_async_context(self._locks.hold(upload_id, source.interrupt))
        except UploadLocked:
            if (await self._get_alive(upload_id)).is_pending:
                raise UploadPending("all bytes are here and are being processed") from None
            raise

    async def _get_turn(self, upload: Upload, held: AsyncExitStack) -> bool:
        """Hold an upload to go on with what follows on its last byte; return whether it is free.

        An append that still waits for its client has nothing to add when all bytes are here,
        and is stopped.
        """
        with contextlib.suppress(UploadLocked), anyio.move_on_after(_TURN):
            holding = self._locks.hold(upload.id, take_over=upload.has_all_bytes)
            await held.enter_async_context(holding)
            return True
        return False

    async def _complete(self, upload: Upload) -> Upload:
        with store_errors_answered():
            return await self._completion.complete(upload)

    async def _remove(self, upload: Upload, removal: Removal) -> None:
        with store_errors_answered():
            await self._completion.remove(upload, removal)

    async def _get_alive(self, upload_id: str) -> Upload:
        upload = await self.store.get(check_upload_id(upload_id))
        self._check_alive(upload)
        check_has_bytes(upload)
        return upload

    def _check_alive(self, upload: Upload) -> None:
        try:
            check_alive(upload, self._clock())
        except UploadExpired:
            if self.expiry.hide:
                raise UploadNotFound() from None
            raise

    async def _get_parts(self, creation: Creation, request: Request | None) -> Sequence[Upload]:
        """Return the partial uploads to be joined, in their order, if this request may use them."""
        found: dict[str, Upload] = {}
        for number, upload_id in enumerate(creation.parts, start=1):
            if upload_id not in found:
                try:
                    found[upload_id] = await self._get_part(upload_id, request)
                except (UploadNotFound, UploadExpired):
                    raise unusable_part(number) from None
                check_part(found[upload_id], number)
        return [found[upload_id] for upload_id in creation.parts]

    async def _get_part(self, upload_id: str, request: Request | None) -> Upload:
        if request is None:
            return await self._get_alive(upload_id)
        return await self.admit(request, Operation.CONCATENATE, upload_id)

    def _new_upload(self, creation: Creation) -> Upload:
        limits = limits_of(creation, self.limits)
        if creation.length is not None:
            check_length(creation.length, limits)
        elif not self.capabilities.can_defer_length:
            raise ValueError(f"{type(self.store).__name__} needs the length at creation")
        now = self._clock()
        expiry = self.expiry if creation.expiry is None else creation.expiry
        self._check_can_expire(expiry)
        expires = now + expiry.initial if expiry.initial else None
        upload = Upload(
            id=check_upload_id(creation.upload_id or self._new_id()),
            length=creation.length,
            created=now,
            metadata=creation.metadata,
            metadata_header=creation.metadata_header,
            owner=creation.owner,
            max_size=limits.max_size,
            min_size=limits.min_size,
            expires=None if creation.parts else expires,
            facts=creation.facts,
            is_partial=creation.is_partial,
            parts=creation.parts,
            concat_header=creation.concat_header,
            protocol=creation.protocol,
            is_open=creation.is_open,
            checksum=creation.checksum if self.capabilities.can_read else None,
            target=creation.target,
        )
        check_size(creation.size or 0, upload, self.limits)
        return self._telling.with_untold(expiry.given_to(upload), Event.CREATED)

    def _check_can_expire(self, expiry: Expiry) -> None:
        if expiry.is_on and not (self.capabilities.can_sweep and self.capabilities.can_terminate):
            raise ValueError(f"{type(self.store).__name__} cannot find and remove expired uploads")

    def _check_can_tell(self) -> None:
        """Check that what the hooks want to be told can be told, whatever happens meanwhile."""
        check_choices("tells", self.hooks.tells, TOLD)
        can_tell = self.capabilities.can_sweep and self.capabilities.can_terminate
        if self.hooks.tells and not can_tell:
            raise ValueError(f"{type(self.store).__name__} cannot find what is still to be told")

    def _check_can_follow(self, digest: str | None, *, remove_parts: bool) -> None:
        """Check that the store can do what is to follow on the last byte."""
        name = type(self.store).__name__
        if remove_parts and not self.capabilities.can_terminate:
            raise ValueError(f"{name} cannot remove the parts of final uploads")
        if digest not in (None, "sha256"):
            raise ValueError('digest must be None or "sha256"')
        if digest is not None and not self.capabilities.can_read:
            raise ValueError(f"{name} cannot read uploads back for a digest")
        if is_overridden(self.hooks, "destination") and not self.capabilities.can_hand_over:
            raise ValueError(f"{name} cannot hand uploads over: leave the hook destination out")

    async def _create(self, upload: Upload) -> Upload:
        upload = await self.store.create(upload)
        self.observer.changed(upload, Event.ANNOUNCED if upload.parts else Event.CREATED)
        if upload.has_all_bytes:
            self.observer.changed(upload, Event.JOINED if upload.parts else Event.FILLED)
        with store_errors_answered():
            upload = await self._completion.tell_created(upload)
            if self._telling.is_due(upload):
                self._telling.happened(upload.id)
            return await self._completion.complete(upload)

    async def _read_again(self, upload_id: str, admitted: Upload | None) -> Upload:
        """Return the upload as it is now that it is held."""
        if admitted is None or not self.capabilities.has_versions:
            return await self._get_alive(upload_id)
        upload = await self.capabilities.versions.latest(admitted)
        self._check_alive(upload)
        check_has_bytes(upload)
        return upload
