"""What the file store promises beyond what every store does."""

import contextlib
import errno
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.to_thread import run_sync
from blockbuster import BlockBuster

from tests.stores.file._os import Counts, Disk, Os, seen_by
from tusasgi import (
    OffsetConflict,
    StoreFull,
    StoreUnavailable,
    Upload,
    UploadNotFound,
    Uploads,
)
from tusasgi.stores import WriteConflict
from tusasgi.stores.file import Durability, FileStore, files, locked, records
from tusasgi.testing import Arriving, new_upload
from tusasgi.threads import caller_of_this_loop

pytestmark = pytest.mark.anyio

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
HOUR = int(NOW.timestamp()) // 3600  # since 1970
MIB = 1024 * 1024


@pytest.fixture
def store(fast_place: Path) -> FileStore:
    return FileStore(fast_place / "place")


async def created(store: FileStore, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**{"length": None, **fields})
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


async def content(store: FileStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


def test_an_unknown_durability_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="durability"):
        FileStore(tmp_path, durability="never")  # type: ignore[arg-type]


async def test_the_bytes_are_a_file_of_their_own(store: FileStore) -> None:
    upload = await created(store, b"abc")
    assert await run_sync(Path(store.path(upload.id)).read_bytes) == b"abc"


async def test_a_store_that_is_only_looked_at_makes_no_files(store: FileStore) -> None:
    with pytest.raises(UploadNotFound):
        await store.get("a")
    assert [upload_id async for upload_id in store.due(NOW)] == []
    assert not await run_sync(os.path.exists, os.path.dirname(os.path.dirname(store.path("aa"))))


# Durability.


class Flushes:
    """Records, in order, what is flushed and what gets its name; marks are no matter of flushes."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def before(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name == "fsync":
            self.events.append(("flush", os.readlink(f"/proc/self/fd/{arguments[0]}")))
        elif name in ("link", "rename") and "/due/" not in arguments[1]:
            self.events.append((name, arguments[1]))


def flushed_and_recorded(flushes: Flushes, path: str) -> bool:
    """True if the bytes were flushed, and then a record that says so, with the folder of both."""
    bytes_, new, named, folder = flushes.events
    return (
        bytes_ == ("flush", path)
        and new[0] == "flush"
        and "/new/" in new[1]
        and named == ("rename", f"{path}.info")
        and folder == ("flush", os.path.dirname(path))
    )


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
class TestFlushing:
    async def test_a_finished_upload_is_flushed_with_its_folder(self, store: FileStore) -> None:
        upload = await created(store, b"abc", length=3)
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            await store.finish(upload)
        assert flushed_and_recorded(flushes, store.path(upload.id))
        again = Flushes()
        with seen_by(Os(again.before)):
            await store.finish(upload)
        path = store.path(upload.id)
        assert again.events == [("flush", path), ("flush", os.path.dirname(path))]

    @pytest.mark.parametrize("chunks", [pytest.param([b"a"], id="first"), [b"a", b"b" * 3 * MIB]])
    async def test_with_durability_append_each_append_is_flushed(
        self, chunks: list[bytes], fast_place: Path
    ) -> None:
        store = await run_sync(lambda: FileStore(fast_place, durability="append"))
        upload = await created(store)
        path = store.path(upload.id)
        for _ in range(3):
            flushes = Flushes()
            with seen_by(Os(flushes.before)):
                upload = await store.append(upload, Arriving(*chunks))
            assert flushed_and_recorded(flushes, path)

    async def test_with_durability_append_an_append_of_nothing_flushes_nothing(
        self, fast_place: Path
    ) -> None:
        store = await run_sync(lambda: FileStore(fast_place, durability="append"))
        upload = await created(store)
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            assert await store.append(upload, Arriving()) == upload
        assert flushes.events == []

    async def test_with_durability_complete_an_append_flushes_nothing(
        self, store: FileStore
    ) -> None:
        upload = await created(store)
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            await store.append(upload, Arriving(b"abc"))
        assert flushes.events == []

    @pytest.mark.parametrize("change", ["create", "update", "declare_length"])
    async def test_a_record_is_flushed_before_it_has_its_name_and_its_folder_after(
        self, change: str, fast_place: Path
    ) -> None:
        durability: Durability = "append" if change == "create" else "complete"
        store = await run_sync(lambda: FileStore(fast_place / "place", durability=durability))
        upload = new_upload(length=None)
        if change != "create":
            await store.create(upload)
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            await (
                store.declare_length(upload, 9)
                if change == "declare_length"
                else getattr(store, change)(upload)
            )
        path = store.path(upload.id)
        # A new folder is made when it is found missing, and the name is given again.
        events = [event for event in flushes.events if event not in _names_of_folders(store)]
        (first, new), (naming, name), (last, folder) = dict.fromkeys(events)
        assert (first, last) == ("flush", "flush")
        assert f"/new/{upload.id}." in new
        assert (naming, name) == ("link" if change == "create" else "rename", f"{path}.info")
        assert folder == os.path.dirname(path)

    async def test_a_creation_is_flushed_only_where_each_append_is(self, store: FileStore) -> None:
        await created(store, id="first", expires=NOW)  # makes the folders
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            upload = await created(store, id="next-to-first", expires=NOW)
        assert flushes.events == [("link", f"{store.path(upload.id)}.info")]

    async def test_an_upload_is_complete_after_three_flushes(self, store: FileStore) -> None:
        await created(store, b"abc", length=3)  # makes the folders
        upload = await created(store, length=3)
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            upload = await store.append(upload, Arriving(b"abc"))
            await store.update(replace(await store.finish(upload), is_complete=True))
        assert flushed_and_recorded(flushes, store.path(upload.id))
        assert (await store.get(upload.id)).is_complete

    async def test_the_names_of_new_folders_are_flushed_too(self, fast_place: Path) -> None:
        store = await run_sync(lambda: FileStore(fast_place / "place", durability="append"))
        upload = new_upload()
        flushes = Flushes()
        with seen_by(Os(flushes.before)):
            await store.create(upload)
        last = flushes.events.index(("flush", os.path.dirname(store.path(upload.id))))
        assert set(_names_of_folders(store)) <= set(flushes.events[:last])


def _names_of_folders(store: FileStore) -> list[tuple[str, str]]:
    """What is flushed when the folders of a store are made."""
    uploads = os.path.dirname(os.path.dirname(store.path("any")))
    root = os.path.dirname(uploads)
    return [("flush", folder) for folder in (uploads, root, os.path.dirname(root))]


# A disk that is full.


async def endless(size: int) -> AsyncIterator[bytes]:
    while True:
        await anyio.lowlevel.checkpoint()
        yield b"x" * size


@pytest.mark.parametrize("size", [pytest.param(1000, id="small-chunks"), 700_000, 3 * MIB])
async def test_a_full_disk_keeps_what_fits_and_the_upload_goes_on_after_space_is_freed(
    size: int, store: FileStore
) -> None:
    upload = await created(store, b"abc")
    disk = Disk(2_345_678)
    with seen_by(Os(pwritev=disk.pwritev)):
        with pytest.raises(StoreFull):
            await store.append(upload, endless(size))
        full = await store.get(upload.id)
        assert full.offset == 3 + 2_345_678
        with pytest.raises(StoreFull):
            await store.append(full, Arriving(b"y"))
        assert await store.get(upload.id) == full
        disk.space = 10
        full = await store.append(full, Arriving(b"z" * 10))
    assert await content(store, full) == b"abc" + b"x" * 2_345_678 + b"z" * 10


@pytest.mark.parametrize("change", ["create", "update"])
async def test_a_full_disk_takes_no_record_and_keeps_the_old_one(
    change: str, store: FileStore, fast_place: Path
) -> None:
    upload = await created(store, b"abc")
    before = await run_sync(lambda: sorted(fast_place.rglob("*.*")))
    changed = replace(upload, facts={"a": 1})
    if change == "create":
        changed = replace(changed, id=upload.id[::-1])
    with seen_by(Os(pwritev=Disk(20).pwritev)), pytest.raises(StoreFull):
        await getattr(store, change)(changed)
    assert await run_sync(lambda: sorted(fast_place.rglob("*.*"))) == before
    assert await store.get(upload.id) == upload


async def test_a_disk_that_fails_is_not_called_full(store: FileStore) -> None:
    upload = await created(store, b"abc")

    def fail(*arguments: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with seen_by(Os(pwritev=fail)), pytest.raises(StoreUnavailable) as raised:
        await store.append(upload, endless(100_000))
    assert isinstance(raised.value.__cause__, OSError)
    assert await store.get(upload.id) == upload


_LIMITED = f"""
import resource, sys, anyio
from tests.stores.file.test_store import created, content, endless, FileStore, StoreFull, Arriving

async def main(folder):
    store = FileStore(folder)
    upload = await created(store, b"abc")
    resource.setrlimit(resource.RLIMIT_FSIZE, ({2 * MIB}, resource.RLIM_INFINITY))
    try:
        await store.append(upload, endless(100_000))
    except StoreFull:
        full = await store.get(upload.id)
    assert full.offset == {2 * MIB}, full
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    full = await store.append(full, Arriving(b"yz"))
    assert await content(store, full) == b"abc" + b"x" * {2 * MIB - 3} + b"yz"
    print("went on")

anyio.run(main, sys.argv[1])
"""


def test_a_file_that_the_kernel_lets_grow_no_further_is_a_full_store(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _LIMITED, str(tmp_path)]
    root = Path(__file__).parents[3]
    run = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert run.stdout == "went on\n", run.stderr


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a file system: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_file_system_loses_nothing_acknowledged_and_goes_on(small_disk: Path) -> None:
    filler = small_disk / "filler"
    await run_sync(filler.write_bytes, bytes(2 * MIB))
    store = await run_sync(FileStore, small_disk / "place")
    upload = await created(store, b"a" * 500_000, length=2_500_000)
    with pytest.raises(StoreFull):
        await store.append(upload, Arriving(*[b"b" * 100_000] * 20))
    full = await store.get(upload.id)
    assert 500_000 < full.offset < 2_500_000
    with pytest.raises(StoreFull):
        await store.create(new_upload())
    with pytest.raises(StoreFull):
        await store.update(replace(full, facts={"a": 1}))
    assert await store.get(upload.id) == full
    await run_sync(filler.unlink)
    full = await store.append(full, Arriving(b"b" * (2_500_000 - full.offset)))
    await store.finish(full)
    assert await store.get(upload.id) == full
    assert await content(store, full) == b"a" * 500_000 + b"b" * 2_000_000


# Memory.


async def test_a_slow_client_has_its_bytes_on_the_disk_while_it_thinks(store: FileStore) -> None:
    upload = await created(store)
    was_written, is_all_there, may_go_on = anyio.Semaphore(0), anyio.Event(), anyio.Event()
    call_soon = caller_of_this_loop()

    def pwritev(*arguments: Any) -> int:
        written = os.pwritev(*arguments)
        call_soon(was_written.release)
        return written

    async def chunks() -> AsyncIterator[bytes]:
        for chunk in (b"a few bytes", b" and more"):
            yield chunk
            with anyio.fail_after(5):
                await was_written.acquire()
        is_all_there.set()
        await may_go_on.wait()

    with seen_by(Os(pwritev=pwritev)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, upload, chunks())
            with anyio.fail_after(5):
                await is_all_there.wait()
            assert (await store.get(upload.id)).offset == 20
            may_go_on.set()


async def test_what_keeps_coming_slowly_is_written_twice_a_second(store: FileStore) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(60):
            yield b"a few bytes"
            await anyio.sleep(0.01)

    upload, counts = await created(store), Counts()
    start = anyio.current_time()
    with seen_by(Os(counts.before)):
        await store.append(upload, chunks())
    took = anyio.current_time() - start
    # One after the first 20 ms, and one at the end.
    assert counts.calls["pwritev"] <= 2 + took / 0.5


class SlowDisk:
    """A disk that writes nothing before it may."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def pwritev(self, *arguments: Any) -> int:
        self.gate.wait(30)
        return os.pwritev(*arguments)


class Flood(AsyncIterator[bytes]):
    """Chunks as fast as they are taken."""

    def __init__(self, count: int, size: int) -> None:
        self.taken = 0
        self._count, self._size = count, size

    async def __anext__(self) -> bytes:
        if self.taken == self._count:
            raise StopAsyncIteration
        self.taken += 1
        return bytes(self._size)


async def taken_by_a_slow_disk(store: FileStore, flood: Flood) -> int:
    """Return how many chunks are taken before the disk writes; let it write everything then."""
    upload, disk = await created(store), SlowDisk()
    with seen_by(Os(pwritev=disk.pwritev)):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.append, upload, flood)
            await anyio.wait_all_tasks_blocked()
            taken = flood.taken
            disk.gate.set()
    return taken


@pytest.mark.parametrize("size", [pytest.param(65_536, id="64-KiB"), pytest.param(MIB, id="1-MiB")])
async def test_a_slow_disk_holds_the_client_back(size: int, store: FileStore) -> None:
    flood = Flood(8 * MIB // size, size)
    taken = await taken_by_a_slow_disk(store, flood)
    assert MIB <= taken * size <= 2 * MIB + size
    assert flood.taken == 8 * MIB // size


async def test_a_slow_disk_holds_a_client_back_that_sends_tiny_chunks(store: FileStore) -> None:
    flood = Flood(300_000, 8)
    tracemalloc.start()  # by itself, each of them takes some fifty bytes of memory
    try:
        assert await taken_by_a_slow_disk(store, flood) * 8 <= 2 * MIB
        assert tracemalloc.get_traced_memory()[1] < 3 * MIB
    finally:
        tracemalloc.stop()
    assert flood.taken == 300_000


async def test_a_reader_that_stops_early_leaves_no_file_open(store: FileStore) -> None:
    upload = await created(store, b"x" * 600_000)
    before = await run_sync(os.listdir, "/proc/self/fd")
    chunks = store.read(upload, 0, 600_000)
    assert len(await anext(chunks)) < 600_000
    await chunks.aclose()
    assert len(await run_sync(os.listdir, "/proc/self/fd")) == len(before)


async def test_an_append_leaves_no_file_open_however_it_ends(store: FileStore) -> None:
    upload = await created(store)
    before = await run_sync(os.listdir, "/proc/self/fd")
    upload = await store.append(upload, Arriving(b"x"))
    with pytest.raises(ValueError, match="wrong"):
        await store.append(upload, Arriving(b"x" * 2 * MIB, error=ValueError("wrong")))
    with anyio.CancelScope() as scope:
        await store.append(upload, Arriving(b"x" * 2 * MIB, then=scope.cancel))
    assert scope.cancelled_caught
    assert len(await run_sync(os.listdir, "/proc/self/fd")) == len(before)


async def test_a_file_shorter_than_the_range_is_read_to_its_end(store: FileStore) -> None:
    upload = await created(store, b"abc")
    assert [chunk async for chunk in store.read(upload, 1, 100)] == [b"bc"]


# Expiry.


def at(moment: datetime, *paths: str) -> None:
    for path in paths:
        os.utime(path, (moment.timestamp(), moment.timestamp()))


async def calls_to_sweep(store: FileStore) -> tuple[int, Counts]:
    counts = Counts()
    with seen_by(Os(counts.before)):
        swept = await Uploads(store, clock=lambda: NOW).sweep()
    return swept, counts


async def test_a_sweep_costs_what_has_expired_and_not_what_is_stored(fast_place: Path) -> None:
    seen = []
    for unexpired in (3, 300):
        store = await run_sync(FileStore, fast_place / str(unexpired))
        for number in range(unexpired):
            # In hours of their own, complete, and without a date.
            await created(store, expires=NOW + timedelta(hours=1 + number % 3))
            if number % 3 == 0:
                await created(store, b"abc", is_complete=True)
        for _ in range(5):
            await created(store, b"abc", expires=NOW - timedelta(hours=2))
        await run_sync(os.makedirs, fast_place / str(unexpired) / "due/0")  # else by who is first
        # The first sweep after a start of the machine looks at all; it is not what others cost.
        await Uploads(store, clock=lambda: NOW - timedelta(days=1)).sweep()
        seen.append(await calls_to_sweep(store))
    few, many = seen
    assert few[0] == many[0] == 5
    assert few[1].calls == many[1].calls
    assert sum(few[1].calls.values()) < 250


async def test_a_sweep_leaves_nothing_of_what_expired(store: FileStore, fast_place: Path) -> None:
    for hours in (1, 1, 2, 3):
        await created(store, b"abc", expires=NOW - timedelta(hours=hours))
    swept, _ = await calls_to_sweep(store)
    assert swept == 4
    left = await run_sync(lambda: [path.name for path in fast_place.rglob("*") if path.is_file()])
    assert left == []
    await calls_to_sweep(store)
    assert await run_sync(os.listdir, fast_place / "place" / "due") == ["0"]


async def test_sweepers_beside_each_other_remove_each_upload_once(fast_place: Path) -> None:
    stores = [await run_sync(FileStore, fast_place) for _ in range(3)]
    for number in range(30):
        await created(stores[0], b"abc", expires=NOW - timedelta(hours=number % 5))
    swept = []

    async def sweep(engine: Uploads) -> None:
        swept.append(await engine.sweep())

    locker = Uploads(stores[0])._locks._locker
    async with anyio.create_task_group() as tasks:
        for store in stores:
            tasks.start_soon(sweep, Uploads(store, locker=locker, clock=lambda: NOW))
    assert sum(swept) == 30
    assert [upload_id async for upload_id in stores[0].due(NOW)] == []


@pytest.mark.parametrize("record", [b"{", b"{}"], ids=["no-json", "not-ours"])
async def test_a_record_that_cannot_be_read_is_reported_and_keeps_no_sweep_from_the_others(
    record: bytes, store: FileStore, fast_place: Path
) -> None:
    uploads = [await created(store, b"abc", expires=NOW) for _ in range(3)]
    spoilt = uploads[1]
    await run_sync(Path(f"{store.path(spoilt.id)}.info").write_bytes, record)
    sweeper = Uploads(store, clock=lambda: NOW + timedelta(days=1))
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as raised:
            await sweeper.sweep()
        (failure,) = raised.value.exceptions
        assert failure.__notes__ == [f"upload {spoilt.id}"]
    assert [upload_id async for upload_id in store.due(NOW)] == [spoilt.id]
    await store.terminate(spoilt.id)
    await run_sync(at, NOW, *await run_sync(marks, fast_place))
    assert await sweeper.sweep() == 0
    assert await run_sync(lambda: [path for path in fast_place.rglob("*") if path.is_file()]) == []


def marks(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("due/*/*")]


async def test_a_mark_is_one_more_name_of_the_record(store: FileStore) -> None:
    upload = await created(store, expires=NOW)
    mark, record = store._directory.mark_path(upload.id, HOUR), f"{store.path(upload.id)}.info"
    assert await run_sync(os.path.samefile, mark, record)


async def test_what_was_removed_meanwhile_needs_no_mark(store: FileStore, fast_place: Path) -> None:
    await created(store, expires=NOW)
    before = await run_sync(marks, fast_place)
    await run_sync(store._directory.mark, "gone", HOUR)
    assert await run_sync(marks, fast_place) == before


RECORD = records.dump(records.Record(upload=new_upload(id="a")))


@pytest.mark.parametrize(
    "text", [RECORD, bytes(len(RECORD)), b""], ids=["record", "lost", "of an earlier release"]
)
async def test_a_creation_under_way_is_no_remains(
    text: bytes, store: FileStore, fast_place: Path
) -> None:
    # A mark and a new record, and not yet an upload: as between two steps of `create`.
    new, mark = fast_place / f"place/new/a.{'0' * 32}", fast_place / f"place/due/{HOUR}/a"
    for path in (new, mark):
        await run_sync(lambda path=path: path.parent.mkdir(parents=True))
        await run_sync(path.write_bytes, text)
        await run_sync(at, NOW - timedelta(minutes=59), str(path))
    assert [upload_id async for upload_id in store.due(NOW)] == []
    assert await run_sync(new.exists)
    assert await run_sync(mark.exists)
    await run_sync(at, NOW - timedelta(minutes=61), str(new), str(mark))
    assert [upload_id async for upload_id in store.due(NOW)] == ["a"]
    assert not await run_sync(new.exists)
    assert not await run_sync(mark.exists)  # it is found from now on where it is removed last


async def test_what_somebody_still_writes_is_no_remains_however_old_it_is(
    store: FileStore,
) -> None:
    new, file = await run_sync(store._directory.open_new, "a")
    await run_sync(at, NOW - timedelta(days=2), new)
    assert [upload_id async for upload_id in store.due(NOW)] == []
    assert await run_sync(os.path.exists, new)
    await run_sync(files.close_locked, file)
    assert [upload_id async for upload_id in store.due(NOW)] == []
    assert not await run_sync(os.path.exists, new)


async def test_what_comes_up_for_nothing_stays_as_it_is_and_comes_up_once(
    store: FileStore, fast_place: Path
) -> None:
    upload = await created(store, b"abc", length=10, expires=NOW + timedelta(days=1))
    await run_sync(store._directory.mark, upload.id, 0)  # as a crash may leave it
    assert [upload_id async for upload_id in store.due(NOW)] == [upload.id]
    assert await Uploads(store, clock=lambda: NOW).sweep() == 0
    assert await store.get(upload.id) == upload
    assert [upload_id async for upload_id in store.due(NOW)] == []


@pytest.mark.parametrize("is_known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("step", ["the bytes", "all"])
async def test_an_upload_that_is_removed_while_it_is_read_is_never_an_empty_one(
    step: str, is_known: bool, store: FileStore, fast_place: Path, blockbuster: BlockBuster
) -> None:
    for function in blockbuster.functions.values():
        function.can_block_in("test_store.py", "stat")
    upload = await created(store, b"abc")
    if not is_known:
        store = await run_sync(FileStore, fast_place / "place")

    def stat(path: str) -> os.stat_result:
        if path == store.path(upload.id) and os.path.exists(path):
            with locked.LockedUpload(store._directory, upload.id) as held:
                held.put_removal("terminated")
                os.unlink(path)
                if step == "all":
                    held.remove()
        return os.stat(path)

    with seen_by(Os(stat=stat)):
        if step == "all":
            with pytest.raises(UploadNotFound):
                await store.get(upload.id)
        else:
            assert (await store.get(upload.id)).removal == "terminated"


async def test_a_mark_that_goes_while_it_is_looked_at_is_nothing(
    store: FileStore, fast_place: Path
) -> None:
    mark = fast_place / f"place/due/{HOUR}/a"
    await run_sync(lambda: mark.parent.mkdir(parents=True))
    await run_sync(mark.touch)

    def stat(path: str) -> os.stat_result:
        if path == str(mark):
            mark.unlink()
        return os.stat(path)

    with seen_by(Os(stat=stat)):
        assert [upload_id async for upload_id in store.due(NOW)] == []


FOREIGN = [b".DS_Store", b"lost+found", b"a b", b"..x", b"\xff\xfe", b"README.md", b"README"]
"""Names of files. The last one may be that of an upload, so only what is in it tells."""


async def test_foreign_files_are_left_alone_and_keep_no_sweep_from_its_work(
    store: FileStore, fast_place: Path
) -> None:
    uploads = [await created(store, b"abc", expires=NOW) for _ in range(3)]
    root = os.fsencode(fast_place / "place")
    later = datetime.now(UTC) + timedelta(days=1)  # by then nothing new is under way any more

    def put_there() -> list[bytes]:
        folders = [b"due", b"due/%d" % HOUR, b"due/0", b"due/7", b"new", b"uploads", b"uploads/%x"]
        for folder in folders:
            os.makedirs(os.path.join(root, folder), exist_ok=True)
        paths = [os.path.join(root, folder, name) for folder in folders for name in FOREIGN]
        paths += [os.path.join(root, b"due", name) for name in (b"8", b"-1", b"1e3", b"\xd9\xa3")]
        for path in paths:
            with open(path, "xb") as file:
                file.write(b"something else" if path.endswith(b"README") else b"")
        for folder in folders:
            for name in (b"folder", b"lost.found", b"00000000-0000." + b"0" * 32):
                inner = os.path.join(root, folder, name)
                os.mkdir(inner)
                os.symlink(b"nowhere", inner + b"-link")
                os.mkfifo(inner + b"-pipe")
                paths += [inner, inner + b"-link", inner + b"-pipe"]
        return paths

    foreign = await run_sync(put_there)
    for removed in (len(uploads), 0):
        assert await Uploads(store, clock=lambda: later).sweep() == removed
    assert await run_sync(lambda: [path for path in foreign if not os.path.lexists(path)]) == []
    for upload in uploads:
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)


@pytest.mark.parametrize("kind", ["record", "data"])
async def test_a_folder_in_the_place_of_a_file_is_reported_and_keeps_no_sweep_from_the_others(
    kind: str, store: FileStore
) -> None:
    broken, other = [await created(store, b"abc", expires=NOW) for _ in range(2)]

    def put_folder() -> None:
        path = store.path(broken.id) + (".info" if kind == "record" else "")
        os.unlink(path)
        os.makedirs(f"{path}/notes")

    await run_sync(put_folder)
    with pytest.raises(ExceptionGroup) as caught:
        await Uploads(store, clock=lambda: NOW).sweep()
    assert len(caught.value.exceptions) == 1 and caught.group_contains(OSError)
    with pytest.raises(UploadNotFound):
        await store.get(other.id)


async def test_a_folder_of_marks_that_a_sweeper_removed_is_made_again(
    store: FileStore, fast_place: Path
) -> None:
    removed: list[str] = []

    def mkdir(path: str) -> None:
        os.mkdir(path)
        if os.path.basename(os.path.dirname(path)) == "due" and not removed:
            removed.append(path)
            os.rmdir(path)

    with seen_by(Os(mkdir=mkdir)):
        upload = await created(store, expires=NOW)
    assert len(removed) == 1
    assert [upload_id async for upload_id in store.due(NOW)] == [upload.id]


async def test_more_buffers_than_one_write_takes_are_all_written(store: FileStore) -> None:
    sizes = []

    def pwritev(file: int, views: list[memoryview], offset: int) -> int:
        sizes.append(len(views))
        return os.pwritev(file, views, offset)

    chunks = [b"%06d" % number for number in range(5000)]
    chunks += [b"%06d" % number * 6000 for number in range(200)]
    with seen_by(Os(pwritev=pwritev)):
        upload = await created(store)
        upload = await store.append(upload, Eager(chunks))
    assert max(sizes) <= os.sysconf("SC_IOV_MAX")
    assert await content(store, upload) == b"".join(chunks)


class Eager(AsyncIterator[bytes]):
    """Chunks that are all there at once."""

    def __init__(self, chunks: list[bytes]) -> None:
        self._chunks = iter(chunks)

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration


async def test_writes_that_are_cut_short_go_on_where_they_ended(store: FileStore) -> None:
    def pwritev(file: int, views: list[memoryview], offset: int) -> int:
        return os.pwrite(file, b"".join(views)[:7], offset)

    chunks = [bytes([number]) * (number % 20) for number in range(250)]
    with seen_by(Os(pwritev=pwritev)):
        upload = await created(store, *chunks)
    assert await content(store, upload) == b"".join(chunks)


# Writers that no locker keeps apart.


class Held(AsyncIterator[bytes]):
    """Gives a chunk, and then waits to be let go."""

    def __init__(self, chunk: bytes) -> None:
        self._chunks = [chunk]
        self.is_waiting, self.may_end = anyio.Event(), anyio.Event()

    async def __anext__(self) -> bytes:
        if self._chunks:
            return self._chunks.pop()
        self.is_waiting.set()
        await self.may_end.wait()
        raise StopAsyncIteration


async def test_two_processes_without_a_common_locker_cannot_mix_their_bytes(
    fast_place: Path,
) -> None:
    first, second = (FileStore(fast_place / "place") for _ in range(2))
    upload = await created(first, length=2_000_000)
    held = Held(b"1" * 1_000_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(first.append, upload, held)
        await held.is_waiting.wait()
        while (await second.get(upload.id)).offset < 1_000_000:
            await anyio.lowlevel.checkpoint()
        stale, current = upload, await second.get(upload.id)
        for seen in (stale, current):
            for is_staged in (False, True):
                with pytest.raises(WriteConflict):
                    await second.append(seen, Arriving(b"2" * 10), staged=is_staged)
        held.may_end.set()
    for is_staged in (False, True):
        with pytest.raises(OffsetConflict) as raised:
            await second.append(stale, Arriving(b"2" * 10), staged=is_staged)
        assert raised.value.offset == 1_000_000
    upload = await second.append(current, Arriving(b"2" * 10))
    read = b"".join([chunk async for chunk in first.read(upload, 0, upload.offset)])
    assert read == b"1" * 1_000_000 + b"2" * 10


async def test_a_child_process_that_shares_an_open_file_keeps_nobody_out(fast_place: Path) -> None:
    store = FileStore(fast_place / "place")
    upload = await created(store, length=20)
    held = Held(b"1" * 10)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(store.append, upload, held)
        await held.is_waiting.wait()
        while (await store.get(upload.id)).offset < 10:
            await anyio.lowlevel.checkpoint()
        shared = [os.dup(file) for file in await run_sync(_files_open_on, store.path(upload.id))]
        held.may_end.set()
    assert shared
    upload = await store.append(await store.get(upload.id), Arriving(b"2" * 10))
    assert upload.offset == 20
    for file in shared:
        os.close(file)


def _files_open_on(path: str) -> list[int]:
    names = [name for name in os.listdir("/proc/self/fd") if name.isdigit()]
    return [int(name) for name in names if _link_of(f"/proc/self/fd/{name}") == path]


def _link_of(path: str) -> str | None:
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None


@pytest.mark.parametrize("error", [None, ValueError("these bytes are wrong")])
async def test_no_staged_bytes_are_left_beside_the_upload(
    error: Exception | None, fast_place: Path
) -> None:
    store = FileStore(fast_place / "place")
    upload = await created(store, length=2_000_000)
    with contextlib.suppress(ValueError):
        await store.append(upload, Arriving(b"x" * 1_000_000, error=error), staged=True)
    assert await run_sync(os.listdir, fast_place / "place" / "new") == []


async def test_where_the_kernel_cannot_copy_the_bytes_are_read_and_written(
    fast_place: Path,
) -> None:
    def cannot(*arguments: Any) -> int:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    store = FileStore(fast_place / "place")
    whole = random.Random(0).randbytes(3_000_000)
    upload = await created(store, length=len(whole))
    with seen_by(Os(copy_file_range=cannot)):
        upload = await store.append(upload, Arriving(whole), staged=True)
    read = b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])
    assert read == whole


async def test_a_copy_that_fails_otherwise_is_not_tried_in_another_way(fast_place: Path) -> None:
    def broken(*arguments: Any) -> int:
        raise OSError(errno.EIO, "Input/output error")

    store = FileStore(fast_place / "place")
    upload = await created(store)
    with seen_by(Os(copy_file_range=broken)), pytest.raises(StoreUnavailable):
        await store.append(upload, Arriving(b"x" * 600_000), staged=True)


async def test_a_sweeper_that_read_too_early_does_not_remove_what_got_bytes_since(
    store: FileStore,
) -> None:
    read = await created(store, b"abc", length=9, expires=NOW)
    await store.update(replace(read, expires=NOW + timedelta(hours=1)))
    with pytest.raises(WriteConflict):
        await store.update(replace(read, removal="expired"))
    await store.update(replace(read, removal="terminated"))
