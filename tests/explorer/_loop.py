"""An event loop that asks what is to happen next whenever everything in it stands still.

Time is the loop's own and passes only when somebody says so: no test waits for a clock.
"""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


class _Stillness(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """A selector that never sleeps: where the loop would, it calls `when_still`."""

    def __init__(self) -> None:
        super().__init__()
        self.when_still: Callable[[float | None], None] = lambda timeout: None

    def select(self, timeout: float | None = None) -> list[Any]:
        ready = super().select(0)
        if not ready and (timeout is None or timeout > 0):
            self.when_still(timeout)
        return ready


class Loop(asyncio.SelectorEventLoop):
    """`when_still` is called with the seconds to the next timer (None: there is none).

    It has to make something ready, let time pass (`advance`), or raise, which ends the run.
    """

    def __init__(self, when_still: Callable[[float | None], None]) -> None:
        selector = _Stillness()
        super().__init__(selector)
        selector.when_still = when_still
        self._now = 0.0

    def time(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += seconds
