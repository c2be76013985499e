from pathlib import Path

from tusasgi.lockers.memory import MemoryLocker
from tusasgi.testing import LockerSuite


class TestMemoryLocker(LockerSuite):
    is_shared = False

    def make_locker(self, place: Path, *, patience: float) -> MemoryLocker:
        return MemoryLocker(patience=patience)

    async def leftovers(self, locker: MemoryLocker, place: Path) -> object:
        return locker._locks
