"""The locks of one process: taken in the kernel, asked for and handed over by messages."""

import os
import threading
from contextlib import suppress

import anyio
import anyio.lowlevel

from tusasgi.errors import UploadLocked
from tusasgi.lockers.file.claim import Claim
from tusasgi.lockers.file.inbox import MOST, Inbox, Message, open_inbox, send, sent
from tusasgi.lockers.file.lock_file import Key, LockFile, key_at, open_lock_file

LENGTHS = (MOST + 1).bit_length()
"""Bits of a lock's length, which says in which inbox the holder listens; 1 is without one."""

LISTENER = "tusasgi-locks"
"""The name of the thread that reads the messages to this process."""

_RETRY = 0.5  # seconds, after which whoever will be woken tries all the same
_RETRY_UNANSWERED = 0.05

_mutex = threading.RLock()
"""Held by whoever changes which locks are open, or their queues.

It can be taken again because the garbage collector may end an abandoned request anywhere.
"""

_open: "dict[Key, Locks]" = {}
"""The locks that are open in this process."""


class Locks:
    """The locks in one file, with the inbox and the queues of this process; see `open_locks`.

    Claims on a lock stand in a queue. The first one has the lock, or tries to get it from other
    processes. It is told when somebody comes behind it, and wakes the next when it leaves.
    """

    def __init__(self, folder: str, file: LockFile) -> None:
        self.file = file
        self._folder = folder
        self._queues: dict[int, list[Claim]] = {}
        self._inbox: Inbox | None = None
        with suppress(OSError):  # a courtesy, as all messages are
            self._inbox = open_inbox(file, folder)
        if self._inbox is not None:
            self._listen(self._inbox)

    def join(self, claim: Claim) -> bool:
        """Be the last in the queue; return False if these locks are closed by now.

        Raises `UploadLocked` if that is not the first place, and the claim takes over from nobody.
        """
        with _mutex:
            if not self.file.is_open:
                return False
            queue = self._queues.get(claim.start)
            if queue is None:
                self._queues[claim.start] = [claim]
            elif claim.takes_over:
                queue.append(claim)
            else:
                raise UploadLocked("another request holds the upload")
            return True

    async def take(self, claim: Claim, patience: float) -> None:
        """Take the lock. Raises `UploadLocked` if others do not let go before the patience ends."""
        if self._try(claim):
            return
        if claim.takes_over:
            with anyio.move_on_after(patience - claim.age):
                await self._take_over(claim)
        if not self._try(claim):
            raise UploadLocked("another request holds the upload and does not let go")

    def leave(self, claim: Claim) -> None:
        """Free the lock if the claim has it, leave the queue, and wake whoever waits."""
        if not self.file.is_open:
            return  # in a child that was forked meanwhile
        try:
            if claim.is_held:
                self.file.unlock(claim.start, 1 << LENGTHS)
        finally:
            self._leave_queue(claim)

    def close(self) -> None:
        if self._inbox is not None:
            self._inbox.close()
        self.file.close()

    def _listen(self, inbox: Inbox) -> None:
        run = (self._receive, self._close_unless_used)
        try:
            threading.Thread(target=inbox.listen, args=run, name=LISTENER, daemon=True).start()
        except RuntimeError:  # no more threads: then nobody can ask us, as without a pipe
            inbox.close()
            self._inbox = None

    async def _take_over(self, claim: Claim) -> None:
        """Have whoever is before the claim let go, until the claim has the lock."""
        first = self._first_for(claim)
        if first is not claim:
            first.displace()
        while True:
            claim.woken = anyio.Event()
            if self._try(claim):
                return
            if self._first_for(claim) is claim:
                await self._ask_holder(claim, claim.woken)
            else:
                await claim.woken.wait()

    async def _ask_holder(self, claim: Claim, woken: anyio.Event) -> None:
        """Ask another process for the lock, and wait until it is worth to try again."""
        length = self.file.length_at(claim.start)
        if length is None:  # free by now
            await anyio.lowlevel.checkpoint()
            return
        newest = self._queues[claim.start][-1].arrival
        with sent(self._folder, length - 1, Message(claim.start, self._number, newest)) as pipe:
            # It may have let go before it was asked, and never answer.
            if self._try(claim):
                return
            is_answered = pipe is not None and self._inbox is not None
            with anyio.move_on_after(_RETRY if is_answered else _RETRY_UNANSWERED):
                await _woken_or_gone(woken, pipe)

    def _try(self, claim: Claim) -> bool:
        """Take the lock if it is free; return whether the claim has it."""
        if claim.is_held:
            return True
        queue = self._queues[claim.start]
        if queue[0] is not claim or not self.file.try_lock(claim.start, 1 + self._number):
            return False
        claim.is_held = True
        if queue[-1] is not claim:
            claim.interrupt()
        return True

    def _first_for(self, claim: Claim) -> Claim:
        return self._queues[claim.start][0]

    def _leave_queue(self, claim: Claim) -> None:
        with _mutex:
            claim.is_held = False
            queue = self._queues[claim.start]
            is_first = queue[0] is claim
            queue.remove(claim)
            if is_first and queue:
                queue[0].wake()
            if not queue:
                del self._queues[claim.start]
        for number in claim.waiting:
            send(self._folder, number, Message(claim.start, is_freed=True))
        if self._inbox is None:
            self._close_unless_used()

    @property
    def _number(self) -> int:
        return 0 if self._inbox is None else self._inbox.number

    # What the thread does that listens.

    def _receive(self, message: Message) -> None:
        with _mutex:
            queue = self._queues.get(message.start)
            first = None if queue is None else queue[0]
            if message.is_freed:
                if first is not None:
                    first.wake()
                return
            if first is not None and first.is_held:
                first.waiting.add(message.sender)
                if message.arrival > first.arrival:
                    first.displace()
                return
        send(self._folder, message.sender, Message(message.start, is_freed=True))

    def _close_unless_used(self) -> bool:
        with _mutex:
            if not self._queues and self.file.is_open:
                del _open[self.file.key]
                self.close()
            return not self.file.is_open


def open_locks(path: str) -> Locks:
    """Return the locks in the file, which all of this process share.

    They are closed some time after the last claim has left.
    """
    with _mutex:
        # Looked up before it is opened, because where locks belong to processes the second
        # descriptor would take them away when it is closed.
        locks = _open.get(key_at(path))
        if locks is None:
            file = open_lock_file(path)
            locks = _open[file.key] = Locks(os.path.dirname(path), file)
        return locks


async def _woken_or_gone(woken: anyio.Event, pipe: int | None) -> None:
    """Return when the claim is woken, or nobody reads the pipe any more: its reader is dead.

    To its writer a pipe is never readable, but for this error.
    """

    async def watch(pipe: int) -> None:
        await anyio.wait_readable(pipe)
        woken.set()

    async with anyio.create_task_group() as tasks:
        if pipe is not None:
            tasks.start_soon(watch, pipe)
        await woken.wait()
        tasks.cancel_scope.cancel()


def _lose_all_in_child() -> None:  # pragma: no cover (forked children are not measured)
    # The child shares the open files of its parent. It would keep the locks of a parent that has
    # died, and while it has the pipe open nobody is woken by that death.
    global _mutex
    _mutex = threading.RLock()  # a thread that is not here may have held it
    for locks in _open.values():
        locks.close()
    _open.clear()


os.register_at_fork(after_in_child=_lose_all_in_child)
