"""Dates of expiry move with the bytes; records do not, and marks only when a sweep finds them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Counts, Os, seen_by
from tusasgi import Append, Expiry, Upload, UploadNotFound, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> Any:
        return self.now


class Sent(Arriving):
    """Chunks as a source has them."""

    ending = None

    def interrupt(self) -> None:
        raise AssertionError("nobody else is here")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(fast_place: Path, clock: Clock) -> FileStore:
    return FileStore(fast_place / "place", clock=clock)


@pytest.fixture
def uploads(store: FileStore, clock: Clock) -> Uploads:
    return Uploads(store, clock=clock, expiry=Expiry(initial=HOUR, after_append=2 * HOUR))


def marks(store: FileStore) -> set[tuple[int, str]]:
    due = os.path.join(store._directory.root, "due")
    return {(int(hour), name) for hour in os.listdir(due) for name in os.listdir(f"{due}/{hour}")}


async def appended(uploads: Uploads, upload: Upload, content: bytes) -> Upload:
    return await uploads.append(upload.id, Append(offset=upload.offset), Sent(content))


async def test_an_append_that_moves_the_date_writes_nothing_but_its_bytes(
    uploads: Uploads, store: FileStore, clock: Clock
) -> None:
    upload = await appended(uploads, await uploads.create(length=9), b"abc")
    record = await run_sync(os.stat, f"{store.path(upload.id)}.info")
    clock.now += HOUR / 2
    counts = Counts()
    with seen_by(Os(counts.before)):
        upload = await appended(uploads, upload, b"def")
    assert upload.expires == clock.now + 2 * HOUR
    assert {counts.calls[name] for name in ("fsync", "rename", "link", "mkdir")} == {0}
    assert os.path.samestat(record, await run_sync(os.stat, f"{store.path(upload.id)}.info"))
    assert await FileStore(store._directory.root).get(upload.id) == upload


async def test_a_sweep_moves_the_mark_of_an_upload_whose_date_has_moved(
    uploads: Uploads, store: FileStore, clock: Clock
) -> None:
    hour = int(NOW.timestamp()) // 3600
    upload = await uploads.create(length=9)
    clock.now += HOUR / 2
    upload = await appended(uploads, upload, b"abc")
    assert await run_sync(marks, store) == {(hour + 1, upload.id)}
    clock.now += HOUR
    assert await uploads.sweep() == 0
    assert await run_sync(marks, store) == {(hour + 3, upload.id)}
    assert await uploads.get(upload.id) == upload
    clock.now += HOUR / 2
    assert await uploads.sweep() == 0
    clock.now += HOUR
    assert await uploads.sweep() == 1
    assert await run_sync(marks, store) == set()
    with pytest.raises(UploadNotFound):
        await store.get(upload.id)


@pytest.mark.parametrize("initial", [timedelta(days=9), None], ids=["later", "none"])
async def test_a_date_that_comes_closer_with_the_first_bytes_is_found_in_time(
    initial: timedelta | None, store: FileStore, clock: Clock
) -> None:
    uploads = Uploads(store, clock=clock, expiry=Expiry(initial=initial, after_append=2 * HOUR))
    upload = await uploads.create(length=9)
    for content in (b"abc", b"def"):
        clock.now += HOUR
        upload = await appended(uploads, upload, content)
        assert upload.expires == clock.now + 2 * HOUR
    clock.now += 1.5 * HOUR
    assert await uploads.sweep() == 0
    clock.now += HOUR
    assert await uploads.sweep() == 1


async def test_what_is_complete_has_no_mark_after_the_sweep_of_its_hours(
    uploads: Uploads, store: FileStore, clock: Clock
) -> None:
    upload = await uploads.create(length=9)
    upload = await appended(uploads, upload, b"abc")
    clock.now += 1.5 * HOUR
    await uploads.sweep()
    upload = await appended(uploads, upload, b"defghi")
    assert upload.is_complete
    clock.now += 5 * HOUR
    assert await uploads.sweep() == 0
    assert await run_sync(marks, store) == set()
    assert await uploads.get(upload.id) == upload


async def test_an_upload_of_an_earlier_release_keeps_its_date_and_slides_from_its_next_append_on(
    uploads: Uploads, store: FileStore, clock: Clock
) -> None:
    upload = await store.create(new_upload(length=9, expires=NOW + HOUR))
    clock.now += HOUR / 2
    assert (await uploads.get(upload.id)).expires == NOW + HOUR
    upload = await appended(uploads, upload, b"abc")
    assert upload.expires == clock.now + 2 * HOUR
    clock.now += HOUR
    assert await FileStore(store._directory.root).get(upload.id) == upload
    assert await uploads.sweep() == 0


async def test_cutting_bytes_that_were_lost_moves_no_date(
    uploads: Uploads, store: FileStore, clock: Clock
) -> None:
    upload = await appended(uploads, await uploads.create(length=9), b"abc")
    later = await run_sync(lambda: FileStore(store._directory.root, clock=clock))
    later._directory.uncut.add(upload.id)
    clock.now += HOUR / 2
    await later.update(await later.get(upload.id))
    cut = await later.get(upload.id)
    assert (cut.offset, cut.expires) == (0, upload.expires)
