"""What is on the disk: flushes that fail, how far the bytes are flushed, machines started anew."""

import errno
import json
import os
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Counts, Os, seen_by
from tusasgi import StoreFull, StoreUnavailable, Upload, UploadPending, Uploads
from tusasgi.stores import BytesLost, WriteConflict
from tusasgi.stores.file import Durability, FileStore, appending, records
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture
def store(fast_place: Path) -> FileStore:
    return FileStore(fast_place / "place")


@pytest.fixture
def start_anew(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(records, "boot_id", lambda: "another run of the machine")


async def created(store: FileStore, *chunks: bytes, **fields: Any) -> Upload:
    upload = new_upload(**fields)
    await store.create(upload)
    return await store.append(upload, Arriving(*chunks)) if chunks else upload


async def content(store: FileStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


async def record_of(store: FileStore, upload: Upload) -> dict[str, Any]:
    text = await run_sync(Path(f"{store.path(upload.id)}.info").read_text)
    record: dict[str, Any] = json.loads(text)
    return record


class LosesPages:
    """A disk that fails to write the bytes of uploads, and tells of it once, as Linux does."""

    def __init__(self, code: int = errno.EIO) -> None:
        self.code = code
        self.reported = 0

    def fsync(self, file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        is_bytes = "/uploads/" in path and os.path.isfile(path) and not path.endswith(".info")
        if is_bytes and self.reported == 0:
            self.reported += 1
            raise OSError(self.code, os.strerror(self.code))
        os.fsync(file)


@pytest.mark.parametrize(
    ("code", "expected"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, StoreFull)]
)
async def test_bytes_that_the_disk_lost_are_never_part_of_a_complete_upload(
    code: int, expected: type[Exception], store: FileStore
) -> None:
    upload = await created(store, b"abcdef")
    disk = LosesPages(code)
    with seen_by(Os(fsync=disk.fsync)):
        with pytest.raises(expected):
            await store.finish(upload)
        assert (await store.get(upload.id)).offset == 0
        with pytest.raises(WriteConflict):  # it is not gone: a client sends it again
            await store.finish(upload)
        again = await store.append(replace(upload, offset=0), Arriving(b"abcdef"))
        await store.finish(again)
    assert disk.reported == 1
    assert await content(store, await store.get(upload.id)) == b"abcdef"


async def test_the_engine_asks_for_lost_bytes_again_and_calls_completed_for_the_right_ones(
    store: FileStore,
) -> None:
    uploads = Uploads(store)
    upload = await created(store, b"abcdef")
    with seen_by(Os(fsync=LosesPages().fsync)):
        with pytest.raises((StoreUnavailable, UploadPending)):
            await uploads.get(upload.id)
        found = await uploads.get(upload.id)
        assert await uploads.sweep() == 0
    assert (found.offset, found.is_complete) == (0, False)
    assert (await store.get(upload.id)).removal is None


async def test_with_durability_append_a_failed_flush_keeps_what_was_acknowledged(
    fast_place: Path,
) -> None:
    store = await run_sync(lambda: FileStore(fast_place / "place", durability="append"))
    upload = await created(store, b"abc", length=None)
    with seen_by(Os(fsync=LosesPages().fsync)), pytest.raises(StoreUnavailable):
        await store.append(upload, Arriving(b"def"))
    assert await store.get(upload.id) == upload
    upload = await store.append(upload, Arriving(b"DEF"))
    assert await content(store, upload) == b"abcDEF"


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_a_flush_that_fails_behind_a_running_append_ends_it_and_takes_its_bytes_back(
    is_staged: bool, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = await created(store, b"x" * 700_000, length=None)
    monkeypatch.setattr(appending, "_FLUSH_EVERY", 600_000)
    with seen_by(Os(fsync=LosesPages().fsync)), pytest.raises(StoreUnavailable):
        await store.append(upload, Arriving(*[b"y" * 300_000] * 9), staged=is_staged)
    kept = await store.get(upload.id)
    assert kept.offset == 0
    kept = await store.append(kept, Arriving(b"z"))
    assert await content(store, kept) == b"z"


async def test_a_file_that_cannot_be_cut_back_counts_no_further_either(store: FileStore) -> None:
    upload = await created(store, b"abcdef")

    def broken(*arguments: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    disk = LosesPages()
    with (
        seen_by(Os(fsync=disk.fsync, ftruncate=broken)),
        pytest.raises(StoreUnavailable),
    ):
        await store.finish(upload)
    assert (await store.get(upload.id)).offset == 0
    kept = await store.append(replace(upload, offset=0), Arriving(b"ABC"))
    assert await run_sync(Path(store.path(upload.id)).read_bytes) == b"ABC"
    assert kept.offset == 3


async def test_staged_bytes_that_the_disk_lost_are_not_copied(store: FileStore) -> None:
    upload = await created(store, b"abc", length=None)
    many = b"x" * 600_000

    def fsync(file: int) -> None:
        path = os.readlink(f"/proc/self/fd/{file}")
        if "/new/" in path and os.fstat(file).st_size == len(many):
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(file)

    with seen_by(Os(fsync=fsync)), pytest.raises(StoreUnavailable):
        await store.append(upload, Arriving(many), staged=True)
    assert await store.get(upload.id) == upload


async def test_a_close_that_fails_is_a_flush_that_failed(store: FileStore) -> None:
    upload = await created(store, length=None)
    path = store.path(upload.id)
    failed: list[int] = []

    def close(file: int) -> None:
        name = os.readlink(f"/proc/self/fd/{file}")
        os.close(file)
        if name == path and not failed:
            failed.append(file)
            raise OSError(errno.EIO, "Input/output error")

    with seen_by(Os(close=close)), pytest.raises(StoreUnavailable):
        await store.append(upload, Arriving(b"abc"))
    assert failed
    assert (await store.get(upload.id)).offset == 0


async def test_a_record_whose_name_was_not_flushed_is_written_anew_before_it_is_returned(
    store: FileStore,
) -> None:
    upload = await created(store, b"abcdef")
    folder = os.path.dirname(store.path(upload.id))
    failed: list[str] = []

    def fsync(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}") == folder and not failed:
            failed.append(folder)
            raise OSError(errno.EIO, "Input/output error")
        os.fsync(file)

    renamed: list[str] = []
    changed = replace(upload, facts={"kind": "audio"})
    with seen_by(Os(lambda name, arguments: renamed.append(name), fsync=fsync)):
        with pytest.raises(StoreUnavailable):
            await store.update(changed)
        before = renamed.count("rename")
        assert await store.get(upload.id) == changed
        assert renamed.count("rename") == before + 1
        assert await store.get(upload.id) == changed
        assert renamed.count("rename") == before + 1


# How far it is flushed.


async def test_a_long_upload_is_flushed_on_the_way_while_the_next_bytes_are_written(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, start_anew: Callable[[], None]
) -> None:
    monkeypatch.setattr(appending, "_FLUSH_EVERY", MIB)
    upload = await created(store, length=None)
    path, go_on, most, running = store.path(upload.id), threading.Event(), [0], [0]

    def fsync(file: int) -> None:
        if os.readlink(f"/proc/self/fd/{file}") == path:
            running[0] += 1
            most[0] = max(most[0], running[0])
            assert go_on.wait(20)
            running[0] -= 1
        os.fsync(file)

    async def chunks() -> AsyncIterator[bytes]:
        for number in range(8):
            yield bytes([number]) * MIB
        with anyio.fail_after(20):
            while (await store.get(upload.id)).offset < 6 * MIB:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        go_on.set()
        with anyio.fail_after(20):
            while (await record_of(store, upload))["flushed"] < MIB:  # noqa: ASYNC110
                await anyio.sleep(0.01)

    with seen_by(Os(fsync=fsync)):
        await store.append(upload, chunks())
    assert most == [1]
    flushed = (await record_of(store, upload))["flushed"]
    start_anew()
    assert (await store.get(upload.id)).offset == flushed >= MIB


async def test_small_appends_write_no_record_and_flush_now_and_then(
    store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(appending, "_FLUSH_EVERY", 1000)
    upload = await created(store, length=None)
    seen: list[str] = []
    with seen_by(Os(lambda name, arguments: seen.append(name))):
        for _ in range(9):
            upload = await store.append(upload, Arriving(b"x" * 100))
        assert seen.count("fsync") == seen.count("rename") == 0
        await store.append(upload, Arriving(b"x" * 100))
    assert seen.count("rename") == 1
    assert (await record_of(store, upload))["flushed"] == 1000


@pytest.mark.parametrize("size", [3, 40 * MIB], ids=["small", "long"])
async def test_with_durability_none_nothing_waits_for_the_disk(size: int, fast_place: Path) -> None:
    store = await run_sync(lambda: FileStore(fast_place / "place", durability="none"))
    counts = Counts()
    with seen_by(Os(counts.before)):
        upload = await store.create(new_upload(length=2 * size, expires=NOW))
        upload = await store.append(upload, Arriving(bytes(size)))
        upload = await store.append(upload, Arriving(bytes(size)), staged=True)
        upload = await store.finish(upload)
        upload = await store.update(replace(upload, is_complete=True))
        assert await store.get(upload.id) == upload
        await store.terminate(upload.id)
    assert counts.calls["fsync"] == 0
    assert counts.calls["pwritev"] > 0


@pytest.mark.parametrize(
    ("durability", "counts"), [("complete", 0), ("append", 6)], ids=["complete", "append"]
)
async def test_when_the_machine_was_started_anew_an_upload_goes_on_where_it_was_flushed(
    durability: Durability, counts: int, fast_place: Path, start_anew: Callable[[], None]
) -> None:
    store = await run_sync(lambda: FileStore(fast_place / "place", durability=durability))
    upload = await created(store, b"abcdef", length=9)
    start_anew()
    kept = await store.get(upload.id)
    assert kept.offset == counts
    # Whatever is done with it first: what does not count is not there any more afterwards.
    await store.update(kept)
    assert os.stat(store.path(upload.id)).st_size == counts
    kept = await store.append(kept, Arriving(b"123456789"[counts:]))
    assert await store.get(upload.id) == kept
    assert await content(store, kept) == b"abcdef"[:counts] + b"123456789"[counts:]


async def test_what_is_complete_stays_so_when_the_machine_is_started_anew(
    store: FileStore, start_anew: Callable[[], None]
) -> None:
    upload = await store.finish(await created(store, b"abcdef"))
    await store.update(replace(upload, is_complete=True))
    completing = await store.finish(await created(store, b"abcdef"))
    start_anew()
    assert (await store.get(upload.id)).offset == 6
    assert await store.get(completing.id) == completing  # its hook may have been called


async def test_a_record_of_an_earlier_release_counts_all_bytes_and_says_how_far_from_then_on(
    store: FileStore, start_anew: Callable[[], None]
) -> None:
    upload = await created(store, b"abc")
    record = await record_of(store, upload)
    del record["flushed"], record["boot"]
    path = Path(f"{store.path(upload.id)}.info")
    await run_sync(path.write_text, json.dumps(record))
    assert await store.get(upload.id) == upload
    await store.append(upload, Arriving(b"d"))
    start_anew()
    assert await store.get(upload.id) == upload


async def test_refused_bytes_that_were_flushed_leave_no_trace(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, start_anew: Callable[[], None]
) -> None:
    monkeypatch.setattr(appending, "_FLUSH_EVERY", MIB)
    upload = await created(store, b"abc", length=None)
    chunks = Arriving(*[b"x" * MIB] * 6, error=ValueError("these bytes are wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await store.append(replace(upload, facts={"a": 1}, length=8 * MIB), chunks)
    assert await store.get(upload.id) == upload
    assert (await record_of(store, upload))["flushed"] <= 3
    await store.append(upload, Arriving(b"not flushed"))
    start_anew()
    assert (await store.get(upload.id)).offset <= 3


async def test_short_or_missing_bytes_are_reported_and_never_made(store: FileStore) -> None:
    short, missing = await created(store, b"abcdef"), await created(store, b"abcdef")
    await store.finish(short)
    await run_sync(os.truncate, store.path(short.id), 5)
    await run_sync(os.unlink, store.path(missing.id))
    for upload in (short, missing):
        with pytest.raises(BytesLost):
            await store.finish(upload)
    assert not await run_sync(os.path.exists, store.path(missing.id))


async def test_an_append_to_a_file_that_somebody_removed_is_not_acknowledged(
    store: FileStore,
) -> None:
    upload = await created(store, b"abc")

    async def chunks() -> AsyncIterator[bytes]:
        yield b"d"
        with anyio.fail_after(20):
            while (await store.get(upload.id)).offset < 4:  # noqa: ASYNC110
                await anyio.sleep(0.01)
        await run_sync(os.unlink, store.path(upload.id))

    with pytest.raises(BytesLost):
        await store.append(upload, chunks())


async def test_an_append_makes_no_file_in_the_place_of_one_that_was_removed(
    store: FileStore,
) -> None:
    upload = await created(store, b"abc")
    path = store.path(upload.id)

    def open_late(name: str, flags: int, *mode: int) -> int:
        if name == path:
            os.unlink(path)
        return os.open(name, flags, *mode)

    with seen_by(Os(open=open_late)), pytest.raises(BytesLost):
        await store.append(upload, Arriving(b"d"))
    assert not await run_sync(os.path.exists, path)


@pytest.mark.parametrize(("durability", "kept"), [("complete", 5), ("append", 0)])
async def test_bytes_of_a_running_append_are_kept_as_its_end_keeps_them(
    fast_place: Path, durability: Durability, kept: int
) -> None:
    store = FileStore(fast_place / "place", durability=durability)
    upload = await created(store)
    seen: list[int] = []

    async def chunks() -> AsyncIterator[bytes]:
        yield b"hello"
        while (await store.get(upload.id)).offset < 5:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        seen.append(await store.kept(upload.id))

    await store.append(upload, chunks())
    assert seen == [kept]
    assert await store.kept(upload.id) == 5
