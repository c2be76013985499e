"""What the fsspec store makes of a filesystem, and what it costs."""

import asyncio
import errno
import random
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from fsspec.exceptions import FSTimeoutError
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from tests.stores.fsspec._filesystems import (
    AsyncDict,
    Deceiving,
    Memory,
    Plain,
    Watched,
    WatchedObjects,
    WithoutOpen,
    names_below,
    over_files,
    over_memory,
)
from tusasgi import (
    InvalidUploadId,
    OffsetConflict,
    StoreFull,
    StoreUnavailable,
    TooLarge,
    Upload,
    UploadExists,
    UploadNotFound,
    Uploads,
)
from tusasgi.stores import WriteConflict
from tusasgi.stores.fsspec import FsspecStore, connection
from tusasgi.stores.fsspec import store as store_module
from tusasgi.stores.fsspec.connection import Connection
from tusasgi.stores.fsspec.filesystem import Entry, Filesystem
from tusasgi.stores.fsspec.pieces import Piece, exclusive_name, merges, piece_of, run_of, sized_name
from tusasgi.stores.fsspec.store import UnusableFilesystem
from tusasgi.stores.records import load_record
from tusasgi.testing import Arriving, new_upload

pytestmark = pytest.mark.anyio

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)
HOUR = int(NOW.timestamp()) // 3600  # since 1970
LEAST = 64 * 1024
"""The smallest piece size, so that a test has many pieces of few bytes."""
CONTENT = random.Random(1).randbytes(4 * LEAST)


@pytest.fixture(params=["objects", "files"])
def watched(request: pytest.FixtureRequest) -> Watched:
    return over_memory() if request.param == "objects" else over_files()


@pytest.fixture
def root(fast_place: Path) -> str:
    return str(fast_place / "root")


async def created(store: FsspecStore, *appends: bytes, **fields: Any) -> Upload:
    upload = await store.create(new_upload(**fields))
    for content in appends:
        upload = await store.append(upload, Arriving(content))
    return upload


async def content(store: FsspecStore, upload: Upload) -> bytes:
    return b"".join([chunk async for chunk in store.read(upload, 0, upload.offset)])


# Which filesystem, and what it can.


@pytest.mark.parametrize(
    ("make", "creates_exclusively", "renames", "opens"),
    [
        pytest.param(Memory, True, False, True, id="memory"),
        pytest.param(Plain, False, False, True, id="plain"),
        pytest.param(Deceiving, False, False, True, id="deceiving"),
        pytest.param(AsyncDict, True, False, False, id="async"),
        pytest.param(lambda: WithoutOpen(Memory()), True, False, False, id="without-open"),
        pytest.param(LocalFileSystem, False, True, True, id="local"),
        pytest.param(
            lambda: AsyncFileSystemWrapper(LocalFileSystem()), False, True, True, id="wrapped"
        ),
    ],
)
def test_what_a_filesystem_can_is_found_out(
    make: Callable[[], Any], creates_exclusively: bool, renames: bool, opens: bool, root: str
) -> None:
    files = Filesystem(make(), root)
    files.probe()
    assert (files.creates_exclusively, files.renames, files._opens) == (
        creates_exclusively,
        renames,
        opens,
    )
    assert names_below(files._fs, root) == []


def test_a_wrapper_is_looked_through(root: str) -> None:
    local = LocalFileSystem()
    files = Filesystem(DirFileSystem(path=root, fs=AsyncFileSystemWrapper(local)), "a/b")
    assert (files._fs, files.root) == (local, f"{root}/a/b")


async def test_a_filesystem_that_cannot_be_written_is_refused_and_says_so(root: str) -> None:
    class ReadOnly(Memory):
        def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
            raise NotImplementedError

    with pytest.raises(UnusableFilesystem, match="ReadOnly cannot write"):
        await FsspecStore(ReadOnly(), root).create(new_upload())


async def test_a_filesystem_that_forgets_is_refused(root: str) -> None:
    class Forgetful(Memory):
        def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
            super().pipe_file(path, value[:1])

    with pytest.raises(UnusableFilesystem):
        await FsspecStore(Forgetful(), root).create(new_upload())


async def test_a_filesystem_that_is_away_at_first_is_tried_again(
    watched: Watched, root: str
) -> None:
    def away(name: str, path: str) -> None:
        raise ConnectionRefusedError

    store = FsspecStore(watched, root)
    watched.before = away
    with pytest.raises(StoreUnavailable):
        await store.create(new_upload())
    watched.before = lambda name, path: None
    upload = await created(store, b"abcdef")
    assert await content(store, upload) == b"abcdef"


async def test_all_who_wait_for_a_connection_hear_of_its_failure_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waiting = threading.Barrier(10)
    attempts = []

    class Entered(Connection):
        def get(self) -> Any:
            waiting.wait(20)
            return super().get()

    def refuse(url: str, options: Any) -> Any:
        attempts.append(url)
        time.sleep(0.2)  # so that they do wait
        raise StoreUnavailable("no connection")

    async def get() -> None:
        with pytest.raises(StoreUnavailable, match="no connection"):
            await store.get("a")

    monkeypatch.setattr(store_module, "Connection", Entered)
    store = FsspecStore("memory://a")
    monkeypatch.setattr(connection, "open_filesystem", refuse)
    async with anyio.create_task_group() as tasks:
        for _ in range(waiting.parties):
            tasks.start_soon(get)
    assert len(attempts) < 5
    monkeypatch.undo()
    assert Connection.get(store._connection) is Connection.get(store._connection)


def test_a_failure_of_an_old_connection_does_not_drop_a_new_one() -> None:
    store = FsspecStore("memory://a")
    newer = []

    def fail_late(directory: Any) -> None:
        store._connection.drop(directory)
        newer.append(store._connection.get())
        raise StoreUnavailable("the old one is broken")

    with pytest.raises(StoreUnavailable):
        store._take(fail_late)
    assert [store._connection.get()] == newer


async def test_the_place_is_a_url_or_a_filesystem_and_a_root(tmp_path: Path) -> None:
    by_url = FsspecStore(f"file://{tmp_path}/a", piece_size=LEAST)
    by_chain = FsspecStore(
        "dir::file://" + str(tmp_path), options={"dir": {"path": f"{tmp_path}/a"}}
    )
    by_fs = FsspecStore(LocalFileSystem(), f"{tmp_path}/a")
    upload = await created(by_url, b"abcdef")
    await by_fs.finish(upload)
    assert await by_fs.get(upload.id) == upload
    assert by_url.path(upload.id) == f"file://{tmp_path}/a/uploads/{upload.id}"
    assert by_fs.path(upload.id) == f"{tmp_path}/a/uploads/{upload.id}"
    assert FsspecStore(Memory()).path(upload.id) == f"uploads/{upload.id}"
    assert (tmp_path / "a" / "uploads" / upload.id).read_bytes() == b"abcdef"
    with pytest.raises(InvalidUploadId):
        by_url.path("../a")
    assert by_chain.path(upload.id)


def test_an_instance_of_fsspec_is_not_shared_by_url() -> None:
    one, two = FsspecStore("memory://a"), FsspecStore("memory://a")
    assert one._connection.get().files._fs is not two._connection.get().files._fs


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: FsspecStore("memory://a", "b"), id="two-roots"),
        pytest.param(lambda: FsspecStore(Memory(), options={"a": 1}), id="late-options"),
        pytest.param(lambda: FsspecStore("memory://a", piece_size=1), id="tiny-pieces"),
        pytest.param(lambda: FsspecStore("memory://a*")._connection.get(), id="glob"),
        pytest.param(
            lambda: FsspecStore(AsyncDict(asynchronous=True), "a")._connection.get(),
            id="asynchronous",
        ),
    ],
)
def test_what_cannot_work_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(ValueError):
        make()


async def test_nothing_outside_of_the_root_is_touched(watched: Watched, root: str) -> None:
    touched: list[str] = []
    watched.before = lambda name, path: touched.append(path)
    store = FsspecStore(watched, root, piece_size=LEAST)
    upload = await created(store, b"x" * 200_000, length=200_000)
    await store.finish(upload)
    await store.terminate(upload.id)
    assert touched
    assert all(part.startswith(f"{root}/") for path in touched for part in path.split(","))


# Failures of the filesystem.


class ServerError(Exception):
    """As client libraries raise it."""

    def __init__(self, status_code: int) -> None:
        super().__init__()
        self.status_code = status_code


SSHException = type("SSHException", (Exception,), {"__module__": "paramiko.ssh_exception"})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(OSError(errno.ENOSPC, "full"), StoreFull, id="full"),
        pytest.param(OSError(errno.EDQUOT, "quota"), StoreFull, id="quota"),
        pytest.param(ConnectionResetError(), StoreUnavailable, id="reset"),
        pytest.param(TimeoutError(), StoreUnavailable, id="timeout"),
        pytest.param(FSTimeoutError(), StoreUnavailable, id="fsspec-timeout"),
        pytest.param(OSError(errno.EHOSTUNREACH, "no route"), StoreUnavailable, id="no-route"),
        pytest.param(OSError(errno.EBUSY, "slow down"), StoreUnavailable, id="s3-503"),
        pytest.param(EOFError(), StoreUnavailable, id="end-of-file"),
        pytest.param(OSError("Socket is closed"), StoreUnavailable, id="paramiko-closed"),
        pytest.param(SSHException(), StoreUnavailable, id="ssh"),
        pytest.param(ServerError(503), StoreUnavailable, id="status-503"),
        pytest.param(ServerError(429), StoreUnavailable, id="status-429"),
        pytest.param(ServerError(403), ServerError, id="status-403"),
        pytest.param(PermissionError(errno.EACCES, "no"), PermissionError, id="forbidden"),
        pytest.param(OSError(errno.EIO, "broken"), OSError, id="broken"),
    ],
)
@pytest.mark.parametrize("operation", ["get", "create", "append", "update", "read"])
async def test_a_failure_is_raised_as_what_it_is_and_never_as_not_found(
    error: Exception, expected: type[Exception], operation: str, root: str
) -> None:
    def fail(name: str, path: str) -> None:
        raise error

    watched = over_memory()
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc")
    operations: dict[str, Callable[[], Any]] = {
        "get": lambda: store.get(upload.id),
        "create": lambda: store.create(new_upload()),
        "append": lambda: store.append(upload, Arriving(b"d")),
        "update": lambda: store.update(upload),
        "read": lambda: content(store, upload),
    }
    watched.before = fail
    with pytest.raises(expected) as raised:
        await operations[operation]()
    assert type(raised.value) is expected
    watched.before = lambda name, path: None
    assert await store.get(upload.id) == upload


async def test_a_piece_that_is_missing_for_good_is_no_missing_upload(root: str) -> None:
    fs = Memory()
    store = FsspecStore(fs, root)
    upload = await created(store, b"abc")
    real = fs.cat_file

    def cat_file(path: str, *arguments: Any, **options: Any) -> bytes:
        if not path.endswith("record"):
            raise FileNotFoundError(path)
        return real(path, *arguments, **options)

    fs.cat_file = cat_file
    with pytest.raises(FileNotFoundError):
        await content(store, upload)


# Names in listings.


@pytest.mark.parametrize("upload_id", ["record", "state", "due", str(HOUR)])
async def test_an_upload_may_be_named_as_a_folder_or_a_file_of_ours(
    upload_id: str, watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await store.create(new_upload(id=upload_id, length=9, expires=NOW))
    upload = await store.append(upload, Arriving(b"abc"))
    upload = await store.append(await store.get(upload_id), Arriving(b"def"))
    assert await content(store, upload) == b"abcdef"
    assert await Uploads(store, clock=lambda: NOW + timedelta(days=1)).sweep() == 1
    assert names_below(watched, root) == []


@pytest.mark.parametrize("write", ["{}", "{}/", "memory:/{}"], ids=["path", "slash", "url"])
def test_a_folder_that_is_listed_in_itself_is_nothing_in_it(write: str) -> None:
    class ListedInItself(Memory):
        def ls(self, path: str, detail: bool = True, **options: Any) -> Any:
            own = {"name": write.format(path), "size": 0, "type": "directory"}
            return [own, *super().ls(path, detail)]

    files = Filesystem(ListedInItself(), "a/b")
    files.probe()
    files.write(f"{files.root}/b", b"abc")
    assert files.entries(files.root) == [Entry("b", 3)]


# A record that cannot be read.


@pytest.mark.parametrize("record", [b"", b"\0" * 300, b"{}"], ids=["empty", "zeros", "not-ours"])
async def test_a_record_that_cannot_be_read_is_reported_and_keeps_no_sweep_from_the_others(
    record: bytes, watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    uploads = [await created(store, b"abc", expires=NOW) for _ in range(3)]
    spoilt = uploads[1]
    watched.fs.pipe_file(f"{root}/state/{spoilt.id}/record", record)
    sweeper = Uploads(store, clock=lambda: NOW + timedelta(days=1))
    for _ in range(2):
        with pytest.raises(ExceptionGroup) as raised:
            await sweeper.sweep()
        (failure,) = raised.value.exceptions
        assert failure.__notes__ == [f"upload {spoilt.id}"]
    assert [upload_id async for upload_id in store.due(NOW)] == [spoilt.id]
    await store.terminate(spoilt.id)
    with pytest.raises(UploadNotFound):
        await store.get(spoilt.id)
    later = datetime.now(UTC) + timedelta(days=1)  # marks tell when they were written
    assert await Uploads(store, clock=lambda: later).sweep() == 0
    assert names_below(watched, root) == []


# Pieces.


def pieces_strategy() -> st.SearchStrategy[list[Piece]]:
    bounds = st.tuples(st.integers(0, 12), st.integers(1, 6))
    return st.lists(bounds, max_size=12).map(
        lambda found: [Piece(f"{number}", a, a + n) for number, (a, n) in enumerate(found)]
    )


@given(pieces=pieces_strategy(), late=pieces_strategy())
def test_what_comes_late_takes_nothing_back(pieces: list[Piece], late: list[Piece]) -> None:
    def end(run: list[Piece]) -> int:
        return run[-1].stop if run else 0

    run = run_of(pieces)
    assert [piece.start for piece in run] == [0, *(piece.stop for piece in run)][: len(run)]
    assert end(run_of([*pieces, *late])) >= end(run)


def test_a_long_piece_that_leads_nowhere_is_not_taken() -> None:
    stored = [Piece("a", 0, 10), Piece("b", 10, 15)]
    assert run_of([*stored, Piece("late", 0, 12)]) == stored
    merged = Piece("merged", 0, 15)
    assert run_of([*stored, merged]) == [merged]


@given(
    sizes=st.lists(st.integers(1, 3000), max_size=400), size=st.sampled_from([1024, 4096, 100_000])
)
def test_merges_are_of_neighbours_that_fit_and_leave_the_last(sizes: list[int], size: int) -> None:
    run, position = [], 0
    for number in sizes:
        run.append(Piece(str(position), position, position + number))
        position += number
    for group in merges(run, size):
        begin = run.index(group[0])
        assert run[begin : begin + len(group)] == group
        assert len(group) > 1 and group[-1].stop - group[0].start <= size
        assert run[-1] not in group


@pytest.mark.parametrize(
    ("name", "size", "is_piece"),
    [
        pytest.param(exclusive_name(7), 3, True, id="alone"),
        pytest.param(sized_name(7, 3), 3, True, id="sized"),
        pytest.param(sized_name(7, 3), 2, False, id="half"),
        pytest.param(exclusive_name(7), 0, False, id="empty"),
        pytest.param("record", 3, False, id="record"),
        pytest.param("staged-0", 3, False, id="staged"),
        pytest.param("00000000000000000007-3", 3, False, id="not-random"),
    ],
)
def test_a_piece_is_known_by_name_and_size(name: str, size: int, is_piece: bool) -> None:
    piece = piece_of(name, size)
    assert (piece is not None) == is_piece
    assert piece is None or (piece.start, piece.stop) == (7, 10)


async def test_half_a_piece_counts_for_nothing_and_is_removed_by_the_next(root: str) -> None:
    store = FsspecStore(LocalFileSystem(), root)
    upload = await created(store, b"abc", length=None)
    folder = Path(root) / "state" / upload.id
    half = folder / sized_name(3, 100)
    half.write_bytes(b"x" * 99)
    assert await store.get(upload.id) == upload
    upload = await store.append(upload, Arriving(b"def"))
    assert await content(store, upload) == b"abcdef"
    assert not half.exists()


async def test_what_is_left_behind_a_gap_never_follows_new_bytes(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=None)
    folder = f"{root}/state/{upload.id}"
    watched.fs.pipe_file(f"{folder}/{sized_name(6, 3)}", b"old")
    assert await store.get(upload.id) == upload
    upload = await store.append(upload, Arriving(b"def"))
    assert await store.get(upload.id) == upload
    assert await content(store, upload) == b"abcdef"


async def test_many_small_appends_become_few_pieces(watched: Watched, root: str) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    upload = await created(store, length=None)
    sent = b""
    watched.written = 0
    for number in range(400):
        part = bytes([number % 251]) * (1 + number % 700)
        upload = await store.append(upload, Arriving(part))
        sent += part
    pieces = [name for name in names_below(watched, f"{root}/state") if "record" not in name]
    assert len(pieces) < 140
    assert await content(store, upload) == sent
    assert await FsspecStore(watched.fs, root).get(upload.id) == upload
    assert watched.written < 5 * len(sent)


async def test_small_pieces_stay_until_what_they_were_merged_into_is_there(root: str) -> None:
    class Losing(Memory):
        def pipe_file(self, path: str, value: bytes, **options: Any) -> None:
            is_merged = "-" in path.rpartition("/")[2]
            super().pipe_file(path, value[:-1] if is_merged else value, **options)

    store = FsspecStore(Losing(), root)
    upload = await created(store, *[b"x"] * 70, length=None)
    assert await store.get(upload.id) == upload
    assert await content(store, upload) == b"x" * 70


async def test_an_append_costs_the_same_calls_however_many_came_before(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    upload = await created(store, length=None)
    costs = []
    for _ in range(300):
        watched.calls.clear()
        upload = await store.append(await store.get(upload.id), Arriving(b"x" * 100))
        costs.append(sum(watched.calls.values()))
    # The listing looks for finished bytes as long as there are none, or more than it shows at once.
    assert sorted(costs)[: len(costs) * 9 // 10][-1] <= 8
    assert costs[-1] <= costs[1] + 3


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_an_append_asks_for_little(is_staged: bool, root: str) -> None:
    watched = over_memory()
    store = FsspecStore(watched, root)
    upload = await store.get((await created(store, b"abc", length=None)).id)
    watched.calls.clear()
    await store.append(upload, Arriving(b"def"), staged=is_staged)
    assert watched.calls == {"ls": 1, "pipe_file": 1}


async def test_the_bytes_of_a_slow_client_are_stored_before_the_piece_is_full(
    watched: Watched, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LINGER", 0.001)
    store = FsspecStore(watched, root)
    upload = await created(store)

    async def chunks() -> AsyncIterator[bytes]:
        yield b"abc"
        with anyio.fail_after(30):
            while (await store.get(upload.id)).offset < 3:
                await anyio.lowlevel.checkpoint()
        yield b"def"

    kept = await store.append(upload, chunks())
    assert await content(store, kept) == b"abcdef"


async def test_a_long_chunk_is_cut_into_pieces(watched: Watched, root: str) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    sent = random.Random(0).randbytes(3 * LEAST + 1)
    upload = await created(store, sent, length=len(sent))
    pieces = [name for name in names_below(watched, f"{root}/state") if "record" not in name]
    assert len(pieces) == 4
    await store.finish(upload)
    assert names_below(watched, f"{root}/state") == [f"{root}/state/{upload.id}/record"]
    assert watched.fs.cat_file(f"{root}/uploads/{upload.id}") == sent


async def test_the_memory_of_joining_is_bounded(root: str) -> None:
    store = FsspecStore(LocalFileSystem(), root)
    upload = await created(store, *[bytes(4 * 2**20)] * 8, length=32 * 2**20)
    tracemalloc.start()
    try:
        await store.finish(upload)
        assert tracemalloc.get_traced_memory()[1] < 12 * 2**20
    finally:
        tracemalloc.stop()
    assert await store.get(upload.id) == upload


def test_a_filesystem_for_one_call_at_a_time_that_opens_no_files_gets_them_whole(
    root: str,
) -> None:
    fs = WithoutOpen(Memory())
    files = Filesystem(fs, root)
    files.probe()
    file = files.open_to_write(f"{root}/whole")
    files.write_to(file, b"abc")
    files.write_to(file, b"def")
    closing = threading.Thread(target=files.close, args=[file], daemon=True)
    closing.start()
    closing.join(20)
    assert not closing.is_alive()
    assert fs.calls["put_file"] == 1
    assert fs.cat_file(f"{root}/whole") == b"abcdef"


# Two at once.


async def test_of_two_writers_at_one_offset_the_second_is_refused(root: str) -> None:
    watched = over_memory()
    store, other = FsspecStore(watched, root), FsspecStore(watched.fs, root)
    upload = await created(store, b"abc", length=None)

    def somebody_is_faster(name: str, path: str) -> None:
        if name == "pipe_file":
            watched.before = lambda name, path: None
            other._connection.get().write_piece(upload.id, exclusive_name(3), b"faster")

    watched.before = somebody_is_faster
    with pytest.raises(WriteConflict):
        await store.append(upload, Arriving(b"slower"))
    kept = await store.get(upload.id)
    assert await content(other, kept) == b"abcfaster"


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_an_append_to_an_upload_that_has_moved_on_is_refused(
    is_staged: bool, watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=None)
    kept = await store.append(upload, Arriving(b"def"))
    with pytest.raises(OffsetConflict) as raised:
        await store.append(upload, Arriving(b"xyz"), staged=is_staged)
    assert raised.value.offset == 6
    assert await store.get(upload.id) == kept
    assert await content(store, kept) == b"abcdef"


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_an_append_to_an_upload_that_is_gone_is_not_found(
    is_staged: bool, watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=None)
    await store.terminate(upload.id)
    with pytest.raises(UploadNotFound):
        await store.append(upload, Arriving(b"def"), staged=is_staged)
    assert names_below(watched, root) == []


async def test_a_writer_whose_piece_is_there_already_knows_it(root: str) -> None:
    watched = over_memory()
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=None)

    def answer_is_lost(name: str, path: str) -> None:
        if name == "pipe_file":  # the call came through, and is made again
            watched.before = lambda name, path: None
            watched.fs.pipe_file(path, b"def")

    watched.before = answer_is_lost
    kept = await store.append(upload, Arriving(b"def"))
    assert await content(store, kept) == b"abcdef"


@pytest.mark.parametrize("is_same", [True, False], ids=["own", "another"])
async def test_a_creation_that_is_there_already_is_its_own_or_refused(
    is_same: bool, root: str
) -> None:
    watched = over_memory()
    store = FsspecStore(watched, root)
    upload = new_upload()
    await created(store)  # so that the filesystem has been looked at
    there = upload if is_same else replace(upload, length=9)

    def somebody_was_faster(name: str, path: str) -> None:
        if name == "pipe_file":
            watched.before = lambda name, path: None
            FsspecStore(watched.fs, root)._connection.get().create(there)

    watched.before = somebody_was_faster
    if is_same:
        assert await store.create(upload) == upload
    else:
        with pytest.raises(UploadExists):
            await store.create(upload)
    assert await store.get(upload.id) == there


@pytest.mark.parametrize("operation", ["append", "finish", "staged"])
async def test_a_reader_at_any_call_of_a_writer_sees_every_byte_that_was_there(
    operation: str, watched: Watched, root: str
) -> None:
    """Also while small pieces are merged, and while they are joined and removed."""
    store = FsspecStore(watched, root, piece_size=LEAST)
    count = 60 if operation == "finish" else 65  # so many that the next append merges them
    parts = [bytes([number]) * 300 for number in range(count)]
    upload = await created(store, *parts, length=count * 300 + 4_000)
    if operation == "finish":
        upload = await store.append(upload, Arriving(b"y" * 4_000))
    sent = await content(store, upload)
    reading = await run_sync(FsspecStore(watched.fs, root)._connection.get)
    seen = 0

    def look(name: str, path: str) -> None:
        nonlocal seen
        seen += 1
        found = reading.get(upload.id)
        assert found.offset >= len(sent)
        read = b"".join([reading.read(source) for source in reading.sources(upload.id)])
        assert read[: len(sent)] == sent

    watched.before = look
    if operation == "finish":
        await store.finish(upload)
    else:
        await store.append(upload, Arriving(b"y" * 4_000), staged=operation == "staged")
    watched.before = lambda name, path: None
    assert seen > 60


async def test_a_download_goes_on_while_the_bytes_are_joined(watched: Watched, root: str) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    sent = random.Random(0).randbytes(4 * LEAST)
    upload = await created(store, sent, length=len(sent))
    reading = store.read(upload, 0, len(sent))
    read = await anext(reading)
    await store.finish(upload)
    read += b"".join([chunk async for chunk in reading])
    assert read == sent


async def test_a_refusal_leaves_the_record_as_it_was(watched: Watched, root: str) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    upload = await created(store)
    given = replace(upload, facts={"kind": "audio"})
    chunks = Arriving(b"x" * LEAST, b"y" * LEAST, b"z", error=ValueError("wrong"))
    with pytest.raises(ValueError, match="wrong"):
        await store.append(given, chunks)
    assert await store.get(upload.id) == upload


async def test_servers_with_listing_caches_see_each_other(root: str) -> None:
    """An instance that remembers listings is asked to forget them."""

    class Caching(AsyncDict):
        def __init__(self) -> None:
            super().__init__()
            self.known: dict[Any, Any] = {}

        async def _ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
            if path not in self.known:
                self.known[path] = await super()._ls(path, detail)
            return self.known[path]

        async def _cat_file(self, path: str, *arguments: Any, **options: Any) -> bytes:
            parent = path.rpartition("/")[0]
            if path not in [each["name"] for each in self.known.get(parent, [{"name": path}])]:
                raise FileNotFoundError(path)
            return await super()._cat_file(path, *arguments, **options)

        def invalidate_cache(self, path: str | None = None) -> None:
            self.known.pop(path, None)

    fs, other = Caching(), Caching()
    other.objects = fs.objects
    one, two = FsspecStore(fs, root), FsspecStore(other, root)
    upload = await created(one, length=None)
    for _ in range(3):
        upload = await one.append(upload, Arriving(b"abc"))
        assert await two.get(upload.id) == upload
    assert await content(two, upload) == b"abc" * 3


# Joining by the filesystem.


class Merging(Memory):
    """Joins files itself, as the large object stores do."""

    merged = 0

    def merge(self, path: str, paths: list[str]) -> None:
        self.merged += 1
        self.pipe_file(path, b"".join(self.cat_file(each) for each in paths))


@pytest.mark.parametrize(
    ("sizes", "is_merged"),
    [
        pytest.param([5 * 2**20, 3], True, id="large-and-a-rest"),
        pytest.param([3, 5 * 2**20], False, id="too-small"),
        pytest.param([5 * 2**20], False, id="one"),
        pytest.param([5 * 2**20] + [0] * 40, False, id="too-many"),
    ],
)
async def test_large_parts_are_joined_by_the_filesystem(
    sizes: list[int], is_merged: bool, root: str
) -> None:
    fs = Merging()
    store = FsspecStore(fs, root)
    parts, whole = [], b""
    for number, size in enumerate(sizes):
        part = await created(store, bytes([number]) * size, length=size, is_partial=True)
        await store.finish(part)
        parts.append(part)
        whole += bytes([number]) * size
    fs.merged = 0
    final = await created(store, length=len(whole), parts=tuple(part.id for part in parts))
    final = await store.concat(final)
    assert (fs.merged > 0) == is_merged
    assert await content(store, final) == whole


# What is not ours, and what cannot be read.


async def test_what_is_not_ours_among_our_files_is_left_alone_and_stops_no_sweep(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    hours = (0, HOUR)
    uploads = [await created(store, b"abc", expires=NOW) for _ in range(3)]
    shared = f"{root}/state/{uploads[0].id}/folder/notes"
    foreign = [
        f"{root}/due/notes.txt",
        f"{root}/due/7",
        f"{root}/due/somewhere/notes",
        f"{root}/due/8/folder/notes",
        f"{root}/uploads/folder/notes",
        *(f"{root}/due/{hour}/{name}" for hour in hours for name in ("notes.txt", "README")),
        *(f"{root}/due/{hour}/{name}/notes" for hour in hours for name in ("folder", "a.b")),
        shared,
    ]
    for path in foreign:
        watched.fs.makedirs(path.rpartition("/")[0], exist_ok=True)
        watched.fs.pipe_file(path, b"not a time")

    def no_folder(name: str, path: str) -> None:
        if name == "ls" and path.endswith("/due/7"):
            raise NotADirectoryError(path)

    watched.before = no_folder
    later = datetime.now(UTC) + timedelta(days=1)  # marks tell when they were written
    for removed in (3, 0):
        assert await Uploads(store, clock=lambda: later).sweep() == removed
    assert names_below(watched, root) == sorted(foreign)


async def test_what_comes_up_for_nothing_stays_as_it_is_and_comes_up_once(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=10, expires=NOW + timedelta(days=1))
    await run_sync(store._connection.get().marks.add, upload.id, 0)  # as a crash may leave it
    assert [upload_id async for upload_id in store.due(NOW)] == [upload.id]
    assert await Uploads(store, clock=lambda: NOW).sweep() == 0
    assert await store.get(upload.id) == upload
    assert [upload_id async for upload_id in store.due(NOW)] == []


async def test_bytes_go_on_beside_a_folder_among_the_pieces(watched: Watched, root: str) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", length=6)
    # One that is named as a piece would be one, by a size that folders have on some disks.
    name = "folder" if isinstance(watched, WatchedObjects) else exclusive_name(3)
    folder = f"{root}/state/{upload.id}/{name}"
    watched.fs.makedirs(folder, exist_ok=True)
    watched.fs.pipe_file(f"{folder}/notes", b"notes")
    upload = await store.append(await store.get(upload.id), Arriving(b"de"))
    upload = await store.append(await store.get(upload.id), Arriving(b"f"))
    assert await content(store, await store.finish(upload)) == b"abcdef"


@pytest.mark.parametrize("what", ["/record", "/due/"], ids=["record", "mark"])
@pytest.mark.parametrize("error", [PermissionError, IsADirectoryError, partial(ServerError, 403)])
async def test_a_file_that_may_not_be_read_keeps_no_sweep_from_the_others(
    what: str, error: Callable[[], Exception], watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    uploads = [await created(store, b"abc", expires=NOW) for _ in range(3)]
    hidden = uploads[1]
    if what == "/due/":  # which is read where there is no record
        watched.fs.rm_file(f"{root}/state/{hidden.id}/record")

    def hide(name: str, path: str) -> None:
        if name == "cat_file" and hidden.id in path and what in path:
            raise error()

    watched.before = hide
    assert hidden.id in [upload_id async for upload_id in store.due(NOW)]
    sweeper = Uploads(store, clock=lambda: NOW + timedelta(days=1))
    if what == "/record":
        with pytest.raises(ExceptionGroup) as raised:
            await sweeper.sweep()
        assert [e.__notes__ for e in raised.value.exceptions] == [[f"upload {hidden.id}"]]
    else:
        await sweeper.sweep()
    for upload in (uploads[0], uploads[2]):
        with pytest.raises(UploadNotFound):
            await store.get(upload.id)


async def test_a_mark_that_a_power_cut_has_emptied_is_found_and_removed(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc", expires=NOW)
    watched.fs.rm_file(f"{root}/state/{upload.id}/record")
    watched.fs.pipe_file(f"{root}/due/{HOUR}/{upload.id}", b"\0" * 10)
    sweeper = Uploads(store, clock=lambda: NOW + timedelta(days=1))
    await sweeper.sweep()
    later = datetime.now(UTC) + timedelta(days=1)
    await Uploads(store, clock=lambda: later).sweep()
    assert names_below(watched, root) == []


async def test_a_copy_of_a_record_under_another_name_is_no_upload(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root)
    upload = await created(store, b"abc")
    watched.fs.makedirs(f"{root}/state/copy", exist_ok=True)
    record = watched.fs.cat_file(f"{root}/state/{upload.id}/record")
    watched.fs.pipe_file(f"{root}/state/copy/record", record)
    with pytest.raises(ValueError, match="a copy"):
        await store.get("copy")
    await store.terminate("copy")
    assert await store.get(upload.id) == upload


@pytest.mark.parametrize("text", [b"[]", b"7", b"null", b'{"version": 1}', b"[" * 100_000])
def test_what_is_json_and_no_record_is_refused_as_any_other(text: bytes) -> None:
    with pytest.raises(ValueError):
        load_record(text, offset=0)


def test_a_system_without_some_numbers_of_errors_will_do() -> None:
    program = """
import errno
for name in ("EREMOTEIO", "EDQUOT", "EHOSTDOWN", "ENETDOWN", "ENOTCONN"):
    delattr(errno, name)  # as on macOS, and more than that
from tusasgi.stores.fsspec import failures
assert errno.EBUSY in failures._UNREACHABLE and errno.ENOSPC in failures._FULL
"""
    # fsspec is imported first: what it needs itself is not ours to judge.
    subprocess.run([sys.executable, "-c", f"import fsspec{program}"], check=True)


# The date.


@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
async def test_a_refusal_takes_everything_back_but_a_later_date(
    is_staged: bool, watched: Watched, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_LINGER", 0.01)
    now, window = NOW, timedelta(minutes=1)
    store = FsspecStore(watched, root, clock=lambda: now)
    dates = {"expires": NOW + window, "expires_after": window}
    upload = await created(store, b"abc", length=None, **dates)

    async def one_too_many() -> AsyncIterator[bytes]:
        nonlocal now
        for _ in range(8):
            now += window / 4
            yield b"x"
            found = await alive(store, upload.id, now)
            assert not is_staged or replace(found, expires=upload.expires) == upload
        raise TooLarge("one too many")

    changed = replace(upload, facts={"kind": "mp4"}, length=11)
    with pytest.raises(TooLarge):
        await store.append(changed, one_too_many(), staged=is_staged)
    kept = await FsspecStore(watched, root).get(upload.id)
    assert not kept.is_expired(now)
    assert replace(kept, expires=upload.expires) == upload
    later = now + timedelta(hours=1)  # and the mark has moved along with it
    assert upload.id in [upload_id async for upload_id in store.due(later)]


async def test_staged_pieces_that_were_refused_or_shown_do_not_stay(
    watched: Watched, root: str
) -> None:
    store = FsspecStore(watched, root, piece_size=LEAST)
    upload = await created(store, b"abc", length=None)
    before = names_below(watched, root)
    with pytest.raises(TooLarge):
        chunks = Arriving(b"x" * 3 * LEAST, error=TooLarge("one too many"))
        await store.append(upload, chunks, staged=True)
    assert names_below(watched, root) == before
    await store.append(upload, Arriving(b"x" * 3 * LEAST), staged=True)
    assert not [name for name in names_below(watched, root) if "staged" in name]


async def alive(store: FsspecStore, upload_id: str, now: datetime) -> Upload:
    for _ in range(500):  # it may be on its way to the store for a while
        found = await store.get(upload_id)
        if not found.is_expired(now):
            return found
        await anyio.sleep(0.02)
    raise AssertionError("the upload expired although its bytes arrive")


class Slow:
    """Holds the first write of bytes until it may go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    def __call__(self, path: str) -> None:
        if "0000-" in path or path.endswith("0000") or "staged-" in path:
            self.reached.set()
            assert self.go.wait(60)


class SlowObjects(Memory):
    slow: Callable[[str], None] = staticmethod(lambda path: None)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **options: Any) -> None:
        self.slow(path)
        super().pipe_file(path, value, mode=mode, **options)


class SlowFiles(LocalFileSystem):
    cachable = False
    slow: Callable[[str], None] = staticmethod(lambda path: None)

    # Not `pipe_file`: whoever has one of its own is taken to write whole files at once.
    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "wb":
            self.slow(path)
        return super()._open(path, mode, **options)


@pytest.mark.parametrize("size", [1000, 3 * LEAST], ids=["last", "first"])
@pytest.mark.parametrize("is_staged", [False, True], ids=["at-once", "staged"])
@pytest.mark.parametrize("kind", [SlowObjects, SlowFiles], ids=["objects", "files"])
async def test_the_date_moves_however_long_a_piece_is_on_its_way(
    kind: type[SlowObjects] | type[SlowFiles], is_staged: bool, size: int, root: str
) -> None:
    fs, slow = kind(), Slow()
    now, window = NOW, timedelta(seconds=0.2)
    store = FsspecStore(fs, root, piece_size=LEAST, clock=lambda: now)
    upload = await created(store, length=None, expires=NOW + window, expires_after=window)
    fs.slow = slow
    kept = before = replace(upload, facts={"kind": "mp4"})
    async with anyio.create_task_group() as tasks:

        async def append() -> None:
            nonlocal kept
            chunks = Arriving(CONTENT[:size])
            kept = await store.append(kept, chunks, staged=is_staged)

        tasks.start_soon(append)
        await run_sync(slow.reached.wait)
        try:
            for _ in range(3):
                now += window
                await alive(store, upload.id, now)
        finally:
            slow.go.set()
    assert kept == replace(before, offset=size, expires=now + window)
    assert await FsspecStore(fs, root).get(upload.id) == kept
    assert await content(store, kept) == CONTENT[:size]


async def test_pieces_that_take_long_to_be_shown_keep_the_date(watched: Watched, root: str) -> None:
    now, window = NOW, timedelta(minutes=1)
    store = FsspecStore(watched, root, piece_size=LEAST, clock=lambda: now)
    upload = await created(store, length=None, expires=NOW + window, expires_after=window)
    chunks = b"x" * (9 * LEAST)
    seen: list[bool] = []

    class Ended(Arriving):
        async def __anext__(self) -> bytes:
            try:
                return await super().__anext__()
            except StopAsyncIteration:
                watched.before = slowly
                raise

    def slowly(name: str, path: str) -> None:
        nonlocal now
        if name in ("mv", "cat_file") and "staged" in path:
            now += window / 4
            seen.append(store._connection.get().get(upload.id).is_expired(now))

    kept = await store.append(upload, Ended(chunks), staged=True)
    assert kept.offset == len(chunks) and not kept.is_expired(now)
    assert now > NOW + window and not any(seen)
    assert await FsspecStore(watched, root).get(upload.id) == kept


class Counting(AsyncDict):
    """Knows how many reads were running at once."""

    running = most = 0

    async def _cat_file(self, path: str, *where: Any, **options: Any) -> bytes:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0.005)
            return await super()._cat_file(path, *where, **options)
        finally:
            self.running -= 1


async def test_a_few_pieces_are_read_at_once_while_they_are_joined_and_not_more() -> None:
    fs = Counting()
    store = FsspecStore(fs, "bucket/uploads", piece_size=LEAST)
    data = random.Random(0).randbytes(10 * LEAST)
    upload = await store.create(new_upload(length=len(data)))
    upload = await store.append(upload, Arriving(data))
    fs.most = 0
    await store.finish(upload)
    assert fs.most == 3
    assert fs.objects[f"bucket/uploads/uploads/{upload.id}"] == data


def test_calls_to_an_sftp_server_are_sent_at_once() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as to_server,
    ):
        transport = SimpleNamespace(sock=to_server)
        fs = Memory()
        fs.client = SimpleNamespace(get_transport=lambda: transport)
        Filesystem(fs, "root")
        assert to_server.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
