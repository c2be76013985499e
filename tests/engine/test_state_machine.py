"""Any life of any uploads, against a plain model: a dictionary of bytes.

Where the environment says that it is a CI (`CI=1`), hypothesis tries the same lives each time.
"""

import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, ClassVar

import anyio
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tusasgi import (
    Append,
    Body,
    Checksum,
    ChecksumMismatch,
    Creation,
    Event,
    Expiry,
    Forbidden,
    Hooks,
    InvalidRequest,
    LengthConflict,
    Limits,
    Observer,
    OffsetConflict,
    Overrun,
    State,
    TooLarge,
    Upload,
    UploadExists,
    UploadExpired,
    UploadNotFound,
    UploadPending,
    Uploads,
    state_of,
)
from tusasgi.checksums import ALGORITHMS
from tusasgi.lifecycle import TRANSITIONS
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, END, Client, Step

MAX_SIZE = 20_000
INITIAL, AFTER_APPEND = timedelta(seconds=100), timedelta(seconds=60)
SHM = "/dev/shm"

IDS = ["a", "b", "c-1", "d_2"]
ids = st.sampled_from(IDS)
lengths = st.one_of(st.none(), st.integers(0, 40), st.integers(0, MAX_SIZE))
bodies = st.lists(st.one_of(st.integers(0, 20), st.integers(0, 6_000)), max_size=6).map(
    lambda sizes: [random.Random(sum(sizes) + size).randbytes(size) for size in sizes]
)
endings = st.sampled_from([END, DISCONNECT])


@dataclass
class Kept:
    """What the model knows of an upload."""

    length: int | None
    expires: datetime | None
    content: bytes = b""
    is_partial: bool = False
    parts: tuple[str, ...] = ()
    is_open: bool = False
    """True while only an append that says so is the end: those of the draft do."""

    @property
    def is_complete(self) -> bool:
        return len(self.content) == self.length and not self.is_open

    @property
    def room(self) -> int:
        return (MAX_SIZE if self.length is None else self.length) - len(self.content)

    def is_expired(self, now: datetime) -> bool:
        if self.expires is None or (self.is_complete and not self.is_partial):
            return False
        return self.expires <= now


def _of_draft(kept: Kept, size: int | None, *, is_last: bool) -> Append:
    """Return what an append of the draft says: the last one tells the length by where it ends."""
    start = len(kept.content)
    length = start + size if is_last and size is not None else None
    return Append(offset=start, length=length, size=size, is_last=is_last)


def _refusal_of(kept: Kept, append: Append, size: int, ending: Step) -> type[Exception] | None:
    """Return what an append of the draft is refused with that brings so many bytes."""
    if append.length is not None and kept.length not in (None, append.length):
        return LengthConflict
    if (size if append.size is None else append.size) > kept.room:
        return TooLarge if kept.length is None else Overrun
    ends_elsewhere = kept.length not in (None, len(kept.content) + size)
    if append.is_last and append.size is None and ending is END and ends_elsewhere:
        return LengthConflict
    return None


class Completing(Hooks):
    def __init__(self) -> None:
        self.completed_ids: set[str] = set()
        self.gone_ids: list[str] = []
        self.failures_to_come = 0

    def _fail_if_told(self) -> None:
        if self.failures_to_come:
            self.failures_to_come -= 1
            raise RuntimeError("the database is away")

    async def completed(self, upload: Upload) -> None:
        self._fail_if_told()
        self.completed_ids.add(upload.id)

    async def terminated(self, upload: Upload) -> None:
        self._fail_if_told()
        self.gone_ids.append(upload.id)

    async def expired(self, upload: Upload) -> None:
        self._fail_if_told()
        self.gone_ids.append(upload.id)


class Table(Observer):
    """Follows each upload through the table of its life, and notes what is not in it."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.unknown: list[tuple[State | None, Event]] = []
        self._states: dict[str, State | None] = {}
        self._clock = clock

    def changed(self, upload: Upload, event: Event) -> None:
        before = self._states.get(upload.id)
        if before in (State.RECEIVING, State.COMPLETE):
            before = state_of(replace(upload, removal=None), self._clock())
            if event in (Event.FILLED, Event.APPENDED):
                before = State.RECEIVING
            elif event is Event.COMPLETED and self._states[upload.id] is State.RECEIVING:
                before = State.COMPLETING  # it was filled by a request that died with its last byte
        if (before, event) not in TRANSITIONS:
            self.unknown.append((before, event))
        self._states[upload.id] = TRANSITIONS.get((before, event))


class LivesOfUploads(RuleBasedStateMachine):
    backend: ClassVar[str] = "asyncio"

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[str, Kept] = {}
        self.now = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
        self.hooks = Completing()
        self.table = Table(lambda: self.now)
        self.store = self.open_store()
        self.engine = self.open_engine(self.store)

    def open_store(self) -> Any:
        """Open the store: the first time, and again for each restart."""
        raise NotImplementedError

    @property
    def uploads(self) -> Uploads:
        """The engine that the next call goes to."""
        return self.engine

    async def content(self, upload: Upload) -> bytes:
        """Return the bytes that are stored."""
        chunks = self.store.read(upload, 0, upload.offset)
        return b"".join([chunk async for chunk in chunks])

    def open_engine(self, store: Any) -> Uploads:
        return Uploads(
            store,
            hooks=self.hooks,
            limits=Limits(max_size=MAX_SIZE),
            expiry=Expiry(initial=INITIAL, after_append=AFTER_APPEND),
            observer=self.table,
            clock=lambda: self.now,
        )

    def run(self, call: Callable[[], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            return await call()

        return anyio.run(main, backend=self.backend)

    def refused(self, call: Callable[[], Awaitable[Any]], error: type[Exception]) -> None:
        with pytest.raises(error):
            self.run(call)

    def alive(self, upload_id: str) -> Kept | None:
        """Return the upload if it can be asked for; else see that it cannot."""
        kept = self.model.get(upload_id)
        if kept is not None and not kept.is_expired(self.now):
            return kept
        error = UploadNotFound if kept is None else UploadExpired
        client = Client([b"x"])
        append = Append(offset=0 if kept is None else len(kept.content))
        self.refused(
            lambda: self.uploads.append(upload_id, append, Body(client.receive, timeout=None)),
            error,
        )
        assert client.receives == 0
        return None

    # What happens.

    @initialize(begun=st.lists(st.tuples(lengths, st.booleans()), min_size=2, max_size=4))
    def begin(self, begun: list[tuple[int | None, bool]]) -> None:
        """Have some uploads from the start, so that most steps find one."""
        for upload_id, (length, is_open) in zip(IDS, begun, strict=False):
            if is_open:
                self.create_open(upload_id, length)
            else:
                self.create(upload_id, length, is_partial=False)

    @rule(upload_id=ids, length=lengths, is_partial=st.booleans())
    def create(self, upload_id: str, length: int | None, is_partial: bool) -> None:
        creation = Creation(length=length, upload_id=upload_id, is_partial=is_partial)

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.create_from(creation)

        if upload_id in self.model:  # expired or not
            self.refused(call, UploadExists)
            return
        assert self.run(call).offset == 0
        self.model[upload_id] = Kept(length, self.now + INITIAL, is_partial=is_partial)

    @rule(upload_id=ids, length=lengths)
    def create_open(self, upload_id: str, length: int | None) -> None:
        """As the draft does: reaching the length does not end it."""
        creation = Creation(length=length, upload_id=upload_id, is_open=True, protocol="ietf")

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.create_from(creation)

        if upload_id in self.model:
            self.refused(call, UploadExists)
            return
        assert not self.run(call).is_complete
        self.model[upload_id] = Kept(length, self.now + INITIAL, is_open=True)

    @rule(upload_id=ids, parts=st.lists(ids, min_size=1, max_size=4))
    def join(self, upload_id: str, parts: list[str]) -> None:
        creation = Creation(length=None, upload_id=upload_id, parts=tuple(parts))

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.create_from(creation)

        kept = [self.model.get(part) for part in parts]
        usable = [
            one
            for one in kept
            if one and one.is_partial and one.is_complete and not one.is_expired(self.now)
        ]
        whole = b"".join(one.content for one in usable)
        if len(usable) < len(parts):
            self.refused(call, InvalidRequest)
        elif len(whole) > MAX_SIZE:
            self.refused(call, TooLarge)
        elif upload_id in self.model:
            self.refused(call, UploadExists)
        else:
            assert self.run(call).is_complete
            self.model[upload_id] = Kept(len(whole), None, whole, parts=tuple(parts))

    @rule(
        upload_id=ids,
        chunks=bodies,
        ending=endings,
        algorithm=st.sampled_from(sorted(ALGORITHMS)),
        is_right=st.booleans(),
    )
    def append_with_a_checksum(
        self,
        upload_id: str,
        chunks: list[bytes],
        ending: Step,
        algorithm: str,
        is_right: bool,
    ) -> None:
        kept = self.alive(upload_id)
        sent = b"".join(chunks)
        if kept is None or kept.parts or len(sent) > kept.room:
            return
        running = ALGORITHMS[algorithm]()
        running.update(sent if is_right else sent + b"!")
        checksum = Checksum(algorithm=algorithm, digest=running.digest())
        append = Append(offset=len(kept.content), checksum=checksum)
        body = Body(Client([*chunks, ending]).receive, timeout=None)

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.append(upload_id, append, body)

        if ending is END and not is_right:
            self.refused(call, ChecksumMismatch)
            self._bytes_came(upload_id, kept)
            return
        upload = self.run(call)
        if ending is END:
            kept.is_open = False
            self._grow(kept, sent)
        else:
            self._bytes_came(upload_id, kept)
        assert upload.offset == len(kept.content)

    @rule(upload_id=ids, chunks=bodies, ending=endings, size_is_known=st.booleans())
    def append(
        self, upload_id: str, chunks: list[bytes], ending: Step, size_is_known: bool
    ) -> None:
        if kept := self.alive(upload_id):
            self._append(upload_id, kept, chunks, ending, size_is_known=size_is_known)

    @rule(upload_id=ids, cuts=st.lists(st.floats(0, 1), max_size=4), seed=st.integers(0, 99))
    def append_the_rest(self, upload_id: str, cuts: list[float], seed: int) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.length is None:
            return
        rest = random.Random(seed).randbytes(kept.room)
        places = [0, *sorted(int(cut * len(rest)) for cut in cuts), len(rest)]
        chunks = [rest[start:stop] for start, stop in pairwise(places)]
        self._append(upload_id, kept, chunks, END, size_is_known=True)
        assert kept.is_complete

    @rule(upload_id=ids, chunks=bodies, more=st.integers(0, 3_000))
    def declare_the_length(self, upload_id: str, chunks: list[bytes], more: int) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.length is not None:
            return
        length = min(MAX_SIZE, len(kept.content) + sum(map(len, chunks)) + more)
        self._append(upload_id, kept, chunks, END, length=length)

    def _append(
        self,
        upload_id: str,
        kept: Kept,
        chunks: list[bytes],
        ending: Step,
        *,
        length: int | None = None,
        size_is_known: bool = False,
    ) -> None:
        sent = b"".join(chunks)
        append = Append(
            offset=len(kept.content), length=length, size=len(sent) if size_is_known else None
        )
        body = Body(Client([*chunks, ending]).receive, timeout=None)

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.append(upload_id, append, body)

        if kept.parts:
            self.refused(call, Forbidden)
            return
        declared = kept.length if length is None else length
        if len(sent) > replace(kept, length=declared).room:
            self.refused(call, TooLarge)
            self._bytes_came(upload_id, kept)
            return
        upload = self.run(call)
        kept.length = declared
        if sent or ending is END or append.size == 0:
            kept.is_open = False
        self._grow(kept, sent)
        assert (upload.offset, upload.is_complete) == (len(kept.content), kept.is_complete)

    @rule(
        upload_id=ids,
        chunks=bodies,
        ending=endings,
        missing=st.integers(0, 3_000),
        size_is_known=st.booleans(),
        is_last=st.booleans(),
        overrun_terminates=st.booleans(),
    )
    def append_as_the_draft_does(
        self,
        upload_id: str,
        chunks: list[bytes],
        ending: Step,
        missing: int,
        *,
        size_is_known: bool,
        is_last: bool,
        overrun_terminates: bool,
    ) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.parts:
            return
        size = sum(map(len, chunks)) + (missing if ending is DISCONNECT else 0)
        append = _of_draft(kept, size if size_is_known else None, is_last=is_last)
        append = replace(append, overrun_terminates=overrun_terminates)
        self._append_open(upload_id, kept, append, chunks, ending)

    @rule(
        upload_id=ids,
        share=st.sampled_from([0, 0.3, 1]),
        size_is_known=st.booleans(),
        is_last=st.booleans(),
    )
    def bring_a_share(
        self, upload_id: str, share: float, *, size_is_known: bool, is_last: bool
    ) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.parts:
            return
        data = b"s" * int(kept.room * share)
        append = _of_draft(kept, len(data) if size_is_known else None, is_last=is_last)
        self._append_open(upload_id, kept, append, [data], END)

    @rule(upload_id=ids, cuts=st.lists(st.floats(0, 1), max_size=3), size_is_known=st.booleans())
    def bring_all_and_end_it_later(
        self, upload_id: str, cuts: list[float], size_is_known: bool
    ) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.parts or kept.length is None or kept.is_complete:
            return
        for cut in [*cuts, 1.0]:
            piece = bytes([len(kept.content) % 251]) * int(kept.room * cut)
            append = _of_draft(kept, len(piece) if size_is_known else None, is_last=False)
            self._append_open(upload_id, kept, append, [piece], END)
        assert not kept.is_complete
        self._append_open(upload_id, kept, _of_draft(kept, 0, is_last=True), [], END)
        assert kept.is_complete

    def _append_open(
        self, upload_id: str, kept: Kept, append: Append, chunks: list[bytes], ending: Step
    ) -> None:
        """Append what says whether it is the last, and hold what comes of it against the model."""
        sent = b"".join(chunks)
        body = Body(Client([*chunks, ending]).receive, timeout=None)

        def call() -> Coroutine[Any, Any, Upload]:
            return self.uploads.append(upload_id, append, body)

        if refusal := _refusal_of(kept, append, len(sent), ending):
            self.refused(call, refusal)
            if refusal is Overrun and append.overrun_terminates and not kept.is_complete:
                assert self.hooks.gone_ids.pop() == upload_id
                del self.model[upload_id]
            else:
                self._bytes_came(upload_id, kept)
            return
        upload = self.run(call)
        is_whole = ending is END or append.size == 0
        ends_where_told = append.is_last and append.size is not None
        if (sent or is_whole) and not kept.is_complete:
            kept.length = append.length if ends_where_told else kept.length
            kept.is_open = not ends_where_told
            self._grow(kept, sent)
            if append.is_last and append.size is None and is_whole:
                kept.length, kept.is_open = len(kept.content), False
        assert (upload.offset, upload.is_complete) == (len(kept.content), kept.is_complete)

    def _grow(self, kept: Kept, sent: bytes) -> None:
        kept.content += sent
        if sent:
            kept.expires = self.now + AFTER_APPEND

    def _bytes_came(self, upload_id: str, kept: Kept) -> None:
        """Take over the date of an upload whose bytes may have moved it, kept or not."""
        found = self.run(lambda: self.store.get(upload_id)).expires
        assert kept.is_complete or found in (kept.expires, self.now + AFTER_APPEND)
        kept.expires = found

    @rule(upload_id=ids, fits=st.floats(0, 1), more=st.integers(1, 10))
    def run_past_the_end(self, upload_id: str, fits: float, more: int) -> None:
        if kept := self.alive(upload_id):
            first = b"f" * int(kept.room * fits)
            self._append(upload_id, kept, [first, b"x" * (kept.room + more)], END)

    @rule(upload_id=ids, chunks=bodies)
    def append_and_die(self, upload_id: str, chunks: list[bytes]) -> None:
        """The request is cancelled while it waits for the client: a beginning is kept."""
        kept = self.alive(upload_id)
        sent = b"".join(chunks)
        if kept is None or not sent or len(sent) > kept.room:
            return
        client = Client([*chunks, Step.STALL])

        async def call() -> int:
            body = Body(client.receive, timeout=None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(
                    self.uploads.append, upload_id, Append(offset=len(kept.content)), body
                )
                await client.starved()
                tasks.cancel_scope.cancel()
            return (await self.store.get(upload_id)).offset

        before = len(kept.content)
        offset = self.run(call)
        assert before <= offset <= before + len(sent)
        if offset > before:
            kept.is_open = False
        kept.content += sent[: offset - before]
        self._bytes_came(upload_id, kept)
        self.run(lambda: self.uploads.get(upload_id))  # completes it if all bytes are there

    @rule(upload_id=ids, chunks=bodies, is_last=st.sampled_from([None, False, True]))
    def append_and_be_stopped(
        self, upload_id: str, chunks: list[bytes], is_last: bool | None
    ) -> None:
        """Somebody asks for the offset while a client still sends: what was told holds."""
        kept = self.alive(upload_id)
        sent = b"".join(chunks)
        if kept is None or kept.is_complete or kept.parts or len(sent) > kept.room:
            return
        client = Client([*chunks, Step.STALL])
        append = Append(offset=len(kept.content), is_last=is_last)
        uploads = self.uploads  # the same for both: it is the lock that stops who appends

        async def call() -> Upload:
            body = Body(client.receive, timeout=None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(uploads.append, upload_id, append, body)
                await client.starved()
                return await uploads.stop(upload_id)

        stopped = self.run(call)
        if sent:
            kept.is_open = is_last is not None
        self._grow(kept, sent)
        assert stopped.offset == len(kept.content)

    @rule(upload_id=ids)
    def stop(self, upload_id: str) -> None:
        kept = self.model.get(upload_id)
        if kept is None or kept.is_expired(self.now):
            error = UploadNotFound if kept is None else UploadExpired
            self.refused(lambda: self.uploads.stop(upload_id), error)
            return
        upload = self.run(lambda: self.uploads.stop(upload_id))
        assert (upload.offset, upload.is_complete) == (len(kept.content), kept.is_complete)

    @rule(upload_id=ids, offset=st.integers(0, MAX_SIZE))
    def append_elsewhere(self, upload_id: str, offset: int) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.parts or offset == len(kept.content):
            return
        body = Body(Client([b"x"]).receive, timeout=None)
        self.refused(
            lambda: self.uploads.append(upload_id, Append(offset=offset), body), OffsetConflict
        )
        assert not body.is_started

    @rule(upload_id=ids, other=st.integers(0, MAX_SIZE))
    def change_the_length(self, upload_id: str, other: int) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.parts or kept.length in (None, other):
            return
        append = Append(offset=len(kept.content), length=other)
        body = Body(Client([b""]).receive, timeout=None)
        self.refused(lambda: self.uploads.append(upload_id, append, body), InvalidRequest)

    @rule(upload_id=ids, failures=st.integers(1, 3))
    def fill_while_the_hook_fails(self, upload_id: str, failures: int) -> None:
        kept = self.alive(upload_id)
        if kept is None or kept.is_partial or kept.length is None or kept.is_complete:
            return
        rest = bytes([failures]) * kept.room
        body = Body(Client(rest).receive, timeout=None)
        append = Append(offset=len(kept.content))
        self.hooks.failures_to_come = failures
        self.refused(lambda: self.uploads.append(upload_id, append, body), UploadPending)
        for _ in range(failures - 1):
            self.refused(lambda: self.uploads.get(upload_id), UploadPending)
        assert self.run(lambda: self.uploads.get(upload_id)).is_complete
        kept.content += rest
        kept.is_open = False

    @rule(upload_id=ids, failures=st.integers(0, 2))
    def terminate(self, upload_id: str, failures: int) -> None:
        if upload_id in self.model:  # also when it has expired
            self.hooks.failures_to_come = failures
            for _ in range(failures):
                self.refused(lambda: self.uploads.terminate(upload_id), UploadPending)
                self.refused(lambda: self.uploads.get(upload_id), UploadNotFound)
            self.run(lambda: self.uploads.terminate(upload_id))
            assert self.hooks.gone_ids.pop() == upload_id
            self.hooks.completed_ids.discard(upload_id)
            del self.model[upload_id]
        else:
            self.refused(lambda: self.uploads.terminate(upload_id), UploadNotFound)

    @rule(seconds=st.one_of(st.integers(1, 100), st.integers(3000, 8000)))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.model)
    @rule()
    def sweep(self) -> None:
        expired = [key for key, kept in self.model.items() if kept.is_expired(self.now)]
        self.hooks.gone_ids.clear()
        assert self.run(self.uploads.sweep) == len(expired)
        assert sorted(self.hooks.gone_ids) == sorted(expired)
        for upload_id in expired:
            del self.model[upload_id]
            self.refused(lambda: self.uploads.get(upload_id), UploadNotFound)  # noqa: B023

    @rule()
    def restart(self) -> None:
        self.store = self.open_store()
        self.engine = self.open_engine(self.store)

    # What is always true.

    @invariant()
    def everything_is_there(self) -> None:
        self.run(self._look)

    async def _look(self) -> None:
        for upload_id, kept in self.model.items():
            if kept.is_expired(self.now):
                with pytest.raises(UploadExpired):
                    await self.uploads.get(upload_id)
                continue
            upload = await self.uploads.get(upload_id)
            seen = (upload.offset, upload.length, upload.is_open, upload.is_complete)
            assert seen == (len(kept.content), kept.length, kept.is_open, kept.is_complete)
            if kept.content:
                assert await self.content(upload) == kept.content

    @invariant()
    def every_change_is_in_the_table(self) -> None:
        assert self.table.unknown == []

    @invariant()
    def what_is_complete_was_told(self) -> None:
        complete = {
            key for key, kept in self.model.items() if kept.is_complete and not kept.is_partial
        }
        assert complete <= self.hooks.completed_ids
        assert not self.hooks.completed_ids & (self.model.keys() - complete)


class InMemory(LivesOfUploads):
    def open_store(self) -> MemoryStore:
        # What memory keeps ends with its object: a restart is one of the engine alone.
        return getattr(self, "store", None) or MemoryStore(clock=lambda: self.now)


class InFiles(LivesOfUploads):
    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(
            prefix="tusasgi-", dir=SHM if os.access(SHM, os.W_OK) else None
        )
        super().__init__()

    def open_store(self) -> FileStore:
        return FileStore(self.folder, clock=lambda: self.now)

    def teardown(self) -> None:
        try:
            self._sweep_all()
        finally:
            shutil.rmtree(self.folder)

    def _sweep_all(self) -> None:
        """Of what is terminated or has expired no file is left."""
        self.now = datetime(2100, 1, 1, tzinfo=UTC)  # also later than the date of every file
        for _ in range(2):
            self.run(self.uploads.sweep)
        for upload_id in [key for key, one in self.model.items() if not one.is_expired(self.now)]:
            self.run(lambda: self.uploads.terminate(upload_id))  # noqa: B023
        left = [name for _, _, names in os.walk(self.folder) for name in names]
        assert left == []


class InMemoryOnTrio(InMemory):
    backend = "trio"


class InFilesOnTrio(InFiles):
    backend = "trio"


def settled(machine: type[LivesOfUploads], examples: int, steps: int = 25) -> Any:
    case = machine.TestCase
    case.settings = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return case


TestInMemory = settled(InMemory, 100)
TestInMemoryOnTrio = settled(InMemoryOnTrio, 40)
TestInFiles = settled(InFiles, 60)
TestInFilesOnTrio = settled(InFilesOnTrio, 25)
