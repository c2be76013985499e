"""The engine: the life of uploads, without HTTP."""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tusasgi import (
    Append,
    Body,
    Creation,
    Ending,
    Expiry,
    Fact,
    Forbidden,
    Hooks,
    InvalidRequest,
    InvalidUploadId,
    Limits,
    OffsetConflict,
    Operation,
    Request,
    TooLarge,
    TooSmall,
    TusError,
    UnsupportedMedia,
    Upload,
    UploadExists,
    UploadExpired,
    UploadLocked,
    UploadNotFound,
    UploadPending,
    Uploads,
)
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.stores import BytesLost, WriteConflict
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import DISCONNECT, STALL, Client, Step

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
REQUEST = Request(method="PATCH", path="/", headers={})


class Clock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.now = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Recorder(Hooks):
    """Tells what was called, and fails where it is told to."""

    def __init__(self, *, head_size: int = 0, min_head_size: int = 1) -> None:
        self.head_size = head_size
        self.min_head_size = min_head_size
        self.calls: list[tuple[Any, ...]] = []
        self.failures: dict[str, Exception] = {}
        self.facts: Mapping[str, Fact] = {}

    @property
    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]

    def _record(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.failures:
            raise self.failures[name]

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        self._record("authorize", operation, upload)

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        self._record("creating", creation, request)
        return creation

    async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
        self._record("inspect", upload, head)
        return self.facts

    async def refused(self, upload: Upload, refusal: TusError) -> None:
        self._record("refused", upload, refusal)

    async def completed(self, upload: Upload) -> None:
        self._record("completed", upload)

    async def terminated(self, upload: Upload) -> None:
        self._record("terminated", upload)

    async def expired(self, upload: Upload) -> None:
        self._record("expired", upload)


class CoreStore:
    """A store without any capability beyond the core."""

    def __init__(self) -> None:
        self._store = MemoryStore()

    async def create(self, upload: Upload) -> Upload:
        return await self._store.create(upload)

    async def get(self, upload_id: str) -> Upload:
        return await self._store.get(upload_id)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any) -> Upload:
        return await self._store.append(upload, chunks, **options)

    async def update(self, upload: Upload) -> Upload:
        return await self._store.update(upload)

    async def finish(self, upload: Upload) -> Upload:
        return await self._store.finish(upload)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hooks() -> Recorder:
    return Recorder()


@pytest.fixture
def store(clock: Clock) -> MemoryStore:
    return MemoryStore(clock=clock)


@pytest.fixture
def uploads(store: MemoryStore, hooks: Recorder, clock: Clock) -> Uploads:
    return Uploads(store, hooks=hooks, clock=clock)


async def opened(kind: str, folder: Path) -> MemoryStore | FileStore:
    return MemoryStore() if kind == "memory" else await run_sync(FileStore, folder)


def body(*script: bytes | Step, timeout: float | None = None) -> Body:
    return Body(Client(script).receive, timeout=timeout)


async def content(uploads: Uploads, upload: Upload) -> bytes:
    store = uploads.store
    assert isinstance(store, MemoryStore | FileStore)
    if upload.offset == 0:
        return b""
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


# Creation.


async def test_an_upload_is_created_filled_and_completed(
    uploads: Uploads, hooks: Recorder, clock: Clock
) -> None:
    upload = await uploads.create(length=6, metadata={"name": b"x"}, owner="me")
    assert upload == Upload(
        id=upload.id, length=6, created=clock.now, metadata={"name": b"x"}, owner="me"
    )
    assert await uploads.get(upload.id) == upload
    part = await uploads.append(upload.id, Append(offset=0), body(b"ab", b"c"))
    assert part == replace(upload, offset=3)
    assert await uploads.get(upload.id) == part
    whole = await uploads.append(upload.id, Append(offset=3), body(b"def"))
    assert whole == replace(upload, offset=6, is_complete=True)
    assert await uploads.get(upload.id) == whole
    assert await content(uploads, whole) == b"abcdef"
    assert hooks.names == ["creating", "completed"]
    assert hooks.calls[-1] == ("completed", whole)


async def test_ids_are_random_and_fit_the_grammar(uploads: Uploads) -> None:
    ids = {(await uploads.create(length=1)).id for _ in range(20)}
    assert len(ids) == 20
    assert all(len(upload_id) == 32 and upload_id.isalnum() for upload_id in ids)


async def test_host_and_hook_may_choose_the_id(store: MemoryStore) -> None:
    class Naming(Hooks):
        async def creating(self, creation: Creation, request: Request | None) -> Creation:
            return replace(creation, upload_id="hook") if creation.length == 2 else creation

    uploads = Uploads(store, hooks=Naming(), new_id=lambda: "made")
    assert (await uploads.create(length=1)).id == "made"
    assert (await uploads.create(length=1, upload_id="host")).id == "host"
    assert (await uploads.create(length=2, upload_id="other")).id == "hook"
    with pytest.raises(UploadExists):
        await uploads.create(length=1, upload_id="host")


@pytest.mark.parametrize(
    ("creation", "limits", "error"),
    [
        pytest.param({"length": 1, "upload_id": "../a"}, Limits(), InvalidUploadId, id="id"),
        pytest.param({"length": 11}, Limits(max_size=10), TooLarge, id="too-large"),
        pytest.param({"length": 4}, Limits(min_size=5), TooSmall, id="too-small"),
        pytest.param({"length": 0}, Limits(min_size=1), TooSmall, id="zero"),
    ],
)
async def test_a_refused_creation_leaves_nothing(
    creation: dict[str, Any], limits: Limits, error: type[Exception], store: MemoryStore
) -> None:
    uploads = Uploads(store, limits=limits, new_id=lambda: "made")
    with pytest.raises(error):
        await uploads.create(**creation)
    with pytest.raises(UploadNotFound):
        await store.get("made")


async def test_what_the_hook_refuses_is_not_created(store: MemoryStore, hooks: Recorder) -> None:
    uploads = Uploads(store, hooks=hooks, new_id=lambda: "made")
    hooks.failures["creating"] = Forbidden("not you")
    with pytest.raises(Forbidden, match="not you"):
        await uploads.create(length=1)
    with pytest.raises(UploadNotFound):
        await store.get("made")


async def test_the_hook_sees_the_request_that_wants_the_upload(
    uploads: Uploads, hooks: Recorder
) -> None:
    creation = Creation(length=3, metadata_header="name eA==", metadata={"name": b"x"})
    upload = await uploads.create_from(creation, REQUEST)
    assert hooks.calls == [("creating", creation, REQUEST)]
    assert upload.metadata_header == "name eA=="
    await uploads.create(length=3)
    assert hooks.calls[-1] == ("creating", Creation(length=3), None)


async def test_an_upload_of_no_bytes_is_complete_at_once(uploads: Uploads, hooks: Recorder) -> None:
    upload = await uploads.create(length=0)
    assert upload.is_complete
    assert (await uploads.get(upload.id)).is_complete
    assert hooks.names == ["creating", "completed"]


async def test_an_upload_of_no_bytes_is_inspected_too(store: MemoryStore) -> None:
    hooks = Recorder(head_size=10)
    hooks.facts = {"kind": "nothing"}
    upload = await Uploads(store, hooks=hooks).create(length=0)
    assert upload.facts == {"kind": "nothing"}
    assert hooks.names == ["creating", "inspect", "completed"]
    assert hooks.calls[1][2] == b""


async def test_an_upload_of_no_bytes_that_is_refused_leaves_nothing(store: MemoryStore) -> None:
    hooks = Recorder(head_size=10)
    hooks.failures["inspect"] = UnsupportedMedia("empty")
    uploads = Uploads(store, hooks=hooks, new_id=lambda: "made")
    with pytest.raises(UnsupportedMedia):
        await uploads.create(length=0)
    with pytest.raises(UploadNotFound):
        await store.get("made")


async def test_a_store_that_needs_the_length_gets_it() -> None:
    with pytest.raises(ValueError, match="CoreStore needs the length"):
        await Uploads(CoreStore()).create(length=None)
    assert (await Uploads(CoreStore()).create(length=1)).length == 1


# Admission.


async def test_every_request_is_authorized_and_told_what_it_is_about(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    assert await uploads.admit(REQUEST, Operation.GET, upload.id) == upload
    await uploads.admit_creation(REQUEST)
    for unknown in ("unknown", "../hostile"):
        with pytest.raises(UploadNotFound):
            await uploads.admit(REQUEST, Operation.APPEND, unknown)
    assert hooks.calls[1:] == [
        ("authorize", Operation.GET, upload),
        ("authorize", Operation.CREATE, None),
        ("authorize", Operation.APPEND, None),
        ("authorize", Operation.APPEND, None),
    ]


async def test_a_stranger_learns_nothing_about_an_upload(
    uploads: Uploads, hooks: Recorder, clock: Clock
) -> None:
    upload = await uploads.create(length=3)
    await uploads.store.update(replace(upload, expires=clock.now))
    hooks.failures["authorize"] = Forbidden("who are you")
    for upload_id in (upload.id, "unknown", "../hostile"):
        with pytest.raises(Forbidden):
            await uploads.admit(REQUEST, Operation.GET, upload_id)


async def test_without_hooks_everything_is_allowed(store: MemoryStore) -> None:
    uploads = Uploads(store)
    await uploads.admit_creation(REQUEST)
    upload = await uploads.create(length=3)
    assert await uploads.admit(REQUEST, Operation.APPEND, upload.id) == upload


# Appends.


@pytest.mark.parametrize(
    ("append", "error"),
    [
        pytest.param(Append(offset=2), OffsetConflict, id="before-the-offset"),
        pytest.param(Append(offset=4), OffsetConflict, id="after-the-offset"),
        pytest.param(Append(offset=3, size=4), TooLarge, id="past-the-end"),
        pytest.param(Append(offset=3, length=7), InvalidRequest, id="another-length"),
    ],
)
async def test_a_refusal_asks_for_no_byte_and_changes_nothing(
    append: Append, error: type[Exception], uploads: Uploads
) -> None:
    upload = await uploads.create(length=6)
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    client = Client([b"xyz"])
    with pytest.raises(error):
        await uploads.append(upload.id, append, Body(client.receive))
    assert client.receives == 0
    assert await uploads.get(upload.id) == upload
    assert await content(uploads, upload) == b"abc"


async def test_an_offset_conflict_tells_the_offset(uploads: Uploads) -> None:
    upload = await uploads.create(length=6)
    await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    with pytest.raises(OffsetConflict) as refusal:
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert refusal.value.offset == 3


@pytest.mark.parametrize("upload_id", ["unknown", "../hostile"])
async def test_nothing_is_asked_for_an_upload_that_is_not_there(
    upload_id: str, uploads: Uploads
) -> None:
    client = Client([b"xyz"])
    with pytest.raises(UploadNotFound):
        await uploads.append(upload_id, Append(offset=0), Body(client.receive))
    with pytest.raises(UploadNotFound):
        await uploads.get(upload_id)
    with pytest.raises(UploadNotFound):
        await uploads.terminate(upload_id)
    assert client.receives == 0


@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([b"d" * 4], id="at-once"),
        pytest.param([b"d", b"ef", b"g"], id="after-what-fits"),
        pytest.param([b"def", b"g"], id="after-the-end"),
    ],
)
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_of_a_body_that_runs_past_the_end_nothing_is_kept(
    kind: str, chunks: list[bytes], tmp_path: Path, clock: Clock
) -> None:
    store = await opened(kind, tmp_path)
    uploads = Uploads(store, clock=clock)
    upload = await uploads.create(length=6)
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=3), body(*chunks))
    assert await uploads.get(upload.id) == upload
    assert await content(uploads, upload) == b"abc"


@pytest.mark.parametrize(
    ("last", "ending"),
    [
        pytest.param(DISCONNECT, Ending.CLIENT_LEFT, id="left"),
        pytest.param(STALL, Ending.TIMED_OUT, id="stalled"),
    ],
)
async def test_a_client_that_leaves_keeps_what_it_sent(
    last: Step, ending: Ending, uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=6)
    source = body(b"ab", b"c", last, timeout=0.02)
    part = await uploads.append(upload.id, Append(offset=0, size=6), source)
    assert part == await uploads.get(upload.id) == replace(upload, offset=3)
    assert source.ending is ending
    assert await content(uploads, part) == b"abc"
    assert "completed" not in hooks.names


async def test_an_append_announced_as_empty_asks_for_no_byte_of_a_full_upload(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    whole = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    client = Client([STALL])
    again = await uploads.append(upload.id, Append(offset=3, size=0), Body(client.receive))
    assert again == whole
    assert client.receives == 0
    assert hooks.names == ["creating", "completed"]


async def test_more_bytes_for_a_full_upload_are_refused(uploads: Uploads) -> None:
    upload = await uploads.create(length=3)
    whole = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert await uploads.append(upload.id, Append(offset=3), body()) == whole
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=3), body(b"d"))
    assert await uploads.get(upload.id) == whole
    assert await content(uploads, whole) == b"abc"


# A length that comes later.


async def test_a_length_is_declared_with_an_append(uploads: Uploads, hooks: Recorder) -> None:
    upload = await uploads.create(length=None)
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert upload.length is None
    upload = await uploads.append(upload.id, Append(offset=3, length=5), body(b"d"))
    assert (upload.length, upload.offset, upload.is_complete) == (5, 4, False)
    assert (await uploads.get(upload.id)).length == 5
    upload = await uploads.append(upload.id, Append(offset=4, length=5), body(b"e"))
    assert upload.is_complete
    assert hooks.names == ["creating", "completed"]


async def test_a_length_declared_where_the_bytes_end_completes_the_upload(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=None)
    await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    client = Client([STALL])
    append = Append(offset=3, length=3, size=0)
    assert (await uploads.append(upload.id, append, Body(client.receive))).is_complete
    assert client.receives == 0
    assert hooks.names == ["creating", "completed"]


@pytest.mark.parametrize(
    ("length", "error"),
    [
        pytest.param(2, InvalidRequest, id="below-the-offset"),
        pytest.param(4, TooSmall, id="below-the-minimum"),
        pytest.param(11, TooLarge, id="above-the-maximum"),
    ],
)
async def test_a_declared_length_obeys_the_limits_and_the_offset(
    length: int, error: type[Exception], store: MemoryStore
) -> None:
    uploads = Uploads(store, limits=Limits(min_size=5, max_size=10))
    upload = await uploads.create(length=None)
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    with pytest.raises(error):
        await uploads.append(upload.id, Append(offset=3, length=length), body(b"d"))
    assert await uploads.get(upload.id) == upload


async def test_an_upload_without_a_length_cannot_grow_over_the_maximum(store: MemoryStore) -> None:
    uploads = Uploads(store, limits=Limits(max_size=4))
    upload = await uploads.create(length=None)
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=3, size=2), body(b"de"))
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=3), body(b"de"))
    assert await uploads.get(upload.id) == upload


class LimitsOfItsOwn(Hooks):
    def __init__(self, limits: Limits) -> None:
        self.limits = limits

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        return replace(creation, limits=self.limits)


async def test_an_upload_may_have_limits_of_its_own(store: MemoryStore) -> None:
    hooks = LimitsOfItsOwn(Limits(max_size=20, min_size=2))
    uploads = Uploads(store, hooks=hooks, limits=Limits(max_size=10, min_size=5))
    with pytest.raises(TooLarge):
        await uploads.create(length=21)
    with pytest.raises(TooSmall):
        await uploads.create(length=1)
    assert (await uploads.create(length=2)).length == 2
    assert (await uploads.create(length=20)).length == 20


async def test_a_minimum_of_its_own_holds_for_a_length_declared_later(store: MemoryStore) -> None:
    hooks = LimitsOfItsOwn(Limits(min_size=3))
    uploads = Uploads(store, hooks=hooks, limits=Limits(min_size=9))
    upload = await uploads.create(length=None)
    with pytest.raises(TooSmall):
        await uploads.append(upload.id, Append(offset=0, length=2), body(b"ab"))
    assert (await uploads.append(upload.id, Append(offset=0, length=3), body(b"abc"))).is_complete


async def test_a_piece_may_tell_later_that_it_is_small(store: MemoryStore) -> None:
    uploads = Uploads(store, limits=Limits(min_size=9))
    piece = await uploads.create_from(Creation(length=None, is_partial=True))
    assert (await uploads.append(piece.id, Append(offset=0, length=2), body(b"ab"))).is_complete


async def test_limits_of_its_own_hold_for_a_length_declared_later(store: MemoryStore) -> None:
    uploads = Uploads(store, hooks=LimitsOfItsOwn(Limits(max_size=4)), limits=Limits(max_size=9))
    upload = await uploads.create(length=None)
    assert upload.max_size == 4
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=0, length=5), body(b"a"))
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=0), body(b"abcde"))
    # The engine's limits may shrink meanwhile: those of the upload still hold.
    smaller = Uploads(store, limits=Limits(max_size=3))
    upload = await smaller.append(upload.id, Append(offset=0, length=4), body(b"abcd"))
    assert upload.is_complete


async def test_limits_of_its_own_may_be_none_at_all(store: MemoryStore) -> None:
    uploads = Uploads(store, hooks=LimitsOfItsOwn(Limits()), limits=Limits(max_size=3))
    assert (await uploads.create(length=5)).length == 5
    upload = await uploads.create(length=None)
    upload = await uploads.append(upload.id, Append(offset=0, length=5), body(b"abcde"))
    assert upload.is_complete


# Completion.


async def test_an_upload_is_not_complete_before_its_hook_was(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    hooks.failures["completed"] = RuntimeError("the database is away")
    with pytest.raises(UploadPending):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    for _ in range(2):
        with pytest.raises(UploadPending):
            await uploads.get(upload.id)
    assert await uploads.store.get(upload.id) == replace(upload, offset=3)
    del hooks.failures["completed"]
    assert await uploads.get(upload.id) == replace(upload, offset=3, is_complete=True)
    assert hooks.names == ["creating"] + ["completed"] * 4
    await uploads.get(upload.id)
    assert hooks.names == ["creating"] + ["completed"] * 4


async def test_a_failed_completion_is_repeated_by_an_append_of_nothing(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    hooks.failures["completed"] = RuntimeError("the database is away")
    with pytest.raises(UploadPending):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    del hooks.failures["completed"]
    assert (await uploads.append(upload.id, Append(offset=3, size=0), body())).is_complete


@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_failed_completion_is_repeated_by_the_sweeper(
    kind: str, tmp_path: Path, hooks: Recorder, clock: Clock
) -> None:
    store = await opened(kind, tmp_path)
    uploads = Uploads(store, hooks=hooks, clock=clock, expiry=Expiry(initial=HOUR))
    upload = await uploads.create(length=3)
    hooks.failures["completed"] = RuntimeError("the database is away")
    with pytest.raises(UploadPending):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    clock.now += 2 * HOUR
    with pytest.RaisesGroup(UploadPending):
        await uploads.sweep()
    del hooks.failures["completed"]
    assert await uploads.sweep() == 0
    assert (await store.get(upload.id)).is_complete
    assert "expired" not in hooks.names


async def test_a_sweep_removes_an_upload_whose_bytes_the_store_has_lost() -> None:
    class Emptied(MemoryStore):
        async def finish(self, upload: Upload) -> Upload:
            raise BytesLost

    recorder = Recorder()
    uploads = Uploads(Emptied(), hooks=recorder)
    upload = await uploads.create(length=3)
    with pytest.raises(UploadExpired):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert await uploads.sweep() == 1
    assert recorder.names[-1] == "terminated"
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)


class Raced(MemoryStore):
    """Another server completes the upload in the moment in which this one wants to."""

    def __init__(self, *, completes: bool) -> None:
        super().__init__()
        self._completes = completes

    async def update(self, upload: Upload) -> Upload:
        if upload.is_complete:
            if self._completes:
                await super().update(upload)
            raise WriteConflict
        return await super().update(upload)


async def test_a_client_is_told_of_a_completion_by_another_server() -> None:
    uploads = Uploads(Raced(completes=True))
    upload = await uploads.create(length=3)
    assert (await uploads.append(upload.id, Append(offset=0), body(b"abc"))).is_complete


async def test_a_client_waits_while_another_server_completes() -> None:
    uploads = Uploads(Raced(completes=False))
    upload = await uploads.create(length=3)
    with pytest.raises(UploadPending):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    with pytest.raises(UploadPending):
        await uploads.get(upload.id)


async def test_an_append_that_hangs_behind_the_last_byte_keeps_nobody_from_completing(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.append, upload.id, Append(offset=0), body(b"abc", STALL))
        while (await uploads.store.get(upload.id)).offset < 3:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        with anyio.fail_after(10):
            assert (await uploads.get(upload.id)).is_complete
    assert hooks.names.count("completed") == 1


async def test_an_append_that_was_overtaken_by_another_server_keeps_nobody_from_completing(
    hooks: Recorder,
) -> None:
    store = MemoryStore()
    one, other = Uploads(store, hooks=hooks), Uploads(store, hooks=hooks)
    upload = await one.create(length=3)
    client = Client([STALL])
    async with anyio.create_task_group() as tasks:
        overtaken = Append(offset=0)
        tasks.start_soon(other.append, upload.id, overtaken, Body(client.receive, timeout=None))
        await client.starved()
        hooks.failures["completed"] = RuntimeError("this server is about to die")
        with pytest.raises(UploadPending):
            await one.append(upload.id, Append(offset=0), body(b"abc"))
        hooks.failures.clear()
        with anyio.fail_after(10):
            assert (await other.get(upload.id)).is_complete


async def test_who_looks_at_an_upload_that_is_being_completed_is_told_soon(
    store: MemoryStore,
) -> None:
    class Scanning(Hooks):
        def __init__(self) -> None:
            self.may_end = anyio.Event()

        async def completed(self, upload: Upload) -> None:
            await self.may_end.wait()

    scanning = Scanning()
    uploads = Uploads(store, hooks=scanning)
    upload = await uploads.create(length=3)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(uploads.append, upload.id, Append(offset=0), body(b"abc"))
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(4), pytest.raises(UploadPending):  # no more than a second, not five
            await uploads.get(upload.id)
        scanning.may_end.set()


async def test_the_bytes_are_durable_before_the_hook_and_the_record_comes_last() -> None:
    order: list[str] = []

    class Told(MemoryStore):
        async def finish(self, upload: Upload) -> Upload:
            order.append("finish")
            return await super().finish(upload)

        async def update(self, upload: Upload) -> Upload:
            order.append("update")
            return await super().update(upload)

    class Telling(Hooks):
        async def completed(self, upload: Upload) -> None:
            assert upload.is_complete
            order.append("completed")

    uploads = Uploads(Told(), hooks=Telling())
    upload = await uploads.create(length=3)
    await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert order == ["finish", "completed", "update"]


async def test_requests_that_meet_at_a_failed_completion_complete_it_once(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    hooks.failures["completed"] = RuntimeError("the database is away")
    with pytest.raises(UploadPending):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    hooks.failures.clear()
    hooks.calls.clear()
    seen: list[Upload] = []

    async def look() -> None:
        seen.append(await uploads.get(upload.id))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(look)
    assert seen == [replace(upload, offset=3, is_complete=True)] * 4
    assert hooks.names == ["completed"]


# Inspection.


async def inspected(
    hooks: Recorder, length: int | None, *script: bytes | Step
) -> tuple[Uploads, Upload]:
    uploads = Uploads(MemoryStore(), hooks=hooks)
    upload = await uploads.create(length=length)
    hooks.calls.clear()
    return uploads, await uploads.append(upload.id, Append(offset=0), body(*script, timeout=0.02))


@pytest.mark.parametrize(
    "end", [pytest.param(DISCONNECT, id="client-left"), pytest.param(STALL, id="client-stalled")]
)
async def test_a_head_that_was_cut_short_does_not_condemn_the_upload(end: Step) -> None:
    hooks = Recorder(head_size=4)
    hooks.failures["inspect"] = UnsupportedMedia("too little to tell")
    uploads, upload = await inspected(hooks, 9, b"ab", end)
    assert upload.offset == 0
    assert hooks.names == ["inspect"]
    del hooks.failures["inspect"]
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abcdefghi"))
    assert upload.is_complete


async def test_a_whole_head_is_refused_also_when_the_client_leaves_behind_it() -> None:
    hooks = Recorder(head_size=4)
    refusal = UnsupportedMedia("not a film")
    hooks.failures["inspect"] = refusal
    with pytest.raises(UnsupportedMedia):
        await inspected(hooks, 9, b"abcd", DISCONNECT)
    assert hooks.names == ["inspect", "refused", "terminated"]
    assert hooks.calls[1][2] is refusal


@pytest.mark.parametrize(
    ("length", "chunks", "head"),
    [
        pytest.param(9, [b"abcdefghi"], b"abcdefghi", id="one-chunk"),
        pytest.param(9, [b"abcd", b"ef"], b"abcd", id="exactly"),
        pytest.param(9, [b"a", b"b", b"c", b"d", b"e"], b"abcd", id="bytes"),
        pytest.param(9, [b"abc", b"def", b"ghi"], b"abcdef", id="over-the-size"),
        pytest.param(None, [b"abc", b"def"], b"abcdef", id="length-not-declared"),
        pytest.param(3, [b"a", b"bc"], b"abc", id="short-upload"),
        pytest.param(1, [b"a"], b"a", id="shorter-than-the-minimum"),
        pytest.param(9, [b"ab"], b"ab", id="short-first-append"),
        pytest.param(9, [b"ab", DISCONNECT], b"ab", id="client-left-after-the-minimum"),
        pytest.param(9, [b"ab", STALL], b"ab", id="client-stalled-after-the-minimum"),
    ],
)
async def test_the_head_is_inspected_once_and_everything_is_stored(
    length: int | None, chunks: list[bytes | Step], head: bytes
) -> None:
    hooks = Recorder(head_size=4, min_head_size=2)
    hooks.facts = {"kind": "letters"}
    uploads, upload = await inspected(hooks, length, *chunks)
    sent = b"".join(chunk for chunk in chunks if isinstance(chunk, bytes))
    assert await content(uploads, upload) == sent
    assert upload.facts == {"kind": "letters"}
    assert (await uploads.get(upload.id)).facts == {"kind": "letters"}
    assert hooks.calls[0] == (
        "inspect",
        replace(upload, facts={}, offset=0, is_complete=False),
        head,
    )
    if not upload.is_complete:
        await uploads.append(upload.id, Append(offset=upload.offset), body(b"z"))
    assert hooks.names.count("inspect") == 1


async def test_an_inspection_may_find_nothing_to_say(store: MemoryStore) -> None:
    class Silent(Hooks):
        head_size = 2

    uploads = Uploads(store, hooks=Silent())
    upload = await uploads.create(length=3)
    whole = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert (whole.facts, whole.is_complete) == ({}, True)


async def test_without_a_head_size_nothing_is_inspected() -> None:
    hooks = Recorder(head_size=0)
    await inspected(hooks, 3, b"abc")
    assert hooks.names == ["completed"]


async def test_nothing_is_stored_before_the_inspection(store: MemoryStore) -> None:
    seen: list[int] = []

    class Looking(Hooks):
        head_size = 2

        async def inspect(self, upload: Upload, head: bytes) -> Mapping[str, Fact]:
            seen.append((await store.get(upload.id)).offset)
            return {}

    uploads = Uploads(store, hooks=Looking())
    upload = await uploads.create(length=3)
    await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert seen == [0]


async def test_a_whole_first_append_too_short_to_judge_is_refused_and_not_kept() -> None:
    hooks = Recorder(head_size=4, min_head_size=3)
    uploads = Uploads(MemoryStore(), hooks=hooks)
    upload = await uploads.create(length=9)
    for script in ([b"ab"], [b"a", b"b"]):
        with pytest.raises(TooSmall, match="at least 3 bytes"):
            await uploads.append(upload.id, Append(offset=0), body(*script))
        assert await uploads.get(upload.id) == upload
    assert await uploads.append(upload.id, Append(offset=0), body()) == upload  # it has nothing
    assert "inspect" not in hooks.names
    await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert hooks.names.count("inspect") == 1


@pytest.mark.parametrize(
    "last", [pytest.param(DISCONNECT, id="left"), pytest.param(STALL, id="stalled")]
)
async def test_a_head_too_short_to_judge_is_not_kept_when_the_client_leaves(last: Step) -> None:
    hooks = Recorder(head_size=4, min_head_size=3)
    uploads, upload = await inspected(hooks, 9, b"ab", last)
    assert upload.offset == 0
    assert await uploads.get(upload.id) == upload
    assert hooks.names == []
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abcd"))
    assert hooks.names == ["inspect"]


async def test_a_refused_head_ends_the_upload() -> None:
    hooks = Recorder(head_size=4)
    hooks.failures["inspect"] = UnsupportedMedia("not a song")
    uploads = Uploads(MemoryStore(), hooks=hooks)
    upload = await uploads.create(length=9)
    with pytest.raises(UnsupportedMedia, match="not a song"):
        await uploads.append(upload.id, Append(offset=0), body(b"abcdefghi"))
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)
    assert hooks.names == ["creating", "inspect", "refused", "terminated"]
    assert hooks.calls[-1] == ("terminated", replace(upload, removal="terminated"))


async def test_a_refused_head_is_not_kept_where_nothing_can_be_terminated() -> None:
    hooks = Recorder(head_size=4)
    hooks.failures["inspect"] = UnsupportedMedia("not a song")
    uploads = Uploads(CoreStore(), hooks=hooks)
    upload = await uploads.create(length=9)
    with pytest.raises(UnsupportedMedia):
        await uploads.append(upload.id, Append(offset=0), body(b"abcdefghi"))
    assert await uploads.get(upload.id) == upload


async def test_an_inspection_that_breaks_leaves_the_upload_to_be_tried_again() -> None:
    hooks = Recorder(head_size=4)
    hooks.failures["inspect"] = RuntimeError("a bug")
    uploads = Uploads(MemoryStore(), hooks=hooks)
    upload = await uploads.create(length=3)
    with pytest.raises(RuntimeError):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert await uploads.get(upload.id) == upload
    hooks.failures.clear()
    assert (await uploads.append(upload.id, Append(offset=0), body(b"abc"))).is_complete


async def test_a_head_that_runs_past_the_end_is_not_inspected() -> None:
    hooks = Recorder(head_size=4)
    uploads = Uploads(MemoryStore(), hooks=hooks)
    upload = await uploads.create(length=3)
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=0), body(b"ab", b"cd"))
    assert await uploads.get(upload.id) == upload
    assert hooks.names == ["creating"]


# Expiry.


async def test_the_first_window_counts_from_the_creation(store: MemoryStore, clock: Clock) -> None:
    uploads = Uploads(store, clock=clock, expiry=Expiry(initial=HOUR))
    upload = await uploads.create(length=9)
    assert upload.expires == clock.now + HOUR
    clock.now += HOUR / 2
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert upload.expires == clock.now + HOUR / 2


async def test_an_append_that_stored_something_starts_the_second_window(
    store: MemoryStore, clock: Clock
) -> None:
    expiry = Expiry(initial=HOUR, after_append=2 * HOUR)
    uploads = Uploads(store, clock=clock, expiry=expiry)
    upload = await uploads.create(length=9)
    clock.now += HOUR / 2
    assert await uploads.append(upload.id, Append(offset=0), body()) == upload
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc", DISCONNECT))
    assert upload.expires == clock.now + 2 * HOUR
    assert await uploads.get(upload.id) == upload
    clock.now += HOUR
    with pytest.raises(TooLarge):
        await uploads.append(upload.id, Append(offset=3), body(b"x" * 7))
    assert await uploads.get(upload.id) == upload


async def test_without_a_first_window_an_upload_expires_only_after_an_append(
    store: MemoryStore, clock: Clock
) -> None:
    uploads = Uploads(store, clock=clock, expiry=Expiry(after_append=HOUR))
    upload = await uploads.create(length=9)
    assert upload.expires is None
    upload = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    assert upload.expires == clock.now + HOUR


@pytest.mark.parametrize(
    ("hide", "error"),
    [
        pytest.param(False, UploadExpired, id="told"),
        pytest.param(True, UploadNotFound, id="hidden"),
    ],
)
async def test_an_expired_upload_is_gone_at_its_very_second_swept_or_not(
    hide: bool, error: type[Exception], store: MemoryStore, clock: Clock
) -> None:
    uploads = Uploads(store, clock=clock, expiry=Expiry(initial=HOUR, hide=hide))
    upload = await uploads.create(length=9)
    clock.now += HOUR - timedelta(microseconds=1)
    assert await uploads.get(upload.id) == upload
    clock.now += timedelta(microseconds=1)
    client = Client([b"abc"])
    with pytest.raises(error):
        await uploads.get(upload.id)
    with pytest.raises(error):
        await uploads.append(upload.id, Append(offset=0), Body(client.receive))
    with pytest.raises(error):
        await uploads.admit(REQUEST, Operation.GET, upload.id)
    assert client.receives == 0
    assert await store.get(upload.id) == upload
    await uploads.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await store.get(upload.id)


async def test_a_complete_upload_never_expires(
    store: MemoryStore, hooks: Recorder, clock: Clock
) -> None:
    expiry = Expiry(initial=HOUR, after_append=HOUR)
    uploads = Uploads(store, hooks=hooks, clock=clock, expiry=expiry)
    upload = await uploads.create(length=3)
    whole = await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    clock.now += 1000 * HOUR
    assert await uploads.get(upload.id) == whole
    assert await uploads.sweep() == 0
    assert await uploads.get(upload.id) == whole


def test_a_store_that_cannot_expire_is_refused_expiry() -> None:
    with pytest.raises(ValueError, match="CoreStore cannot find and remove"):
        Uploads(CoreStore(), expiry=Expiry(initial=HOUR))
    Uploads(CoreStore(), expiry=Expiry())


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=-1)])
def test_a_window_must_be_positive(window: timedelta) -> None:
    with pytest.raises(ValueError, match="positive"):
        Expiry(initial=window)
    with pytest.raises(ValueError, match="positive"):
        Expiry(after_append=window)


@pytest.mark.parametrize("limits", [{"min_size": -1}, {"min_size": 3, "max_size": 2}])
def test_limits_must_make_sense(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must not be"):
        Limits(**limits)


# Sweeping.


@pytest.fixture
def expiring(store: MemoryStore, hooks: Recorder, clock: Clock) -> Uploads:
    return Uploads(store, hooks=hooks, clock=clock, expiry=Expiry(initial=HOUR))


async def test_a_sweep_removes_exactly_what_has_expired(
    expiring: Uploads, hooks: Recorder, clock: Clock
) -> None:
    old = [await expiring.create(length=3) for _ in range(3)]
    clock.now += HOUR / 2
    young = await expiring.create(length=3)
    clock.now += HOUR / 2
    assert await expiring.sweep() == 3
    assert {call for call in hooks.names if call != "creating"} == {"expired"}
    assert sorted(call[1].id for call in hooks.calls if call[0] == "expired") == sorted(
        upload.id for upload in old
    )
    for upload in old:
        with pytest.raises(UploadNotFound):
            await expiring.get(upload.id)
    assert await expiring.get(young.id) == young
    assert await expiring.sweep() == 0


async def test_a_sweep_leaves_a_running_append_alone(expiring: Uploads, clock: Clock) -> None:
    upload = await expiring.create(length=9)
    client = Client([b"abc", STALL])
    source = Body(client.receive, timeout=None)
    results: list[Upload] = []

    async def append() -> None:
        with anyio.fail_after(10):
            results.append(await expiring.append(upload.id, Append(offset=0), source))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(append)
        await client.starved()
        clock.now += 2 * HOUR
        assert await expiring.sweep() == 0
        assert source.ending is None
        source.interrupt()
    assert results[0].offset == 3
    assert await expiring.sweep() == 0  # whoever resumes it has a minute
    clock.now += 2 * MINUTE
    assert await expiring.sweep() == 1


async def test_sweepers_beside_each_other_call_the_hook_once_for_each_upload(
    expiring: Uploads, hooks: Recorder, clock: Clock
) -> None:
    for _ in range(5):
        await expiring.create(length=3)
    clock.now += HOUR
    swept: list[int] = []

    async def sweep() -> None:
        swept.append(await expiring.sweep())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(sweep)
    assert sum(swept) == 5
    assert hooks.names.count("expired") == 5


async def test_a_hook_that_fails_keeps_its_upload_and_no_other(
    store: MemoryStore, clock: Clock
) -> None:
    class FailsForOne(Recorder):
        async def expired(self, upload: Upload) -> None:
            await super().expired(upload)
            if upload.id == "b" and not self.is_well:
                raise RuntimeError("the database is away")

        is_well = False

    hooks = FailsForOne()
    uploads = Uploads(store, hooks=hooks, clock=clock, expiry=Expiry(initial=HOUR))
    for upload_id in "abc":
        await uploads.create(length=3, upload_id=upload_id)
    clock.now += HOUR
    with pytest.RaisesGroup(UploadPending, match="1 of the uploads"):
        await uploads.sweep()
    for upload_id in "ac":
        with pytest.raises(UploadNotFound):
            await store.get(upload_id)
    assert (await store.get("b")).offset == 0
    hooks.is_well = True
    assert await uploads.sweep() == 1


async def test_a_store_that_cannot_expire_has_nothing_to_sweep() -> None:
    assert await Uploads(CoreStore()).sweep() == 0


async def test_what_changed_since_it_was_found_is_judged_again(clock: Clock) -> None:
    terminated: list[str] = []

    class FoundLongAgo(MemoryStore):
        async def due(self, now: datetime) -> AsyncIterator[str]:
            for upload_id in ("got-more-time", "was-removed"):
                yield upload_id

        async def terminate(self, upload_id: str) -> None:
            terminated.append(upload_id)
            await super().terminate(upload_id)

    uploads = Uploads(FoundLongAgo(), clock=clock, expiry=Expiry(initial=HOUR))
    upload = await uploads.create(length=3, upload_id="got-more-time")
    assert await uploads.sweep() == 0
    assert await uploads.get("got-more-time") == upload
    assert terminated == ["was-removed"]  # whatever a broken removal has left of it


# Termination.


async def test_a_terminated_upload_is_gone_after_its_hook(
    uploads: Uploads, hooks: Recorder
) -> None:
    upload = await uploads.create(length=3)
    hooks.failures["terminated"] = RuntimeError("the database is away")
    with pytest.raises(UploadPending):
        await uploads.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)  # nobody can use it any more
    hooks.failures.clear()
    await uploads.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await uploads.terminate(upload.id)
    assert hooks.names == ["creating", "terminated", "terminated"]


async def test_a_complete_upload_can_be_terminated(uploads: Uploads) -> None:
    upload = await uploads.create(length=0)
    await uploads.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)


async def test_where_nothing_can_be_terminated_the_host_is_told() -> None:
    uploads = Uploads(CoreStore())
    upload = await uploads.create(length=3)
    with pytest.raises(TypeError, match="CoreStore cannot terminate"):
        await uploads.terminate(upload.id)
    await uploads.discard(upload.id)
    assert await uploads.get(upload.id) == upload


async def test_discarding_takes_what_is_there(uploads: Uploads) -> None:
    upload = await uploads.create(length=3)
    await uploads.discard(upload.id)
    await uploads.discard(upload.id)
    with pytest.raises(UploadNotFound):
        await uploads.get(upload.id)


# Two requests for one upload.


class Running:
    """An append that waits for its client after some bytes."""

    def __init__(
        self,
        uploads: Uploads,
        upload_id: str,
        append: Append,
        *sent: bytes,
        is_open: bool = False,
    ) -> None:
        self.client = Client() if is_open else Client([*sent, STALL])
        if is_open:
            self.client.feed(*sent)
        self.source = Body(self.client.receive, timeout=None)
        self.result: Upload | None = None
        self.refusal: Exception | None = None
        self._call = (uploads, upload_id, append)

    async def run(self) -> None:
        uploads, upload_id, append = self._call
        try:
            with anyio.fail_after(10):
                self.result = await uploads.append(upload_id, append, self.source)
        except OffsetConflict as refusal:
            self.refusal = refusal


async def test_the_newest_append_goes_on_and_the_one_before_keeps_its_bytes(
    uploads: Uploads,
) -> None:
    upload = await uploads.create(length=9)
    first = Running(uploads, upload.id, Append(offset=0), b"ab", b"c")
    second = Running(uploads, upload.id, Append(offset=3), b"def")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.client.starved()
        assert (await uploads.get(upload.id)).offset == 3
        assert first.source.ending is None  # a look does not disturb it
        tasks.start_soon(second.run)
        await second.client.starved()
        assert first.source.ending is Ending.INTERRUPTED
        assert first.result == replace(upload, offset=3)
        third = await uploads.append(upload.id, Append(offset=6), body(b"ghi"))
    assert second.result == replace(upload, offset=6)
    assert second.source.ending is Ending.INTERRUPTED
    assert third.is_complete
    assert await content(uploads, third) == b"abcdefghi"


async def test_a_newcomer_with_an_old_offset_is_refused_and_stops_nobody(uploads: Uploads) -> None:
    upload = await uploads.create(length=9)
    first = Running(uploads, upload.id, Append(offset=0), b"abc", is_open=True)
    late = Running(uploads, upload.id, Append(offset=0), b"abcd")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.client.starved()
        await late.run()
        assert isinstance(late.refusal, OffsetConflict)
        assert late.refusal.offset == 3
        assert late.client.receives == 0
        assert first.result is None
        first.client.feed(b"def")
        first.client.disconnect()
    assert first.result == replace(upload, offset=6)
    assert first.source.ending is Ending.CLIENT_LEFT
    assert await content(uploads, await uploads.get(upload.id)) == b"abcdef"


async def test_an_append_interrupted_before_its_head_is_there_keeps_nothing() -> None:
    uploads = Uploads(MemoryStore(), hooks=Recorder(head_size=8, min_head_size=8))
    upload = await uploads.create(length=9)
    first = Running(uploads, upload.id, Append(offset=0), b"abc")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.client.starved()
        whole = await uploads.append(upload.id, Append(offset=0), body(b"123456789"))
    assert first.result == upload
    assert await content(uploads, whole) == b"123456789"


async def test_a_termination_stops_a_running_append(uploads: Uploads, hooks: Recorder) -> None:
    upload = await uploads.create(length=9)
    first = Running(uploads, upload.id, Append(offset=0), b"abc")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.client.starved()
        await uploads.terminate(upload.id)
        with pytest.raises(UploadNotFound):
            await uploads.get(upload.id)
    assert first.source.ending is Ending.INTERRUPTED
    assert first.result == replace(upload, offset=3)
    assert hooks.calls[-1] == ("terminated", replace(first.result, removal="terminated"))


async def test_a_newcomer_gives_up_on_a_holder_that_is_stuck_in_the_store() -> None:
    class Stuck(MemoryStore):
        def __init__(self) -> None:
            super().__init__()
            self.may_go_on = anyio.Event()

        async def append(
            self, upload: Upload, chunks: AsyncIterable[bytes], **options: Any
        ) -> Upload:
            await self.may_go_on.wait()
            return await super().append(upload, chunks, **options)

    store = Stuck()
    uploads = Uploads(store, locker=MemoryLocker(patience=0.05))
    upload = await uploads.create(length=3)
    first = Running(uploads, upload.id, Append(offset=0), b"abc")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(UploadLocked):
            await uploads.append(upload.id, Append(offset=0), body(b"abc"))
        store.may_go_on.set()
    # It was told to stop before it asked for the first byte.
    assert first.result == upload
    assert first.client.receives == 0
    assert (await uploads.append(upload.id, Append(offset=0), body(b"abc"))).is_complete


async def test_an_append_that_is_cancelled_frees_the_upload_with_its_bytes_kept(
    uploads: Uploads,
) -> None:
    upload = await uploads.create(length=6)
    first = Running(uploads, upload.id, Append(offset=0), b"abc")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.run)
        await first.client.starved()
        tasks.cancel_scope.cancel()
    assert (await uploads.get(upload.id)).offset == 3
    whole = await uploads.append(upload.id, Append(offset=3), body(b"def"))
    assert await content(uploads, whole) == b"abcdef"


async def test_the_termination_of_what_is_not_there_may_be_in_order(uploads: Uploads) -> None:
    with pytest.raises(UploadNotFound):
        await uploads.terminate("gone")
    await uploads.terminate("gone", missing_ok=True)


async def test_a_sweep_leaves_what_somebody_else_is_changing_to_them(
    hooks: Recorder, clock: Clock
) -> None:
    class Changing(MemoryStore):
        is_changing = True

        async def update(self, upload: Upload) -> Upload:
            if self.is_changing:
                raise WriteConflict
            return await super().update(upload)

    store = Changing()
    uploads = Uploads(store, hooks=hooks, expiry=Expiry(initial=HOUR), clock=clock)
    await uploads.create(length=3)
    clock.now += 2 * HOUR
    assert await uploads.sweep() == 0
    store.is_changing = False
    assert await uploads.sweep() == 1


async def test_a_sweep_beside_another_one_loses_nothing_if_that_is_faster(
    hooks: Recorder, clock: Clock
) -> None:
    class Removed(MemoryStore):
        async def update(self, upload: Upload) -> Upload:
            await self.terminate(upload.id)
            return await super().update(upload)

    uploads = Uploads(Removed(), hooks=hooks, expiry=Expiry(initial=HOUR), clock=clock)
    await uploads.create(length=3)
    clock.now += 2 * HOUR
    assert await uploads.sweep() == 0


async def test_what_a_store_tells_the_engine_is_told_to_hosts_in_their_words(
    hooks: Recorder,
) -> None:
    class Taken(MemoryStore):
        async def append(self, upload: Upload, chunks: Any, **options: Any) -> Upload:
            raise signals.pop()

        async def update(self, upload: Upload) -> Upload:
            raise signals.pop()

    signals: list[Exception] = []
    uploads = Uploads(Taken(), hooks=hooks)
    upload = await uploads.create(length=3)
    for signal, told in ((WriteConflict(), UploadLocked), (BytesLost(), UploadExpired)):
        signals.append(signal)
        with pytest.raises(told):
            await uploads.append(upload.id, Append(offset=0), body(b"abc"))
    signals.append(WriteConflict())
    with pytest.raises(UploadLocked):
        await uploads.terminate(upload.id)


async def test_a_refused_upload_that_somebody_else_is_changing_is_locked() -> None:
    class Refusing(Hooks):
        head_size = 1

        async def inspect(self, upload: Upload, head: bytes) -> dict[str, Any]:
            raise UnsupportedMedia("not of this kind")

    class Changing(MemoryStore):
        async def update(self, upload: Upload) -> Upload:
            raise WriteConflict

    uploads = Uploads(Changing(), hooks=Refusing())
    upload = await uploads.create(length=3)
    with pytest.raises(UploadLocked):
        await uploads.append(upload.id, Append(offset=0), body(b"abc"))
