"""Uploads as local files: a data file and a JSON record each.

The folder of a store:

    uploads/<x>/<id>          the bytes; the size of this file is the offset
    uploads/<x>/<id>.info     the record, replaced by rename
    expires/<hour>/<id>       an empty file for each upload that expires in that hour (since 1970)
    new/                      records on their way; what a crash leaves here is swept

Every change is one step that either happened or did not, in an order in which a crash between
two of them leaves at most something for `expired` to find: nothing is repaired by hand.
"""

import contextlib
import errno
import os
import uuid
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Literal, TypeVar

import anyio
from anyio.to_thread import run_sync

from tusasgi._errors import StoreFull, UploadExists, UploadNotFound
from tusasgi._models import Upload, check_upload_id
from tusasgi.stores._record import dump_record, load_record

T = TypeVar("T")

Durability = Literal["complete", "append"]

_BATCH_SIZE = 512 * 1024
_LINGER = 0.02  # seconds a batch waits to be filled, so that a slow client holds no memory
_BATCH_CHUNKS = 1024  # IOV_MAX on every system we know; tiny chunks cost more than their bytes
_READ_SIZE = 256 * 1024
_UNDER_WAY_FOR = 3600.0  # seconds after which an unfinished creation counts as left behind
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class FileStore:
    """Keeps uploads in a folder of the local file system.

    Supports termination, deferred lengths, expiration and reading. Any number of processes may
    use the folder at once if their lockers reach each other (`FileLocker`).

    A complete upload has been flushed to the disk (fsync of file and folder), and so has every
    record. `durability` says what holds for the offsets before: with `"complete"` they survive
    the death of the process but may step back after a power cut; with `"append"` each append is
    flushed before it is acknowledged. A running append holds at most 1 MiB and one chunk.
    """

    def __init__(
        self, directory: str | os.PathLike[str], *, durability: Durability = "complete"
    ) -> None:
        if durability not in ("complete", "append"):
            raise ValueError('durability must be "complete" or "append"')
        self._root = os.path.abspath(directory)
        self._durability = durability

    def path(self, upload_id: str) -> str:
        """Return where the bytes of the upload are, or will be with its first byte."""
        check_upload_id(upload_id)
        # The last characters: the first ones are a time stamp in some kinds of uuid.
        return os.path.join(self._root, "uploads", upload_id[-2:], upload_id)

    async def create(self, upload: Upload) -> None:
        await run_sync(self._create, upload)

    async def get(self, upload_id: str) -> Upload:
        return await run_sync(self._get, upload_id)

    async def append(self, upload: Upload, chunks: AsyncIterable[bytes]) -> Upload:
        writer = _Writer(self.path(upload.id), upload.offset)
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(writer.run)
                try:
                    async for chunk in chunks:
                        if writer.is_full:
                            await writer.wait_for_room()
                        if writer.failure is not None:
                            break
                        writer.add(chunk)
                except Exception as error:  # raised below, outside of the group
                    failure = error
                writer.end(discard=failure is not None)
            if failure is not None:
                with anyio.CancelScope(shield=True):  # cancelled or not, nothing of it is kept
                    await run_sync(writer.truncate, upload.offset)
                raise failure
            if writer.failure is not None:
                raise writer.failure
            if self._durability == "append":
                await run_sync(writer.flush)
        finally:
            writer.close()
        return replace(upload, offset=writer.offset)

    async def update(self, upload: Upload) -> None:
        await run_sync(self._update, upload)

    async def finish(self, upload: Upload) -> None:
        await run_sync(self._finish, upload)

    async def terminate(self, upload_id: str) -> None:
        await run_sync(self._terminate, upload_id)

    async def declare_length(self, upload: Upload, length: int) -> Upload:
        upload = replace(upload, length=length)
        await self.update(upload)
        return upload

    async def expired(self, now: datetime) -> AsyncIterator[str]:
        for hour in await run_sync(self._due_hours, now):
            for upload_id in await run_sync(self._due_uploads, hour, now):
                yield upload_id
            await run_sync(_remove_if_empty, self._hour_path(hour))
        await run_sync(self._remove_left_behind, now)

    async def read(self, upload: Upload, start: int, stop: int) -> AsyncIterator[bytes]:
        try:
            file = await run_sync(os.open, self.path(upload.id), os.O_RDONLY)
        except FileNotFoundError:
            raise UploadNotFound() from None
        try:
            while start < stop:
                data = await run_sync(os.pread, file, min(_READ_SIZE, stop - start), start)
                if not data:
                    return
                start += len(data)
                yield data
        finally:
            os.close(file)

    # What runs in worker threads.

    def _create(self, upload: Upload) -> None:
        path = self.path(upload.id)
        with _no_room_is_store_full():
            if upload.expires is not None:
                self._mark(upload.id, _hour_of(upload.expires))
            new = self._write_new(upload)
            try:
                self._remove_remains(path)
                _with_folder(path, lambda: os.link(new, f"{path}.info"))
            except FileExistsError:
                raise UploadExists("an upload with this id exists already") from None
            finally:
                os.unlink(new)
            _flush_folder(os.path.dirname(path))

    def _get(self, upload_id: str) -> Upload:
        path = self.path(upload_id)
        try:
            with open(f"{path}.info", "rb") as info:
                record = info.read()
        except FileNotFoundError:
            raise UploadNotFound() from None
        return load_record(record, offset=_size_of(path))

    def _remove_remains(self, path: str) -> None:
        """Remove bytes without a record: an earlier upload of this id, half removed."""
        if not os.path.exists(f"{path}.info"):
            _unlink_if_there(path)

    def _update(self, upload: Upload) -> None:
        path = self.path(upload.id)
        before = self._get(upload.id).expires
        with _no_room_is_store_full():
            # The new mark stands before the record that needs it.
            if upload.expires is not None and not upload.is_complete:
                self._mark(upload.id, _hour_of(upload.expires))
            os.rename(self._write_new(upload), f"{path}.info")
            _flush_folder(os.path.dirname(path))
        if before is not None and (upload.is_complete or _is_other_hour(before, upload.expires)):
            self._unmark(upload.id, _hour_of(before))

    def _finish(self, upload: Upload) -> None:
        path = self.path(upload.id)
        with _no_room_is_store_full(), _opened(path, os.O_WRONLY | os.O_CREAT) as file:
            os.fsync(file)
            _flush_folder(os.path.dirname(path))

    def _terminate(self, upload_id: str) -> None:
        path = self.path(upload_id)
        hours = {0}
        with contextlib.suppress(UploadNotFound):
            expires = self._get(upload_id).expires
            if expires is not None:
                hours.add(_hour_of(expires))
        # Once the record is gone, the mark alone leads a later sweep to what is left.
        self._mark(upload_id, 0)
        for remains in (f"{path}.info", path):
            _unlink_if_there(remains)
        with contextlib.suppress(FileNotFoundError):  # not even the folder was made
            _flush_folder(os.path.dirname(path))
        for hour in hours:
            self._unmark(upload_id, hour)

    def _write_new(self, upload: Upload) -> str:
        new = os.path.join(self._root, "new", f"{upload.id}.{uuid.uuid4().hex}")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with _opened(new, flags) as file:
            try:
                _write_all(file, [dump_record(upload)], 0)
                os.fsync(file)
            except OSError:
                os.unlink(new)
                raise
        return new

    # Marks: which uploads expire in which hour.

    def _hour_path(self, hour: int) -> str:
        return os.path.join(self._root, "expires", str(hour))

    def _mark(self, upload_id: str, hour: int) -> None:
        with _opened(os.path.join(self._hour_path(hour), upload_id), os.O_WRONLY | os.O_CREAT):
            pass

    def _unmark(self, upload_id: str, hour: int) -> None:
        _unlink_if_there(os.path.join(self._hour_path(hour), upload_id))

    def _due_hours(self, now: datetime) -> list[int]:
        hours = (int(name) for name in _names_in(os.path.join(self._root, "expires")))
        return sorted(hour for hour in hours if hour <= _hour_of(now))

    def _due_uploads(self, hour: int, now: datetime) -> list[str]:
        return [name for name in _names_in(self._hour_path(hour)) if self._is_due(name, hour, now)]

    def _is_due(self, upload_id: str, hour: int, now: datetime) -> bool:
        try:
            upload = self._get(upload_id)
        except UploadNotFound:
            return self._is_left_behind(upload_id, hour, now)
        expires = None if upload.is_complete else upload.expires
        if expires is not None and _hour_of(expires) == hour:
            return expires <= now
        self._unmark(upload_id, hour)  # it was finished, or has another mark by now
        return False

    def _is_left_behind(self, upload_id: str, hour: int, now: datetime) -> bool:
        """A mark without a record: a creation that is under way, or the remains of a crash."""
        if not _is_old(os.path.join(self._hour_path(hour), upload_id), now):
            return False
        if hour != 0:
            self._mark(upload_id, 0)  # where `_terminate` takes it away last
            self._unmark(upload_id, hour)
        return True

    def _remove_left_behind(self, now: datetime) -> None:
        folder = os.path.join(self._root, "new")
        for path in [os.path.join(folder, name) for name in _names_in(folder)]:
            if _is_old(path, now):
                _unlink_if_there(path)


class _Writer:
    """Writes chunks to a file in worker threads, while the next chunks arrive.

    The file is opened with the first batch. `offset` is where the written bytes end. What goes
    wrong is kept in `failure`, so that the task which brings the chunks can look at it.
    """

    def __init__(self, path: str, offset: int) -> None:
        self.offset = offset
        self.failure: Exception | None = None
        self._path = path
        self._file: int | None = None
        self._batch: list[bytes] = []
        self._size = 0
        self._is_ended = False
        # Events exist only while somebody waits for them: thousands of slow clients add up.
        self._arrived: anyio.Event | None = None
        self._filled: anyio.Event | None = None
        self._taken: anyio.Event | None = None

    @property
    def is_full(self) -> bool:
        return self._size >= _BATCH_SIZE or len(self._batch) >= _BATCH_CHUNKS

    def add(self, chunk: bytes) -> None:
        """Add a chunk to the batch that is written next."""
        self._batch.append(chunk)
        self._size += len(chunk)
        _signal(self._arrived)
        if self.is_full:
            _signal(self._filled)

    async def wait_for_room(self) -> None:
        """Wait until a full batch is on its way to the disk, or `failure` says why it is not."""
        while self.is_full and self.failure is None:
            self._taken = anyio.Event()
            await self._taken.wait()

    def end(self, *, discard: bool) -> None:
        """Let `run` return when everything is written, or at once with `discard`."""
        if discard:
            self._batch = []
        self._is_ended = True
        _signal(self._arrived)
        _signal(self._filled)

    async def run(self) -> None:
        while self.failure is None:
            await self._wait_for_batch()
            batch, self._batch, self._size = self._batch, [], 0
            _signal(self._taken)
            if batch:
                await run_sync(self._write, batch)
            elif self._is_ended:
                return
        _signal(self._taken)

    async def _wait_for_batch(self) -> None:
        if not self._batch and not self._is_ended:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        if not self.is_full and not self._is_ended:
            self._filled = anyio.Event()
            with anyio.move_on_after(_LINGER):
                await self._filled.wait()

    # What runs in worker threads.

    def _write(self, batch: list[bytes]) -> None:
        try:
            with _no_room_is_store_full():
                self.offset = _write_all(self._open(), batch, self.offset)
        except (OSError, StoreFull) as failure:
            self.failure = failure

    def truncate(self, offset: int) -> None:
        """Forget the bytes from `offset` on."""
        if self._file is not None:
            os.ftruncate(self._file, offset)

    def flush(self) -> None:
        """Have everything on the disk, the name of the file included."""
        if self._file is not None:
            with _no_room_is_store_full():
                os.fsync(self._file)
                _flush_folder(os.path.dirname(self._path))

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)

    def _open(self) -> int:
        if self._file is None:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o666)
        return self._file


def _signal(event: anyio.Event | None) -> None:
    if event is not None:
        event.set()


def _write_all(file: int, chunks: list[bytes], offset: int) -> int:
    """Write the chunks at `offset` and return where they end."""
    views = [memoryview(chunk) for chunk in chunks]
    while views:
        written = os.pwritev(file, views, offset)
        offset += written
        views = _rest(views, written)
    return offset


def _rest(views: list[memoryview], written: int) -> list[memoryview]:
    """Return what a short write left over."""
    for index, view in enumerate(views):
        if written < len(view):
            return [view[written:], *views[index + 1 :]]
        written -= len(view)
    return []


@contextlib.contextmanager
def _no_room_is_store_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull("the store has no room left; what it acknowledged is safe") from error
        raise


@contextlib.contextmanager
def _opened(path: str, flags: int) -> Iterator[int]:
    """Open a file, making its folder if that is missing."""
    file = _with_folder(path, lambda: os.open(path, flags, 0o666))
    try:
        yield file
    finally:
        os.close(file)


def _with_folder(path: str, make: Callable[[], T]) -> T:
    # Again and again: a sweeper may remove the folder of an hour when it is empty.
    while True:
        try:
            return make()
        except FileNotFoundError:
            _make_folder(os.path.dirname(path))


def _make_folder(folder: str) -> None:
    """Make a folder and those above it, each with its name on the disk."""
    parent = os.path.dirname(folder)
    if not os.path.isdir(parent):
        _make_folder(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    _flush_folder(parent)


def _flush_folder(folder: str) -> None:
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # not empty, or another sweeper was first
        os.rmdir(folder)


def _is_old(path: str, now: datetime) -> bool:
    try:
        return os.stat(path).st_mtime < now.timestamp() - _UNDER_WAY_FOR
    except FileNotFoundError:
        return False


def _hour_of(moment: datetime) -> int:
    return int(moment.timestamp()) // 3600


def _is_other_hour(before: datetime, after: datetime | None) -> bool:
    return after is None or _hour_of(before) != _hour_of(after)
