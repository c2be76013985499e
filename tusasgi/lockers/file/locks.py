"""The locks of one event loop: taken in the kernel, asked for and handed over by messages."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import anyio
import anyio.lowlevel

from tusasgi.lockers.file.inbox import Inbox, Message, open_inbox, send, sent, watch
from tusasgi.lockers.file.lock_file import LockFile

_RETRY = 0.5  # seconds, after which whoever will be woken tries all the same
_RETRY_UNANSWERED = 0.05


class Claim:
    """One request for one lock, and what it knows of others for the same lock.

    `arrivals` are those of all requests for the lock in this event loop, in their order.
    """

    def __init__(self, start: int, interrupt: Callable[[], None], arrivals: list[float]) -> None:
        self.start = start
        self.arrival = time.monotonic()  # one clock for all processes of a machine
        self.is_held = False
        self.waiting: set[int] = set()
        """The inboxes of those who want the lock that this one holds."""
        self.woken = anyio.Event()
        """Set when it is time to try again, for a claim that waits."""
        self._interrupt = interrupt
        self._arrivals = arrivals

    @property
    def newest(self) -> float:
        """The last arrival for this lock in this event loop."""
        return self._arrivals[-1]

    @property
    def age(self) -> float:
        return time.monotonic() - self.arrival

    def displace(self) -> None:
        """Give way to somebody who came later: let go, or have the holder let go."""
        if self.is_held:
            self._interrupt()
        else:
            self.woken.set()

    def hold(self) -> None:
        self.is_held = True
        if self.newest > self.arrival:
            self._interrupt()


class Locks:
    """The lock file and the inbox of an event loop, open while it has locks or waits for some."""

    def __init__(self, folder: str, file: LockFile) -> None:
        self.file = file
        self._folder = folder
        self._inbox: Inbox | None = None
        self._claims: dict[int, Claim] = {}
        self._users = 0

    @property
    def is_open(self) -> bool:
        return not self.file.is_lost and self._users > 0

    def join(self) -> None:
        """Be one more user, which has to `release` its claim in the end."""
        self._users += 1
        if self._inbox is None:
            with suppress(OSError):  # a courtesy, as all messages are
                self._inbox = open_inbox(self.file, self._folder, self._receive)

    async def take(self, claim: Claim, patience: float | None) -> bool:
        """Take the lock, waiting for it until the patience ends; None asks nobody for it.

        Returns False if somebody else has it.
        """
        self._claims[claim.start] = claim
        if self._try(claim) or patience is None:
            return claim.is_held
        with anyio.move_on_after(patience - claim.age):
            await self._take_over(claim)
        return self._try(claim)

    def release(self, claim: Claim) -> None:
        """Free the lock if it is held, answer those who wait, and be a user no more."""
        self._claims.pop(claim.start, None)
        try:
            if claim.is_held and self.file.unlock(claim.start):
                for number in claim.waiting:
                    send(self._folder, number, Message(claim.start, is_freed=True))
        finally:
            claim.is_held = False
            self._users -= 1
            if not self._users:
                self._close()

    def _close(self) -> None:
        try:
            if self._inbox is not None and not self.file.is_lost:
                self._receive()  # whoever has asked and was not answered would wait for it
                self._inbox.close()
        finally:
            self._inbox = None
            self.file.close()

    async def _take_over(self, claim: Claim) -> None:
        """Have the holder let go, as often as there is one, until the claim has the lock."""
        while not self._try(claim):
            claim.woken = anyio.Event()
            length = self.file.length_at(claim.start)
            if length is None:  # free by now
                await anyio.lowlevel.checkpoint()
                continue
            with sent(self._folder, length - 1, self._wish(claim)) as pipe:
                # It may have let go before it was asked, and never answer.
                if not self._try(claim):
                    await self._sleep(claim, pipe)

    def _try(self, claim: Claim) -> bool:
        """Take the lock if it is free; return whether the claim has it."""
        if not claim.is_held and self.file.try_lock(claim.start, 1 + self._number):
            claim.hold()
        return claim.is_held

    def _wish(self, claim: Claim) -> Message:
        return Message(claim.start, self._number, claim.newest)

    async def _sleep(self, claim: Claim, pipe: int | None) -> None:
        """Return when the claim is woken, or when it is time to try all the same."""
        is_answered = pipe is not None and self._inbox is not None
        with anyio.move_on_after(_RETRY if is_answered else _RETRY_UNANSWERED):
            with _woken_by_error(pipe, claim):
                await claim.woken.wait()

    @property
    def _number(self) -> int:
        return 0 if self._inbox is None else self._inbox.number

    def _receive(self) -> None:
        assert self._inbox is not None
        while messages := self._inbox.read():
            for message in messages:
                self._answer(message)

    def _answer(self, message: Message) -> None:
        claim = self._claims.get(message.start)
        if message.is_freed:
            if claim is not None:
                claim.woken.set()
        elif claim is None or not claim.is_held:
            send(self._folder, message.sender, Message(message.start, is_freed=True))
        else:
            claim.waiting.add(message.sender)
            if message.arrival > claim.arrival:
                claim.displace()


@contextmanager
def _woken_by_error(pipe: int | None, claim: Claim) -> Iterator[None]:
    """Wake the claim when nobody reads the pipe any more: its inbox is closed, or dead.

    To its writer a pipe is never readable, but for this error.
    """
    if pipe is None:
        yield
        return
    stop = watch(pipe, claim.woken.set)
    try:
        yield
    finally:
        stop()
