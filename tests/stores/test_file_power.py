"""The power goes: whatever the disk has kept by then is what was promised.

The model of a disk: the names of each folder change in their order, and the bytes of each file
arrive in theirs; how far each has come is open, but for what was flushed. States that such a
disk may be found in are built in folders of their own, and a store is opened on each.
"""

import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from anyio.to_thread import run_sync

from tests.stores.shim import Os, seen_by
from tusasgi import Upload, UploadNotFound
from tusasgi.stores.file import Durability, FileStore
from tusasgi.testing import Arriving, new_upload
from tusasgi.testing._stores import NOW

pytestmark = pytest.mark.anyio

CONTENT = bytes(range(251)) * 5


@dataclass
class Operation:
    """One change: of names, of the bytes of a file, or a flush of either."""

    kind: str
    path: str = ""
    other: str = ""
    inode: int = -1
    offset: int = 0
    data: bytes = b""


@dataclass
class Tape:
    """Records what a store does to a file system, and which promises it made on the way."""

    root: str
    operations: list[Operation] = field(default_factory=list)
    promises: list[tuple[int, Callable[[FileStore], Awaitable[None]]]] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)
    _files: dict[int, tuple[str, int]] = field(default_factory=dict)

    def shim(self) -> Os:
        own = ("open", "link", "unlink", "rename", "mkdir", "rmdir", "pwritev", "fsync")
        instead = {name: getattr(self, name) for name in (*own, "ftruncate", "copy_file_range")}
        return Os(**instead)

    def promise(self, check: Callable[[FileStore], Awaitable[None]]) -> None:
        """Note what has to hold whenever the power goes from now on."""
        self.promises.append((len(self.operations), check))

    def _add(self, kind: str, **fields: Any) -> None:
        self.operations.append(Operation(kind, **fields))

    def _local(self, path: str) -> str:
        return os.path.relpath(path, self.root)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        local = self._local(path)
        is_new = flags & os.O_CREAT and not os.path.exists(path)
        file = os.open(path, flags, mode)
        if is_new:
            self._names[local] = len(self.operations)
            self._add("create", path=local, inode=self._names[local])
        self._files[file] = (local, self._names.get(local, -1))
        return file

    def link(self, source: str, target: str) -> None:
        os.link(source, target)
        inode = self._names[self._local(target)] = self._names[self._local(source)]
        self._add("create", path=self._local(target), inode=inode)

    def unlink(self, path: str) -> None:
        os.unlink(path)
        self._names.pop(self._local(path), None)
        self._add("unlink", path=self._local(path))

    def rename(self, source: str, target: str) -> None:
        os.rename(source, target)
        inode = self._names[self._local(target)] = self._names.pop(self._local(source))
        self._add("rename", path=self._local(source), other=self._local(target), inode=inode)

    def mkdir(self, path: str) -> None:
        os.mkdir(path)
        self._add("mkdir", path=self._local(path))

    def rmdir(self, path: str) -> None:
        os.rmdir(path)
        self._add("rmdir", path=self._local(path))

    def pwritev(self, file: int, views: list[memoryview], offset: int) -> int:
        written = os.pwritev(file, views, offset)
        data = b"".join(views)[:written]
        self._add("write", inode=self._files[file][1], offset=offset, data=data)
        return written

    def copy_file_range(
        self, source: int, target: int, count: int, position: int, offset: int
    ) -> int:
        # In small steps, so that the power can go within a copy.
        data = os.pread(source, min(count, 100), position)
        os.pwrite(target, data, offset)
        self._add("write", inode=self._files[target][1], offset=offset, data=data)
        return len(data)

    def ftruncate(self, file: int, size: int) -> None:
        os.ftruncate(file, size)
        self._add("truncate", inode=self._files[file][1], offset=size)

    def fsync(self, file: int) -> None:
        os.fsync(file)
        local, inode = self._files[file]
        if inode < 0:
            self._add("flush-names", path=local)
        else:
            self._add("flush", inode=inode)


_NAMES = {"create", "unlink", "rename", "mkdir", "rmdir"}


def folder_of(one: Operation) -> str:
    """Return the folder whose names an operation changes. A rename is one change: the new name."""
    return os.path.dirname(one.other or one.path) or "."


@dataclass(frozen=True)
class Kept:
    """How much a disk has kept: all, but for what was not flushed of these folders or of data."""

    late: frozenset[str]
    has_all_bytes: bool


def states_of(operations: list[Operation]) -> Iterator[Kept]:
    folders = {folder_of(one) for one in operations if one.kind in _NAMES}
    lates = {frozenset[str](), frozenset(folders)}
    lates |= {frozenset({folder}) for folder in folders}
    lates |= {frozenset(folders - {folder}) for folder in folders}
    for late in lates:
        for has_all_bytes in (False, True):
            yield Kept(late, has_all_bytes)


def _kept_names(operations: list[Operation], late: frozenset[str]) -> Iterator[Operation]:
    flushed = {
        one.path: number for number, one in enumerate(operations) if one.kind == "flush-names"
    }
    for number, one in enumerate(operations):
        if one.kind in _NAMES:
            folder = folder_of(one)
            if folder not in late or number < flushed.get(folder, -1):
                yield one


def build(root: Path, operations: list[Operation], kept: Kept) -> None:
    """Make the files that are there when the power is back."""
    placed: dict[str, int] = {}
    for one in _kept_names(operations, kept.late):
        if one.kind == "rename":
            placed[one.other] = one.inode
            placed.pop(one.path, None)
        elif one.kind in ("unlink", "rmdir"):
            placed.pop(one.path, None)
        else:
            placed[one.path] = one.inode
    root.mkdir()
    for path, inode in sorted(placed.items()):
        if not (root / path).parent.is_dir():
            continue  # its folder has lost its own name
        if inode < 0:
            (root / path).mkdir()
        else:
            (root / path).write_bytes(_bytes_of(inode, operations, kept.has_all_bytes))


def _bytes_of(inode: int, operations: list[Operation], has_all: bool) -> bytes:
    own = [one for one in operations if one.inode == inode and one.kind not in _NAMES]
    if not has_all:
        last = max((number for number, one in enumerate(own) if one.kind == "flush"), default=-1)
        own = own[: last + 1]
    content = bytearray()
    for one in own:
        if one.kind == "write":
            content[one.offset : one.offset + len(one.data)] = one.data
        elif one.kind == "truncate":
            del content[one.offset :]
    return bytes(content)


async def check_every_state(tape: Tape, place: Path, always: Any) -> None:
    """Let the power go at every instant, in every way."""
    seen = 0
    for instant in range(1, len(tape.operations) + 1):
        past = tape.operations[:instant]
        for kept in states_of(past):
            folder = place / str(seen)
            await run_sync(build, folder, past, kept)
            store = FileStore(folder)
            await always(store)
            for since, check in tape.promises:
                if instant >= since:
                    await check(store)
            seen += 1
    assert seen > len(tape.operations)


def found_with(upload: Upload, offset: int) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        assert (await store.get(upload.id)).offset >= offset

    return check


def complete(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        kept = await store.get(upload.id)
        assert (kept.is_complete, kept.offset) == (True, upload.length)

    return check


def gone(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)

    return check


def due(upload: Upload) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        assert upload.id in [key async for key in store.due(NOW)]

    return check


def beginning_of(upload: Upload, content: bytes) -> Callable[[FileStore], Awaitable[None]]:
    async def check(store: FileStore) -> None:
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            return
        if kept.offset > 0:
            read = [chunk async for chunk in store.read(kept, 0, kept.offset)]
            assert b"".join(read) == content[: kept.offset]

    return check


@pytest.mark.parametrize("durability", ["complete", "append"])
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_whenever_the_power_goes_an_upload_is_what_was_promised(
    durability: Durability, is_staged: bool, fast_place: Path
) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT), expires=NOW)
    with seen_by(tape.shim()):
        store = FileStore(tape.root, durability=durability)
        await store.create(upload)
        tape.promise(found_with(upload, 0))
        kept = upload
        for start, stop in ((0, 300), (300, 700), (700, len(CONTENT))):
            chunks = Arriving(CONTENT[start:stop])
            kept = await store.append(kept, chunks, staged=is_staged)
            if durability == "append":
                tape.promise(found_with(upload, stop))
        await store.finish(kept)
        await store.update(replace(kept, is_complete=True))
        tape.promise(complete(upload))
    await check_every_state(tape, fast_place, beginning_of(upload, CONTENT))


async def test_whenever_the_power_goes_a_terminated_upload_stays_away(fast_place: Path) -> None:
    tape = Tape(str(fast_place / "store"))
    (fast_place / "store").mkdir()
    upload = new_upload(length=len(CONTENT), expires=NOW)
    with seen_by(tape.shim()):
        store = FileStore(tape.root)
        await store.create(upload)
        upload = await store.append(upload, Arriving(CONTENT[:500]))
        await store.update(replace(upload, removal="terminated"))
        until = len(tape.operations)
        checks = due(upload)
        await store.terminate(upload.id)
        tape.promise(gone(upload))

    async def always(store: FileStore) -> None:
        await beginning_of(upload, CONTENT)(store)
        try:
            kept = await store.get(upload.id)
        except UploadNotFound:
            return
        if kept.removal is not None:
            await checks(store)  # somebody will go on with it

    assert until < len(tape.operations)
    await check_every_state(tape, fast_place, always)


async def test_whenever_the_power_goes_a_joined_upload_is_whole_or_goes_on(
    fast_place: Path,
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
            tape.promise(complete(part))
        await store.create(final)
        tape.promise(found_with(final, 0))
        joined = await store.concat(final)
        await store.finish(joined)
        await store.update(replace(joined, is_complete=True))
        tape.promise(complete(final))

    async def always(store: FileStore) -> None:
        try:
            kept = await store.get(final.id)
        except UploadNotFound:
            return
        if not kept.is_complete:
            assert final.id in [key async for key in store.due(NOW)]
            kept = await store.concat(kept)
        read = [chunk async for chunk in store.read(kept, 0, kept.offset)]
        assert b"".join(read) == CONTENT

    await check_every_state(tape, fast_place, always)
