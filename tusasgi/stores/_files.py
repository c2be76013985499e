"""What the file store does with files: small steps, each of which happened or did not."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from tusasgi._errors import OffsetConflict, StoreFull
from tusasgi.stores import Overtaken

T = TypeVar("T")

_UNDER_WAY_FOR = 3600.0  # seconds after which what is not finished counts as left behind
_COPY_SIZE = 1024 * 1024
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


# Writing.


def open_alone(path: str, offset: int) -> int:
    """Open a file to write on at `offset`, its end, as the only writer of any process.

    The kernel keeps others out as long as this process lives, whatever became of the lock that
    it was given: `Overtaken`. `OffsetConflict`: somebody else was there before.
    """
    while True:
        file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            status = os.fstat(file)
            if not _is_named(path, status):
                close_alone(file)  # it was removed meanwhile
                continue
            if status.st_size != offset:
                raise OffsetConflict(f"the upload is at {status.st_size}", offset=status.st_size)
        except BlockingIOError:
            os.close(file)
            raise Overtaken("another request is writing to this upload") from None
        except OffsetConflict:
            close_alone(file)
            raise
        return file


def _is_named(path: str, status: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), status)
    except FileNotFoundError:
        return False


def close_alone(file: int) -> None:
    # Explicitly, because a child process may hold the same open file.
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def write_all(file: int, chunks: list[bytes], offset: int) -> int:
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


def copy_bytes(source: int, target: int, *, position: int, offset: int, count: int) -> int:
    """Copy up to `count` bytes and return how many; 0 at the end of the source.

    Within the kernel where it can, and without copying at all where the file system shares
    blocks (XFS, Btrfs).
    """
    if hasattr(os, "copy_file_range"):
        try:
            return os.copy_file_range(source, target, count, position, offset)
        except OSError as error:
            if error.errno not in _NOT_IN_KERNEL:
                raise
    data = os.pread(source, min(count, _COPY_SIZE), position)
    return write_all(target, [data], offset) - offset


@contextlib.contextmanager
def no_room_is_store_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise StoreFull("the store has no room left; what it acknowledged is safe") from error
        raise


# Names and folders.


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """Open a file, making its folder if that is missing."""
    file = with_folder(path, lambda: os.open(path, flags, 0o666))
    try:
        yield file
    finally:
        os.close(file)


def with_folder(path: str, make: Callable[[], T]) -> T:
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
    flush_folder(parent)


def flush_folder(folder: str) -> None:
    """Have the names in a folder on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def size_of(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # not empty, or another sweeper was first
        os.rmdir(folder)


def is_left_behind(path: str, now: datetime) -> bool:
    """True for a file that nobody has written to for so long that nobody will."""
    try:
        return os.stat(path).st_mtime < now.timestamp() - _UNDER_WAY_FOR
    except FileNotFoundError:
        return False
