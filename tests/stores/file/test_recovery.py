"""What a power cut may leave is found by the first sweep after the machine was started anew."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Counts, Os, seen_by
from tusasgi import Upload, UploadNotFound, Uploads
from tusasgi.stores.file import FileStore, records
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio

LATER = NOW + timedelta(days=1)
# What a disk may have of a record that was never flushed: nothing of it, or not all its pages.
TORN = [
    pytest.param(b"", id="empty"),
    pytest.param(b"\0" * 300, id="zeros"),
    pytest.param(b'{"version": 1, ' + b" " * 4081 + b"\0" * 4096, id="one-page-of-two"),
    pytest.param(b'{"version": 1, ' + b" " * 4081, id="cut-after-a-page"),
]


@pytest.fixture
def store(fast_place: Path) -> FileStore:
    return FileStore(fast_place / "place")


@pytest.fixture
def start_anew(monkeypatch: pytest.MonkeyPatch, fast_place: Path) -> Callable[[], FileStore]:
    """Start the machine anew, and open the store there."""

    def start() -> FileStore:
        monkeypatch.setattr(records, "boot_id", lambda: "another run of the machine")
        return FileStore(fast_place / "place")

    return start


async def created(store: FileStore, content: bytes = b"abc", length: int = 9) -> Upload:
    upload = new_upload(length=length, expires=NOW)
    await store.create(upload)
    return await store.append(upload, Arriving(content))


async def due(store: FileStore) -> list[str]:
    return [upload_id async for upload_id in store.due(LATER)]


async def lose_marks(store: FileStore) -> None:
    root = Path(store.path("any")).parents[2]
    await run_sync(lambda: [mark.unlink() for mark in root.glob("due/*/*")])


async def files_of(store: FileStore, upload: Upload) -> list[Path]:
    folder = Path(store.path(upload.id)).parent
    return await run_sync(lambda: list(folder.glob(f"{upload.id}*")))


async def test_an_upload_whose_mark_is_lost_is_found_after_a_restart_and_swept(
    store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    upload = await created(store)
    await due(store)  # a sweep before the power goes
    await lose_marks(store)
    assert await due(store) == []
    again = start_anew()
    assert await Uploads(again, clock=lambda: LATER).sweep() == 1
    assert await files_of(again, upload) == []


async def test_all_bytes_whose_completion_is_marked_nowhere_are_completed_after_a_restart(
    store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    upload = await created(store, length=3)
    await store.finish(upload)  # and then the power goes
    await lose_marks(store)
    again = start_anew()
    await Uploads(again, clock=lambda: NOW - timedelta(days=1)).sweep()
    assert (await again.get(upload.id)).is_complete


async def test_bytes_that_have_lost_their_record_are_removed_after_a_restart(
    store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    lost, kept = await created(store), await created(store)
    await run_sync(os.unlink, f"{store.path(lost.id)}.info")
    again = start_anew()
    await due(again)
    assert await files_of(again, lost) == []
    assert len(await files_of(again, kept)) == 2


@pytest.mark.parametrize("record", TORN)
async def test_what_is_left_of_a_record_that_was_not_flushed_is_no_upload(
    record: bytes, store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    upload = await created(store)
    await run_sync(Path(f"{store.path(upload.id)}.info").write_bytes, record)
    again = start_anew()
    with pytest.raises(UploadNotFound):
        await again.get(upload.id)
    with pytest.raises(UploadNotFound):
        await again.append(upload, Arriving(b"d"))
    with pytest.raises(UploadNotFound):
        await again.update(upload)
    await due(again)
    assert await files_of(again, upload) == []


@pytest.mark.parametrize("record", TORN)
async def test_an_id_is_free_whose_record_was_not_flushed(record: bytes, store: FileStore) -> None:
    upload = await created(store)
    await run_sync(Path(f"{store.path(upload.id)}.info").write_bytes, record)
    anew = new_upload(id=upload.id, length=5)
    await store.create(anew)
    assert await store.get(upload.id) == anew


@pytest.mark.parametrize("record", TORN)
async def test_what_is_left_of_a_record_that_was_not_flushed_can_be_terminated(
    record: bytes, store: FileStore
) -> None:
    upload = await created(store)
    await run_sync(Path(f"{store.path(upload.id)}.info").write_bytes, record)
    await store.terminate(upload.id)
    assert await files_of(store, upload) == []


async def test_a_record_that_somebody_has_damaged_is_not_removed(
    store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    upload = await created(store)
    await run_sync(Path(f"{store.path(upload.id)}.info").write_bytes, b'{"version": 1, "id"')
    again = start_anew()
    await due(again)
    assert len(await files_of(again, upload)) == 2


@pytest.mark.parametrize("boot", ["a run", None], ids=["named", "unnamed"])
async def test_all_is_looked_through_once_in_a_run_of_the_machine(
    boot: str | None, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "boot_id", lambda: boot)
    for _ in range(50):
        await created(store)
    calls = []
    for _ in range(2):
        counts = Counts()
        with seen_by(Os(counts.before)):
            assert [key async for key in store.due(NOW - timedelta(days=1))] == []
        calls.append(counts.calls["stat"] + counts.calls["fstat"] + counts.calls["scandir"])
    assert calls[0] > 50
    assert calls[1] < 10


async def test_a_process_that_comes_later_need_not_look_again(
    store: FileStore, fast_place: Path
) -> None:
    await created(store)
    await due(store)
    await lose_marks(store)
    assert await due(FileStore(fast_place / "place")) == []


async def test_a_mark_for_which_there_is_no_room_is_made_by_a_later_sweep(
    store: FileStore, start_anew: Callable[[], FileStore]
) -> None:
    upload = await created(store)
    await lose_marks(store)
    again = start_anew()

    def full(source: str, target: str) -> None:
        assert "/due/" in target
        raise OSError(28, "No space left on device")

    with seen_by(Os(link=full)):
        assert await due(again) == []
    assert await due(again) == [upload.id]
