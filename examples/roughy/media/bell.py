"""Waking the workers of this process."""

import anyio


class Bell:
    """Whoever waits is woken by the next ring. A ring while nobody waits is not lost."""

    def __init__(self) -> None:
        self._rung = anyio.Event()

    def ring(self) -> None:
        self._rung.set()

    async def wait(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._rung.wait()
        self._rung = anyio.Event()
