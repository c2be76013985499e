"""The power goes: whatever the disk has kept by then is what was promised.

The model of a disk: the names of each folder change in their order, and how far each folder has
come is open. Of the bytes of a file that no flush has covered, any pages may have arrived and
any not, and the file may be as long as it ever was since; what is missing reads as zeros. States
that such a disk may be found in are built in folders of their own, and a store is opened on each,
on a machine that was started anew.
"""

import errno
import itertools
import os
import random
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.file._os import Os, seen_by
from tusasgi import Upload, UploadNotFound
from tusasgi.stores.file import Durability, FileStore, appending, records
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing.stores import NOW

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(1, 252)) * 5
PAGE = 64


@dataclass
class Operation:
    """One change: of names, of the bytes of a file, or a flush of either."""

    kind: str
    path: str = ""
    other: str = ""
    inode: int = -1
    offset: int = 0
    data: bytes = b""
    until: int = 0
    """How many operations were there when a flush began: it covers those."""


@dataclass
class Tape:
    """Records what a store does to a file system, and which promises it made on the way."""

    root: str
    operations: list[Operation] = field(default_factory=list)
    promises: list[tuple[int, Callable[[FileStore], Awaitable[None]]]] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    files: dict[int, tuple[str, int]] = field(default_factory=dict)

    def shim(self) -> Os:
        own = ("open", "link", "unlink", "rename", "mkdir", "rmdir", "pwritev", "fsync")
        own += ("pwrite", "ftruncate", "copy_file_range")
        return Os(**{name: getattr(self, name) for name in own})

    def restart(self) -> None:
        """Note that the machine was started anew, and happened to have all on its disk."""
        self._add("restart")

    def promise(self, check: Callable[[FileStore], Awaitable[None]]) -> None:
        """Note what has to hold whenever the power goes from now on."""
        self.promises.append((len(self.operations), check))

    def _add(self, kind: str, **fields: Any) -> None:
        self.operations.append(Operation(kind, **fields))

    def _local(self, path: str, folder: int | None = None) -> str:
        if folder is not None:
            return os.path.normpath(os.path.join(self.files[folder][0], path))
        return os.path.relpath(path, self.root)

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        local = self._local(path, dir_fd)
        is_new = flags & os.O_CREAT and not os.path.exists(os.path.join(self.root, local))
        file = os.open(path, flags, mode, dir_fd=dir_fd)
        if is_new:
            self._names[local] = len(self.operations)
            self._add("create", path=local, inode=self._names[local])
        self.files[file] = (local, self._names.get(local, -1))
        return file

    def link(
        self,
        source: str,
        target: str,
        *,
        src_dir_fd: int | None = None,
        dst_dir_fd: int | None = None,
        follow_symlinks: bool = True,
    ) -> None:
        os.link(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        inode = self._names[self._local(source, src_dir_fd)]
        path = self._local(target, dst_dir_fd)
        self._names[path] = inode
        self._add("create", path=path, inode=inode)

    def unlink(self, path: str, *, dir_fd: int | None = None) -> None:
        os.unlink(path, dir_fd=dir_fd)
        self._names.pop(self._local(path, dir_fd), None)
        self._add("unlink", path=self._local(path, dir_fd))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)
        inode = self._names[self._local(target)] = self._names.pop(self._local(source))
        self._add("rename", path=self._local(source), other=self._local(target), inode=inode)

    def mkdir(self, path: str, *, dir_fd: int | None = None) -> None:
        os.mkdir(path, dir_fd=dir_fd)
        self._add("mkdir", path=self._local(path, dir_fd))

    def rmdir(self, path: str) -> None:
        os.rmdir(path)
        self._add("rmdir", path=self._local(path))

    def pwritev(self, file: int, views: list[memoryview], offset: int) -> int:
        written = os.pwritev(file, views, offset)
        data = b"".join(views)[:written]
        self._add("write", inode=self.files[file][1], offset=offset, data=data)
        return written

    def pwrite(self, file: int, data: bytes, offset: int) -> int:
        return self.pwritev(file, [memoryview(data)], offset)

    def copy_file_range(
        self, source: int, target: int, count: int, position: int, offset: int
    ) -> int:
        # In small steps, so that the power can go within a copy.
        data = os.pread(source, min(count, 100), position)
        os.pwrite(target, data, offset)
        self._add("write", inode=self.files[target][1], offset=offset, data=data)
        return len(data)

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)
        self._add("truncate", inode=self.files[file][1], offset=size)

    def fsync(self, file: int) -> None:
        until = len(self.operations)
        local, inode = self.files[file]
        os.fsync(file)
        if inode < 0:
            self._add("flush-names", path=local)
        else:
            self._add("flush", inode=inode, until=until)


_NAMES = {"create", "unlink", "rename", "mkdir", "rmdir"}


def folder_of(one: Operation) -> str:
    """Return the folder whose names an operation changes. A rename is one change: the new name."""
    return os.path.dirname(one.other or one.path) or "."


@dataclass(frozen=True)
class Kept:
    """How much a disk has kept: all, but for what was not flushed of these folders or of data.

    Of what was not flushed of data it has the pages that `seed` chooses, or none or all of them.
    """

    late: frozenset[str]
    pages: str
    seed: int = 0

    def has(self, page: int) -> bool:
        if self.pages == "some":
            return random.Random(f"{self.seed} {page}").random() < 0.5
        return self.pages == "all"


def states_of(operations: list[Operation]) -> Iterator[Kept]:
    folders = {folder_of(one) for one in operations if one.kind in _NAMES}
    lates = {frozenset[str](), frozenset(folders)}
    lates |= {frozenset({folder}) for folder in folders}
    lates |= {frozenset(folders - {folder}) for folder in folders}
    for late in lates:
        yield Kept(late, "none")
        yield Kept(late, "all")
    for seed in range(4):
        yield Kept(frozenset(), "some", seed + 4 * len(operations))


def _kept_names(operations: list[Operation], late: frozenset[str]) -> Iterator[Operation]:
    flushed = {
        one.path: number for number, one in enumerate(operations) if one.kind == "flush-names"
    }
    restarted = max((n for n, one in enumerate(operations) if one.kind == "restart"), default=-1)
    for number, one in enumerate(operations):
        if one.kind in _NAMES:
            folder = folder_of(one)
            if folder not in late or number < max(flushed.get(folder, -1), restarted):
                yield one


Disk = dict[str, tuple[int, bytes] | None]
"""Every name: of a file with its inode and its bytes, of a folder with None."""


def disk_of(operations: list[Operation], kept: Kept) -> Disk:
    """Return what is there when the power is back."""
    placed: dict[str, int] = {}
    for one in _kept_names(operations, kept.late):
        if one.kind == "rename":
            placed[one.other] = one.inode
            placed.pop(one.path, None)
        elif one.kind in ("unlink", "rmdir"):
            placed.pop(one.path, None)
        else:
            placed[one.path] = one.inode
    disk: Disk = {"": None}
    for path, inode in sorted(placed.items()):
        if disk.get(os.path.dirname(path), ()) is None:  # else its folder has lost its own name
            disk[path] = None if inode < 0 else (inode, _bytes_of(inode, operations, kept))
    return disk


def build(root: Path, disk: Disk) -> None:
    written: dict[int, Path] = {}
    for path, file in disk.items():
        if file is None:
            (root / path).mkdir()
        elif file[0] in written:  # another name of it
            (root / path).hardlink_to(written[file[0]])
        else:
            written[file[0]] = root / path
            (root / path).write_bytes(file[1])


def _bytes_of(inode: int, operations: list[Operation], kept: Kept) -> bytes:
    covered = 0
    for number, one in enumerate(operations):
        if one.kind == "restart":
            covered = number
        elif one.kind == "flush" and one.inode == inode:
            covered = max(covered, one.until)
    durable, size = _content(inode, operations[:covered]), 0
    newest = _content(inode, operations)
    sizes = [len(durable)]
    for number in range(covered, len(operations)):
        if operations[number].inode == inode:
            sizes.append(len(_content(inode, operations[: number + 1])))
    size = random.Random(f"{kept.seed} size").choice(sizes)
    if kept.pages != "some":
        size = len(newest) if kept.pages == "all" else len(durable)
    found = bytearray(durable.ljust(size, b"\0")[:size])
    for start in range(0, size, PAGE):
        if kept.has(start // PAGE):
            page = newest[start : start + PAGE][: size - start]
            found[start : start + len(page)] = page
    return bytes(found)


def _content(inode: int, operations: list[Operation]) -> bytes:
    content = bytearray()
    for one in operations:
        if one.inode == inode and one.kind == "write":
            content[one.offset : one.offset + len(one.data)] = one.data
        elif one.inode == inode and one.kind == "truncate":
            del content[one.offset :]
    return bytes(content)


async def check_every_state(
    tape: Tape, place: Path, always: Any, start_machine: Callable[[], None], *, since: int = 1
) -> None:
    """Let the power go at every instant, in every way.

    Many ways leave the same disk: what was found right on one is right until more is promised.
    """
    start_machine()
    seen: set[Any] = set()
    for instant in range(since, len(tape.operations) + 1):
        past = tape.operations[:instant]
        promises = [check for promised, check in tape.promises if instant >= promised]
        for kept in states_of(past):
            disk = disk_of(past, kept)
            state = (len(promises), *disk.items())
            if state in seen:
                continue
            folder = place / str(len(seen))
            seen.add(state)
            await run_sync(build, folder, disk)
            store = FileStore(folder)
            for check in promises:
                await check(store)
            await check_sweep(store, folder)
            await always(store)
            await run_sync(shutil.rmtree, folder)
    assert len(seen) > len(tape.operations) / 4


async def check_sweep(store: FileStore, folder: Path) -> None:
    """The first sweep finds all that is due, and what it leaves are uploads with their records."""
    due = {upload_id async for upload_id in store.due(NOW + timedelta(hours=1))}
    for path in await run_sync(lambda: [*folder.glob("uploads/*/*")]):
        upload = await store.get(path.stem)
        assert upload.id in due or not (upload.is_pending or upload.can_expire)


def found_with(upload: Upload, offset: int) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        assert (await store.get(upload.id)).offset >= offset

    return check


def whole(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    """It is complete, or is to be completed once more: nothing of it is missing."""

    async def check(store: FileStore) -> None:
        kept = await store.get(upload.id)
        assert (kept.is_complete or kept.is_pending, kept.offset) == (True, upload.length)

    return check


def gone(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)

    return check


def goes_on(upload: Upload, content: bytes) -> Callable[[FileStore], Awaitable[None]]:
    """What is there is right, and with the rest it is the whole."""

    async def check(store: FileStore) -> None:
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            return
        assert await read(store, kept) == content[: kept.offset]
        if kept.removal is None and not kept.is_complete:
            if not kept.has_all_bytes:
                kept = await store.append(kept, Arriving(content[kept.offset :]))
            kept = await store.finish(kept)
            await store.update(replace(kept, is_complete=True))
            assert await read(store, await store.get(upload.id)) == content

    return check


async def read(store: FileStore, upload: Upload) -> bytes:
    if upload.offset == 0:
        return b""
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What starts the machine anew."""
    runs = itertools.count()

    def start() -> None:
        name = f"run {next(runs)}"
        monkeypatch.setattr(records, "boot_id", lambda: name)

    start()
    return start


@pytest.fixture
def anyio_backend() -> str:
    """One is enough for thousands of disks: what is written to them is the same on both."""
    return "asyncio"


@pytest.fixture(params=[250, 32 * 1024 * 1024], ids=["flushed-often", "flushed-at-the-end"])
def flush_every(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appending, "_FLUSH_EVERY", request.param)


@pytest.mark.usefixtures("flush_every")
@pytest.mark.parametrize("durability", ["complete", "append"])
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_whenever_the_power_goes_an_upload_is_what_was_promised(
    durability: Durability, is_staged: bool, fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT), expires=NOW)
    with seen_by(tape.shim()):
        store = FileStore(tape.root, durability=durability)
        await store.create(upload)
        if durability == "append":
            tape.promise(found_with(upload, 0))
        kept = upload
        for start, stop in ((0, 300), (300, 700), (700, len(CONTENT))):
            chunks = Arriving(CONTENT[start:stop])
            kept = await store.append(kept, chunks, staged=is_staged)
            if durability == "append":
                tape.promise(found_with(upload, stop))
            elif len(CONTENT) > appending._FLUSH_EVERY:
                tape.promise(found_with(upload, start))
        await store.finish(kept)
        tape.promise(found_with(upload, len(CONTENT)))  # a hook is told that it is whole
        await store.update(replace(kept, is_complete=True))
        tape.promise(whole(upload))
    await check_every_state(tape, fast_place, goes_on(upload, CONTENT), machine)


@pytest.mark.parametrize("durability", ["complete", "append"])
async def test_whenever_the_power_goes_an_empty_upload_is_whole_once_it_is_finished(
    durability: Durability, fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=0)
    with seen_by(tape.shim()):
        store = FileStore(tape.root, durability=durability)
        await store.create(upload)
        await store.finish(upload)
        tape.promise(found_with(upload, 0))
        await store.update(replace(upload, is_complete=True))
        tape.promise(whole(upload))
    await check_every_state(tape, fast_place, goes_on(upload, b""), machine)


@pytest.mark.parametrize("is_far", [False, True], ids=["one-disk", "another-disk"])
async def test_whenever_the_power_goes_what_is_handed_over_is_whole(
    is_far: bool, fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT))
    shim = tape.shim()
    if is_far:
        shim = far_from(shim)
    with seen_by(shim):
        store = FileStore(tape.root)
        await store.create(upload)
        kept = await store.finish(await store.append(upload, Arriving(CONTENT)))
        tape.promise(found_with(upload, len(CONTENT)))
        kept = await store.update(replace(kept, destination="2026/ada/film"))
        await store.hand_over(kept)
        tape.promise(handed_over(upload, "2026/ada/film"))
        await store.update(replace(kept, is_complete=True))
        tape.promise(whole(upload))
    await check_every_state(tape, fast_place, leaves_no_second_name(upload), machine)


def far_from(shim: Os) -> Os:
    """Have `files/` on another disk: nothing of the store can get a second name there."""
    link = shim._instead["link"]

    def cannot(source: str, target: str, **more: Any) -> None:
        if more.get("dst_dir_fd") is not None and more.get("src_dir_fd") is None:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(source, target, **more)

    return Os(**{**shim._instead, "link": cannot})


def handed_over(upload: Upload, destination: str) -> Callable[[FileStore], Awaitable[None]]:
    """The host, who was told, finds the whole file."""

    async def check(store: FileStore) -> None:
        path = Path(store._directory.root, "files", destination)
        assert await run_sync(path.read_bytes) == CONTENT

    return check


def leaves_no_second_name(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    """Whatever is left to be done, the next request and a sweep do it, with the same result."""

    async def check(store: FileStore) -> None:
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            return
        assert await read(store, kept) == CONTENT[: kept.offset]
        if kept.destination is None:
            return
        if not kept.is_complete:
            await store.hand_over(await store.finish(kept))
            kept = await store.update(replace(kept, is_complete=True))
        async for upload_id in store.due(NOW):
            await store.update(await store.get(upload_id))
        assert await read(store, kept) == CONTENT
        assert not await run_sync(os.path.exists, store.path(upload.id))
        assert [one async for one in store.due(NOW)] == []

    return check


@pytest.mark.usefixtures("flush_every")
@pytest.mark.parametrize("durability", ["complete", "append"])
async def test_when_the_power_goes_again_an_upload_goes_on_again(
    durability: Durability, fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT))
    with seen_by(tape.shim()):
        store = FileStore(tape.root, durability=durability)
        await store.create(upload)
        await store.append(upload, Arriving(b"lost when the power goes" * 20))
        await store.append(await store.get(upload.id), Arriving(b"this too" * 30))
        tape.restart()
        machine()
        again = FileStore(tape.root, durability=durability)
        kept = await again.get(upload.id)
        assert kept.offset % (720 if durability == "append" else 480) == 0
        content = (b"lost when the power goes" * 20 + b"this too" * 30)[: kept.offset]
        content += CONTENT[kept.offset :]
        since = len(tape.operations)
        for stop in (800, 1000):
            kept = await again.append(kept, Arriving(content[kept.offset : stop]))
            if durability == "append":
                tape.promise(found_with(upload, stop))
    tape.promises.append((since, found_with(upload, 0)))

    async def always(store: FileStore) -> None:
        kept = await store.get(upload.id)
        if kept.offset > 0:
            assert await read(store, kept) == content[: kept.offset]
        await goes_on(upload, content)(store)

    await check_every_state(tape, fast_place, always, machine, since=since)


async def test_whenever_the_power_goes_a_terminated_upload_stays_away(
    fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT), expires=NOW)
    with seen_by(tape.shim()):
        store = FileStore(tape.root)
        await store.create(upload)
        upload = await store.append(upload, Arriving(CONTENT[:500]))
        removed = await store.update(replace(upload, removal="terminated"))
        tape.promise(removed_or_gone(removed))
        until = len(tape.operations)
        await store.terminate(upload.id)
        tape.promise(gone(upload))
    assert until < len(tape.operations)
    await check_every_state(tape, fast_place, goes_on(upload, CONTENT), machine)


def removed_or_gone(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        try:
            assert (await store.get(upload.id)).removal == upload.removal
        except UploadNotFound:
            return
        assert upload.id in [key async for key in store.due(NOW)]  # somebody will go on with it

    return check


async def test_whenever_the_power_goes_a_joined_upload_is_whole_or_goes_on(
    fast_place: Path, machine: Callable[[], None]
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    half = len(CONTENT) // 2
    parts = [
        new_upload(length=half, is_partial=True),
        new_upload(length=len(CONTENT) - half, is_partial=True),
    ]
    final = new_upload(length=len(CONTENT), parts=tuple(part.id for part in parts))
    with seen_by(tape.shim()):
        store = FileStore(tape.root)
        for part, content in zip(parts, (CONTENT[:half], CONTENT[half:]), strict=True):
            await store.create(part)
            kept = await store.append(part, Arriving(content))
            await store.finish(kept)
            await store.update(replace(kept, is_complete=True))
            tape.promise(whole(part))
        await store.create(final)
        joined = await store.concat(final)
        await store.finish(joined)
        await store.update(replace(joined, is_complete=True))
        tape.promise(whole(final))

    async def always(store: FileStore) -> None:
        try:
            kept = await store.get(final.id)
        except UploadNotFound:
            return
        if not kept.is_complete:
            assert final.id in [key async for key in store.due(NOW)]
            kept = await store.concat(kept)
            await store.finish(kept)
        assert await read(store, kept) == CONTENT

    await check_every_state(tape, fast_place, always, machine)
