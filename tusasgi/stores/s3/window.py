"""How many parts of an append are on their way at once: as many as pay, found by trying."""

from statistics import median

MOST = 8
_WORTH = 1.5  # twice as many are worth it if each takes less than so many times as long
_PAUSE = 16  # parts until it is tried again what did not pay


class Window:
    """The number of parts that an append may have on their way; one for all appends of a store.

    A server that is far away takes several in the time of one, one that is busy takes each of
    them longer: the number is doubled while that pays, and halved when it does not, or no more.
    """

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self._times: list[float] = []
        self._typical: dict[int, float] = {}
        self._pause = 0

    def arrived(self, seconds: float, *, among: int) -> None:
        """Note how long a part took, and among how many that were on their way with it."""
        if among < self.size:  # it says nothing about as many as may be
            return
        self._times.append(seconds)
        self._pause -= 1
        if len(self._times) >= self.size:
            self._typical[self.size] = median(self._times)
            self._times.clear()
            self._adapt()

    def _adapt(self) -> None:
        half = self._typical.get(self.size // 2)
        if half is not None and self._typical[self.size] > _WORTH * half:
            self.size //= 2
            self._pause = _PAUSE
        elif self.size < MOST and self._pause <= 0:
            self.size *= 2
