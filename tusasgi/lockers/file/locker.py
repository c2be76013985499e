"""Locks between the processes of one machine, by the kernel.

- A lock is a range of bytes of one empty file that the kernel has locked. Its start says which
  upload (a hash of the id), and its length in which inbox the holder listens: so holder and
  address come and go in the same moment, and neither needs a block or an inode.
- Within an event loop uploads are handed over by `MemoryLocker`, and only the first of those who
  wait asks the kernel.
- Between event loops, which are mostly of different processes, whoever waits writes to the inbox
  of the holder, and the holder writes back when it has let go. An inbox whose process dies is an
  error in the pipe to it, of which whoever waits is woken as well.
- Messages are a courtesy. Those who cannot make a pipe, or whose message is lost, try the lock
  again now and then.
"""

import errno
import hashlib
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import anyio.lowlevel

from tusasgi.errors import StoreFull, StoreUnavailable, UploadLocked
from tusasgi.lockers.file.inbox import MOST
from tusasgi.lockers.file.lock_file import LockFile, make_lock_file, open_lock_file
from tusasgi.lockers.file.locks import Claim, Locks
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.models import check_upload_id

_NAME = "locks"

_LENGTHS = (MOST + 1).bit_length()  # bits; a holder without an inbox locks one byte

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
        self._folder = os.path.abspath(directory)
        self._path = os.path.join(self._folder, _NAME)
        self._patience = patience
        self._device: int | None = None
        self._loops: anyio.lowlevel.RunVar[_EventLoop] = anyio.lowlevel.RunVar(
            f"tusasgi.locks.{uuid.uuid4()}"
        )

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        start = _start_of(check_upload_id(upload_id))
        loop = self._loop()
        with loop.claimed(start, interrupt) as claim:
            turn = loop.queue.lock(str(start), interrupt=claim.displace, take_over=take_over)
            async with turn:
                locks = await self._acquire(loop, claim, take_over)
                # From here on nothing awaits but the body: no cancellation comes in between.
                try:
                    yield
                finally:
                    locks.release(claim)

    async def _acquire(self, loop: "_EventLoop", claim: Claim, take_over: bool) -> Locks:
        try:
            while True:
                locks = self._join(loop)
                if await self._take(locks, claim, take_over):
                    return locks
                # Somebody has removed the file, and a lock on it keeps nobody out.
                loop.leave(locks)
        except OSError as error:
            raise _clear(error) from error

    async def _take(self, locks: Locks, claim: Claim, take_over: bool) -> bool:
        """Take the lock, and return whether its file is still the one that all use."""
        is_current = False
        try:
            if not await locks.take(claim, self._patience if take_over else None):
                raise UploadLocked("another request holds the upload and does not let go")
            is_current = locks.file.is_at(self._path)
        finally:
            if not is_current:
                locks.release(claim)
        return is_current

    def _loop(self) -> "_EventLoop":
        loop = self._loops.get(None)
        if loop is None:
            loop = _EventLoop(MemoryLocker(patience=self._patience))
            self._loops.set(loop)
        return loop

    def _join(self, loop: "_EventLoop") -> Locks:
        """Return the locks of this event loop, which are open until all are released."""
        if loop.locks is None or not loop.locks.is_open:
            loop.locks = Locks(self._folder, self._open_file())
        loop.locks.join()
        return loop.locks

    def _open_file(self) -> LockFile:
        try:
            file = open_lock_file(self._path)
        except FileNotFoundError:
            self._check_disk()
            make_lock_file(self._path)
            file = open_lock_file(self._path)
        self._device = file.device
        return file

    def _check_disk(self) -> None:
        """Raise `StoreUnavailable` if the folder was on a disk that is not mounted any more."""
        folder = self._folder
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        if self._device not in (None, os.stat(folder).st_dev):
            raise _away()


class _EventLoop:
    """What a locker has in one event loop: a queue, and the open locks while there are some."""

    def __init__(self, queue: MemoryLocker) -> None:
        self.queue = queue
        self.locks: Locks | None = None
        self._arrivals: dict[int, list[float]] = {}

    @contextmanager
    def claimed(self, start: int, interrupt: Callable[[], None]) -> Iterator[Claim]:
        """Give a claim on a lock, of which the others of this event loop know meanwhile."""
        arrivals = self._arrivals.setdefault(start, [])
        claim = Claim(start, interrupt, arrivals)
        arrivals.append(claim.arrival)
        try:
            yield claim
        finally:
            arrivals.remove(claim.arrival)
            if not arrivals:
                del self._arrivals[start]

    def leave(self, locks: Locks) -> None:
        """Open others for the next claim."""
        if self.locks is locks:
            self.locks = None


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
    return int.from_bytes(digest) >> (64 - 62 + _LENGTHS) << _LENGTHS
