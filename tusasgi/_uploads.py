"""The life of an upload: the one place where store, locker and hooks meet. Knows no HTTP."""

import contextlib
import math
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from tusasgi._errors import (
    TooLarge,
    TooSmall,
    TusError,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
)
from tusasgi._models import (
    Append,
    Creation,
    Ending,
    Expiry,
    Limits,
    Operation,
    Request,
    Source,
    Upload,
    check_upload_id,
)
from tusasgi._rules import check_alive, check_append, check_length, check_room, room_for
from tusasgi.hooks import Hooks
from tusasgi.lockers import Locker
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores import Store, SupportsDeferLength, SupportsExpire, SupportsTerminate


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _no_interrupt() -> None:
    """Nothing to stop: this holder waits for no client."""


def _random_id() -> str:
    # 122 random bits: the id is what keeps strangers away where `authorize` lets everybody in.
    return uuid.uuid4().hex


class Uploads:
    """The engine. One object serves any number of requests and tasks of one event loop.

    `store` is any `Store`; what it supports beyond the core decides what is offered. Without a
    `locker` one process is assumed: give a locker that reaches as far as your store does.
    `clock` returns aware UTC; `new_id` makes ids where neither host nor hook chooses one.
    """

    def __init__(
        self,
        store: Store,
        *,
        locker: Locker | None = None,
        hooks: Hooks | None = None,
        limits: Limits | None = None,
        expiry: Expiry | None = None,
        clock: Callable[[], datetime] = _utc_now,
        new_id: Callable[[], str] = _random_id,
    ) -> None:
        self.store = store
        self.hooks = Hooks() if hooks is None else hooks
        self.limits = Limits() if limits is None else limits
        self.expiry = Expiry() if expiry is None else expiry
        self._locker = MemoryLocker() if locker is None else locker
        self._clock = clock
        self._new_id = new_id
        can_expire = isinstance(store, SupportsExpire) and isinstance(store, SupportsTerminate)
        if self.expiry.is_on and not can_expire:
            raise ValueError(f"{type(store).__name__} cannot find and remove expired uploads")

    # What requests may do. A host that calls the engine itself needs no permission.

    async def admit(self, request: Request, operation: Operation, upload_id: str) -> Upload:
        """Return the upload if this request may do this to it; nothing leaks if it may not."""
        try:
            upload = await self.store.get(check_upload_id(upload_id))
        except UploadNotFound:
            await self.hooks.authorize(request, operation, None)
            raise
        await self.hooks.authorize(request, operation, upload)
        self._check_alive(upload)
        return upload

    async def admit_creation(self, request: Request) -> None:
        """Return if this request may create an upload."""
        await self.hooks.authorize(request, Operation.CREATE, None)

    # The life of an upload.

    async def create(
        self,
        *,
        length: int | None,
        metadata: Mapping[str, bytes] | None = None,
        upload_id: str | None = None,
        owner: str | None = None,
    ) -> Upload:
        """Create an upload of `length` bytes; None declares the length later.

        Raises `TooLarge` or `TooSmall` outside the limits, `UploadExists` for a taken id, and
        what the `creating` hook raises. Nothing is left of a refused creation.
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
        """Create an upload as `create` does, from a value and on behalf of a request."""
        creation = await self.hooks.creating(creation, request)
        limits = creation.limits or self.limits
        if creation.length is None:
            if not isinstance(self.store, SupportsDeferLength):
                raise ValueError(f"{type(self.store).__name__} needs the length at creation")
        else:
            check_length(creation.length, limits)
        bound = limits.max_size if creation.length is None else creation.length
        check_room(creation.size or 0, bound)
        now = self._clock()
        upload = Upload(
            id=check_upload_id(creation.upload_id or self._new_id()),
            length=creation.length,
            created=now,
            metadata=creation.metadata,
            metadata_header=creation.metadata_header,
            owner=creation.owner,
            max_size=limits.max_size,
            expires=now + self.expiry.initial if self.expiry.initial else None,
        )
        if upload.length == 0 and self.hooks.head_size > 0:
            upload = replace(upload, facts=await self.hooks.inspect(upload, b""))
        if creation.upload_id is None:
            return await self._create(upload)
        # A chosen id may have been an upload's before, or be chosen twice at once.
        async with self._locker.lock(upload.id, interrupt=_no_interrupt):
            return await self._create(upload)

    async def _create(self, upload: Upload) -> Upload:
        await self.store.create(upload)
        return await self._complete(upload) if upload.has_all_bytes else upload

    async def get(self, upload_id: str) -> Upload:
        """Return the upload as it stands, without disturbing a running append.

        An upload that has all its bytes but whose completion failed is completed first.
        Raises `UploadNotFound`, or `UploadExpired` for one that was not finished in time.
        """
        return await self.settle(await self._get_alive(upload_id))

    async def settle(self, upload: Upload) -> Upload:
        """Return the upload, completed first if it has all its bytes and is not complete yet."""
        if upload.is_complete or not upload.has_all_bytes:
            return upload
        async with self._locker.lock(upload.id, interrupt=_no_interrupt):
            upload = await self._get_alive(upload.id)
            return upload if upload.is_complete else await self._complete(upload)

    async def append(self, upload_id: str, append: Append, source: Source) -> Upload:
        """Add the bytes of `source` and return the upload with its new offset.

        Whoever else appends to the upload is stopped first, with its bytes kept. Everything is
        judged before the first byte is asked for. What arrives before the client leaves, stops
        sending or is interrupted is kept; of an append that runs past the end, nothing is.
        """
        async with self._locker.lock(upload_id, interrupt=source.interrupt):
            upload = await self._get_alive(upload_id)
            check_append(append, upload, self.limits)
            upload = await self._declare_length(upload, append)
            if not upload.has_all_bytes or append.size != 0:
                upload = await self._store(upload, source)
            if upload.has_all_bytes and not upload.is_complete:
                upload = await self._complete(upload)
            return upload

    async def terminate(self, upload_id: str) -> None:
        """Remove the upload, finished or not, and stop whoever is appending to it."""
        async with self._locker.lock(upload_id, interrupt=_no_interrupt):
            await self._terminate(await self.store.get(check_upload_id(upload_id)))

    async def discard(self, upload_id: str) -> None:
        """Remove what is left of a creation that was refused on the way, if anything is."""
        if isinstance(self.store, SupportsTerminate):
            with contextlib.suppress(UploadNotFound):
                await self.terminate(upload_id)

    async def sweep(self) -> int:
        """Remove what has expired and return how many uploads that were.

        An upload whose time has passed with all its bytes there is completed instead. Costs
        what has expired, not what is stored. Safe beside running appends, which are left alone,
        and beside other sweepers.
        """
        if not isinstance(self.store, SupportsExpire):
            return 0  # then no expiry can be set either
        swept, failures = 0, []
        async for upload_id in self.store.expired(self._clock()):
            try:
                async with self._locker.lock(upload_id, interrupt=_no_interrupt, take_over=False):
                    swept += await self._reap(upload_id)
            except UploadLocked:
                continue
            except Exception as failure:  # one upload must not keep the others alive
                failures.append(failure)
        if failures:
            raise ExceptionGroup(f"{len(failures)} expired uploads could not be removed", failures)
        return swept

    # The steps.

    async def _get_alive(self, upload_id: str) -> Upload:
        upload = await self.store.get(check_upload_id(upload_id))
        self._check_alive(upload)
        return upload

    def _check_alive(self, upload: Upload) -> None:
        try:
            check_alive(upload, self._clock())
        except UploadExpired:
            if self.expiry.hide:
                raise UploadNotFound() from None
            raise

    async def _declare_length(self, upload: Upload, append: Append) -> Upload:
        if append.length is None or upload.length is not None:
            return upload
        assert isinstance(self.store, SupportsDeferLength)  # it took the upload without a length
        return await self.store.declare_length(upload, append.length)

    async def _store(self, upload: Upload, source: Source) -> Upload:
        chunks = _Chunks(source, room_for(upload, upload.length))
        if self.hooks.head_size > 0 and upload.offset == 0 and upload.length != 0:
            head = await chunks.head(self.hooks.head_size)
            if not self._is_long_enough(head, upload, source):
                return upload
            inspected = await self._inspect(upload, head, source)
            if inspected is None:
                return upload
            upload = inspected
        stored = await self.store.append(upload, chunks)
        if stored.offset == upload.offset or stored.has_all_bytes:
            return stored
        return await self._postpone_expiry(stored)

    def _is_long_enough(self, head: bytes, upload: Upload, source: Source) -> bool:
        needed = self.hooks.min_head_size
        if upload.length is not None:
            needed = min(needed, upload.length)
        if len(head) >= needed:
            return True
        if source.ending is Ending.COMPLETE:
            raise TooSmall(
                f"the first append must carry at least {needed} bytes, and carried {len(head)}"
            )
        return False

    async def _inspect(self, upload: Upload, head: bytes, source: Source) -> Upload | None:
        """Return the upload with its facts; None if a cut left too little to refuse it for."""
        try:
            facts = await self.hooks.inspect(upload, head)
        except TusError as refusal:
            if self._is_cut_short(head, upload, source):
                return None
            await self.hooks.refused(upload, refusal)
            if isinstance(self.store, SupportsTerminate):
                await self._terminate(upload)
            raise
        if not facts:
            return upload
        upload = replace(upload, facts=facts)
        await self.store.update(upload)
        return upload

    def _is_cut_short(self, head: bytes, upload: Upload, source: Source) -> bool:
        if source.ending is None or source.ending is Ending.COMPLETE:
            return False
        wanted = self.hooks.head_size
        return len(head) < (wanted if upload.length is None else min(wanted, upload.length))

    async def _postpone_expiry(self, upload: Upload) -> Upload:
        if self.expiry.after_append is None:
            return upload
        upload = replace(upload, expires=self._clock() + self.expiry.after_append)
        await self.store.update(upload)
        return upload

    async def _complete(self, upload: Upload) -> Upload:
        # The hook comes before the record: whatever fails or dies on the way is repeated.
        await self.store.finish(upload)
        complete = replace(upload, is_complete=True)
        await self.hooks.completed(complete)
        await self.store.update(complete)
        return complete

    async def _terminate(self, upload: Upload) -> None:
        if not isinstance(self.store, SupportsTerminate):
            raise TypeError(f"{type(self.store).__name__} cannot terminate uploads")
        await self.hooks.terminated(upload)
        await self.store.terminate(upload.id)

    async def _reap(self, upload_id: str) -> bool:
        assert isinstance(self.store, SupportsTerminate)  # checked by __init__
        try:
            upload = await self.store.get(upload_id)
        except UploadNotFound:
            await self.store.terminate(upload_id)  # what a removal left that broke off
            return False
        if upload.has_all_bytes and not upload.is_complete:
            await self._complete(upload)  # what failed when the last byte came
            return False
        if not upload.is_expired(self._clock()):
            return False
        await self.hooks.expired(upload)
        await self.store.terminate(upload_id)
        return True


class _Chunks:
    """The chunks of a source, refused once they run past `room`; the first can be seen early."""

    def __init__(self, source: Source, room: int | None) -> None:
        self._iterator = aiter(source)
        self._room = math.inf if room is None else room
        self._head: list[bytes] = []

    def __aiter__(self) -> "_Chunks":
        return self

    async def __anext__(self) -> bytes:
        if self._head:
            return self._head.pop()
        chunk = await anext(self._iterator)
        self._room -= len(chunk)
        if self._room < 0:
            raise TooLarge("the body runs past the end of the upload")
        return chunk

    async def head(self, size: int) -> bytes:
        """Return the first bytes, `size` or more of them if so many come; they stay in line."""
        head = bytearray()
        chunks: list[bytes] = []
        while len(head) < size:
            try:
                chunks.append(await anext(self))
            except StopAsyncIteration:
                break
            head += chunks[-1]
        self._head = chunks[::-1]
        return bytes(head)
