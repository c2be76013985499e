"""A file of somebody else becomes the bytes of an upload, whatever ends that on the way."""

import contextlib
import errno
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.stores.file._os import Crash, FailsOnce, Os, Power, seen_by
from tusasgi import StoreFull, Upload, UploadExists, Uploads
from tusasgi.stores import WriteConflict
from tusasgi.stores.file import FileStore, records
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

DATA = b"0123456"
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
EXPIRES = {"expires": datetime(2099, 1, 1, tzinfo=UTC)}
MAX_CHANGES = 40


def theirs(place: Path) -> Path:
    place.mkdir(exist_ok=True)
    path = place / "theirs"
    path.write_bytes(DATA)
    return path


def an_upload(length: int = 10, **fields: object) -> Upload:
    return new_upload(length=length, offset=len(DATA), **fields)


async def content(store: FileStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


@pytest.mark.parametrize("length", [10, 7], ids=["unfinished", "complete"])
async def test_an_adopted_file_is_the_upload_itself_and_goes_on(
    length: int, fast_place: Path
) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")
    upload = an_upload(length, is_complete=length == 7)
    assert await store.adopt(upload, str(path)) is True
    assert await store.get(upload.id) == upload
    assert path.samefile(store.path(upload.id))
    if length == 10:
        upload = await store.append(upload, Arriving(b"789"))
        assert upload.offset == 10
        upload = await store.finish(upload)
        upload = await store.update(replace(upload, is_complete=True))
    other = FileStore(fast_place / "ours")
    assert await other.get(upload.id) == upload
    assert await content(other, upload) == DATA + b"789"[: length - 7]


async def test_what_was_adopted_counts_after_the_machine_was_started_anew(
    fast_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, upload = theirs(fast_place), an_upload()
    await FileStore(fast_place / "ours").adopt(upload, str(path))
    monkeypatch.setattr(records, "boot_id", lambda: "another")
    assert await FileStore(fast_place / "ours").get(upload.id) == upload


async def test_what_was_adopted_is_not_adopted_again(fast_place: Path) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")
    upload = an_upload()
    await store.adopt(upload, str(path))
    gone_on = await store.append(upload, Arriving(b"78"))
    assert await store.adopt(replace(upload, offset=9), str(path)) is False
    assert await store.get(upload.id) == gone_on


async def test_a_length_that_was_declared_since_is_taken_over(fast_place: Path) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")
    upload = replace(an_upload(), length=None)
    await store.adopt(upload, str(path))
    assert await store.adopt(replace(upload, length=10), str(path)) is False
    assert await store.get(upload.id) == replace(upload, length=10)


@pytest.mark.parametrize("sent", [b"", b"other"], ids=["without-bytes", "with-bytes"])
async def test_another_upload_of_the_id_stays_as_it_is(sent: bytes, fast_place: Path) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")
    upload = an_upload()
    own = await store.create(replace(upload, offset=0, created=FAR_FUTURE))
    own = await store.append(own, Arriving(sent))
    with pytest.raises(UploadExists):
        await store.adopt(upload, str(path))
    assert await store.get(upload.id) == own
    assert path.read_bytes() == DATA


async def test_a_file_of_another_size_than_said_is_being_written_to(fast_place: Path) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")
    with pytest.raises(WriteConflict):
        await store.adopt(replace(an_upload(), offset=6), str(path))
    assert [upload async for upload in store.ids()] == []


@pytest.mark.parametrize("fields", [{}, EXPIRES], ids=["for-ever", "expires"])
async def test_whatever_ends_an_adoption_it_can_be_done_again(
    fields: dict[str, datetime], fast_place: Path
) -> None:
    for change in range(MAX_CHANGES):
        path = theirs(fast_place / str(change))
        folder = path.parent / "ours"
        upload = an_upload(**fields)
        power = Power(change)
        with contextlib.suppress(Crash, BaseExceptionGroup), seen_by(Os(power.before)):
            await FileStore(folder).adopt(upload, str(path))
        assert path.read_bytes() == DATA
        store = FileStore(folder)
        await store.adopt(upload, str(path))
        assert await store.get(upload.id) == upload
        assert await content(store, upload) == DATA
        if not power.is_off:
            return
    pytest.fail("an adoption changes the disk without end")


async def test_what_a_broken_adoption_leaves_is_removed_and_nothing_of_theirs(
    fast_place: Path,
) -> None:
    for change in range(MAX_CHANGES):
        path = theirs(fast_place / str(change))
        folder = path.parent / "ours"
        upload = an_upload(**EXPIRES)
        power = Power(change)
        with contextlib.suppress(Crash, BaseExceptionGroup), seen_by(Os(power.before)):
            await FileStore(folder).adopt(upload, str(path))
        uploads = Uploads(FileStore(folder), clock=lambda: FAR_FUTURE)
        for _ in range(2):
            await uploads.sweep()
        assert [one for one in folder.rglob("*") if one.is_file()] == []
        assert path.read_bytes() == DATA
        if not power.is_off:
            return


async def test_whichever_call_fails_the_upload_is_there_whole_or_not_at_all(
    fast_place: Path,
) -> None:
    for call in range(100):
        path = theirs(fast_place / str(call))
        store = FileStore(path.parent / "ours")
        upload = an_upload()
        failing = FailsOnce(call, OSError(errno.ENOSPC, "No space left on device"))
        with contextlib.suppress(StoreFull), seen_by(Os(failing.before)):
            await store.adopt(upload, str(path))
        found = [await store.get(one) async for one in store.ids()]
        assert found in ([], [upload])
        await store.adopt(upload, str(path))
        assert await content(store, await store.get(upload.id)) == DATA
        if failing.failed is None:
            return
    pytest.fail("an adoption calls the system without end")


async def test_a_file_system_without_second_names_is_said_and_nothing_is_left(
    fast_place: Path,
) -> None:
    path, store = theirs(fast_place), FileStore(fast_place / "ours")

    def link(source: str, target: str, **how: bool) -> None:
        if source == str(path):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        os.link(source, target, **how)

    with pytest.raises(OSError, match="cross-device"), seen_by(Os(link=link)):
        await store.adopt(an_upload(), str(path))
    assert [upload async for upload in store.ids()] == []
