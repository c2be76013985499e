"""Locks between the processes of one machine, by the kernel.

- A lock is a range of bytes of one empty file that the kernel has locked. Its start says which
  upload (a hash of the id), and its length in which inbox the holder listens: so holder and
  address come and go in the same moment, and neither needs a block or an inode.
- Within an event loop uploads are handed over by `MemoryLocker`, and only the first of those who
  wait asks the kernel.
- Between event loops, which are mostly of different processes, whoever waits writes to the inbox
  of the holder, and the holder writes back when it has let go. An inbox whose process dies is an
  error in the pipe to it, of which whoever waits is woken as well.
- What is said is a courtesy. Those who cannot make a pipe, or whose message is lost, try the
  lock again now and then: `_AGAIN`, `_AGAIN_UNTOLD`.
"""

import errno
import hashlib
import os
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import anyio
import anyio.lowlevel

from tusasgi.errors import StoreFull, StoreUnavailable, UploadLocked
from tusasgi.lockers.file.inbox import MOST, Inbox, Message, open_inbox, tell, told, watch
from tusasgi.lockers.file.lock_file import LockFile, make_lock_file, open_lock_file
from tusasgi.lockers.memory import MemoryLocker
from tusasgi.models import check_upload_id

_NAME = "locks"

_AGAIN = 0.5  # seconds, after which whoever will be told tries all the same
_AGAIN_UNTOLD = 0.05

_LENGTHS = (MOST + 1).bit_length()  # bits; a holder without an inbox locks one byte

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
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
    in whatever way, and never before. Of several requests the one that came last goes on,
    whoever was quicker to get the lock, and nobody else is kept from a clean refusal. `patience`
    is how long a newcomer waits, in seconds.

    Once the folder is set up, locks need no free block and no free inode, also in a process that
    has just begun. Raises `StoreFull` if there is no room to set it up, and `StoreUnavailable`
    if this process may open no more files, or the disk of the folder is away. May be used by
    several event loops, and several may be made for one folder.
    """

    def __init__(self, directory: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        self._folder = os.path.abspath(directory)
        self._path = os.path.join(self._folder, _NAME)
        self._patience = patience
        self._device: int | None = None
        self._desks: anyio.lowlevel.RunVar[_Desk] = anyio.lowlevel.RunVar(
            f"tusasgi.locks.{uuid.uuid4()}"
        )

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        place = _place_of(check_upload_id(upload_id))
        desk = self._desk()
        with desk.claimed(place, interrupt) as claim:
            turn = desk.queue.lock(str(place), interrupt=claim.displace, take_over=take_over)
            async with turn:
                station = await self._acquire(desk, claim, take_over)
                # From here on nothing awaits but the body: no cancellation comes in between.
                try:
                    yield
                finally:
                    station.let_go(claim)

    async def _acquire(self, desk: "_Desk", claim: "_Claim", take_over: bool) -> "_Station":
        try:
            while True:
                station = self._join(desk)
                if await self._take(station, claim, take_over):
                    return station
                # Somebody has removed the file, and a lock on it keeps nobody out.
                desk.leave(station)
        except OSError as error:
            raise _clear(error) from error

    async def _take(self, station: "_Station", claim: "_Claim", take_over: bool) -> bool:
        """Take the lock, and return whether its file is still the one that all use."""
        is_current = False
        try:
            if not await station.take(claim, self._patience if take_over else None):
                raise UploadLocked("another request holds the upload and does not let go")
            is_current = station.file.is_at(self._path)
        finally:
            if not is_current:
                station.let_go(claim)
        return is_current

    def _desk(self) -> "_Desk":
        desk = self._desks.get(None)
        if desk is None:
            desk = _Desk(MemoryLocker(patience=self._patience))
            self._desks.set(desk)
        return desk

    def _join(self, desk: "_Desk") -> "_Station":
        """Return the station of this event loop, which is open until all have let go."""
        if desk.station is None or not desk.station.is_open:
            desk.station = _Station(self._folder, self._open_file())
        desk.station.join()
        return desk.station

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
        place = self._folder
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        if self._device not in (None, os.stat(place).st_dev):
            raise _away()


class _Desk:
    """What a locker has in an event loop: a queue, and a station while there are locks."""

    def __init__(self, queue: MemoryLocker) -> None:
        self.queue = queue
        self.station: _Station | None = None
        self._arrivals: dict[int, list[float]] = {}

    @contextmanager
    def claimed(self, place: int, interrupt: Callable[[], None]) -> "Iterator[_Claim]":
        """Give a claim on a place, of which the others of this event loop know meanwhile."""
        arrivals = self._arrivals.setdefault(place, [])
        claim = _Claim(place, interrupt, arrivals)
        arrivals.append(claim.arrival)
        try:
            yield claim
        finally:
            arrivals.remove(claim.arrival)
            if not arrivals:
                del self._arrivals[place]

    def leave(self, station: "_Station") -> None:
        """Open another station for the next claim."""
        if self.station is station:
            self.station = None


class _Claim:
    """One request for one lock."""

    def __init__(self, place: int, interrupt: Callable[[], None], arrivals: list[float]) -> None:
        self.place = place
        self.arrival = time.monotonic()  # one clock for all processes of a machine
        self.is_held = False
        self.waiting: set[int] = set()
        """The inboxes of those who want the lock that this one holds."""
        self.nudge: anyio.Event | None = None
        """What it sleeps on while it waits for another event loop."""
        self._interrupt = interrupt
        self._arrivals = arrivals

    @property
    def newest(self) -> float:
        """The last arrival at this place in this event loop."""
        return self._arrivals[-1]

    def displace(self) -> None:
        """Make room for somebody who came later, or have the holder make it."""
        if self.is_held:
            self._interrupt()
        else:
            self.wake()

    def wake(self) -> None:
        if self.nudge is not None:
            self.nudge.set()

    def hold(self) -> None:
        self.is_held = True
        if self.newest > self.arrival:
            self._interrupt()

    def age(self) -> float:
        return time.monotonic() - self.arrival


class _Station:
    """The file of locks and the inbox of an event loop, while it has locks or waits for some."""

    def __init__(self, folder: str, file: LockFile) -> None:
        self.file = file
        self._folder = folder
        self._inbox: Inbox | None = None
        self._claims: dict[int, _Claim] = {}
        self._users = 0

    @property
    def is_open(self) -> bool:
        return not self.file.is_lost and self._users > 0

    def join(self) -> None:
        self._users += 1
        if self._inbox is None:
            with suppress(OSError):  # a courtesy, as all that is said
                self._inbox = open_inbox(self.file, self._folder, self._hear)

    async def take(self, claim: _Claim, patience: float | None) -> bool:
        """Take the lock, waiting for it until the patience ends; None asks nobody for it.

        Returns False if somebody else has it.
        """
        self._claims[claim.place] = claim
        if not self._try(claim) and patience is not None:
            with anyio.move_on_after(patience - claim.age()):
                while not self._try(claim):
                    await self._ask_and_wait(claim)
        return self._try(claim)

    def let_go(self, claim: _Claim) -> None:
        """Free the lock if it is held, tell those who wait, and leave the station."""
        self._claims.pop(claim.place, None)
        try:
            if claim.is_held and self.file.unlock(claim.place):
                for number in claim.waiting:
                    tell(self._folder, number, Message(claim.place, is_freed=True))
        finally:
            claim.is_held = False
            self._users -= 1
            if not self._users:
                self._close()

    def _close(self) -> None:
        try:
            if self._inbox is not None and not self.file.is_lost:
                self._hear()  # whoever has asked and was not heard would wait for an answer
                self._inbox.close()
        finally:
            self._inbox = None
            self.file.close()

    def _try(self, claim: _Claim) -> bool:
        if not claim.is_held and self.file.try_lock(claim.place, 1 + self._number):
            claim.hold()
        return claim.is_held

    @property
    def _number(self) -> int:
        return 0 if self._inbox is None else self._inbox.number

    async def _ask_and_wait(self, claim: _Claim) -> None:
        """Tell the holder of the claim; return when it is time to try again."""
        nudge = claim.nudge = anyio.Event()
        length = self.file.length_at(claim.place)
        if length is None:
            await anyio.lowlevel.checkpoint()
            return
        wish = Message(claim.place, self._number, claim.newest)
        with told(self._folder, length - 1, wish) as pipe:
            if self._try(claim):  # it let go before it was told, and may never answer
                return
            is_answered = pipe is not None and self._inbox is not None
            with anyio.move_on_after(_AGAIN if is_answered else _AGAIN_UNTOLD):
                with _woken_by_error(pipe, claim):
                    await nudge.wait()

    def _hear(self) -> None:
        assert self._inbox is not None
        while messages := self._inbox.read():
            for message in messages:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        claim = self._claims.get(message.place)
        if message.is_freed:
            if claim is not None:
                claim.wake()
        elif claim is None or not claim.is_held:
            tell(self._folder, message.sender, Message(message.place, is_freed=True))
        else:
            claim.waiting.add(message.sender)
            if message.arrival > claim.arrival:
                claim.displace()


@contextmanager
def _woken_by_error(pipe: int | None, claim: _Claim) -> Iterator[None]:
    """Wake the claim when nobody reads the pipe any more: its inbox is closed, or dead.

    To its writer a pipe is never readable, but for this error.
    """
    if pipe is None:
        yield
        return
    stop = watch(pipe, claim.wake)
    try:
        yield
    finally:
        stop()


def _clear(error: OSError) -> Exception:
    """Return what an operator or a client can do something about, or else the error itself."""
    if error.errno in _NO_ROOM:
        return StoreFull("there is no room left to set up the locks; what was acknowledged is safe")
    if error.errno in _TOO_MANY:
        return StoreUnavailable("this server has too many files open; try again in a moment")
    return _away() if error.errno in _AWAY else error


def _away() -> StoreUnavailable:
    return StoreUnavailable("the locks cannot be reached for now; try again in a moment")


def _place_of(upload_id: str) -> int:
    """Return where the lock on an upload begins.

    Two uploads of one place would only wait for each other. Of 51 bits that are different for
    each upload, a million that are held at once have such a pair in one of some thousand tries.
    """
    digest = hashlib.blake2b(upload_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> (64 - 62 + _LENGTHS) << _LENGTHS
