"""Locks between the processes of one machine, by the kernel.

- A lock is a range of bytes of one empty file that the kernel has locked. Its start says which
  upload (a hash of the id), and its length in which inbox the holder's process listens: so holder
  and address come and go in the same moment, and neither needs a block or an inode.
- Within a process claims stand in a queue, and only the first one asks the kernel.
- Between processes whoever waits writes to the inbox of the holder, and the holder writes back
  when it has let go. An inbox whose process dies is an error in the pipe to it, of which whoever
  waits is woken as well.
- Messages are a courtesy. Those who cannot make a pipe, or whose message is lost, try the lock
  again now and then.
- File and inbox stay open from one lock to the next, until a second passes without any: so a lock
  that nobody else wants costs one call of the kernel to take it, one to see that it counts, and
  one to free it.
"""

import errno
import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from tusasgi.arguments import check_folder, check_seconds
from tusasgi.errors import StoreFull, StoreUnavailable
from tusasgi.lockers.file.claim import Claim
from tusasgi.lockers.file.lock_file import make_lock_file
from tusasgi.lockers.file.locks import LENGTHS, Locks, open_locks
from tusasgi.models import check_upload_id

_NAME = "locks"

_DISK_FULL = {errno.ENOSPC, errno.EDQUOT}
_TOO_MANY = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOLCK}
_AWAY = {
    errno.EIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOTCONN,
    errno.ESTALE,
    errno.EROFS,
    errno.ETIMEDOUT,
    errno.EHOSTDOWN,
}


class FileLocker:
    """Locks for any number of processes on one machine that share a local folder.

    The kernel keeps the locks, on one file of the folder. It frees them when their process dies,
    however it dies, and never before. Of several requests the one that came last goes on,
    whoever was quicker to get the lock, and nobody else is kept from a clean refusal. `patience`
    is how long a newcomer waits, in seconds.

    Once the folder is set up, locks need no free block and no free inode, also in a process that
    has just begun. Raises `StoreFull` if the disk is too full to set it up, and
    `StoreUnavailable` if this process may open no more files, or the disk of the folder is away.
    May be used by several event loops, and several may be made for one folder.
    """

    def __init__(self, directory: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        check_folder("directory", directory)
        check_seconds("patience", patience, may_be_none=False, may_be_zero=True)
        self._folder = os.path.abspath(directory)
        self._path = os.path.join(self._folder, _NAME)
        self._patience = patience
        self._device: int | None = None
        self._locks: Locks | None = None

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        claim = Claim(_start_of(check_upload_id(upload_id)), interrupt, takes_over=take_over)
        locks = await self._acquire(claim)
        # From here on nothing awaits but the body: no cancellation comes in between.
        try:
            yield
        finally:
            locks.leave(claim)

    async def _acquire(self, claim: Claim) -> Locks:
        try:
            while True:
                locks = self._join(claim)
                if await self._take(locks, claim):
                    return locks
                # Somebody has removed the file, and a lock on it keeps nobody out.
                self._locks = None
        except OSError as error:
            raise _clear(error) from error

    async def _take(self, locks: Locks, claim: Claim) -> bool:
        """Take the lock, and return whether its file is still the one that all use."""
        is_current = False
        try:
            await locks.take(claim, self._patience)
            is_current = locks.file.is_at(self._path)
        finally:
            if not is_current:
                locks.leave(claim)
        return is_current

    def _join(self, claim: Claim) -> Locks:
        """Return the locks in whose queue the claim stands now."""
        locks = self._locks
        while locks is None or not locks.join(claim):
            locks = self._locks = self._open()
        return locks

    def _open(self) -> Locks:
        try:
            locks = open_locks(self._path)
        except FileNotFoundError:
            self._check_disk()
            make_lock_file(self._path)
            locks = open_locks(self._path)
        self._device = locks.file.device
        return locks

    def _check_disk(self) -> None:
        """Raise `StoreUnavailable` if the folder was on a disk that is not mounted any more."""
        folder = self._folder
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        if self._device not in (None, os.stat(folder).st_dev):
            raise _away()


def _clear(error: OSError) -> Exception:
    """Return what an operator or a client can do something about, or else the error itself."""
    if error.errno in _DISK_FULL:
        return StoreFull("there is no room left to set up the locks; what was acknowledged is safe")
    if error.errno in _TOO_MANY:
        return StoreUnavailable("this server has too many files open; try again in a moment")
    return _away() if error.errno in _AWAY else error


def _away() -> StoreUnavailable:
    return StoreUnavailable("the locks cannot be reached for now; try again in a moment")


def _start_of(upload_id: str) -> int:
    """Return where the lock on an upload begins.

    Two uploads whose locks begin at one byte would only wait for each other. Of 51 bits that
    are different for each upload, a million that are held at once have such a pair in one of
    some thousand tries.
    """
    digest = hashlib.blake2b(upload_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - 62 + LENGTHS) << LENGTHS
