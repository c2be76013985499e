"""One request for a lock, and how it is reached in its event loop."""

import time
from collections.abc import Callable
from contextlib import suppress

import anyio

from tusasgi.threads import caller_of_this_loop


class Claim:
    """One request for one lock. Other threads may `wake` and `displace` it, and no more."""

    def __init__(self, start: int, interrupt: Callable[[], None], *, takes_over: bool) -> None:
        self.start = start
        self.takes_over = takes_over
        self.arrival = time.monotonic()  # one clock for all processes of a machine
        self.is_held = False
        self.waiting: set[int] = set()
        """The inboxes of those who want the lock that this one holds."""
        self.woken: anyio.Event | None = None
        """Set when it is time to try again, for a claim that waits."""
        self.interrupt = interrupt
        self._call_soon = caller_of_this_loop()

    @property
    def age(self) -> float:
        return time.monotonic() - self.arrival

    def wake(self) -> None:
        """Have it try again, if it waits."""
        with suppress(RuntimeError):  # its event loop has ended, so it waits no more
            self._call_soon(self._wake)

    def displace(self) -> None:
        """Give way to somebody who came later: let go, or have the holder let go."""
        with suppress(RuntimeError):
            self._call_soon(self._give_way)

    def _wake(self) -> None:
        if self.woken is not None:
            self.woken.set()

    def _give_way(self) -> None:
        if self.is_held:
            self.interrupt()
        else:
            self._wake()
