"""Named pipes: the messages between those who hold locks and those who want them.

A message is a nudge to look for oneself: one that is lost delays somebody, and no more.
"""

import asyncio
import contextlib
import functools
import os
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tusasgi.lockers.file.lock_file import LockFile, give_to_owner

MOST = 2000
"""How many inboxes there may be in a folder; who gets none asks again now and then."""

_FIRST_START = 1 << 62
_UNUSABLE = 3  # pipes in a row, after which no more are tried
_AT_ONCE = 512  # messages


class Message(NamedTuple):
    """Somebody who came at `arrival` wants the lock that begins at `start`, or it is free."""

    start: int
    sender: int = 0
    """The inbox to answer to; 0 is nobody's."""
    arrival: float = 0.0
    is_freed: bool = False


_MESSAGE = struct.Struct("=qHd?")


class Inbox:
    """A pipe with a number, which is this inbox's as long as the kernel has a lock on it.

    The name stays in the folder for whoever gets the number next: so there are never more than
    were in use at the same time, none is ever removed, and a full disk has those that it had.
    """

    def __init__(
        self, number: int, pipe: int, file: LockFile, on_message: Callable[[], None]
    ) -> None:
        self.number = number
        self._pipe = pipe
        self._file = file
        self._stop = watch(pipe, on_message)
        _inboxes.add(self)

    def read(self) -> list[Message]:
        """Return the messages that came since."""
        try:
            # Writes this small are never split, so neither are reads of whole multiples.
            data = os.read(self._pipe, _AT_ONCE * _MESSAGE.size)
        except BlockingIOError:
            return []
        whole = len(data) - len(data) % _MESSAGE.size  # unless a stranger has written
        return [Message(*message) for message in _MESSAGE.iter_unpack(data[:whole])]

    def close(self) -> None:
        _inboxes.remove(self)
        self._stop()
        os.close(self._pipe)
        self._file.unlock(_start_of(self.number))

    def _lose(self) -> None:
        os.close(self._pipe)


_inboxes: set[Inbox] = set()
"""Those that are open in this process."""


def open_inbox(file: LockFile, folder: str, on_message: Callable[[], None]) -> Inbox | None:
    """Return an inbox that nobody has, or None if the disk is too full for one.

    `on_message` is called in this event loop whenever there is something to read.
    """
    unusable = 0
    for number in range(1, MOST + 1):
        if not file.try_lock(_start_of(number), 1):
            continue
        pipe = None
        try:
            pipe = _open_own_pipe(folder, number)
            if pipe is not None:
                return Inbox(number, pipe, file, on_message)
        except OSError:
            if pipe is not None:
                os.close(pipe)
            unusable = _UNUSABLE
        file.unlock(_start_of(number))
        unusable += 1
        if unusable >= _UNUSABLE:
            break
    return None


@contextlib.contextmanager
def sent(folder: str, number: int, message: Message) -> Iterator[int | None]:
    """Send a message to an inbox; give the pipe to it, whose error means that it is gone."""
    pipe = _open_pipe(folder, number, os.O_WRONLY) if number else None
    if pipe is None:
        yield None
        return
    try:
        # Full: there are messages enough. Broken: it is gone, which is seen at once.
        with contextlib.suppress(BlockingIOError, BrokenPipeError):
            os.write(pipe, _MESSAGE.pack(*message))
        yield pipe
    finally:
        os.close(pipe)


def send(folder: str, number: int, message: Message) -> None:
    """Send a message to an inbox, if it is there."""
    with sent(folder, number, message):
        pass


def watch(descriptor: int, call: Callable[[], None]) -> Callable[[], object]:
    """Call back in this event loop while there is something to read, or an error.

    Returns what ends that, to be called before the descriptor is closed. anyio can only have a
    task wait, in a group that costs several times what all else of a lock does.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return _watch_in_trio(descriptor, call)
    loop.add_reader(descriptor, call)
    return functools.partial(loop.remove_reader, descriptor)


def _watch_in_trio(descriptor: int, call: Callable[[], None]) -> Callable[[], object]:
    import trio

    is_over = False

    async def wait() -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            while not is_over:  # it may be before this task has begun
                await trio.lowlevel.wait_readable(descriptor)
                if not is_over:
                    call()

    def stop() -> None:
        nonlocal is_over
        is_over = True
        trio.lowlevel.notify_closing(descriptor)

    trio.lowlevel.spawn_system_task(wait)
    return stop


def _open_own_pipe(folder: str, number: int) -> int | None:
    """Open the pipe for reading, and make it if it is not there."""
    pipe = _open_pipe(folder, number, os.O_RDWR)
    if pipe is not None:
        return pipe
    try:
        os.mkfifo(_path_of(folder, number))
    except OSError:  # a full disk, or somebody's pipe that we cannot read
        return None
    pipe = _open_pipe(folder, number, os.O_RDWR)
    if pipe is not None:
        give_to_owner(pipe, folder)
    return pipe


def _open_pipe(folder: str, number: int, mode: int) -> int | None:
    """Open a pipe; None if it is not there, has no reader, or cannot be opened."""
    flags = mode | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        pipe = os.open(_path_of(folder, number), flags)
    except OSError:  # messages are a courtesy, on which nobody may rely
        return None
    if stat.S_ISFIFO(os.fstat(pipe).st_mode):
        return pipe
    os.close(pipe)
    return None


def _path_of(folder: str, number: int) -> str:
    return os.path.join(folder, f"{number}.pipe")


def _start_of(number: int) -> int:
    return _FIRST_START + 2 * number  # not side by side, where locks would become one


def _lose_all_in_child() -> None:  # pragma: no cover (forked children are not measured)
    # While the child has it open, nobody is woken by the death of its parent.
    for inbox in _inboxes:
        inbox._lose()
    _inboxes.clear()


os.register_at_fork(after_in_child=_lose_all_in_child)
