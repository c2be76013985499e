"""Locks between the processes of one machine, by the kernel."""

import contextlib
import fcntl
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from tusasgi._errors import UploadLocked
from tusasgi._models import check_upload_id

_ARRIVAL = struct.Struct("d")
# Elsewhere the writer of a pipe may not be told that its readers are gone, and asks again.
_IS_WOKEN = sys.platform == "linux"
_RETRY = 0.02  # seconds

_held: set[int] = set()
"""The pipes that this process has locked."""


def _let_go_in_child() -> None:  # pragma: no cover (forked children are not measured)
    # A forked child (a pool of processes begun by a hook) would keep the lock of a process that
    # has died, and keep newcomers asleep: it shares the open file.
    for pipe in _held:
        os.close(pipe)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)


class FileLocker:
    """Locks for any number of processes on one machine that share a local folder.

    Each held lock is a named pipe with a kernel lock (`flock`) on it. The kernel frees the lock
    when its process dies, in whatever way, and never before; what is left is an empty name that
    the next holder replaces. A newcomer writes the time of its arrival into the pipe, and the
    holder stops if that is later than its own: the newest request wins, whoever was quicker to
    get the lock. Then the newcomer sleeps until the kernel reports that nobody reads the pipe
    any more. `patience` is how long it waits, in seconds.
    """

    def __init__(self, directory: str | os.PathLike[str], *, patience: float = 5.0) -> None:
        self._root = os.path.abspath(directory)
        self._patience = patience

    @asynccontextmanager
    async def lock(
        self, upload_id: str, *, interrupt: Callable[[], None], take_over: bool = True
    ) -> AsyncIterator[None]:
        path = os.path.join(self._root, f"{check_upload_id(upload_id)}.lock")
        arrival = time.monotonic()  # one clock for all processes of a machine
        pipe = await self._acquire(path, arrival, take_over)
        _held.add(pipe)
        try:
            async with _listening(pipe, arrival, interrupt):
                yield
        finally:
            # In a forked child that leaves by way of its parent's code it is not.
            if pipe in _held:  # pragma: no branch (forked children are not measured)
                _held.remove(pipe)
                _remove(pipe, path)

    async def _acquire(self, path: str, arrival: float, take_over: bool) -> int:
        pipe = _try(path)
        if pipe is None and take_over:
            with anyio.move_on_after(self._patience):
                while pipe is None:
                    await _ask_and_wait(path, arrival)
                    pipe = _try(path)
            if pipe is None:
                # A process that was stopped while it tried the lock keeps others from being woken.
                pipe = _try(path)
        if pipe is None:
            raise UploadLocked("another request holds the upload and does not let go")
        return pipe


async def _ask_and_wait(path: str, arrival: float) -> None:
    """Tell the holder of the arrival; return when it has let go or died."""
    pipe = _ask(path, arrival)
    if pipe is None:
        await anyio.lowlevel.checkpoint()
        return
    try:
        if _IS_WOKEN:
            # To its writer a pipe is never readable, but for the error that nobody reads it. The
            # holder reads through the open file that has the lock on it, and the kernel takes
            # the lock off before it takes the reader away.
            await anyio.wait_readable(pipe)
        else:
            await anyio.sleep(_RETRY)
    finally:
        os.close(pipe)


def _ask(path: str, arrival: float) -> int | None:
    """Write the arrival into the pipe and return it, or None if nobody reads it any more."""
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no name, no reader; the next try raises whatever else is wrong
        return None
    # Full: the holder was told often enough. Broken: it is gone, which is seen at once.
    with contextlib.suppress(BlockingIOError, BrokenPipeError):
        os.write(pipe, _ARRIVAL.pack(arrival))
    return pipe


@asynccontextmanager
async def _listening(
    pipe: int, arrival: float, interrupt: Callable[[], None]
) -> AsyncIterator[None]:
    """Call `interrupt` when somebody who came later writes into the pipe."""
    tasks = anyio.create_task_group()
    await tasks.__aenter__()
    tasks.start_soon(_listen, pipe, arrival, interrupt)
    try:
        yield
    finally:
        # The group is not told how the body ended: it would wrap an exception in a group.
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)


async def _listen(pipe: int, arrival: float, interrupt: Callable[[], None]) -> None:
    while True:
        await anyio.wait_readable(pipe)
        if any(other > arrival for other in _read_arrivals(pipe)):
            interrupt()


def _read_arrivals(pipe: int) -> list[float]:
    try:
        message = os.read(pipe, 512 * _ARRIVAL.size)
    except BlockingIOError:
        return []
    # Writes this small are never split, so neither are reads of whole multiples.
    return [arrival for (arrival,) in _ARRIVAL.iter_unpack(message)]


def _try(path: str) -> int | None:
    """Return the pipe with the lock on it, or None if somebody else has it."""
    while True:
        pipe, is_new = _open_pipe(path)
        try:
            fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(pipe)
            return None
        if not _is_current(pipe, path):
            os.close(pipe)
        elif is_new:
            return pipe
        else:
            # Left by a holder that was killed. To read from this one again could hide its death
            # from those who wait, and what is in it was said to the dead.
            _remove(pipe, path)


def _remove(pipe: int, path: str) -> None:
    # The name goes first, while the lock is held: whoever opened it meanwhile sees that it is
    # not the current one (`_try`), and opens again.
    try:
        if _is_current(pipe, path):  # somebody may have removed it, and another holder made one
            os.unlink(path)
    finally:
        # Closing is not enough if somebody forked in a way that Python does not know of.
        fcntl.flock(pipe, fcntl.LOCK_UN)
        os.close(pipe)


def _open_pipe(path: str) -> tuple[int, bool]:
    """Open the pipe for reading and writing, and say whether it was made for that."""
    is_new = False
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), is_new
        except FileNotFoundError:
            is_new = _make_pipe(path)


def _make_pipe(path: str) -> bool:
    """Make the pipe; return False if somebody else was quicker."""
    try:
        os.mkfifo(path)
    except FileExistsError:
        return False
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return _make_pipe(path)
    return True


def _is_current(pipe: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(pipe), os.stat(path))
    except FileNotFoundError:
        return False
