"""Partial uploads that are removed when they were joined."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tusasgi import Append, Body, Creation, Hooks, Upload, UploadNotFound, UploadPending, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import Client

pytestmark = pytest.mark.anyio

Store = MemoryStore | FileStore


class Told(Hooks):
    def __init__(self) -> None:
        self.calls: list[tuple[str, bool]] = []
        self.fails = 0

    async def completed(self, upload: Upload) -> None:
        self.calls.append(("completed", upload.is_partial))

    async def terminated(self, upload: Upload) -> None:
        self.calls.append(("terminated", upload.is_partial))
        if self.fails > 0:
            self.fails -= 1
            raise OSError("the database is away")


@pytest.fixture(params=[MemoryStore, FileStore], ids=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    make: Callable[..., Store] = request.param
    return make() if make is MemoryStore else make(tmp_path)


async def parts_of(uploads: Uploads) -> tuple[str, ...]:
    parts = []
    for data in (b"hello ", b"world"):
        part = await uploads.create_from(Creation(length=len(data), is_partial=True))
        await uploads.append(part.id, Append(offset=0), Body(Client(data).receive))
        parts.append(part.id)
    return tuple(parts)


async def content(store: Store, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


async def test_parts_stay_unless_the_host_wants_them_removed(store: Store) -> None:
    uploads = Uploads(store)
    parts = await parts_of(uploads)
    await uploads.create_from(Creation(length=None, parts=parts))
    for part in parts:
        assert (await store.get(part)).is_complete


async def test_parts_are_removed_once_they_are_joined(store: Store) -> None:
    hooks = Told()
    uploads = Uploads(store, hooks=hooks, remove_parts=True)
    parts = await parts_of(uploads)
    twice = (parts[0], parts[1], parts[0])
    final = await uploads.create_from(Creation(length=None, parts=twice))
    assert final.is_complete
    assert await content(store, final) == b"hello worldhello "
    for part in parts:
        with pytest.raises(UploadNotFound):
            await store.get(part)
    assert hooks.calls == [("completed", False), ("terminated", True), ("terminated", True)]


async def test_a_removal_of_parts_that_fails_is_repeated_before_the_upload_is_done(
    store: Store,
) -> None:
    hooks = Told()
    uploads = Uploads(store, hooks=hooks, remove_parts=True)
    parts = await parts_of(uploads)
    hooks.fails = 1
    with pytest.raises(UploadPending):
        await uploads.create_from(Creation(length=None, parts=parts, upload_id="final"))
    assert not (await store.get("final")).is_complete
    final = await uploads.get("final")
    assert final.is_complete
    assert await content(store, final) == b"hello world"
    for part in parts:
        with pytest.raises(UploadNotFound):
            await store.get(part)
