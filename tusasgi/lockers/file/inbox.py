"""Named pipes: the messages between those who hold locks and those who want them.

A message is a nudge to look for oneself: one that is lost delays somebody, and no more.
"""

import contextlib
import os
import select
import stat
import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tusasgi.lockers.file.lock_file import LockFile, give_to_owner

MOST = 2000
"""How many inboxes there may be in a folder; who gets none asks again now and then."""

SILENCE = 1.0
"""Seconds without a message, after which a listener asks whether it is still needed."""

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

    def __init__(self, number: int, pipe: int) -> None:
        self.number = number
        self._pipe = pipe

    def listen(self, on_message: Callable[[Message], None], on_silence: Callable[[], bool]) -> None:
        """Pass on each message; after a while without any, ask whether that is all.

        Does not touch the pipe any more when it is.
        """
        poll = select.poll()
        poll.register(self._pipe, select.POLLIN)
        while True:
            if poll.poll(1000 * SILENCE):
                for message in self._read():
                    on_message(message)
            elif on_silence():
                return

    def _read(self) -> list[Message]:
        try:
            # Writes this small are never split, so neither are reads of whole multiples.
            data = os.read(self._pipe, _AT_ONCE * _MESSAGE.size)
        except BlockingIOError:  # a stranger was quicker
            return []
        whole = len(data) - len(data) % _MESSAGE.size  # unless a stranger has written
        return [Message(*message) for message in _MESSAGE.iter_unpack(data[:whole])]

    def close(self) -> None:
        os.close(self._pipe)


def open_inbox(file: LockFile, folder: str) -> Inbox | None:
    """Return an inbox that no other process has, or None if the disk is too full for one.

    It is this process's until the file is closed.
    """
    unusable = 0
    for number in range(1, MOST + 1):
        if not file.try_lock(_start_of(number), 1):
            continue
        pipe = _open_own_pipe(folder, number)
        if pipe is not None:
            return Inbox(number, pipe)
        file.unlock(_start_of(number), 1)
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
