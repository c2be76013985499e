"""What the file store does with files: small steps, each of which happened or did not."""

import contextlib
import errno
import functools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import ParamSpec, TypeVar

from tusasgi.errors import StoreFull, StoreUnavailable
from tusasgi.stores import WriteConflict
from tusasgi.stores.due import ABANDONED_AFTER
from tusasgi.stores.gathering import Chunk
from tusasgi.threads import Threads

try:
    import fcntl
except ImportError:
    raise ImportError(
        "tusasgi.stores.file needs a POSIX system (Linux, macOS, BSD): it locks files with flock"
    ) from None

P = ParamSpec("P")
T = TypeVar("T")

_COPY_SIZE = 1024 * 1024
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_DESCRIPTORS = {errno.EMFILE, errno.ENFILE}
_AWAY = {
    errno.ENOENT,  # whatever can be missing is looked for; the rest was there a moment ago
    errno.EIO,
    errno.EROFS,  # what a file system becomes that has met an error
    errno.ENXIO,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
}
_LOCAL = {"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs", "zfs"}
_AHEAD = 365 * 24 * 3600 * 1_000_000_000 + 1  # nanoseconds
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_IN_KERNEL = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


@contextlib.contextmanager
def errors_mapped() -> Iterator[None]:
    """Raise failures of the system that pass by themselves as what a client is answered."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFull("the store is full; what it acknowledged is safe") from error
        if error.errno in _NO_DESCRIPTORS:
            raise StoreUnavailable("too many files are open here for now; try again") from error
        if error.errno in _AWAY:
            raise StoreUnavailable("the store cannot be reached for now; try again") from error
        raise


@contextlib.contextmanager
def unless_full() -> Iterator[None]:
    """Leave undone, on a disk that is full, what can be done without."""
    with contextlib.suppress(StoreFull), errors_mapped():
        yield


class Workers(Threads):
    """Threads that work on files, whose failures are raised as by `errors_mapped`."""

    async def run(self, function: Callable[P, T], /, *arguments: P.args, **keywords: P.kwargs) -> T:
        with errors_mapped():
            return await super().run(function, *arguments, **keywords)


# Locks.


def lock(file: int) -> None:
    """Have the file for this open descriptor alone, in all processes, or raise `WriteConflict`.

    The kernel frees it when the process ends, in whatever way.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise WriteConflict("another request is changing this upload") from None


def close_locked(file: int) -> None:
    # Explicitly, because a child process may hold the same open file.
    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def is_named(file: int, path: str) -> bool:
    """True if the open file is the one that has this name, and not one that had it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def lock_named(file: int, path: str) -> bool:
    """Lock an open file, and return whether it has got the lock and still has this name."""
    try:
        lock(file)
    except WriteConflict:
        return False
    return is_named(file, path)


# Bytes.


def write_all(file: int, chunks: Sequence[Chunk], offset: int) -> int:
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


def content_of(file: int) -> bytes:
    """Return what is in an open file that nobody makes longer."""
    return os.pread(file, os.fstat(file).st_size, 0)


def stat_of(path: str) -> os.stat_result | None:
    """Return what the system knows of a file, or None if there is none."""
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def truncate(file: int, size: int) -> None:
    """Cut an open file back, and leave it the time at which it was written."""
    before = os.fstat(file)
    os.ftruncate(file, size)
    _set_times(file, before.st_mtime_ns)


# Times.


def written_at(found: os.stat_result) -> datetime:
    """Return when a file was written."""
    return _EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000)


def set_written(file: int, moment: datetime) -> None:
    """Have it that an open file was written at this moment."""
    _set_times(file, (moment - _EPOCH) // timedelta(microseconds=1) * 1000)


def stamp(file: int, *, after: int = 0) -> None:
    """Give an open file times that show it to be written by this store, and as what.

    It was written later than `after`, in nanoseconds, by at least one of them. The time of the last
    access lies so far ahead that no access changes it, and by an odd amount: a file has not both
    if it was written to since, if somebody else put it there, or if its file system rounds times.
    """
    written = max(time.time_ns(), after + 1)
    _set_times(file, written, accessed=written + _AHEAD)


def is_stamped(found: os.stat_result) -> bool:
    """True for a file as `stamp` has left it."""
    return found.st_atime_ns - found.st_mtime_ns == _AHEAD


def _set_times(file: int, written: int, *, accessed: int | None = None) -> None:
    with contextlib.suppress(PermissionError):  # of somebody else's file; it was written just now
        os.utime(file, ns=(written if accessed is None else accessed, written))


@functools.lru_cache(maxsize=16)
def is_local(device: int) -> bool:
    """True for a file system that answers without a network, as far as that is known."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo") as mounts:
            for fields in map(str.split, mounts):
                if fields[2] == wanted:
                    return fields[fields.index("-") + 1] in _LOCAL
    except OSError:
        pass  # not Linux
    return False


# Names.


def flush_folder(folder: str) -> None:
    """Have the names in a folder on the disk."""
    file = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def files_in(folder: str) -> list[str]:
    """Return the names of the files in a folder, and of nothing else; none without a folder."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def unlink_if_there(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def unlink_unless_locked(path: str) -> None:
    """Remove a file, unless a running process has it locked."""
    with contextlib.suppress(FileNotFoundError, WriteConflict):
        file = os.open(path, os.O_RDONLY)
        try:
            lock(file)
            os.unlink(path)
        finally:
            os.close(file)


def remove_if_empty(folder: str) -> None:
    with contextlib.suppress(OSError):  # not empty, or another sweeper was first
        os.rmdir(folder)


def is_left_behind(path: str, now: datetime) -> bool:
    """True for a file that nobody has written to for so long that nobody will."""
    try:
        return os.stat(path).st_mtime < now.timestamp() - ABANDONED_AFTER
    except FileNotFoundError:
        return False
