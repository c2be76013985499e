"""Locks between the processes of one machine, by the kernel."""

import contextlib
import fcntl
import os
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from tusasgi._errors import UploadLocked
from tusasgi._models import check_upload_id

_ARRIVAL = struct.Struct("d")
_FIRST_RETRY, _LAST_RETRY = 0.002, 0.05  # seconds


class FileLocker:
    """Locks for any number of processes on one machine that share a local folder.

    Each held lock is a named pipe with a kernel lock (`flock`) on it. The kernel frees the lock
    when its process dies, in whatever way; what is left is an empty name that the next holder
    takes over. A newcomer writes the time of its arrival into the pipe, and the holder stops if
    that is later than its own: the newest request wins, whoever was quicker to get the lock.
    `patience` is how long a newcomer waits, in seconds.
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
        try:
            async with _listening(pipe, arrival, interrupt):
                yield
        finally:
            # The name goes first, while the lock is held: whoever opened it meanwhile sees that
            # it is not the current one (`_try`), and opens again.
            os.unlink(path)
            os.close(pipe)

    async def _acquire(self, path: str, arrival: float, take_over: bool) -> int:
        retry = _FIRST_RETRY
        while (pipe := _try(path, arrival if take_over else None)) is None:
            if not take_over or time.monotonic() >= arrival + self._patience:
                raise UploadLocked("another request holds the upload and does not let go")
            await anyio.sleep(retry)
            retry = min(2 * retry, _LAST_RETRY)
        return pipe


@asynccontextmanager
async def _listening(
    pipe: int, arrival: float, interrupt: Callable[[], None]
) -> AsyncIterator[None]:
    """Call `interrupt` when somebody who came later writes into the pipe."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, pipe, arrival, interrupt)
        try:
            yield
        except Exception as error:  # raised again outside, where no group wraps it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


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


def _try(path: str, arrival: float | None) -> int | None:
    """Return the pipe with the lock on it, or None if somebody else has it.

    With an `arrival` the holder is told of it.
    """
    pipe = _open_pipe(path)
    try:
        fcntl.flock(pipe, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if arrival is not None:
            with contextlib.suppress(BlockingIOError):  # full: it was told often enough
                os.write(pipe, _ARRIVAL.pack(arrival))
        os.close(pipe)
        return None
    if _is_current(pipe, path):
        return pipe
    os.close(pipe)
    return None


def _open_pipe(path: str) -> int:
    while True:
        try:
            return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.makedirs(os.path.dirname(path), exist_ok=True)
                os.mkfifo(path)


def _is_current(pipe: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(pipe), os.stat(path))
    except FileNotFoundError:
        return False
