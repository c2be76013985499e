"""How much memory appends to the S3 store hold, one and many, and that none waits for ever."""

import secrets
import tracemalloc
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest

from tests.services.faults import FaultProxy
from tests.services.s3 import SeaweedFS
from tests.stores.s3._scenes import (
    CONTENT,
    KIB,
    MIB,
    PART,
    THOROUGH,
    Place,
    appended,
    completed,
    filled,
    new_place,
    read,
)
from tusasgi import Upload
from tusasgi.stores.s3 import S3Store, writer
from tusasgi.stores.s3.manifest import Segment
from tusasgi.stores.s3.progress import FREE
from tusasgi.stores.s3.rope import Rope
from tusasgi.testing.stores import new_upload

pytestmark = pytest.mark.anyio

CLIENTS = 200 if THOROUGH else 40
SOME = 2 * MIB
"""For what the SDK, the event loop and the manifests take."""


ON_ASYNCIO = pytest.mark.parametrize("anyio_backend", ["asyncio"])
"""For what is held, which is the same on each loop; whoever waits does so on both."""


@pytest.fixture
def proxy(seaweedfs: SeaweedFS) -> Iterator[FaultProxy]:
    with FaultProxy(seaweedfs.endpoint) as proxy:
        yield proxy


@pytest.fixture
def place(seaweedfs: SeaweedFS, proxy: FaultProxy) -> Place:
    return new_place(seaweedfs, proxy.endpoint)


async def test_many_that_fill_a_part_with_little_share_the_budget(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = place.store(memory=2 * PART, remembered=0)
    uploads = [await filled(store, CONTENT, PART - 64 * KIB) for _ in range(8)]
    load, held, most = store._bucket.load, 0, 0

    async def counted(segments: Iterable[Segment]) -> Rope:
        nonlocal held, most
        rope = await load(segments)
        held += len(rope)
        most = max(most, held)
        return rope

    async def sent(*arguments: Any) -> Any:
        nonlocal held
        part = await put_part(*arguments)
        held -= PART - 64 * KIB
        return part

    put_part = store._bucket.put_part
    monkeypatch.setattr(store._bucket, "load", counted)
    monkeypatch.setattr(store._bucket, "put_part", sent)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for upload in uploads:
                content = CONTENT[upload.offset :][: 64 * KIB]
                tasks.start_soon(appended, store, upload, content)
    assert 0 < most <= 2 * PART


SIZES = [
    pytest.param(1, 100 * KIB, id="one-byte"),
    pytest.param(64 * KIB, 8 * PART // (64 * KIB), id="64-KiB"),
    pytest.param(PART, 8, id="a-part"),
]


@ON_ASYNCIO
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize(("size", "count"), SIZES)
@pytest.mark.parametrize("memory", [2 * PART, 4 * PART], ids=["two-parts", "four-parts"])
async def test_a_slow_server_slows_the_client(
    size: int, count: int, memory: int, is_staged: bool, place: Place, proxy: FaultProxy
) -> None:
    store = place.store(memory=memory)
    upload = await store.create(new_upload(length=size * count))
    await store.get(upload.id)
    proxy.clear()
    proxy.throttle = 60 * MIB
    ahead = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal ahead
        for number in range(count):
            yield bytes(size)
            ahead = max(ahead, size * (number + 1) - proxy.bytes_written())

    upload = await store.append(upload, chunks(), staged=is_staged)
    assert upload.offset == size * count
    assert ahead <= memory + size


@ON_ASYNCIO
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize(("size", "count"), SIZES)
@pytest.mark.parametrize("memory", [2 * PART, 4 * PART], ids=["two-parts", "four-parts"])
async def test_an_append_holds_what_there_is_at_most(
    size: int, count: int, memory: int, is_staged: bool, seaweedfs: SeaweedFS
) -> None:
    place = new_place(seaweedfs)  # the proxy would be measured as well
    store = place.store(memory=memory)
    upload = await store.create(new_upload(length=size * count))

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield bytes(size)

    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    await store.append(upload, chunks(), staged=is_staged)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak <= memory + size + SOME


@pytest.mark.parametrize(
    ("is_staged", "anyio_backend"), [(False, "asyncio"), (True, "trio")], ids=["at-once", "staged"]
)
async def test_slow_clients_share_what_there_is_and_none_waits_for_ever(
    is_staged: bool, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two clients fill the memory. Each of the others gets its turn only if those that pause
    # let go of it, and all of them pause until the last one has got so far.
    monkeypatch.setattr(writer, "_FIRST_SAVE", 0.05)
    monkeypatch.setattr(writer, "_SAVE", 0.05)
    store = place.store(memory=2 * PART)
    sizes = [200 * KIB, 500 * KIB, 324 * KIB]
    rounds = [Barrier(CLIENTS) for _ in sizes]
    most = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal most
        position = 0
        for size, others in zip(sizes, rounds, strict=True):
            yield CONTENT[position : position + size]
            position += size
            most = max(most, store._budget._size - store._budget._left)
            await others.wait()

    async def send() -> None:
        upload = await store.create(new_upload(length=2 * MIB))
        upload = await store.append(upload, chunks(), staged=is_staged)
        assert upload.offset == sum(sizes)

    with anyio.fail_after(120):
        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(send)
    assert 0 < most <= 2 * PART
    assert store._budget._left == store._budget._size


class Barrier:
    """Holds all until the last has come."""

    def __init__(self, count: int) -> None:
        self._missing = count
        self._is_open = anyio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._is_open.set()
        await self._is_open.wait()


async def test_the_budget_is_given_back_however_an_append_ends(
    place: Place, proxy: FaultProxy
) -> None:
    store = place.store(config_kwargs={"retries": {"total_max_attempts": 1}})

    class Wrong(Exception):
        pass

    async def chunks(end: str) -> AsyncIterator[bytes]:
        yield CONTENT[: PART + MIB]
        yield CONTENT[:MIB]
        if end == "refused":
            raise Wrong
        if end == "cancelled":
            scope.cancel()
            await anyio.sleep_forever()

    for end in ("done", "refused", "cancelled", "failed"):
        upload = await store.create(new_upload(length=None))
        if end == "failed":
            proxy.fail("error_503", operation="UploadPart")
        with anyio.fail_after(60), anyio.CancelScope() as scope:
            try:
                await store.append(upload, chunks(end))
            except Exception:
                assert end in ("refused", "failed")
        assert store._budget._left == store._budget._size, end


async def test_many_uploads_that_are_finished_at_once_share_what_there_is(
    seaweedfs: SeaweedFS,
) -> None:
    place = new_place(seaweedfs)
    store = place.store()
    uploads = [await filled(store, CONTENT[:PART], PART) for _ in range(12)]
    other = place.store(memory=2 * PART, remembered=0)
    with traced() as peak:
        async with anyio.create_task_group() as tasks:
            for upload in uploads:
                tasks.start_soon(completed, other, upload)
    # What is received is joined before it is sent, and is read once more for the record.
    assert peak[0] <= 2 * 3 * PART + SOME
    for upload in uploads:
        assert (await place.store().get(upload.id)).is_complete


@pytest.mark.parametrize(
    ("size", "count", "at_once", "anyio_backend"),
    [(2 * MIB, 2, 12, "asyncio"), (3 * MIB, 10, 2, "trio")],
    ids=["short", "parts"],
)
async def test_joining_shares_what_there_is(
    size: int, count: int, at_once: int, seaweedfs: SeaweedFS
) -> None:
    place = new_place(seaweedfs)
    store = place.store()
    content = CONTENT[:size]
    parts = [
        await completed(store, await filled(store, content, size, is_partial=True))
        for _ in range(count)
    ]
    names = tuple(part.id for part in parts)
    finals = [
        await store.create(new_upload(length=size * count, parts=names)) for _ in range(at_once)
    ]
    other = place.store(memory=2 * PART, remembered=0)
    joined: list[Upload] = []

    async def join(final: Upload) -> None:
        joined.append(await completed(other, await other.concat(final)))

    with traced() as peak:
        async with anyio.create_task_group() as tasks:
            for final in finals:
                tasks.start_soon(join, final)
    assert peak[0] <= 2 * 3 * PART + SOME
    for final in joined:
        assert await read(place.store(), final) == content * count


@contextmanager
def traced() -> Iterator[list[int]]:
    """Give a list, to which the end of the block adds by how many bytes the memory has grown."""
    peak: list[int] = []
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        yield peak
        peak.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()


async def test_a_short_segment_of_a_long_chunk_is_remembered_alone(place: Place) -> None:
    store = place.store()
    upload = await store.create(new_upload(length=100 * MIB))

    async def chunks() -> AsyncIterator[bytes]:
        yield secrets.token_bytes(PART + 300 * KIB)

    tracemalloc.start()
    await store.append(upload, chunks())
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    counted = store._bucket._segments._size + store._bucket._manifests._size
    assert kept <= counted + SOME


async def test_what_is_remembered_is_bounded(place: Place) -> None:
    store: S3Store = place.store(remembered=2 * MIB)
    for _ in range(8):
        upload = await store.create(new_upload(length=12 * MIB))
        await store.append(upload, _once(CONTENT[: 600 * KIB]))
        assert store._bucket._segments._size <= MIB
        assert store._bucket._manifests._size <= MIB
    small = await store.create(new_upload(length=900 * KIB))
    small = await store.append(small, _once(CONTENT[: 900 * KIB]))
    small = await completed(store, small)
    assert await read(store, small) == CONTENT[: 900 * KIB]
    assert FREE < MIB


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
