"""The fsspec store, cancelled as asyncio does it: `Task.cancel` passes the shields of anyio."""

import asyncio
import gc
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.spec import AbstractBufferedFile

from tests.stores.fsspec._filesystems import (
    Watched,
    WatchedObjects,
    names_below,
    over_files,
    over_memory,
)
from tusasgi import Upload, UploadNotFound
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.stores.fsspec import store as store_module
from tusasgi.testing import new_upload

pytestmark = pytest.mark.anyio

LEAST = 64 * 1024
CONTENT = bytes(range(251)) * 1000  # four pieces
HALF = len(CONTENT) // 2


@pytest.fixture
def anyio_backend() -> str:
    """trio knows no cancellation but that of scopes."""
    return "asyncio"


@pytest.fixture(params=["objects", "files"])
def watched(request: pytest.FixtureRequest) -> Watched:
    return over_memory() if request.param == "objects" else over_files()


class Wrong(Exception):
    """What the chunks raise that are refused."""


class Held:
    """Holds the call of a number in its worker thread."""

    def __init__(self, number: int) -> None:
        self.count = 0
        self.reached = threading.Event()
        self.go = threading.Event()
        self._number = number

    def __call__(self, name: str, path: str) -> None:
        self.count += 1
        if self.count == self._number:
            self.reached.set()
            assert self.go.wait(30)


@dataclass
class Scene:
    upload: Upload
    kept: int = 0
    """How many bytes were acknowledged."""
    parts: tuple[Upload, ...] = ()


async def chunks(content: bytes, error: Exception | None = None) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 40_000):
        yield content[start : start + 40_000]
    if error is not None:
        raise error


async def begun(store: FsspecStore, size: int = HALF, **fields: Any) -> Upload:
    upload = await store.create(new_upload(length=len(CONTENT), **fields))
    return await store.append(upload, chunks(CONTENT[:size]))


async def _new(store: FsspecStore) -> Scene:
    return Scene(new_upload(length=len(CONTENT)))


async def _begun(store: FsspecStore) -> Scene:
    return Scene(await begun(store), HALF)


async def _full(store: FsspecStore) -> Scene:
    return Scene(await begun(store, len(CONTENT)), len(CONTENT))


async def _joinable(store: FsspecStore) -> Scene:
    parts = []
    for content in (CONTENT[:HALF], CONTENT[HALF:]):
        part = await store.create(new_upload(length=len(content), is_partial=True))
        parts.append(await store.finish(await store.append(part, chunks(content))))
    names = tuple(part.id for part in parts)
    final = await store.create(new_upload(length=len(CONTENT), parts=names))
    return Scene(final, 0, tuple(parts))


async def _refused(store: FsspecStore, upload: Upload) -> None:
    with suppress(Wrong):
        await store.append(upload, chunks(CONTENT[HALF:], Wrong()))


OPERATIONS: dict[str, tuple[Any, Callable[[FsspecStore, Upload], Awaitable[Any]]]] = {
    "create": (_new, lambda store, upload: store.create(upload)),
    "append": (_begun, lambda store, upload: store.append(upload, chunks(CONTENT[HALF:]))),
    "staged": (
        _begun,
        lambda store, upload: store.append(upload, chunks(CONTENT[HALF:]), staged=True),
    ),
    "refused": (_begun, _refused),
    "update": (_begun, lambda store, upload: store.update(upload)),
    "finish": (_full, lambda store, upload: store.finish(upload)),
    "terminate": (_begun, lambda store, upload: store.terminate(upload.id)),
    "concat": (_joinable, lambda store, upload: store.concat(upload)),
}


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_store_that_asyncio_cancels_lets_go_when_its_thread_is_done(
    name: str, watched: Watched, fast_place: Path
) -> None:
    number, has_more = 0, True
    while has_more:
        number += 1
        has_more = await cancelled_at(number, name, watched, str(fast_place / f"{number}"))
    assert number > 2


async def cancelled_at(number: int, name: str, watched: Watched, root: str) -> bool:
    """Cancel an operation in a call to the filesystem. False if it has fewer calls."""
    prepare, run = OPERATIONS[name]
    store = FsspecStore(watched, root, piece_size=LEAST)
    scene = await prepare(store)
    held = watched.before = Held(number)
    task = asyncio.ensure_future(run(store, scene.upload))
    reached = asyncio.ensure_future(asyncio.to_thread(held.reached.wait, 30))
    await asyncio.wait([task, reached], return_when=asyncio.FIRST_COMPLETED)
    is_held = not task.done()
    held.reached.set()
    await reached
    if is_held:
        for _ in range(3):  # whoever has no patience may say so again
            task.cancel()
            await asyncio.sleep(0.001)
        assert not task.done(), "it let go while its thread was at work"
        held.go.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        seen = held.count
        await asyncio.sleep(0.005)
        assert held.count == seen, "somebody is still at work"
    watched.before = lambda name, path: None
    await check(store, scene, name, watched, root)
    return is_held


async def check(store: FsspecStore, scene: Scene, name: str, watched: Watched, root: str) -> None:
    """See that nothing acknowledged is lost, go on to the end, and remove everything."""
    try:
        upload = await store.get(scene.upload.id)
    except UploadNotFound:
        assert name in ("create", "terminate")
    else:
        assert scene.kept <= upload.offset <= len(CONTENT)
        assert await read(store, upload) == CONTENT[: upload.offset]
        if upload.parts:
            upload = await store.concat(upload)
        elif not upload.has_all_bytes:
            upload = await store.append(upload, chunks(CONTENT[upload.offset :]))
        upload = await store.finish(upload)
        assert await read(store, upload) == CONTENT
    for known in (scene.upload, *scene.parts):
        await store.terminate(known.id)
    assert names_below(watched, root) == []


async def read(store: FsspecStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


async def test_a_file_that_was_opened_when_asyncio_cancelled_is_never_finished(
    fast_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[AbstractBufferedFile] = []

    class Buffered(AbstractBufferedFile):  # type: ignore[misc]
        """As those of object stores: finished when it is closed, or collected."""

        finished = 0

        def __init__(self) -> None:
            super().__init__(watched, "a", "wb")
            opened.append(self)

        def _upload_chunk(self, final: bool = False) -> bool:
            Buffered.finished += final
            return True

    class Buffering(WatchedObjects):
        def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
            if mode == "rb" or "uploads" not in path:
                return super().open(path, mode, **options)
            file = Buffered()
            self._seen("opened", path)
            return file

    def hold(name: str, path: str) -> None:
        if name == "opened":
            reached.set()
            assert go.wait(30)
        elif name == "cat_file" and reached.is_set():
            assert end.wait(30)

    reached, go, end = threading.Event(), threading.Event(), threading.Event()
    monkeypatch.setattr(store_module, "_THREADS", 1)
    watched = Buffering(over_memory().fs)
    store = FsspecStore(watched, str(fast_place), piece_size=LEAST)
    upload = await begun(store, len(CONTENT))
    watched.before = hold
    task = asyncio.ensure_future(store.finish(upload))
    assert await asyncio.to_thread(reached.wait, 30)
    other = asyncio.ensure_future(store.get(upload.id))  # takes the only thread then
    await asyncio.sleep(0.01)
    go.set()
    for _ in range(50):  # without any patience
        task.cancel()
        await asyncio.sleep(0.001)
    assert not task.done()  # it cleans up when there is a thread for it
    end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(opened) == 1
    del task
    opened.clear()
    gc.collect()  # as soon or as late as it may be
    assert Buffered.finished == 0
    assert await other == upload
