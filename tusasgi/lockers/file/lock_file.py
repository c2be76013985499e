"""Locks of the kernel on ranges of one file, for every thread and process of a machine.

They begin far beyond the end of the file, which stays empty: a lock there is a note in the
kernel's memory and takes no block of the disk. The kernel takes it away when its process ends,
however it ends, and never before.
"""

import contextlib
import os
import struct
import sys
import threading

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

_mutex = threading.Lock()
_files: "dict[tuple[int, int], LockFile]" = {}
"""The files that are open in this process, by device and inode."""


class LockFile:
    """A file of locks. All who use it in this process share one, see `open_lock_file`.

    That is because neither kind of lock keeps two users of one open file apart, and so that a
    lock needs no descriptor of its own.
    """

    def __init__(self, descriptor: int, key: tuple[int, int]) -> None:
        self.users = 1
        self._descriptor = descriptor
        self._key = key
        self._taken: dict[int, int] = {}

    @property
    def device(self) -> int:
        return self._key[0]

    @property
    def is_lost(self) -> bool:
        """True in a child that was forked while this was open."""
        return self._descriptor < 0

    def is_at(self, path: str) -> bool:
        """Return whether the path still names this file."""
        try:
            return _key_of(os.stat(path)) == self._key
        except (FileNotFoundError, NotADirectoryError):
            return False

    def try_lock(self, start: int, length: int) -> bool:
        """Lock so many bytes from `start` on, unless somebody has locked that one."""
        with _mutex:
            if start in self._taken:
                return False
            try:
                self._call(_SET, fcntl.F_WRLCK, start, length)
            except (BlockingIOError, PermissionError):  # POSIX allows both
                return False
            self._taken[start] = length
            return True

    def unlock(self, start: int) -> bool:
        """Unlock what was locked from `start` on; return False in a child forked meanwhile."""
        with _mutex:
            if start not in self._taken:
                return False
            self._call(_SET, fcntl.F_UNLCK, start, self._taken.pop(start))
            return True

    def length_at(self, start: int) -> int | None:
        """Return how many bytes somebody has locked from `start` on; None if nobody has."""
        with _mutex:
            if start in self._taken:
                return self._taken[start]
            answer = self._call(_GET, fcntl.F_WRLCK, start, 1)
        kind, length = (answer[0], answer[3]) if _IS_LINUX else (answer[3], answer[1])
        return None if kind == fcntl.F_UNLCK else length

    def close(self) -> None:
        """Close the file if this was its last user."""
        with _mutex:
            self.users -= 1
            if not self.users and not self.is_lost:
                del _files[self._key]
                os.close(self._descriptor)

    def _call(self, command: int, kind: int, start: int, length: int) -> tuple[int, ...]:
        # From the start of the file (whence 0); the process of an open file's lock has to be 0.
        order = (kind, 0, start, length, 0) if _IS_LINUX else (start, length, 0, kind, 0)
        return _FLOCK.unpack(fcntl.fcntl(self._descriptor, command, _FLOCK.pack(*order)))

    def _lose(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1
        self._taken.clear()


def open_lock_file(path: str) -> LockFile:
    """Return the file of locks; whoever gets it has to close it once.

    Raises `FileNotFoundError` if there is none, and every other `OSError` as it is.
    """
    with _mutex:
        # Looked up before it is opened, because where locks belong to processes the second
        # descriptor would take them away when it is closed.
        file = _files.get(_key_of(os.stat(path)))
        if file is not None:
            file.users += 1
            return file
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        key = _key_of(os.fstat(descriptor))
        file = _files[key] = LockFile(descriptor, key)
        return file


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
        owner = os.stat(folder)
        with contextlib.suppress(OSError):  # of a disk that knows no owners, or not this one
            os.chown(new, owner.st_uid, owner.st_gid)


def _key_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _lose_all_in_child() -> None:  # pragma: no cover (forked children are not measured)
    # The child shares the open files of its parent, and would keep the locks of a parent that
    # has died.
    global _mutex
    _mutex = threading.Lock()  # a thread that is not here may have held it
    for file in _files.values():
        file._lose()
    _files.clear()


os.register_at_fork(after_in_child=_lose_all_in_child)
