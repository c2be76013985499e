"""Locks of the kernel on ranges of one file, for every thread and process of a machine.

They begin far beyond the end of the file, which stays empty: a lock there is a note in the
kernel's memory and takes no block of the disk. The kernel takes it away when its process ends,
however it ends, and never before.
"""

import contextlib
import os
import struct
import sys

try:
    import fcntl
except ImportError:
    raise ImportError(
        "FileLocker needs the file locks of a POSIX system (Linux, macOS, BSD): "
        "here use MemoryLocker, and one process"
    ) from None

# The locks of an open file, where the kernel knows them. The older kind belongs to the process,
# which loses all of them as soon as anything in it closes any descriptor of the file: a backup
# that some hook makes would do. Locks of the two kinds keep each other out.
_SET: int = getattr(fcntl, "F_OFD_SETLK", fcntl.F_SETLK)
_GET: int = getattr(fcntl, "F_OFD_GETLK", fcntl.F_GETLK)

_IS_LINUX = sys.platform == "linux"
# Type, whence, start, length and process; elsewhere start, length, process, type and whence.
# Longer than the kernel's own, because nobody minds what follows.
_FLOCK = struct.Struct("@hhqqi8x" if _IS_LINUX else "@qqihh8x")

Key = tuple[int, int]
"""What is the same for every name of a file: its device and inode."""


class LockFile:
    """A file of locks. A process has it open once at most: see `locks.open_locks`.

    That is because the older kind of lock is lost when a second descriptor is closed.
    """

    def __init__(self, descriptor: int) -> None:
        self.key = _key_of(os.fstat(descriptor))
        self._descriptor = descriptor

    @property
    def device(self) -> int:
        return self.key[0]

    @property
    def is_open(self) -> bool:
        """False after `close`; in a child that was forked while this was open, too."""
        return self._descriptor >= 0

    def is_at(self, path: str) -> bool:
        """Return whether the path still names this file."""
        try:
            return key_at(path) == self.key
        except (FileNotFoundError, NotADirectoryError):
            return False

    def try_lock(self, start: int, length: int) -> bool:
        """Lock so many bytes from `start` on, unless another process has locked that one.

        What this process has locked itself is no obstacle: who may try is for the caller to say.
        """
        try:
            self._call(_SET, fcntl.F_WRLCK, start, length)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            return False
        return True

    def unlock(self, start: int, length: int) -> None:
        """Unlock what this process has locked of so many bytes from `start` on."""
        self._call(_SET, fcntl.F_UNLCK, start, length)

    def length_at(self, start: int) -> int | None:
        """Return how many bytes another process has locked from `start` on; None if it is free."""
        answer = self._call(_GET, fcntl.F_WRLCK, start, 1)
        kind, length = (answer[0], answer[3]) if _IS_LINUX else (answer[3], answer[1])
        return None if kind == fcntl.F_UNLCK else length

    def close(self) -> None:
        """Close the file, which frees all locks."""
        os.close(self._descriptor)
        self._descriptor = -1

    def _call(self, command: int, kind: int, start: int, length: int) -> tuple[int, ...]:
        # From the start of the file (whence 0); the process of an open file's lock has to be 0.
        order = (kind, 0, start, length, 0) if _IS_LINUX else (start, length, 0, kind, 0)
        return _FLOCK.unpack(fcntl.fcntl(self._descriptor, command, _FLOCK.pack(*order)))


def open_lock_file(path: str) -> LockFile:
    """Open the file. Raises `FileNotFoundError` if there is none, and every `OSError` as it is."""
    return LockFile(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))


def key_at(path: str) -> Key:
    """Return the key of the file of this name, without opening it."""
    return _key_of(os.stat(path))


def make_lock_file(path: str) -> None:
    """Make the file and its folder, unless they are there."""
    make_folder(os.path.dirname(path))
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except FileExistsError:
        return
    try:
        give_to_owner(descriptor, os.path.dirname(path))
    finally:
        os.close(descriptor)


def make_folder(path: str) -> None:
    """Make the folder and those that it is in, unless they are there."""
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_folder(parent)
    try:
        os.mkdir(path)
    except FileExistsError:
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        give_to_owner(descriptor, parent)
    finally:
        os.close(descriptor)


def give_to_owner(new: int, folder: str) -> None:
    """Let what root has made and opened belong to the owner of the folder that it is in.

    A `tusasgi sweep` of root's must leave nothing that the server could not open.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # of a disk that knows no owners, or not this one
            owner = os.stat(folder)
            os.chown(new, owner.st_uid, owner.st_gid)


def _key_of(status: os.stat_result) -> Key:
    return status.st_dev, status.st_ino
