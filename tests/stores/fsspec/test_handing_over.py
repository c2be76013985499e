"""A hand-over on filesystems of every kind: killed at every call, failing at every call."""

import contextlib
import errno
import hashlib
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from fsspec.implementations.local import LocalFileSystem

from tests.stores.fsspec._filesystems import (
    AsyncDict,
    Memory,
    Watched,
    WatchedFiles,
    WatchedObjects,
    WithoutOpen,
    names_below,
)
from tusasgi import FinalResponse, Hooks, Rejected, Upload, UploadNotFound, UploadPending, Uploads
from tusasgi.stores import DestinationTaken
from tusasgi.stores.fsspec import FsspecStore
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

CONTENT = random.Random(3).randbytes(150_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
FAR_FUTURE = datetime(2100, 1, 1, tzinfo=UTC)
PLACE = "files/2026/ada/film.mp4"
CHANGES = {"open", "write", "close", "pipe_file", "rm_file", "rmdir", "makedirs", "mv", "cp_file"}
CHANGES |= {"put_file"}
MOST_CALLS = 300


@pytest.fixture
def anyio_backend() -> str:
    """One is enough for hundreds of crashes: the calls and their order are the same on both."""
    return "asyncio"


class Crash(BaseException):
    """The process has died."""


class Copying(WatchedObjects):
    """An object store that copies by itself."""

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        self._seen("cp_file", path1)
        self.fs.cp_file(path1, path2)


class Crashing:
    """Dies before the n-th change, from 0."""

    def __init__(self, change: int) -> None:
        self._left = change
        self.is_off = False

    def before(self, name: str, path: str) -> None:
        if name in CHANGES and not self.is_off:
            self.is_off = self._left == 0
            self._left -= 1
        if self.is_off:
            raise Crash


class FailsOnce:
    def __init__(self, call: int) -> None:
        self._left = call
        self.has_failed = False

    def before(self, name: str, path: str) -> None:
        if not self.has_failed:
            self.has_failed = self._left == 0
            self._left -= 1
            if self.has_failed:
                raise OSError(errno.EIO, "Input/output error")


class Host(Hooks):
    """Wants every upload in one place, and leaves it there, takes it, rejects it or fails."""

    def __init__(self, fs: Any, root: str, does: str) -> None:
        self.taken: list[str] = []
        self._fs = fs
        self._path = f"{root}/{PLACE}"
        self._does = does

    async def destination(self, upload: Upload) -> str | None:
        return PLACE.removeprefix("files/")

    async def completed(self, upload: Upload) -> FinalResponse | None:
        try:
            content = await run_sync(self._fs.cat_file, self._path)
        except FileNotFoundError:  # it took it before it died
            assert self._does == "takes"
            assert self.taken
            return None
        self.taken.append(hashlib.sha256(content).hexdigest())
        if self._does == "takes":
            await run_sync(self._fs.rm_file, self._path)
        if self._does == "rejects":
            raise Rejected("a virus")
        return None


MAKERS: dict[str, Callable[[], Watched]] = {
    "renames": lambda: WatchedFiles(LocalFileSystem(skip_instance_cache=True)),
    "copies": lambda: Copying(Memory()),
    "streams": lambda: WatchedObjects(Memory()),
    "puts": lambda: WithoutOpen(Memory()),
}
CASES = [
    ("renames", "leaves"),
    ("renames", "takes"),
    ("renames", "rejects"),
    ("copies", "takes"),
    ("copies", "rejects"),
    ("streams", "leaves"),
    ("streams", "rejects"),
    ("puts", "takes"),
]


class Scene:
    def __init__(self, watched: Watched, root: str, does: str) -> None:
        self.watched = watched
        self.root = root
        self.host = Host(watched.fs, root, does)
        self._does = does

    def store(self) -> FsspecStore:
        return FsspecStore(self.watched, self.root, piece_size=64 * 1024)

    async def prepare(self) -> Upload:
        store = self.store()
        upload = await store.create(new_upload(length=len(CONTENT)))
        return await store.append(upload, Arriving(CONTENT))

    async def complete(
        self, upload: Upload, before: Callable[[str, str], None] | None = None
    ) -> None:
        store = self.store()
        await run_sync(store._connection.get)  # looks at the filesystem
        if before is not None:
            self.watched.before = before
        try:
            with contextlib.suppress(Rejected):
                await Uploads(store, hooks=self.host).get(upload.id)
        finally:
            self.watched.before = lambda name, path: None

    async def check(self, upload: Upload) -> None:
        with contextlib.suppress(UploadNotFound):
            await self.complete(upload)
        assert set(self.host.taken) == {DIGEST}
        store = self.store()
        uploads = Uploads(store, hooks=self.host, clock=lambda: FAR_FUTURE)
        for _ in range(2):  # a mark may be moved by one sweep and served by the next
            await uploads.sweep()
        place = {PLACE} if self._does == "leaves" else set()
        if self._does == "rejects":
            with pytest.raises(UploadNotFound):
                await store.get(upload.id)
        else:
            kept = await store.get(upload.id)
            assert (kept.is_handed_over, kept.offset) == (True, len(CONTENT))
            names = {name for name in await self.names() if not name.startswith("state/")}
            assert names == place
            await uploads.terminate(upload.id)
        assert await self.names() == place
        if place:
            content = await run_sync(self.watched.fs.cat_file, f"{self.root}/{PLACE}")
            assert content == CONTENT

    async def names(self) -> set[str]:
        found = await run_sync(names_below, self.watched, self.root)
        return {name.removeprefix(f"{self.root}/") for name in found}


@pytest.mark.parametrize(("kind", "does"), CASES)
async def test_a_process_that_dies_anywhere_has_handed_over_what_the_next_one_completes(
    kind: str, does: str, fast_place: Any
) -> None:
    for change in range(MOST_CALLS):
        scene = Scene(MAKERS[kind](), f"{fast_place}/{change}", does)
        upload = await scene.prepare()
        crashing = Crashing(change)
        with contextlib.suppress(Crash, BaseExceptionGroup, Exception):
            await scene.complete(upload, crashing.before)
        await scene.check(upload)
        if not crashing.is_off:
            assert change > 8
            return
    pytest.fail("it calls the filesystem without end")


@pytest.mark.parametrize(("kind", "does"), [("renames", "leaves"), ("streams", "rejects")])
async def test_whichever_call_fails_the_next_request_brings_it_to_its_end(
    kind: str, does: str, fast_place: Any
) -> None:
    for call in range(MOST_CALLS):
        scene = Scene(MAKERS[kind](), f"{fast_place}/{call}", does)
        upload = await scene.prepare()
        failing = FailsOnce(call)
        with contextlib.suppress(Exception):
            await scene.complete(upload, failing.before)
        await scene.check(upload)
        if not failing.has_failed:
            return
    pytest.fail("it calls the filesystem without end")


async def finished(store: FsspecStore, content: bytes, destination: str) -> Upload:
    upload = await store.create(new_upload(length=len(content)))
    upload = await store.append(upload, Arriving(content))
    return await store.update(replace(await store.finish(upload), destination=destination))


@pytest.mark.parametrize("foreign", [b"", b"abc", b"abcdef", b"xyz", b"folder"])
@pytest.mark.parametrize("kind", ["copies", "streams", "puts"])
async def test_only_what_a_copy_of_its_own_has_left_is_overwritten(
    kind: str, foreign: bytes
) -> None:
    """A file that was there before the copy was begun stays, whatever is in it."""
    watched = MAKERS[kind]()
    store = FsspecStore(watched, "/bucket")
    upload = await finished(store, b"abcdef", "x")
    if foreign == b"folder":
        await run_sync(watched.fs.pipe_file, "/bucket/files/x/y", b"")
    else:
        await run_sync(watched.fs.pipe_file, "/bucket/files/x", foreign)
    for _ in range(2):
        with pytest.raises(DestinationTaken, match="files/x is there already"):
            await store.hand_over(upload)
    await store.take_back(upload)
    if foreign != b"folder":
        assert await run_sync(watched.fs.cat_file, "/bucket/files/x") == foreign


async def test_a_copy_that_was_begun_gives_way_to_another_file_that_came_meanwhile() -> None:
    watched = MAKERS["streams"]()
    store = FsspecStore(watched, "/bucket")
    upload = await finished(store, b"abcdef", "x")
    watched.before = Crashing(1).before  # behind the note that the copy is begun
    with contextlib.suppress(Crash, BaseExceptionGroup):
        await store.hand_over(upload)
    watched.before = lambda name, path: None
    assert await run_sync(watched.fs.ls, f"/bucket/state/{upload.id}")
    await run_sync(watched.fs.pipe_file, "/bucket/files/x", b"of somebody else")
    with pytest.raises(DestinationTaken):
        await store.hand_over(upload)


async def test_nothing_comes_through_this_process_where_the_filesystem_copies() -> None:
    watched = MAKERS["copies"]()
    store = FsspecStore(watched, "/bucket")
    upload = await finished(store, CONTENT, "x")
    watched.written = 0
    await store.hand_over(upload)
    assert watched.written < 100
    assert watched.calls["cp_file"] == 1


async def test_a_file_that_the_host_took_away_is_not_found_and_the_upload_is_complete() -> None:
    fs = AsyncDict()
    store = FsspecStore(fs, "root")
    upload = await finished(store, CONTENT, "x")
    await store.hand_over(upload)
    upload = await store.update(replace(upload, is_complete=True))
    fs.objects.pop("root/files/x")
    assert (await store.get(upload.id)).offset == len(CONTENT)
    with pytest.raises(UploadNotFound, match="taken from where"):
        async for _ in store.read(upload, 0, 3):
            pass


class Slow(Memory):
    """Takes a while to copy, and as many calls at once as come."""

    def cp_file(self, path1: str, path2: str, **options: Any) -> None:
        time.sleep(0.05)
        super().cp_file(path1, path2, **options)


async def test_of_two_uploads_that_want_one_place_at_once_one_gets_it() -> None:
    """The filesystem would overwrite: the second one looks only when the first one is there."""
    fs = Slow()
    store = FsspecStore(fs, "/bucket")
    uploads = Uploads(store, hooks=Host(fs, "/bucket", "leaves"))
    contents = (b"first", b"other")
    both = [await store.create(new_upload(length=5)) for _ in contents]
    for upload, content in zip(both, contents, strict=True):
        await store.append(upload, Arriving(content))
    got: list[bytes] = []

    async def get(upload: Upload, content: bytes) -> None:
        with contextlib.suppress(UploadPending):
            await uploads.get(upload.id)
            got.append(content)

    async with anyio.create_task_group() as tasks:
        for upload, content in zip(both, contents, strict=True):
            tasks.start_soon(get, upload, content)
    assert len(got) == 1
    assert await run_sync(fs.cat_file, f"/bucket/{PLACE}") == got[0]


@pytest.mark.parametrize("kind", ["copies", "streams"])
async def test_its_own_bytes_go_only_when_it_is_noted_that_they_are_the_host_s(kind: str) -> None:
    """From then on the host may take them away, and whoever comes next knows it."""
    watched = MAKERS[kind]()
    store = FsspecStore(watched, "/bucket")
    upload = await finished(store, CONTENT, "x")
    noted: list[bool] = []

    def look(name: str, path: str) -> None:
        if (name, path) == ("rm_file", f"/bucket/uploads/{upload.id}"):
            noted.append(watched.fs.exists(f"/bucket/state/{upload.id}/handed-over"))

    watched.before = look
    await store.hand_over(upload)
    assert noted == [True]
