"""Who changes an upload holds it: in every process, whoever cancels, and whatever was removed."""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Os, seen_by
from tests.stores.file.test_store import Held as Held_
from tests.stores.file.test_suite import open_below
from tusasgi import Upload, UploadNotFound, Uploads
from tusasgi.stores import WriteConflict
from tusasgi.stores.file import FileStore, files
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
FAR_FUTURE = NOW + timedelta(days=99_999)
Change = Callable[[FileStore, Upload], Awaitable[object]]

CHANGES: dict[str, Change] = {
    "append": lambda store, upload: store.append(upload, Arriving(b"x")),
    "append-staged": lambda store, upload: store.append(upload, Arriving(b"x"), staged=True),
    "update": lambda store, upload: store.update(replace(upload, facts={"a": 1})),
    "remove": lambda store, upload: store.update(replace(upload, removal="expired")),
    "declare": lambda store, upload: store.declare_length(upload, 9),
    "finish": lambda store, upload: store.finish(upload),
    "concat": lambda store, upload: store.concat(upload),
    "terminate": lambda store, upload: store.terminate(upload.id),
}
changes = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@pytest.fixture
def stores(fast_place: Path) -> tuple[FileStore, FileStore]:
    """Two processes on one folder, whose lockers do not reach each other."""
    return FileStore(fast_place / "place"), FileStore(fast_place / "place")


async def created(store: FileStore, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**fields)
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


@changes
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize("begun", [b"", b"abc"], ids=["not-begun", "begun"])
async def test_nobody_changes_an_upload_under_a_running_append(
    begun: bytes, is_staged: bool, change: Change, stores: tuple[FileStore, FileStore]
) -> None:
    first, second = stores
    part = await created(first, b"abcdef", length=6, is_partial=True)
    upload = await created(first, *([begun] if begun else []), length=12, parts=(part.id,) * 2)
    held = Held_(b"1" * 600_000)
    upload = replace(upload, length=None) if is_staged else upload
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: first.append(upload, held, staged=is_staged))
        await held.is_waiting.wait()
        while not await run_sync(open_below, Path(first.path(upload.id)).parents[2]):  # noqa: ASYNC110
            await anyio.sleep(0.005)
        await anyio.sleep(0.05)
        seen = await second.get(upload.id)
        with pytest.raises(WriteConflict):
            await change(second, replace(seen, length=12))
        held.may_end.set()
    kept = await second.get(upload.id)
    assert kept.offset == len(begun) + 600_000
    read = b"".join([chunk async for chunk in second.read(kept, 0, kept.offset)])
    assert read == begun + b"1" * 600_000


@changes
@pytest.mark.parametrize("begun", [b"", b"abcdef"], ids=["not-begun", "begun"])
async def test_who_comes_while_an_upload_is_removed_brings_nothing_back(
    begun: bytes, change: Change, stores: tuple[FileStore, FileStore], fast_place: Path
) -> None:
    first, second = stores
    upload = await created(first, *([begun] if begun else []), length=6)
    opened: list[str] = []

    def open_(path: str, *more: Any) -> int:
        """The record is opened, and then another process removes the upload."""
        file = os.open(path, *more)
        if path.endswith(".info") and not opened:
            opened.append(path)
            first._terminate(upload.id)
        return file

    stale = replace(upload, offset=0) if change is CHANGES["concat"] else upload
    with seen_by(Os(open=open_)):
        if change is CHANGES["terminate"]:
            await second.terminate(upload.id)
        else:
            with pytest.raises(UploadNotFound):
                await change(second, replace(stale, parts=()))
    assert opened
    await run_sync(lambda: [os.utime(path, (0, 0)) for path in fast_place.rglob("due/*/*")])
    await Uploads(first, clock=lambda: NOW + timedelta(days=1)).sweep()
    assert await run_sync(lambda: [p for p in fast_place.rglob("*") if p.is_file()]) == []


async def test_who_waited_for_a_record_that_was_replaced_does_not_hold_the_upload(
    stores: tuple[FileStore, FileStore],
) -> None:
    first, second = stores
    upload = await created(first, b"abc", length=None)
    opened: list[str] = []
    done: list[Upload] = []

    def open_(path: str, *more: Any) -> int:
        file = os.open(path, *more)
        if path.endswith(".info") and not opened:
            opened.append(path)
            first._update(replace(upload, facts={"by": "first"}))
            done.append(first._get(upload.id))
        return file

    with seen_by(Os(open=open_)):
        await second.append(upload, Arriving(b"def"))
        held = Held_(b"1" * 10)
        async with anyio.create_task_group() as tasks:
            seen = await second.get(upload.id)
            tasks.start_soon(second.append, seen, held)
            await held.is_waiting.wait()
            while (await first.get(upload.id)).offset < 16:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            with pytest.raises(WriteConflict):  # the lock went over to the record that is there now
                await first.update(seen)
            held.may_end.set()
    assert done[0].facts == {"by": "first"}


async def test_a_lock_goes_over_to_the_record_that_replaces_the_held_one(
    stores: tuple[FileStore, FileStore],
) -> None:
    first, second = stores
    upload = await created(first, length=None, expires=NOW)
    held = Held_(b"1" * 10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.append, replace(upload, facts={"a": 1}), held)
        await held.is_waiting.wait()
        while (await second.get(upload.id)).offset < 10:  # noqa: ASYNC110
            await anyio.sleep(0.005)
        assert (await second.get(upload.id)).facts == {"a": 1}
        with pytest.raises(WriteConflict):
            await second.terminate(upload.id)
        held.may_end.set()


@pytest.mark.parametrize("fields", [{"removal": "terminated"}, {"is_complete": True}])
async def test_who_read_an_upload_before_it_went_on_does_not_take_it_back(
    fields: dict[str, Any], stores: tuple[FileStore, FileStore]
) -> None:
    first, second = stores
    upload = await created(first, b"abc")
    gone_on = replace(upload, **fields)
    await first.update(gone_on)
    for change in ("append", "append-staged", "update", "finish"):
        with pytest.raises(WriteConflict):
            await CHANGES[change](second, upload)
    assert await second.get(upload.id) == gone_on


WRITES: dict[str, Change] = {
    "create": lambda store, upload: store.create(new_upload()),
    "append-staged": lambda store, upload: store.append(
        upload, Arriving(b"x" * 600_000), staged=True
    ),
    "append-with-facts": lambda store, upload: store.append(
        replace(upload, facts={"a": 1}), Arriving(b"x")
    ),
    "update": CHANGES["update"],
}


@pytest.mark.parametrize("is_at_it", [False, True], ids=["sweeper-was-there", "sweeper-is-at-it"])
@pytest.mark.parametrize("change", WRITES.values(), ids=WRITES)
async def test_a_sweeper_whose_clock_is_ahead_costs_no_request(
    change: Change, is_at_it: bool, stores: tuple[FileStore, FileStore], fast_place: Path
) -> None:
    first, second = stores
    upload = await created(first, b"abc")
    swept: list[int] = []

    def open_(path: str, *more: Any) -> int:
        """A file on its way is opened, and a sweeper finds it before it is locked."""
        file = os.open(path, *more)
        if os.path.basename(os.path.dirname(path)) == "new" and not swept:
            if is_at_it:
                swept.append(os.open(path, os.O_RDONLY))
                files.lock(swept[0])
            else:
                swept.append(0)
                second._directory.remove_left_behind(FAR_FUTURE)
        return file

    with seen_by(Os(open=open_)):
        await change(first, upload)
    assert swept
    if is_at_it:
        os.close(swept[0])
    assert await run_sync(open_below, fast_place) == []
    await run_sync(second._directory.remove_left_behind, FAR_FUTURE)
    assert await run_sync(os.listdir, fast_place / "place/new") == []


async def test_a_new_upload_keeps_its_marks_although_a_removal_of_the_old_one_ends_late(
    stores: tuple[FileStore, FileStore],
) -> None:
    first, second = stores
    upload = await created(first, expires=NOW)

    def unlink(path: str) -> None:
        """Between the end of the old one and that of its marks comes another with its id."""
        os.unlink(path)
        if path.endswith(".info") and "/new/" not in path:
            second._create(upload)

    with seen_by(Os(unlink=unlink)):
        await first.terminate(upload.id)
    assert await first.get(upload.id) == upload
    assert [found async for found in first.due(NOW)] == [upload.id]


async def test_what_came_up_in_a_sweep_for_nothing_does_not_come_up_again(
    stores: tuple[FileStore, FileStore],
) -> None:
    store, _ = stores
    upload = await created(store, b"abc")
    await run_sync(store._directory.mark, upload.id, 0)  # as by an append that failed at its end
    assert [found async for found in store.due(NOW)] == [upload.id]
    assert await Uploads(store, clock=lambda: NOW).sweep() == 0
    assert [found async for found in store.due(NOW)] == []
    assert await store.get(upload.id) == upload


async def test_a_removal_that_found_no_space_for_its_mark_is_found_by_its_hour(
    stores: tuple[FileStore, FileStore], fast_place: Path
) -> None:
    store, _ = stores
    upload = await created(store, b"abc", expires=NOW)
    await store.update(replace(upload, removal="terminated"))
    await run_sync(os.unlink, fast_place / "place/due/0" / upload.id)
    assert [found async for found in store.due(NOW)] == [upload.id]


# Cancelled as asyncio does it, and threads that are slow.


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("slow", ["pwritev", "fsync", "ftruncate", "rename", "pread"])
@pytest.mark.parametrize("times", [1, 3])
async def test_whoever_cancels_a_call_has_ended_when_its_threads_have(
    times: int, slow: str, stores: tuple[FileStore, FileStore], fast_place: Path
) -> None:
    store, _ = stores
    upload = await created(store, b"abc", length=6)
    working: list[str] = []
    began = threading.Event()

    def slowly(*arguments: Any, **keywords: Any) -> Any:
        began.set()
        working.append(slow)
        time.sleep(0.15)
        result = getattr(os, slow)(*arguments, **keywords)
        working.remove(slow)
        return result

    async def refused() -> AsyncIterator[bytes]:
        yield b"de"
        await asyncio.sleep(0.1)
        raise ValueError("wrong")

    async def reading() -> None:
        async for _ in store.read(upload, 0, 3):
            pass

    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "pwritev": lambda: store.append(upload, Arriving(b"de")),
        "fsync": lambda: store.update(replace(upload, facts={"a": 1})),
        "ftruncate": lambda: store.append(upload, refused()),
        "rename": lambda: store.declare_length(upload, 6),
        "pread": reading,
    }
    with seen_by(Os(**{slow: slowly})):
        task = asyncio.ensure_future(operations[slow]())
        assert await run_sync(began.wait, 10)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert working == []
    assert await run_sync(open_below, fast_place) == []
    if slow == "ftruncate":
        assert await store.get(upload.id) == upload


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_bytes_that_were_refused_are_taken_back_although_no_thread_is_free_for_it_yet(
    stores: tuple[FileStore, FileStore],
) -> None:
    store, _ = stores
    store._writing = files.Workers(1)
    upload = await created(store, b"abc", length=6)
    may_end = threading.Event()
    busy: list[asyncio.Task[Any]] = []

    async def refused() -> AsyncIterator[bytes]:
        yield b"de"
        while (await store.get(upload.id)).offset < 5:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        busy.append(asyncio.create_task(store._writing.run(may_end.wait, 10)))
        await asyncio.sleep(0.05)
        raise ValueError("wrong")

    task = asyncio.create_task(store.append(upload, refused()))
    while not busy:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.15)
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0.01)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.gather(*busy)
    assert await store.get(upload.id) == upload


# What a request leaves that keeps nothing.


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_an_append_that_keeps_nothing_leaves_the_record_as_it_was_but_for_its_date(
    is_staged: bool, tmp_path: Path
) -> None:
    minute = timedelta(minutes=1)
    store = await run_sync(lambda: FileStore(tmp_path, clock=lambda: NOW + minute))
    upload = await created(store, length=None, expires=NOW + minute, expires_after=minute)
    given = replace(upload, facts={"kind": "audio"}, length=9)
    chunks = Arriving(bytes(1_000_000), error=ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await store.append(given, chunks, staged=is_staged)
    assert await store.get(upload.id) == replace(upload, expires=NOW + 2 * minute)


# Threads.


async def test_what_is_looked_at_waits_neither_for_slow_writes_nor_for_the_host(
    stores: tuple[FileStore, FileStore],
) -> None:
    store, _ = stores
    uploads = [await created(store, b"a") for _ in range(41)]
    gate = threading.Event()

    def pwritev(*arguments: Any) -> int:
        gate.wait(20)
        return os.pwritev(*arguments)

    async with anyio.create_task_group() as tasks:
        with seen_by(Os(pwritev=pwritev)):
            for upload in uploads[:40]:
                tasks.start_soon(store.append, upload, Arriving(b"b"))
            for _ in range(40):
                tasks.start_soon(run_sync, gate.wait, 20)
            await anyio.sleep(0.2)
            with anyio.fail_after(10):
                assert await store.get(uploads[40].id) == uploads[40]
            gate.set()
